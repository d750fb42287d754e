//! Lists of what a program will read: from a bundle that a publisher wrote, or a trace of an earlier run.
//!
//! Owns the way from paths to guesses: paths are looked up in the catalogs of today, and a catalog that is missing for
//! that is fetched first, side by side with others. Lists are hints: what does not exist, is no regular file or lies
//! outside of the repository is passed over. Runs on threads of the crew.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_format::bundle::{BUNDLE_MAX_BYTES, BundleSpec};
use nearfs_format::dirent::FileType;
use nearfs_format::pack_table::PackKey;
use nearfs_format::path::RepoPath;

use super::crew::Done;
use super::errands::Shared;
use super::ledger::Mechanism;
use super::queue::Lane;
use super::rows::{catalog_key, guessable};
use crate::cache::{Place, Want};
use crate::catalog::content::{self, Content};
use crate::catalog::index::RowId;
use crate::catalog::reader::NestedRow;
use crate::catalog::tree::{CatalogTree, View};
use crate::error::Result;
use crate::repo::snapshot::catalog_want;
use crate::transport::Interrupt;

/// Longer lists are cut.
const ITEMS_MAX: usize = 16_384;
/// Catalogs below each other that are fetched for one list.
const DEPTH_MAX: usize = 8;
/// Catalogs that are fetched at a time for one list.
const CATALOGS_SIDE_BY_SIDE: usize = 8;
/// Of a file whose parts nobody named, the chunks that begin before this are fetched: large files are read in part, and
/// what is read in a row comes by read-ahead.
const UNNAMED_BYTES: u64 = 8 << 20;
/// Of a catalog this large it is not known that anything in it will be read.
const CATALOG_MAX_BYTES: u64 = 16 << 20;
/// How long a list waits for room for a catalog, or for somebody to enter it, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(25);
/// Triggers that are remembered: what was followed once is there, or was not to be had.
const RECENT_MAX: usize = 4096;

/// Something that will be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// A regular file.
    pub path: RepoPath,
    /// Offsets in the chunks that will be read; all of the file where that is not known, or it has none.
    pub offsets: Option<Vec<u64>>,
}

/// What was met lately: an entry by its catalog and row.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<(u64, u32)>,
    known: HashSet<(u64, u32)>,
}

impl Recent {
    /// Takes note of an entry; says whether it was not known.
    pub(super) fn is_new(&mut self, entry: (u64, u32)) -> bool {
        if !self.known.insert(entry) {
            return false;
        }
        self.order.push_back(entry);
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Has an entry be new the next time that it is met.
    pub(super) fn forget(&mut self, entry: (u64, u32)) {
        if self.known.remove(&entry) {
            self.order.retain(|known| *known != entry);
        }
    }
}

/// Where a path leads.
enum Located {
    File(View, RowId),
    /// Into a catalog that is not at hand.
    In(NestedRow),
    Nowhere,
}

impl Shared {
    /// Follows a list; returns at once.
    pub(super) fn follow(&self, mechanism: Mechanism, tree: &Arc<CatalogTree>, items: Vec<Item>) {
        let tree = Arc::clone(tree);
        let lane = (mechanism, 0, 0);
        self.work(lane, move |shared, interrupt| shared.resolve(lane, &tree, items, None, interrupt));
    }

    /// Fetches the catalogs on the way to some paths, as far as the account allows; returns at once. What is reached by a
    /// catalog that is at hand is left to whoever needs it: decoding it would be in vain where nobody does.
    pub(super) fn bring_ways(&self, tree: &Arc<CatalogTree>, mut paths: Vec<RepoPath>) {
        let is_first_missing = |path: &RepoPath| {
            let first = first_nested(tree.root(), path);
            first.is_some_and(|nested| !self.cache.is_cached(&catalog_want(&self.fqrn, &nested, Place::Data).id))
        };
        paths.retain(is_first_missing);
        if paths.is_empty() {
            return;
        }
        let tree = Arc::clone(tree);
        self.work((Mechanism::Traces, 0, 1), move |shared, interrupt| {
            for _ in 0..DEPTH_MAX {
                let mut missing = Vec::new();
                paths.retain(|path| {
                    let Located::In(nested) = shared.locate(&tree, path) else { return false };
                    if !missing.contains(&nested) {
                        missing.push(nested);
                    }
                    true
                });
                if missing.is_empty() || interrupt.is_cancelled() {
                    break;
                }
                if shared.settings.packs {
                    for nested in &missing {
                        shared.bring_table(&tree, &nested.path);
                    }
                }
                match shared.bring_catalogs(Mechanism::Traces, &missing, interrupt, || ()) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => return Done::Failed,
                }
            }
            Done::WELL
        });
    }

