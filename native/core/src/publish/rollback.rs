//! An old revision made the newest one.
//!
//! Owns what changes in its root catalog: number, time and predecessor. Everything below it is as it was; the nested
//! catalogs and objects are still in the store, or the old revision could not have been opened either. Source:
//! format.md 6.4.

use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::manifest::DEFAULT_TTL_S;

use super::finish::store_catalog;
use super::pipeline::Tally;
use super::tree::CatalogTree;
use super::types::{ChangeCounts, Committed};
use crate::catalog::{Previous, Seal};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// What a rollback goes back to, and what it leaves behind.
#[derive(Debug, Clone, Copy)]
pub struct Rollback {
    /// Root catalog of the old revision.
    pub target: ContentHash,
    /// Root catalog of the newest revision.
    pub head: ContentHash,
    /// Number of the new revision; larger than both.
    pub revision: u64,
    /// Algorithm that names the new root catalog.
    pub hash_algorithm: HashAlgorithm,
    /// Now, Unix seconds.
    pub now: i64,
}

/// Stores the root catalog of the old revision as that of a new one. `NotFound` if the old one was collected,
/// `Unsupported` if its schema is too old.
pub fn rollback(store: &dyn Store, wanted: &Rollback) -> Result<Committed> {
    let mut tree = CatalogTree::open(store, wanted.target)?;
    let root = tree.nodes.first_mut().and_then(Option::take);
    let root = root.ok_or_else(|| Error::new(ErrorKind::Internal, "roll back", "the tree has no root catalog"))?;
    let ttl_s = root.writer.property("TTL")?.and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_TTL_S);
    let seal = Seal {
        previous: Previous::Catalog(wanted.head),
        revision: wanted.revision,
        last_modified: wanted.now,
        ttl_s: None,
        is_volatile: false,
    };
    let finished = root.writer.finish(&seal, root.subtree)?;
    let tally = Tally::default();
    let (root_hash, root_size_bytes) = store_catalog(store, wanted.hash_algorithm, &finished.bytes, &tally)?;
    store.sync()?;
    Ok(Committed {
        root_hash,
        root_size_bytes,
        revision: wanted.revision,
        ttl_s,
        stored: tally.counts(),
        catalogs_new: 1,
        changes: ChangeCounts::default(),
        warnings: Vec::new(),
    })
}
