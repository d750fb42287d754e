//! One change applied to every catalog of a revision, without any change to the tree.
//!
//! Owns the walk: first which catalogs there are, then each of them from the deepest to the root, because a catalog
//! records hashes and sums of those below it. Catalogs of one depth are worked on in parallel, and no more of them are
//! open at a time than there are workers. A catalog that would stay what it is is not stored, and a revision whose
//! root would stay what it is is none. Nothing that readers see changes here. Source: format.md 4.9, 4.12, 10.1;
//! server.md 3.20.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use nearfs_format::counters::{CatalogCounters, Counters};
use nearfs_format::hash::ContentHash;
use nearfs_format::path::RepoPath;
use parking_lot::Mutex;

use super::finish::store_catalog;
use super::pipeline::Tally;
use super::tree::read_catalog;
use super::types::{BaseRevision, ChangeCounts, Committed, PublishSettings};
use crate::catalog::{CatalogWriter, NestedRow, OwnerMap, Previous, Seal};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::store::Store;

const OPERATION: &str = "rewrite catalogs";

/// What is changed in every catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// Owners and groups of all entries.
    Owners {
        /// New user ids.
        users: OwnerMap,
        /// New group ids.
        groups: OwnerMap,
    },
    /// Names of a hardlink group become files of their own.
    BreakHardlinks,
    /// Chunked files lose the hash of the whole file.
    DropBulkHashes,
    /// The statistics counters, counted from the rows, whatever they were.
    Statistics,
}

/// One catalog of the base revision.
#[derive(Debug)]
struct Place {
    row: NestedRow,
    parent: Option<usize>,
    hash: ContentHash,
}

/// What became of a catalog.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    total: Counters,
    /// Hash, size and revision of the new version; `None` where it stayed what it was.
    stored: Option<(ContentHash, u64, u64)>,
    rows_changed: u64,
}

/// Applies `rule` to every catalog of the base revision. Returns the new revision, or `None` where the rule finds
/// nothing to change. Of the settings it takes the hash algorithm, the time to live, the time and the workers.
///
/// # Errors
///
/// `NotFound` and `Corrupt` for catalogs that are missing or damaged, `Unsupported` for old schemas, `Cancelled`.
pub fn rewrite(
    store: &dyn Store,
    base: &BaseRevision,
    rule: &Rewrite,
    settings: &PublishSettings,
    progress: &Progress,
) -> Result<Option<Committed>> {
    store.clear_leftovers()?;
    let tally = Tally::default();
    let walk = Walk { store, scratch: store.scratch_dir(), rule, settings, progress, tally: &tally };
    let levels = walk.levels(base.root_hash)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    let (mut catalogs, mut rows_changed) = (0, 0);
    // Children of each catalog, from the level below.
    let mut below: Vec<(usize, Outcome, NestedRow)> = Vec::new();
    for places in levels.into_iter().rev() {
        let mut inside: Vec<Vec<(Outcome, NestedRow)>> = places.iter().map(|_| Vec::new()).collect();
        for (parent, outcome, row) in below.drain(..) {
            inside.get_mut(parent).ok_or_else(lost_parent)?.push((outcome, row));
        }
        let jobs: Vec<_> = places.iter().zip(&inside).collect();
        outcomes = walk.in_parallel(&jobs, |(place, inside)| walk.rewrite_one(place, inside))?;
        catalogs += outcomes.iter().filter(|outcome| outcome.stored.is_some()).count() as u64;
        rows_changed += outcomes.iter().map(|outcome| outcome.rows_changed).sum::<u64>();
        below = places
            .into_iter()
            .zip(&outcomes)
            .filter_map(|(place, outcome)| place.parent.map(|parent| (parent, *outcome, place.row)))
            .collect();
    }
    let root = outcomes.first().ok_or_else(lost_parent)?;
    let Some((root_hash, root_size_bytes, revision)) = root.stored else { return Ok(None) };
    store.sync()?;
    Ok(Some(Committed {
        root_hash,
        root_size_bytes,
        revision,
        ttl_s: settings.ttl_s,
        stored: tally.counts(),
        catalogs_new: catalogs,
        changes: ChangeCounts { files_changed: rows_changed, ..ChangeCounts::default() },
        warnings: Vec::new(),
    }))
}

fn lost_parent() -> Error {
    Error::new(ErrorKind::Internal, OPERATION, "a catalog without its parent")
}

struct Walk<'a> {
    store: &'a dyn Store,
    scratch: PathBuf,
    rule: &'a Rewrite,
    settings: &'a PublishSettings,
    progress: &'a Progress,
    tally: &'a Tally,
}

