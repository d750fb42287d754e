//! Publishing: the first revision, plans, commits.

use std::path::PathBuf;

use nearfs_core::progress;
use nearfs_core::publish::{
    self, BaseRevision, CatalogWeights, Committed, Limits, NewRepository, PublishSettings, Rollback, Snapshot, Source,
};
use nearfs_core::store::local::LocalStore;
use nearfs_format::chunker::ChunkSizes;
use nearfs_format::codec::Effort;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Raised;
use crate::progress::Progress;
use crate::rewriting::{GivenMap, owner_map};
use crate::values;

pub(crate) fn committed<'py>(py: Python<'py>, done: &Committed) -> PyResult<Bound<'py, PyDict>> {
    let (changes, stored) = (&done.changes, &done.stored);
    let shown = PyDict::new(py);
    shown.set_item("root_hash", done.root_hash.to_string())?;
    shown.set_item("root_size", done.root_size_bytes)?;
    shown.set_item("revision", done.revision)?;
    shown.set_item("ttl_s", done.ttl_s)?;
    shown.set_item("objects_new", stored.objects_new)?;
    shown.set_item("bytes_new", stored.bytes_new)?;
    shown.set_item("catalogs_new", done.catalogs_new)?;
    shown.set_item("bytes_added", changes.bytes_added)?;
    shown.set_item("objects_reused", stored.objects_reused)?;
    shown.set_item("entries_added", changes.files_added + changes.directories_added)?;
    shown.set_item("entries_removed", changes.files_removed + changes.directories_removed)?;
    shown.set_item("entries_changed", changes.files_changed + changes.directories_changed)?;
    let counts = PyDict::new(py);
    // The columns of the reference's statistics count symlinks apart from other files, and catalogs from other objects.
    for (name, count) in [
        ("files_added", changes.files_added - changes.symlinks_added),
        ("files_removed", changes.files_removed - changes.symlinks_removed),
        ("files_changed", changes.files_changed - changes.symlinks_changed),
        ("symlinks_added", changes.symlinks_added),
        ("symlinks_removed", changes.symlinks_removed),
        ("symlinks_changed", changes.symlinks_changed),
        ("directories_added", changes.directories_added),
        ("directories_removed", changes.directories_removed),
        ("directories_changed", changes.directories_changed),
        ("chunks_added", stored.objects_new - stored.catalogs_new),
        ("chunks_duplicated", stored.objects_reused - stored.catalogs_reused),
        ("catalogs_added", done.catalogs_new),
        ("sz_bytes_added", changes.bytes_added),
        ("sz_bytes_removed", changes.bytes_removed),
        ("sz_bytes_uploaded", stored.bytes_new - stored.catalog_bytes_new),
        ("sz_catalog_bytes_uploaded", stored.catalog_bytes_new),
    ] {
        counts.set_item(name, count)?;
    }
    shown.set_item("counts", counts)?;
    shown.set_item("warnings", done.warnings.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(shown)
}

/// Stores the empty root catalog of revision 0.
#[pyfunction]
#[pyo3(signature = (storage, *, fqrn, hash_algorithm, uid, gid, now_s, volatile, voms_authz=None))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python")]
pub(crate) fn create_repository<'py>(
    py: Python<'py>,
    storage: PathBuf,
    fqrn: String,
    hash_algorithm: &str,
    uid: u32,
    gid: u32,
    now_s: i64,
    volatile: bool,
    voms_authz: Option<String>,
) -> PyResult<Bound<'py, PyDict>> {
    let hash_algorithm = values::algorithm(hash_algorithm)?;
    let new = NewRepository { fqrn, hash_algorithm, uid, gid, volatile, voms_authz, now: now_s };
    let done = py.detach(|| publish::create_repository(&LocalStore::open(storage)?, &new)).map_err(Raised::from)?;
    committed(py, &done)
}

/// What a publish is told; filled by name from Python.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct PublishRequest {
    pub(crate) base_root_hash: String,
    pub(crate) source: PathBuf,
    is_overlay: bool,
    hash_algorithm: String,
    compression: String,
    is_fast: bool,
    chunk_sizes: Option<(u64, u64, u64)>,
    include_xattrs: bool,
    include_mtime_ns: bool,
    ignore_special_files: bool,
    ttl_s: u64,
    revision: Option<u64>,
    now_s: i64,
    external: bool,
    direct_io: bool,
    volatile: bool,
    membership: Option<String>,
    uid_map: GivenMap,
    gid_map: GivenMap,
    ignore_xdir_hardlinks: bool,
    /// MiB of a file, thousand entries of a nested and of the root catalog; 0 is no limit.
    limits: (u64, u64, u64),
    enforce_limits: bool,
    /// Largest and smallest number of entries of automatic catalogs; `None` makes none.
    autocatalogs: Option<(u64, u64)>,
    /// Keep packs of small files; `false` removes those that there are.
    packs: bool,
}