    /// Reads the specification in `specification`, which is beside the trigger in `row`, and follows it; returns at once.
    pub(super) fn follow_bundle(&self, tree: &Arc<CatalogTree>, view: &View, row: RowId, specification: RowId) {
        let (tree, view) = (Arc::clone(tree), view.clone());
        let entry = (catalog_key(&view), row.0);
        let lane = (Mechanism::Bundles, entry.0, entry.1);
        let is_taken = self.work(lane, move |shared, interrupt| {
            let trigger = view.path(row);
            // Names in packs are those of the repository, wherever its root is bound.
            let key = PackKey::of_trigger(&view.index.path(row));
            // The small files of it are in packs, which need not wait for the list.
            shared.ensure_table(&tree, &view, interrupt);
            shared.ask_own_packs(&view, key);
            let Some(want) = content::of(&view, specification).ok().and_then(guessable) else { return Done::WELL };
            if want.size_bytes.is_none_or(|size| size > BUNDLE_MAX_BYTES as u64) {
                return Done::WELL;
            }
            let want = want.labelled(view.path(specification).to_string());
            let bytes = match shared.read(Mechanism::Bundles, &want, interrupt) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Done::WELL,
                Err(error) => {
                    tracing::debug!(%error, %trigger, "the bundle of a file was not to be had");
                    // Whoever opens the file next has it looked for again.
                    shared.triggers.lock().forget(entry);
                    return Done::Failed;
                }
            };
            let directory = trigger.parent().unwrap_or_else(RepoPath::root);
            match BundleSpec::parse(&bytes, &directory) {
                Ok(spec) => {
                    let items = spec.dependencies().iter().map(|path| Item { path: path.clone(), offsets: None });
                    shared.resolve(lane, &tree, items.collect(), Some((catalog_key(&view), key)), interrupt)
                }
                Err(error) => {
                    tracing::debug!(%error, %trigger, "a bundle specification is none");
                    Done::WELL
                }
            }
        });
        if !is_taken {
            self.triggers.lock().forget(entry);
        }
    }

    /// Looks up a list's paths and has fetched what they lead to: first what is in catalogs that are at hand.
    fn resolve(
        &self,
        lane: Lane,
        tree: &Arc<CatalogTree>,
        items: Vec<Item>,
        preferred: Option<(u64, PackKey)>,
        interrupt: &Interrupt,
    ) -> Done {
        let mut left: Vec<Item> = items;
        left.truncate(ITEMS_MAX);
        let (mut depth, since) = (0, Instant::now());
        while depth < DEPTH_MAX {
            let (mut wanted, mut later, mut missing) = (Vec::new(), Vec::new(), Vec::new());
            for item in left {
                match self.locate(tree, &item.path) {
                    Located::File(view, row) => {
                        let wants = wants_of(&view, row, item.offsets.as_deref());
                        wanted.extend(
                            wants
                                .into_iter()
                                .filter(|want| !self.cache.is_cached(&want.id))
                                .map(|want| (view.clone(), row, want.labelled(item.path.to_string()))),
                        );
                    }
                    Located::In(nested) => {
                        if !missing.contains(&nested) {
                            missing.push(nested);
                        }
                        later.push(item);
                    }
                    Located::Nowhere => {}
                }
            }
            let mut catalogs = HashSet::new();
            for (view, ..) in wanted.iter().filter(|(view, ..)| catalogs.insert(catalog_key(view))) {
                self.ensure_table(tree, view, interrupt);
            }
            let errands = self.by_packs(lane.0, wanted, preferred);
            if missing.is_empty() || interrupt.is_cancelled() {
                self.list(lane, errands);
                break;
            }
            match self.bring_catalogs(lane.0, &missing, interrupt, || self.list(lane, errands)) {
                Ok(true) => depth += 1,
                // The account had no room, which it will have as what came is read; or somebody enters one meanwhile.
                Ok(false) if since.elapsed() < PATIENCE => std::thread::sleep(LOOK),
                Ok(false) => break,
                Err(_) => return Done::Failed,
            }
            left = later;
        }
        Done::WELL
    }

    /// Fetches catalogs side by side, those that the account has room for; says whether any is there now. `meanwhile` is
    /// done when they have their place in the account: more follows from them than from what else is listed.
    fn bring_catalogs(
        &self,
        mechanism: Mechanism,
        catalogs: &[NestedRow],
        interrupt: &Interrupt,
        meanwhile: impl FnOnce(),
    ) -> Result<bool> {
        let small = catalogs.iter().filter(|nested| nested.size_bytes <= CATALOG_MAX_BYTES);
        let wants: Vec<Want> = small.map(|nested| catalog_want(&self.fqrn, nested, Place::Data)).collect();
        let mut booked: Vec<(Want, Option<Want>)> = Vec::new();
        for want in wants {
            let place = self.book(mechanism, &want);
            booked.push((want, place));
        }
        meanwhile();
        let mut outcome = Ok(false);
        while !booked.is_empty() {
            let some: Vec<_> = booked.drain(..booked.len().min(CATALOGS_SIDE_BY_SIDE)).collect();
            let came: Vec<Result<bool>> = std::thread::scope(|scope| {
                let bring = |(want, place)| scope.spawn(move || self.bring_booked(&want, place, interrupt));
                let threads: Vec<_> = some.into_iter().map(bring).collect();
                threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(false))).collect()
            });
            // All of them in any case: what is booked must not stay so.
            outcome = came.into_iter().fold(outcome, |all, one| Ok(all? | one?));
        }
        outcome
    }

    /// Looks up a path without asking the network.
    fn locate(&self, tree: &CatalogTree, path: &RepoPath) -> Located {
        let (mut view, mut row) = (tree.root().clone(), RowId::ROOT);
        for name in path.names() {
            if let Some(nested) = view.index.nested(row).filter(|_| row != RowId::ROOT) {
                let want = catalog_want(&self.fqrn, nested, Place::Data);
                if !tree.is_below_loaded(&view, row) && !self.cache.is_cached(&want.id) {
                    return Located::In(nested.clone());
                }
                match tree.below(&view, row) {
                    Ok(Some(below)) => (view, row) = (below, RowId::ROOT),
                    _ => return Located::Nowhere,
                }
            }
            match view.index.child(row, name) {
                Some(child) => row = child,
                None => return Located::Nowhere,
            }
        }
        match view.index.row(row).file_type {
            FileType::Regular => Located::File(view, row),
            _ => Located::Nowhere,
        }
    }
}

