//! What joins learned traces and the prefetcher: the one knows what a program opens, the other fetches.

use std::sync::Arc;

use nearfs_format::path::RepoPath;
use nearfs_format::trace::TraceItem;

use super::options::ClientOptions;
use crate::catalog::tree::CatalogTree;
use crate::prefetch::ledger::Mechanism;
use crate::prefetch::traces::{Ahead, Traces};
use crate::prefetch::{Item, Prefetcher};

/// Returns what notes opens, and has followed what it knows of them.
pub(super) fn traces(options: &ClientOptions, ahead: Arc<Prefetcher>) -> Traces {
    let is_learning = options.prefetch.is_on() && options.prefetch.traces;
    let directories = if is_learning { options.trace_directories.clone() } else { Vec::new() };
    Traces::new(&options.fqrn, directories, Box::new(Learned(ahead)))
}

/// What was learned is fetched like everything else that is fetched ahead.
struct Learned(Arc<Prefetcher>);

impl Ahead for Learned {
    fn follow(&self, tree: &Arc<CatalogTree>, items: Vec<TraceItem>) {
        let items = items.into_iter().map(|TraceItem { path, offsets }| Item { path, offsets });
        self.0.follow(Mechanism::Traces, tree, items.collect());
    }

    fn enter(&self, tree: &Arc<CatalogTree>, paths: Vec<RepoPath>) {
        self.0.enter(tree, paths);
    }
}
