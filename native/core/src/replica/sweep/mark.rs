//! Finds everything that kept revisions need.
//!
//! Owns which revisions are kept and how their catalogs are followed: nested catalogs, not bind mountpoints, whose
//! revisions have tags of their own. A catalog that several revisions share is read once. Belongs to one thread.

use std::collections::HashMap;

use nearfs_format::hash::ContentHash;
use nearfs_format::reflog::RefKind;

use super::super::load;
use super::super::paths::PathRules;
use super::super::spill::SpilledSet;
use super::{KeptRevision, OPERATION, Retention, SweepSettings, warn};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repo::history::HistoryDb;
use crate::repo::reflog::Reference;
use crate::store::Store;

/// What was found.
pub(super) struct Marked {
    pub(super) catalogs: SpilledSet,
    pub(super) objects: SpilledSet,
    pub(super) catalogs_kept: u64,
    pub(super) kept: Vec<KeptRevision>,
    pub(super) warnings: Vec<String>,
}

/// What a revision's catalogs that are gone mean.
#[derive(Clone, Copy)]
enum Gone<'a> {
    /// Somebody relies on the revision, whose name follows: what it needs has to be known.
    Refused(&'a str),
    /// An older collection took the revision, or began to.
    Passed,
}

struct Marker<'a> {
    store: &'a dyn Store,
    progress: &'a Progress,
    paths: &'a PathRules,
    marked: Marked,
}

/// Marks the tagged revisions, the newest one, and those before it that the settings keep.
pub(super) fn mark(
    store: &dyn Store,
    settings: &SweepSettings,
    references: &[Reference],
    progress: &Progress,
) -> Result<Marked> {
    let scratch = store.scratch_dir();
    let set = || SpilledSet::new(&scratch, settings.in_memory_max);
    let (catalogs, objects) = (set(), set());
    let marked = Marked { catalogs, objects, catalogs_kept: 0, kept: Vec::new(), warnings: Vec::new() };
    let mut marker = Marker { store, progress, paths: &settings.paths, marked };
    // First those that have to be whole: a catalog is read once, and by the strictest rule that it is kept by.
    marker.mark_tree(settings.head.root_hash, Gone::Refused("the newest revision"))?;
    if let Some(history) = settings.head.history {
        for tag in HistoryDb::load(store, &scratch, &settings.fqrn, history)?.tags()? {
            marker.mark_tree(tag.root_hash, Gone::Refused(&format!("tag '{}'", tag.name)))?;
        }
    }
    for root_hash in &settings.also_kept {
        marker.mark_tree(*root_hash, Gone::Passed)?;
    }
    let added: HashMap<ContentHash, i64> =
        references.iter().filter(|r| r.kind == RefKind::Catalog).map(|r| (r.hash, r.timestamp)).collect();
    marker.mark_line(settings, &added)?;
    Ok(marker.marked)
}

impl Marker<'_> {
    /// Follows the newest revision's predecessors as far as they are kept.
    fn mark_line(&mut self, settings: &SweepSettings, added: &HashMap<ContentHash, i64>) -> Result<()> {
        let mut next = Some(settings.head.root_hash);
        while let Some(root_hash) = next {
            let opened = load::open(self.store, root_hash, self.progress).map_err(|e| refused(e, Gone::Passed))?;
            let Some(root) = opened else { return Ok(()) };
            let number = |key| root.reader.number(key).unwrap_or(0);
            let kept = KeptRevision {
                root_hash,
                revision: number("revision"),
                last_modified_s: i64::try_from(number("last_modified")).unwrap_or(i64::MAX),
                added_s: added.get(&root_hash).copied(),
            };
            next = root.previous_revision();
            drop(root);
            self.mark_tree(root_hash, Gone::Passed)?;
            self.marked.kept.push(kept);
            let is_last = match settings.retention {
                Retention::Revisions(count) => self.marked.kept.len() as u64 > count,
                Retention::Since(threshold_s) => kept.age_s() < threshold_s,
            };
            if is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Marks a catalog and everything below it.
    fn mark_tree(&mut self, root_hash: ContentHash, gone: Gone<'_>) -> Result<()> {
        let mut waiting = vec![root_hash];
        while let Some(hash) = waiting.pop() {
            self.progress.check(OPERATION)?;
            if self.marked.catalogs.contains(&hash, 0)? {
                continue;
            }
            self.marked.catalogs.insert(&hash, 0)?;
            let Some(catalog) = load::open(self.store, hash, self.progress).map_err(|e| refused(e, gone))? else {
                self.note_missing(hash, root_hash, gone)?;
                continue;
            };
            self.marked.catalogs_kept += 1;
            let objects = &mut self.marked.objects;
            catalog.reader.references(|id| objects.insert(&id.hash, 0)).map_err(|e| refused(e, gone))?;
            let nested = catalog.reader.nested().map_err(|e| refused(e, gone))?;
            let wanted = nested.into_iter().filter(|nested| self.paths.wants(&nested.path));
            waiting.extend(wanted.map(|nested| nested.hash));
        }
        Ok(())
    }

    fn note_missing(&mut self, hash: ContentHash, root_hash: ContentHash, gone: Gone<'_>) -> Result<()> {
        match gone {
            Gone::Refused(name) => {
                let reason = format!(
                    "{name}: its catalog {hash} is missing from the storage, so what it needs is not known; nothing \
                     was deleted. Restore the object from a backup or a replica{}",
                    if name.starts_with("tag") { ", or remove the tag" } else { "" }
                );
                Err(Error::new(ErrorKind::NotFound, OPERATION, reason))
            }
            Gone::Passed => {
                let text = format_args!("revision {root_hash}: catalog {hash} is missing, passed over");
                warn(&mut self.marked.warnings, text);
                Ok(())
            }
        }
    }
}

/// Says what a damaged catalog of a kept revision means.
fn refused(error: Error, gone: Gone<'_>) -> Error {
    if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) {
        return error;
    }
    let name = match gone {
        Gone::Refused(name) => name,
        Gone::Passed => "an older revision",
    };
    let reason = format!(
        "{name}: a catalog of it cannot be read, so what it needs is not known; nothing was deleted. Restore the object \
         from a backup or a replica, or do not keep that revision"
    );
    Error::new(error.kind(), OPERATION, reason).with_source(error)
}