impl PublishRequest {
    pub(crate) fn settings(&self) -> Result<PublishSettings, Raised> {
        let mut settings = PublishSettings::new(self.now_s);
        settings.hash_algorithm = values::algorithm(&self.hash_algorithm)?;
        settings.compression = values::compression(&self.compression)?;
        settings.effort = if self.is_fast { Effort::Fast } else { Effort::Stock };
        settings.chunk_sizes = self.chunk_sizes.map(|(min, avg, max)| ChunkSizes::new(min, avg, max)).transpose()?;
        settings.include_xattrs = self.include_xattrs;
        settings.mtime_ns = self.include_mtime_ns;
        settings.ignore_special = self.ignore_special_files;
        settings.is_external = self.external;
        settings.direct_io = self.direct_io;
        settings.volatile = self.volatile;
        settings.membership.clone_from(&self.membership);
        settings.users = owner_map(self.uid_map.clone());
        settings.groups = owner_map(self.gid_map.clone());
        settings.ttl_s = self.ttl_s;
        settings.manual_revision = self.revision;
        settings.ignore_xdir_hardlinks = self.ignore_xdir_hardlinks;
        let (file_mbytes, nested_kentries, root_kentries) = self.limits;
        let is_enforced = self.enforce_limits;
        settings.limits = Limits { file_mbytes, nested_kentries, root_kentries, is_enforced };
        settings.autocatalogs = self.autocatalogs.map(|(max, min)| CatalogWeights { max, min });
        settings.packs = self.packs;
        Ok(settings)
    }
}

fn source(path: PathBuf, is_overlay: bool) -> Source {
    if is_overlay { Source::Overlay { upper: path } } else { Source::Directory { path } }
}

/// Stores what changed in a source and the catalogs that say so.
#[pyfunction(name = "publish")]
#[pyo3(signature = (storage, *, progress, **request))]
pub(crate) fn publish_source<'py>(
    py: Python<'py>,
    storage: PathBuf,
    progress: &Progress,
    request: Option<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    let request: PublishRequest = request.unwrap_or_else(|| PyDict::new(py)).extract()?;
    let base = BaseRevision { root_hash: values::hash(&request.base_root_hash)? };
    let settings = request.settings()?;
    let source = source(request.source, request.is_overlay);
    let counters: &progress::Progress = &progress.0;
    let done = py
        .detach(|| publish::publish(&LocalStore::open(storage)?, &base, &source, &settings, counters))
        .map_err(Raised::from)?;
    committed(py, &done)
}

/// Returns what a publish would change, a line an entry.
#[pyfunction]
#[pyo3(signature = (storage, *, base_root_hash, source, is_overlay, ignore_special_files))]
pub(crate) fn plan_publish(
    py: Python<'_>,
    storage: PathBuf,
    base_root_hash: &str,
    source: PathBuf,
    is_overlay: bool,
    ignore_special_files: bool,
) -> Result<Vec<String>, Raised> {
    let base = BaseRevision { root_hash: values::hash(base_root_hash)? };
    let source = self::source(source, is_overlay);
    py.detach(|| {
        let mut settings = PublishSettings::new(0);
        settings.ignore_special = ignore_special_files;
        let plan = publish::plan(&LocalStore::open(storage)?, &base, &source, &settings)?;
        Ok(plan.listing().map(|listed| listed.to_string()).collect())
    })
}

/// Stores the root catalog of an old revision as that of a new one.
#[pyfunction]
#[pyo3(signature = (storage, *, target, head, revision, hash_algorithm, now_s))]
pub(crate) fn roll_back<'py>(
    py: Python<'py>,
    storage: PathBuf,
    target: &str,
    head: &str,
    revision: u64,
    hash_algorithm: &str,
    now_s: i64,
) -> PyResult<Bound<'py, PyDict>> {
    let wanted = Rollback {
        target: values::hash(target)?,
        head: values::hash(head)?,
        revision,
        hash_algorithm: values::algorithm(hash_algorithm)?,
        now: now_s,
    };
    let done = py.detach(|| publish::rollback(&LocalStore::open(storage)?, &wanted)).map_err(Raised::from)?;
    committed(py, &done)
}

/// Makes `/.cvmfs/snapshots` show just `snapshots` (name, root hash, size), or removes it for `None`; returns `None` if
/// nothing had to change.
#[pyfunction]
#[pyo3(signature = (storage, *, base_root_hash, snapshots, hash_algorithm, ttl_s, now_s))]
pub(crate) fn update_virtual_directory<'py>(
    py: Python<'py>,
    storage: PathBuf,
    base_root_hash: &str,
    snapshots: Option<Vec<(String, String, u64)>>,
    hash_algorithm: &str,
    ttl_s: u64,
    now_s: i64,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let base = BaseRevision { root_hash: values::hash(base_root_hash)? };
    let mut settings = PublishSettings::new(now_s);
    settings.hash_algorithm = values::algorithm(hash_algorithm)?;
    settings.ttl_s = ttl_s;
    let snapshot = |(name, root_hash, root_size_bytes): (String, String, u64)| -> Result<Snapshot, Raised> {
        Ok(Snapshot { name, root_hash: values::hash(&root_hash)?, root_size_bytes })
    };
    let snapshots: Option<Vec<Snapshot>> =
        snapshots.map(|rows| rows.into_iter().map(snapshot).collect::<Result<_, _>>()).transpose()?;
    let done = py
        .detach(|| {
            publish::update_virtual_directory(&LocalStore::open(storage)?, &base, snapshots.as_deref(), &settings)
        })
        .map_err(Raised::from)?;
    done.map(|done| committed(py, &done)).transpose()
}

/// Stores the revision in which a directory is there a second time, under another path.
#[pyfunction]
#[pyo3(signature = (storage, *, source, target, request))]
pub(crate) fn copy_directory(
    py: Python<'_>,
    storage: PathBuf,
    source: Vec<u8>,
    target: Vec<u8>,
    request: PublishRequest,
) -> PyResult<Bound<'_, PyDict>> {
    let base = BaseRevision { root_hash: values::hash(&request.base_root_hash)? };
    let settings = request.settings()?;
    let (from, to) = (values::repo_path(&source)?, values::repo_path(&target)?);
    let done = py
        .detach(|| publish::copy_directory(&LocalStore::open(storage)?, &base, &from, &to, &settings))
        .map_err(Raised::from)?;
    committed(py, &done)
}
