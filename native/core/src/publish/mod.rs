//! From a tree on disk to a new revision in a store.
//!
//! Owns what changes, the pipeline that turns files into objects, and the commit that turns both into catalogs. Does
//! not own the manifest: nothing that readers see changes until the caller signs and uploads one. The caller holds the
//! repository's publish lock throughout. A crash leaves objects that nobody refers to, and temporary files that the
//! next publish removes.

mod autocatalogs;
mod commit;
mod copying;
mod create;
mod directory;
mod finish;
mod grafts;
mod hardlinks;
mod limits;
mod names;
mod overlay;
mod pipeline;
pub mod plan;
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

use crate::error::Result;
use crate::progress::Progress;
use crate::store::Store;
use tree::CatalogTree;

pub use create::create_repository;
pub use plan::{Action, Change, Found, GivenContent, Label, Listed, Plan};
pub use rewrite::{Rewrite, rewrite};
pub use rollback::{Rollback, rollback};
pub use tar::{Archive, IngestSettings};
pub use template::copy_directory;
pub use types::{
    BaseRevision, CatalogWeights, ChangeCounts, Committed, Limits, NewRepository, PublishSettings, Source, Warning,
};
pub use virtual_directory::{Snapshot, update_virtual_directory};

/// Compares `source` with the base revision; changes nothing. What a dry run shows.
///
/// # Errors
///
/// `InvalidInput` for what must not be published, `Unsupported` for what this version cannot publish, `NotFound` and
/// `Corrupt` for base catalogs that are missing or damaged.
pub fn plan(store: &dyn Store, base: &BaseRevision, source: &Source, settings: &PublishSettings) -> Result<Plan> {
    let mut tree = CatalogTree::open(store, base.root_hash)?;
    scan::scan(&mut tree, source, settings)
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
    store.clear_leftovers()?;
    let tree = CatalogTree::open(store, base.root_hash)?;
    commit_plan(tree, store, plan, settings, progress)
}

/// Publishes the changes of `source`: [`plan`] and [`execute`] in one. A source without changes makes a new revision
/// all the same.
pub fn publish(
    store: &dyn Store,
    base: &BaseRevision,
    source: &Source,
    settings: &PublishSettings,
    progress: &Progress,
) -> Result<Committed> {
    store.clear_leftovers()?;
    let mut tree = CatalogTree::open(store, base.root_hash)?;
    commit::next_revision(&tree, settings)?;
    let plan = scan::scan(&mut tree, source, settings)?;
    commit_plan(tree, store, plan, settings, progress)
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
    let mut tree = CatalogTree::open(store, base.root_hash)?;
    commit::next_revision(&tree, settings)?;
    let tally = pipeline::Tally::default();
    let (plan, contents) = tar::ingest(&mut tree, store, archive, ingest, settings, progress, Some(&tally))?;
    commit_contents(tree, store, plan, contents, settings, progress, &tally)
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
    let mut tree = CatalogTree::open(store, base.root_hash)?;
    Ok(tar::ingest(&mut tree, store, archive, ingest, settings, progress, None)?.0)
}

fn commit_plan(
    tree: CatalogTree<'_>,
    store: &dyn Store,
    plan: Plan,
    settings: &PublishSettings,
    progress: &Progress,
) -> Result<Committed> {
    let tally = pipeline::Tally::default();
    let contents = pipeline::store_contents(store, &plan, settings, progress, &tally)?;
    commit_contents(tree, store, plan, contents, settings, progress, &tally)
}

fn commit_contents(
    tree: CatalogTree<'_>,
    store: &dyn Store,
    plan: Plan,
    contents: Vec<Option<pipeline::Content>>,
    settings: &PublishSettings,
    progress: &Progress,
    tally: &pipeline::Tally,
) -> Result<Committed> {
    let done = commit::commit(tree, store, &plan, contents, settings, progress, tally)?;
    store.sync()?;
    Ok(Committed {
        root_hash: done.tree.root.hash,
        root_size_bytes: done.tree.root.size_bytes,
        revision: done.revision,
        ttl_s: settings.ttl_s,
        objects_new: tally.objects(),
        bytes_new: tally.bytes(),
        objects_reused: tally.reused(),
        catalogs_new: done.tree.catalogs,
        changes: done.changes,
        warnings: plan.warnings.into_iter().chain(done.warnings).collect(),
    })
}
