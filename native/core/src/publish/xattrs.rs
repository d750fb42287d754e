//! Extended attributes on disk: listing, reading, and which of them are stored. Source: format.md 4.10, 10.5.

use std::path::Path;

use nearfs_format::path::RepoPath;
use nearfs_format::xattr::{MAX_ATTRIBUTES, MAX_FIELD_BYTES, XattrList};

use super::scan::{Scan, refused};
use super::types::Warning;
use crate::error::{Error, Result};

/// Attributes that a union file system keeps for itself.
pub(super) const UNION_XATTRS: [&[u8]; 4] =
    [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs.", b"trusted.aufs."];
/// Linux allows lists of attribute names up to 64 KiB (`XATTR_LIST_MAX`), and values as long.
const XATTR_LIST_BYTES: usize = 64 << 10;

impl Scan<'_, '_> {
    /// Returns the attributes of an entry that are to be stored.
    pub(super) fn xattrs(&mut self, path: &RepoPath, host: &Path, names: &XattrNames) -> Result<XattrList> {
        if !self.settings.include_xattrs {
            return Ok(XattrList::default());
        }
        let (mut pairs, mut skipped) = (Vec::new(), false);
        for name in names.iter().filter(|name| !UNION_XATTRS.iter().any(|prefix| name.starts_with(prefix))) {
            let Some(value) = xattr(host, name)? else { continue };
            if value.len() > MAX_FIELD_BYTES || name.len() > MAX_FIELD_BYTES || pairs.len() == MAX_ATTRIBUTES {
                skipped = true;
            } else {
                pairs.push((name.to_vec(), value));
            }
        }
        if skipped {
            self.warnings.push(Warning::XattrSkipped(path.clone()));
        }
        XattrList::from_pairs(pairs).map_err(|e| refused(path, e.to_string()))
    }
}

/// Names of the extended attributes of one entry, sorted.
#[derive(Debug, Default)]
pub(super) struct XattrNames(Vec<u8>);

impl XattrNames {
    /// Lists the attributes of `host` itself. File systems without attributes have none.
    pub(super) fn of(host: &Path, buffer: &mut Vec<u8>) -> Result<Self> {
        buffer.resize(XATTR_LIST_BYTES, 0);
        match rustix::fs::llistxattr(host, buffer.as_mut_slice()) {
            Ok(length) => Ok(Self(buffer.get(..length).unwrap_or_default().to_vec())),
            Err(rustix::io::Errno::NOTSUP) => Ok(Self::default()),
            Err(e) => Err(Error::io("list extended attributes of", host.display().to_string(), e.into())),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == 0).filter(|name| !name.is_empty())
    }

    /// Returns the first of `names` that is among the attributes.
    pub(super) fn first_of<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|wanted| self.iter().any(|name| name == wanted.as_bytes()))
    }
}

/// Returns the value of one attribute, `None` if it vanished or must not be read.
pub(super) fn xattr(host: &Path, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_FIELD_BYTES + 1];
    loop {
        match rustix::fs::lgetxattr(host, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            // Longer than anything that can be stored; the length is all that matters then.
            Err(rustix::io::Errno::RANGE) if value.len() < XATTR_LIST_BYTES => value.resize(XATTR_LIST_BYTES, 0),
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => return Ok(None),
            Err(e) => return Err(Error::io("read extended attribute of", host.display().to_string(), e.into())),
        }
    }
}
