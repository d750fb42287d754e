//! Names that have a meaning inside a repository, and what they may be. Source: format.md 8.5, server.md 4.

use nearfs_format::dirent::FileType;
use nearfs_format::path::RepoPath;

use super::plan::CATALOG_MARKER;
use super::scan::refused;
use super::types::Warning;
use crate::error::{Error, Result};

/// The reserved directory in the root, which only the publisher itself writes (8.6).
pub(super) const VIRTUAL_DIRECTORY: &[u8] = b"/.cvmfs";
/// All of them, as names in the root.
const OWN: [&[u8]; 2] = [b".cvmfs", b".nearfs"];
const BUNDLES: &[u8] = b".cvmfsbundles";

/// Refuses names that have a meaning where they do not belong; returns a warning about those that are experimental.
/// `links` is how many names the file has on disk.
pub(super) fn check(path: &RepoPath, file_type: FileType, links: u64) -> Result<Option<Warning>> {
    let in_root = path.parent().is_some_and(|parent| parent.is_root());
    if in_root && is_own(path) {
        return Err(reserved(path));
    }
    if path.name() == CATALOG_MARKER {
        if in_root {
            return Err(refused(path, "Error: nested catalog marker in root directory; remove the file"));
        }
        if file_type != FileType::Regular {
            return Err(refused(path, "Error: the marker of a nested catalog must be a regular file"));
        }
    }
    if path.name() == BUNDLES {
        check_bundles(path, file_type, links, in_root)?;
        return Ok(Some(Warning::Bundles(path.clone())));
    }
    Ok(None)
}

fn check_bundles(path: &RepoPath, file_type: FileType, links: u64, in_root: bool) -> Result<()> {
    if file_type == FileType::Directory {
        return Err(refused(path, format!("Illegal directory name: .cvmfsbundles ({path})")));
    }
    if file_type != FileType::Regular {
        return Err(refused(path, "Error: .cvmfsbundles file must be a regular file"));
    }
    if links > 1 {
        return Err(refused(path, "Error: .cvmfsbundles file must not be a hard link"));
    }
    if !in_root {
        let directory = path.parent().unwrap_or_default();
        let sentence = "Error: .cvmfsbundles file must be in the root directory of the repository. Found in";
        return Err(refused(path, format!("{sentence} {directory}")));
    }
    Ok(())
}

/// Says whether a path is in a directory that only the publisher itself writes.
pub(super) fn is_own(path: &RepoPath) -> bool {
    path.names().next().is_some_and(is_own_name)
}

/// Says whether an entry of the root is such a directory.
pub(super) fn is_own_name(name: &[u8]) -> bool {
    OWN.contains(&name)
}

/// Builds the refusal of a change of the virtual directory.
pub(super) fn reserved(path: &RepoPath) -> Error {
    refused(path, format!("[ERROR] invalid attempt to modify {path}; undo that, the directory is the publisher's own"))
}
