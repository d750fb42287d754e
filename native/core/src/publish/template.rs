//! A directory copied to a new path, without its contents being touched: what a template transaction starts from.
//!
//! Owns which copies make sense. The result is a revision of its own that nothing refers to yet: the transaction's
//! changes lie above it, and the publish that ends the transaction makes both visible. Source: server.md 3.4.

use nearfs_format::dirent::{EntryFlags, Hardlinks};
use nearfs_format::path::RepoPath;

use super::commit::{next_revision, values};
use super::finish::{finish, finish_behind};
use super::names;
use super::pipeline::Tally;
use super::tree::{CatalogTree, OPEN_CATALOGS};
use super::types::{BaseRevision, ChangeCounts, Committed, PublishSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Stores the revision in which `to` is a copy of the directory `from`.
///
/// # Errors
///
/// `InvalidInput` if `from` is no directory, `to` exists, or the directory that `to` is to be in does not.
pub fn copy_directory(
    store: &dyn Store,
    base: &BaseRevision,
    from: &RepoPath,
    to: &RepoPath,
    settings: &PublishSettings,
) -> Result<Committed> {
    let mut tree = CatalogTree::open(store, base.root_hash)?;
    let mut origin = tree.origin()?;
    let refused = |path: &RepoPath, reason: &str| {
        Error::new(ErrorKind::InvalidInput, "copy directory", format!("{path}: {reason}"))
    };
    let source = origin.find(from)?.filter(|row| row.entry.is_directory());
    let source = source.ok_or_else(|| refused(from, "there is no such directory"))?;
    let parent = to.parent().ok_or_else(|| refused(to, "the root directory is there already"))?;
    if tree.find(to)?.is_some() {
        return Err(refused(to, "it exists already"));
    }
    if !tree.find(&parent)?.is_some_and(|row| row.entry.is_directory()) {
        return Err(refused(&parent, "there is no such directory to copy to"));
    }
    if [from, to].iter().any(|path| names::is_own(path)) {
        return Err(refused(to, "the directories /.cvmfs and /.nearfs are the publisher's own"));
    }
    let mut entry = source.entry;
    entry.flags = EntryFlags(EntryFlags::DIRECTORY);
    entry.hardlinks = Hardlinks { group: 0, linkcount: 2 };
    tree.add(to, &entry, &[])?;
    let revision = next_revision(&tree, settings)?;
    let (tally, values, mut closed) = (Tally::default(), values(settings, revision), 0);
    let mut arrive = |tree: &mut CatalogTree<'_>, path: &RepoPath| {
        if tree.open_catalogs() > OPEN_CATALOGS {
            closed += finish_behind(tree, path, store, &values, &tally)?;
        }
        Ok(())
    };
    let copied = tree.copy_subtree(&mut origin, from, to, &mut arrive)?;
    tree.recount_links(&parent)?;
    drop(origin);
    let done = finish(tree, store, &values, &tally)?;
    store.sync()?;
    Ok(Committed {
        root_hash: done.root.hash,
        root_size_bytes: done.root.size_bytes,
        revision,
        ttl_s: settings.ttl_s,
        stored: tally.counts(),
        catalogs_new: done.catalogs + closed,
        changes: ChangeCounts {
            files_added: copied.files,
            symlinks_added: copied.symlinks,
            bytes_added: copied.bytes,
            directories_added: copied.directories + 1,
            ..ChangeCounts::default()
        },
        warnings: Vec::new(),
    })
}
