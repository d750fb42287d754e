//! Bundles in catalogs: which files carry the flag of a trigger, and what a specification says.
//!
//! Owns the rule: a regular file is a trigger while a valid specification lies beside it. It is applied to a whole
//! directory after the last change in it, so it holds whatever changed: the trigger, the specification, or both in any
//! order. Belongs to the thread that commits.

use std::collections::BTreeSet;

use nearfs_format::FormatError;
use nearfs_format::bundle::{BUNDLE_MAX_BYTES, BundleSpec, trigger_name};
use nearfs_format::dirent::{Entry, EntryFlags, FileType};
use nearfs_format::path::RepoPath;

use super::tree::CatalogTree;
use super::types::Warning;
use super::virtual_directory::named;
use crate::error::{Error, ErrorKind, Result};
use crate::repo::stored::StoredFile;

/// What is known of a specification.
pub(super) enum Judged {
    Valid(BundleSpec),
    Invalid(FormatError),
    /// Its content lies elsewhere, or is damaged: whoever reads it will judge it.
    OutOfReach,
}

/// Gives the flag to the triggers in `directory` and takes it from all others; warns of invalid specifications.
pub(super) fn settle(tree: &mut CatalogTree<'_>, directory: &RepoPath, warnings: &mut Vec<Warning>) -> Result<()> {
    let id = tree.locate(directory)?;
    let (mut flagged, mut triggers) = (BTreeSet::new(), BTreeSet::new());
    for (name, is_flagged) in tree.node(id)?.writer.bundle_names(directory)? {
        let path = named(directory, &name)?;
        if is_flagged {
            flagged.insert(name.clone());
        }
        let Some(trigger) = trigger_name(&name) else { continue };
        let is_regular = |entry: &Entry| entry.file_type() == Some(FileType::Regular);
        let Some(specification) = tree.find(&path)?.filter(|row| is_regular(&row.entry)) else { continue };
        match judge(tree, &path, &specification.entry)? {
            Judged::Invalid(error) => {
                warnings.push(Warning::BundleInvalid(path, error.to_string()));
                continue;
            }
            Judged::Valid(specification) if specification.left_out() > 0 => {
                warnings.push(Warning::BundleEntries(path, specification.left_out()));
            }
            Judged::Valid(_) | Judged::OutOfReach => {}
        }
        if tree.find(&named(directory, trigger)?)?.is_some_and(|row| is_regular(&row.entry)) {
            triggers.insert(trigger.to_vec());
        }
    }
    for name in flagged.symmetric_difference(&triggers) {
        let path = named(directory, name)?;
        let Some(row) = tree.find(&path)? else { continue };
        let flags = row.entry.flags.with(EntryFlags::BUNDLE_TRIGGER, triggers.contains(name));
        tree.set_flags(&path, flags)?;
    }
    Ok(())
}

/// Reads the specification at `path`, whose row is `entry`.
pub(super) fn judge(tree: &mut CatalogTree<'_>, path: &RepoPath, entry: &Entry) -> Result<Judged> {
    if entry.size > BUNDLE_MAX_BYTES as u64 {
        let error = FormatError::TooLarge { subject: "bundle specification", limit_bytes: BUNDLE_MAX_BYTES as u64 };
        return Ok(Judged::Invalid(error));
    }
    if entry.flags.has(EntryFlags::EXTERNAL) {
        return Ok(Judged::OutOfReach);
    }
    match content(tree, path, entry) {
        Ok(bytes) => {
            let directory = path.parent().unwrap_or_default();
            Ok(BundleSpec::parse(&bytes, &directory).map_or_else(Judged::Invalid, Judged::Valid))
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(Judged::OutOfReach),
        Err(error) => Err(error),
    }
}

fn content(tree: &mut CatalogTree<'_>, path: &RepoPath, entry: &Entry) -> Result<Vec<u8>> {
    let compression = entry.flags.compression().map_err(|e| Error::format("read", path.to_string(), e))?;
    let chunks = tree.chunks(path, entry)?;
    StoredFile { path, size_bytes: entry.size, compression, hash: entry.hash, chunks: &chunks }.read(tree.store())
}