impl Walk<'_> {
    /// Returns all catalogs by depth, the root alone at depth 0; `parent` counts in the level above.
    fn levels(&self, root_hash: ContentHash) -> Result<Vec<Vec<Place>>> {
        let row = NestedRow { path: RepoPath::root(), hash: Some(root_hash), size_bytes: 0 };
        let mut levels = vec![vec![Place { row, parent: None, hash: root_hash }]];
        while let Some(places) = levels.last().filter(|places| !places.is_empty()) {
            let nested = self.in_parallel(places, |place| self.open(place)?.0.nested())?;
            let mut next = Vec::new();
            for (parent, rows) in nested.into_iter().enumerate() {
                for row in rows {
                    let hash = row.hash.ok_or_else(|| {
                        let subject = format!("catalog {}: its parent knows no hash", row.path);
                        Error::new(ErrorKind::Corrupt, OPERATION, subject)
                    })?;
                    next.push(Place { row, parent: Some(parent), hash });
                }
            }
            levels.push(next);
        }
        levels.pop();
        Ok(levels)
    }

    /// Opens a catalog; its counters come with it, `None` where they are missing and may be.
    fn open(&self, place: &Place) -> Result<(CatalogWriter, Option<CatalogCounters>)> {
        self.progress.check(OPERATION)?;
        let bytes = read_catalog(self.store, &place.row, place.hash)?;
        let (writer, counters) = CatalogWriter::open_uncounted(&self.scratch, &place.row.path, &bytes)?;
        match (counters, self.rule) {
            (Ok(counters), _) => Ok((writer, Some(counters))),
            (Err(_), Rewrite::Statistics) => Ok((writer, None)),
            (Err(error), _) => Err(error),
        }
    }

    /// Applies the rule to one catalog; `inside` is what became of the catalogs directly below it.
    fn rewrite_one(&self, place: &Place, inside: &[(Outcome, NestedRow)]) -> Result<Outcome> {
        let (writer, stored) = self.open(place)?;
        let rows_changed = self.change_rows(&writer)?;
        let mut subtree = Counters::default();
        let mut is_dirty = rows_changed > 0;
        for (outcome, row) in inside {
            subtree += outcome.total;
            if let Some((hash, size_bytes, _)) = outcome.stored {
                writer.set_nested(&NestedRow { path: row.path.clone(), hash: Some(hash), size_bytes })?;
                is_dirty = true;
            }
        }
        match (self.rule, stored) {
            (Rewrite::Statistics, stored) => {
                let counted = CatalogCounters { own: writer.count_rows()?, subtree };
                is_dirty |= stored != Some(counted);
                if !is_dirty {
                    return Ok(Outcome { total: counted.total(), stored: None, rows_changed });
                }
            }
            (_, Some(counters)) if !is_dirty => {
                return Ok(Outcome { total: counters.total(), stored: None, rows_changed });
            }
            _ => {}
        }
        self.store_one(place, writer, subtree, rows_changed)
    }

    fn change_rows(&self, writer: &CatalogWriter) -> Result<u64> {
        match self.rule {
            Rewrite::Owners { users, groups } => writer.change_owners(users, groups),
            Rewrite::BreakHardlinks => writer.break_hardlinks(),
            Rewrite::DropBulkHashes => writer.drop_bulk_hashes(),
            Rewrite::Statistics => Ok(0),
        }
    }

    fn store_one(&self, place: &Place, writer: CatalogWriter, subtree: Counters, rows_changed: u64) -> Result<Outcome> {
        let revision = writer.revision()?.checked_add(1).ok_or_else(|| {
            let subject = format!("catalog {}: there is no revision after its own", place.row.path);
            Error::new(ErrorKind::Corrupt, OPERATION, subject)
        })?;
        let seal = Seal {
            previous: Previous::Catalog(place.hash),
            revision,
            last_modified: self.settings.now,
            ttl_s: place.parent.is_none().then_some(self.settings.ttl_s),
            is_volatile: false, // a catalog that has the property keeps it
        };
        let finished = writer.finish(&seal, subtree)?;
        let (hash, size_bytes) = store_catalog(self.store, self.settings.hash_algorithm, &finished.bytes, self.tally)?;
        Ok(Outcome { total: finished.counters.total(), stored: Some((hash, size_bytes, revision)), rows_changed })
    }

    /// Runs `work` for each item on the workers; the results come in the order of the items.
    fn in_parallel<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
        let results: Vec<Mutex<Option<Result<R>>>> = items.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        let run = || {
            while let Some((item, result)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                items.get(index).zip(results.get(index))
            } {
                let done = work(item);
                if done.is_err() {
                    // The others need not begin what is of no use any more.
                    next.store(items.len(), Ordering::Relaxed);
                }
                *result.lock() = Some(done);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.settings.worker_count().min(items.len()) {
                scope.spawn(run);
            }
            run();
        });
        let results: Vec<_> = results.into_iter().map(Mutex::into_inner).collect();
        let mut done = Vec::with_capacity(results.len());
        let mut is_complete = true;
        for result in results {
            match result {
                Some(result) => done.push(result?),
                None => is_complete = false,
            }
        }
        if is_complete { Ok(done) } else { Err(Error::new(ErrorKind::Internal, OPERATION, "a worker died")) }
    }
}
