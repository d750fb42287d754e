//! Changes to every catalog of a revision.

use std::collections::HashMap;
use std::path::PathBuf;

use nearfs_core::catalog::OwnerMap;
use nearfs_core::publish::{self, BaseRevision, PublishSettings, Rewrite};
use nearfs_core::store::local::LocalStore;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Raised;
use crate::progress::Progress;
use crate::publish::committed;
use crate::values;

/// Ids to be replaced, and what all others become.
pub(crate) type GivenMap = (HashMap<u32, u32>, Option<u32>);

pub(crate) fn owner_map((exact, otherwise): GivenMap) -> OwnerMap {
    OwnerMap { exact, otherwise }
}

fn rule(name: &str, uid_map: Option<GivenMap>, gid_map: Option<GivenMap>) -> Result<Rewrite, Raised> {
    match name {
        "owners" => Ok(Rewrite::Owners {
            users: owner_map(uid_map.unwrap_or_default()),
            groups: owner_map(gid_map.unwrap_or_default()),
        }),
        "hardlinks" => Ok(Rewrite::BreakHardlinks),
        "bulk-hashes" => Ok(Rewrite::DropBulkHashes),
        "statistics" => Ok(Rewrite::Statistics),
        _ => Err(Raised::invalid("rewrite", format!("catalogs: there is no rule `{name}`"))),
    }
}

/// Applies one rule to every catalog; `None` where there is nothing to change.
#[pyfunction]
#[pyo3(signature = (storage, *, base_root_hash, hash_algorithm, rule, uid_map, gid_map, ttl_s, now_s, progress))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python")]
pub(crate) fn rewrite_catalogs<'py>(
    py: Python<'py>,
    storage: PathBuf,
    base_root_hash: &str,
    hash_algorithm: &str,
    rule: &str,
    uid_map: Option<GivenMap>,
    gid_map: Option<GivenMap>,
    ttl_s: u64,
    now_s: i64,
    progress: &Progress,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let base = BaseRevision { root_hash: values::hash(base_root_hash)? };
    let rule = self::rule(rule, uid_map, gid_map)?;
    let mut settings = PublishSettings::new(now_s);
    settings.hash_algorithm = values::algorithm(hash_algorithm)?;
    settings.ttl_s = ttl_s;
    let done = py
        .detach(|| publish::rewrite(&LocalStore::open(storage)?, &base, &rule, &settings, &progress.0))
        .map_err(Raised::from)?;
    done.as_ref().map(|done| committed(py, done)).transpose()
}
