//! From a tree on disk to a new revision in a store.
//!
//! Owns what changes, the pipeline that turns files into objects, and the commit that turns both into catalogs. Does
//! not own the manifest: nothing that readers see changes until the caller signs and uploads one. The caller holds the
//! repository's publish lock throughout. A crash leaves objects that nobody refers to, and temporary files that the
//! next publish removes.

mod autocatalogs;
mod behind;
mod bundles;
mod commit;
mod conveyor;
mod copying;
mod create;
mod directory;
mod finish;
mod grafts;
mod hardlinks;
mod limits;
mod names;
mod overlay;
mod packs;
mod pipeline;
pub mod plan;
mod reading;
mod redirects;
mod rewrite;
mod rollback;
mod scan;
mod tar;
mod template;
mod tree;
pub mod types;
mod virtual_directory;
mod xattrs;

use std::path::Path;

use nearfs_format::path::RepoPath;

use crate::error::Result;
use crate::progress::Progress;
use crate::store::Store;
use commit::{Commit, Done};
use conveyor::Stop;
use pipeline::{Shared, Tally};
use plan::Changes;
use tree::CatalogTree;

pub use create::create_repository;
pub use plan::{Action, Change, Found, GivenContent, Label, Listed, Plan};
pub use rewrite::{Rewrite, rewrite};
pub use rollback::{Rollback, rollback};
pub use tar::{Archive, IngestSettings};
pub use template::copy_directory;
pub use types::{
    BaseRevision, CatalogWeights, ChangeCounts, Committed, Limits, NewRepository, PublishSettings, Source,
    StoredCounts, Warning,
};
pub use virtual_directory::{Snapshot, update_virtual_directory};

/// Compares `source` with the base revision; changes nothing. What a dry run shows.
///
/// # Errors
///
/// `InvalidInput` for what must not be published, `Unsupported` for what this version cannot publish, `NotFound` and
/// `Corrupt` for base catalogs that are missing or damaged.
pub fn plan(store: &dyn Store, base: &BaseRevision, source: &Source, settings: &PublishSettings) -> Result<Plan> {
    let (source_directory, target) = (source.directory().to_owned(), source.target());
    let mut plan = Plan { source: source_directory, target, changes: Vec::new(), warnings: Vec::new() };
    scan::scan(&mut CatalogTree::open(store, base.root_hash)?, source, settings, &mut plan)?;
    // Stable: a removal stays before the addition at the same path.
    plan.changes.sort_by(|a, b| a.path.cmp(&b.path));
    plan.warnings.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(plan)
}

/// Publishes what a plan says. The source has to be as it was when the plan was made.
///
/// # Errors
///
/// As for [`plan`]; `Busy` for a file that changes meanwhile, `Cancelled` on request. Nothing visible has changed then.
pub fn execute(
    store: &dyn Store,
    base: &BaseRevision,
    plan: Plan,
    settings: &PublishSettings,
    progress: &Progress,
) -> Result<Committed> {
    let Plan { source, target, changes, warnings } = plan;
    commit_changes(store, base, (&source, &target), settings, progress, move |sink| {
        for warning in warnings {
            sink.warn(warning);
        }
        changes.into_iter().try_for_each(|change| sink.change(change))
    })
}

/// Publishes the changes of `source`: [`plan`] and [`execute`] in one, but changes flow from the scan to the commit a
/// few at a time, so that memory does not depend on their number. A source without changes makes a new revision all
/// the same.
pub fn publish(
    store: &dyn Store,
    base: &BaseRevision,
    source: &Source,
    settings: &PublishSettings,
    progress: &Progress,
) -> Result<Committed> {
    let place = (source.directory(), &source.target());
    commit_changes(store, base, place, settings, progress, |sink| {
        // A tree of its own: the commit changes the other one meanwhile, and the comparison is with the base.
        scan::scan(&mut CatalogTree::open(store, base.root_hash)?, source, settings, sink)
    })
}

/// Publishes a tar archive, which is read once and never unpacked; without one, only the deletions of `ingest`.
///
/// # Errors
///
/// `Corrupt` for a damaged archive or base catalog, `InvalidInput` for members that must not be published,
/// `Unsupported` for forms that this version does not read, `Cancelled` on request. Nothing visible has changed then.
pub fn ingest(
    store: &dyn Store,
    base: &BaseRevision,
    archive: Option<&Archive>,
    ingest: &IngestSettings,
    settings: &PublishSettings,
    progress: &Progress,
) -> Result<Committed> {
    store.clear_leftovers()?;
    let tally = Tally::default();
    let mut commit = Commit::new(CatalogTree::open(store, base.root_hash)?, store, settings, &tally)?;
    // A tree of its own: the commit changes the other one meanwhile, and the comparison is with the base.
    let mut unchanged = CatalogTree::open(store, base.root_hash)?;
    let order = tar::Order { store, archive, ingest, settings, progress };
    let warnings = tar::ingest(&order, &mut unchanged, Some(&tally), &mut |change, content| {
        commit.apply(&change.path, &change.action, content)
    })?;
    committed(store, commit.finish()?, &tally, settings, warnings)
}

/// Compares an archive with the base revision; stores nothing. Files of equal attributes count as equal.
pub fn plan_ingest(
    store: &dyn Store,
    base: &BaseRevision,
    archive: Option<&Archive>,
    ingest: &IngestSettings,
    settings: &PublishSettings,
    progress: &Progress,
) -> Result<Plan> {
    let mut changes = Vec::new();
    let order = tar::Order { store, archive, ingest, settings, progress };
    let warnings = tar::ingest(&order, &mut CatalogTree::open(store, base.root_hash)?, None, &mut |change, _| {
        changes.push(change);
        Ok(())
    })?;
    Ok(Plan { source: std::path::PathBuf::new(), target: ingest.base.clone(), changes, warnings })
}

/// Commits the changes that `scan` hands out; contents lie in the directory `place.0`, which stands for `place.1`.
fn commit_changes(
    store: &dyn Store,
    base: &BaseRevision,
    (source, target): (&Path, &RepoPath),
    settings: &PublishSettings,
    progress: &Progress,
    scan: impl FnOnce(&mut dyn Changes) -> Result<()> + Send,
) -> Result<Committed> {
    store.clear_leftovers()?;
    let tally = Tally::default();
    let mut commit = Commit::new(CatalogTree::open(store, base.root_hash)?, store, settings, &tally)?;
    let shared = Shared { store, source, target, settings, progress, tally: &tally, stop: Stop::default() };
    let apply = |change: &Change, content| commit.apply(&change.path, &change.action, content);
    let warnings = conveyor::convey(&shared, scan, apply)?;
    committed(store, commit.finish()?, &tally, settings, warnings)
}

/// Makes what was stored outlast a power failure, and says what it is.
fn committed(
    store: &dyn Store,
    done: Done,
    tally: &Tally,
    settings: &PublishSettings,
    mut warnings: Vec<Warning>,
) -> Result<Committed> {
    store.sync()?;
    warnings.sort_by(|a, b| a.path().cmp(b.path()));
    warnings.extend(done.warnings);
    Ok(Committed {
        root_hash: done.tree.root.hash,
        root_size_bytes: done.tree.root.size_bytes,
        revision: done.revision,
        ttl_s: settings.ttl_s,
        stored: tally.counts(),
        catalogs_new: done.tree.catalogs,
        changes: done.changes,
        warnings,
    })
}