/// Returns the first catalog below another one that a path leads into.
fn first_nested(view: &View, path: &RepoPath) -> Option<NestedRow> {
    let mut row = RowId::ROOT;
    for name in path.names() {
        row = view.index.child(row, name)?;
        if let Some(nested) = view.index.nested(row) {
            return Some(nested.clone());
        }
    }
    None
}

/// Returns the objects that make up a file, as far as the offsets of chunks name them.
fn wants_of(view: &View, row: RowId, offsets: Option<&[u64]>) -> Vec<Want> {
    match content::of(view, row) {
        Ok(Content::Chunked(chunks)) => {
            // Chunks of another revision's file begin elsewhere.
            let is_named = |from: u64, size: u64| {
                let is_among = |offsets: &[u64]| offsets.iter().any(|offset| (from..from + size).contains(offset));
                offsets.map_or(from < UNNAMED_BYTES, is_among)
            };
            let named = chunks.list.iter().enumerate().filter(|(_, chunk)| is_named(chunk.offset, chunk.size));
            named.filter_map(|(number, _)| chunks.want(number)).filter(|want| want.place == Place::Data).collect()
        }
        Ok(content) => guessable(content).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_met_is_new_again_when_it_is_forgotten_or_long_ago() {
        let mut recent = Recent::default();
        assert!(recent.is_new((1, 0)) && !recent.is_new((1, 0)) && recent.is_new((1, 1)));
        recent.forget((1, 0));
        recent.forget((7, 7));
        assert!(recent.is_new((1, 0)) && !recent.is_new((1, 1)));
        (0..RECENT_MAX as u32).for_each(|row| assert!(recent.is_new((2, row))));
        assert!(recent.is_new((1, 1)));
        assert_eq!((recent.order.len(), recent.known.len()), (RECENT_MAX, RECENT_MAX));
    }
}
