//! What is too large for a repository that clients enjoy: files and catalogs (server.md 4).
//!
//! Owns the comparison and its sentences. A limit warns, or ends the publish before anything became visible.

use nearfs_format::path::RepoPath;

use super::tree::{CatalogTree, NodeId};
use super::types::{Limits, Warning};
use crate::error::{Error, ErrorKind, Result};

const MBYTE: u64 = 1 << 20;
const KENTRIES: u64 = 1000;

/// Compares the size of a regular file with its limit.
pub(super) fn check_file(limits: &Limits, path: &RepoPath, size_bytes: u64) -> Result<Option<Warning>> {
    let limit = limits.file_mbytes;
    // Divided rather than multiplied: no configured number can overflow.
    if limit == 0 || size_bytes / MBYTE < limit || size_bytes == limit.saturating_mul(MBYTE) {
        return Ok(None);
    }
    judge(limits, Warning::LargeFile(path.clone(), limit, size_bytes / MBYTE))
}

/// Compares the entries of those of `ids` that are about to be written with their limit.
pub(super) fn check_catalogs(tree: &CatalogTree<'_>, ids: &[NodeId], limits: &Limits) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    for node in ids.iter().filter_map(|id| tree.node(*id).ok()).filter(|node| node.is_dirty) {
        let is_root = node.parent.is_none();
        let limit = if is_root { limits.root_kentries } else { limits.nested_kentries }.saturating_mul(KENTRIES);
        if limit == 0 || node.writer.entries_at_most()? <= limit {
            continue;
        }
        let entries = node.writer.entries()?;
        if entries > limit {
            warnings.extend(judge(limits, Warning::LargeCatalog(node.mountpoint.clone(), limit, entries))?);
        }
    }
    Ok(warnings)
}

fn judge(limits: &Limits, warning: Warning) -> Result<Option<Warning>> {
    match sentence(&warning) {
        Some(text) if limits.is_enforced => {
            let subject = format!("{}: FATAL: {text}", warning.path());
            Err(Error::new(ErrorKind::InvalidInput, "publish", subject))
        }
        _ => Ok(Some(warning)),
    }
}

/// Returns what a warning about a limit says behind its severity.
pub(super) fn sentence(warning: &Warning) -> Option<String> {
    match warning {
        Warning::LargeFile(path, limit, mbytes) => Some(format!(
            "file at {path} is larger than {limit} megabytes ({mbytes}). Clients read such files slowly; split the \
             file, or raise CVMFS_FILE_MBYTE_LIMIT."
        )),
        Warning::LargeCatalog(path, limit, entries) => Some(format!(
            "catalog at {} has more than {limit} entries ({entries}). Clients load such catalogs slowly; make nested \
             catalogs (.cvmfscatalog, .cvmfsdirtab), or raise CVMFS_ROOT_KCATALOG_LIMIT or CVMFS_NESTED_KCATALOG_LIMIT.",
            if path.is_root() { "/".into() } else { path.to_string() }
        )),
        _ => None,
    }
}
