//! Catalogs that a commit has left: brought to a sensible size, compared with the limits, stored and closed.
//!
//! Owns that few catalogs are open at a time, whatever the size of a tree. A later change may open one again: then it is
//! stored twice, and the first version is garbage. Belongs to one thread; stores catalogs in parallel.

use std::collections::BTreeSet;

use nearfs_format::path::RepoPath;

use super::finish::{CommitValues, FinishedTree, finish, finish_behind};
use super::packs::{self, Means, Touched};
use super::pipeline::Tally;
use super::tree::{CatalogTree, OPEN_CATALOGS};
use super::types::{PublishSettings, Warning};
use super::{autocatalogs, limits};
use crate::error::Result;
use crate::store::Store;

/// What becomes of catalogs after the last change in them.
pub(super) struct Behind<'s> {
    store: &'s dyn Store,
    settings: &'s PublishSettings,
    values: CommitValues,
    tally: &'s Tally,
    warnings: Vec<Warning>,
    /// Catalogs stored so far.
    catalogs: u64,
    /// Mountpoints of catalogs that changed, where somebody asks.
    changed: BTreeSet<RepoPath>,
}

impl<'s> Behind<'s> {
    pub(super) fn new(
        store: &'s dyn Store,
        settings: &'s PublishSettings,
        values: CommitValues,
        tally: &'s Tally,
    ) -> Self {
        Self { store, settings, values, tally, warnings: Vec::new(), catalogs: 0, changed: BTreeSet::new() }
    }

    /// Returns the revision that the catalogs are of.
    pub(super) fn revision(&self) -> u64 {
        self.values.revision
    }

    /// Notes that the next changes are at `path`: catalogs that it is not in are stored and closed, unless few are open.
    pub(super) fn arrive(&mut self, tree: &mut CatalogTree<'_>, path: &RepoPath) -> Result<()> {
        if tree.open_catalogs() <= OPEN_CATALOGS {
            return Ok(());
        }
        self.settle(tree, Some(path))?;
        self.catalogs += finish_behind(tree, path, self.store, &self.values, self.tally)?;
        Ok(())
    }

    /// Stores every catalog that changed; returns the root and what is too large. `content_bytes` is the size of all
    /// regular files.
    pub(super) fn finish(
        mut self,
        mut tree: CatalogTree<'_>,
        content_bytes: u64,
    ) -> Result<(FinishedTree, Vec<Warning>)> {
        self.settle(&mut tree, None)?;
        self.pack(&mut tree, content_bytes)?;
        let mut finished = finish(tree, self.store, &self.values, self.tally)?;
        finished.catalogs += self.catalogs;
        self.warnings.sort_by(|a, b| a.path().cmp(b.path()));
        self.warnings.dedup_by(|a, b| a.path() == b.path());
        Ok((finished, self.warnings))
    }

    fn pack(&mut self, tree: &mut CatalogTree<'_>, content_bytes: u64) -> Result<()> {
        let touched = Touched { changed: std::mem::take(&mut self.changed), content_bytes };
        let means = Means { store: self.store, settings: self.settings, tally: self.tally };
        let (catalogs, values) = (&mut self.catalogs, &self.values);
        let mut leave = |tree: &mut CatalogTree<'_>, path: &RepoPath| {
            if tree.open_catalogs() > OPEN_CATALOGS {
                *catalogs += finish_behind(tree, path, means.store, values, means.tally)?;
            }
            Ok(())
        };
        packs::update(tree, &means, touched, &mut leave)
    }

    /// Splits, merges and measures what is open, or what lies behind a path.
    fn settle(&mut self, tree: &mut CatalogTree<'_>, path: Option<&RepoPath>) -> Result<()> {
        let listed = |tree: &CatalogTree<'_>| path.map_or_else(|| tree.open_ids(), |path| tree.behind(path));
        let ids = listed(tree);
        autocatalogs::balance(tree, &ids, self.settings, self.tally)?;
        // Asked again: the balance makes and removes catalogs.
        let ids = listed(tree);
        self.warnings.extend(limits::check_catalogs(tree, &ids, &self.settings.limits)?);
        if self.settings.packs {
            let nodes = ids.iter().filter_map(|id| tree.node(*id).ok()).filter(|node| node.is_dirty);
            self.changed.extend(nodes.map(|node| node.mountpoint.clone()));
        }
        Ok(())
    }
}
