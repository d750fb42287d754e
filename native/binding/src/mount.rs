//! Mounting: a verified snapshot, a client over it, a FUSE session; and the mount as an object that Python waits for.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nearfs_core::Error;
use nearfs_core::cache::disk::{DiskCache, Sharing};
use nearfs_core::cache::fill::ObjectCache;
use nearfs_core::client::options::{IdMap, XattrVisibility};
use nearfs_core::client::{Client, ClientOptions};
use nearfs_core::repo::snapshot::{Selection, Snapshot, Trust};
use nearfs_core::transport::{self, Origin};
use nearfs_format::blacklist::Blacklist;
use nearfs_format::trust::MasterKeys;
use nearfs_fuse::MountSettings;
use nearfs_fuse::Session;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::Runtime;

use crate::errors::Raised;
use crate::network::NetworkRequest;
use crate::values;

/// How long an unmount waits before it becomes a lazy one.
const UNMOUNT_GRACE: Duration = Duration::from_secs(3);

/// A mounted repository.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct Mount {
    session: Session,
    client: Arc<Client>,
    /// Drives the sockets; ended without waiting when the mount object goes.
    runtime: Option<Runtime>,
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[pymethods]
impl Mount {
    /// Returns True when the mount has ended, False when the time is over.
    fn wait(&self, py: Python<'_>, timeout_s: f64) -> bool {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        py.detach(|| self.session.wait(timeout))
    }

    /// Unmounts, lazily if it is busy.
    fn unmount(&self, py: Python<'_>) -> Result<(), Raised> {
        py.detach(|| self.session.unmount(UNMOUNT_GRACE))?;
        Ok(())
    }

    /// Returns what was counted.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counted = PyDict::new(py);
        for (name, count) in self.client.all_counters() {
            counted.set_item(name, count)?;
        }
        Ok(counted)
    }

    #[getter]
    fn root_hash(&self) -> String {
        self.client.tree().root().hash.to_string()
    }

    #[getter]
    fn revision(&self) -> u64 {
        self.client.tree().root().index.revision()
    }
}

type IdPairs = Option<(HashMap<u32, u32>, Option<u32>)>;

fn id_map(pairs: IdPairs) -> IdMap {
    pairs.map_or_else(IdMap::default, |(exact, default)| IdMap { exact, default })
}

/// Everything a mount is told; filled by name from Python.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct MountRequest {
    fqrn: String,
    mountpoint: PathBuf,
    server_urls: Vec<String>,
    public_keys: Vec<Vec<u8>>,
    blacklist: String,
    cache_dir: PathBuf,
    is_shared_cache: bool,
    root_hash: Option<String>,
    tag: Option<String>,
    date_s: Option<i64>,
    network: NetworkRequest,
    kernel_cache_s: u64,
    claimed_owner: Option<(u32, u32)>,
    world_readable: bool,
    raw_symlinks: bool,
    uid_map: IdPairs,
    gid_map: IdPairs,
    environment: HashMap<String, String>,
    xattr_visibility: String,
    check_permissions: bool,
    allow_other: bool,
    suid: bool,
    read_write: bool,
    fsname: String,
    worker_threads: usize,
}

impl MountRequest {
    fn selection(&self) -> Result<Selection, Raised> {
        Ok(match (&self.root_hash, &self.tag, self.date_s) {
            (Some(hash), _, _) => Selection::RootHash(values::hash(hash)?),
            (None, Some(tag), _) => Selection::Tag(tag.clone()),
            (None, None, Some(date_s)) => Selection::Date(date_s),
            (None, None, None) => Selection::Current,
        })
    }

    fn trust(&self) -> Result<Trust, Raised> {
        let keys = MasterKeys::parse(&self.public_keys)
            .map_err(|e| Error::format("read key", format!("public key of {}", self.fqrn), e))?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        Ok(Trust { fqrn: self.fqrn.clone(), keys, blacklist: Blacklist::parse(&self.blacklist), now_s })
    }

    fn client_options(self, public_keys: String) -> Result<ClientOptions, Raised> {
        let xattr_visibility = match self.xattr_visibility.as_str() {
            "rootonly" => XattrVisibility::RootOnly,
            "always" => XattrVisibility::Always,
            "never" => XattrVisibility::Never,
            other => return Err(Raised::invalid("mount", format!("visibility `{other}` of attributes"))),
        };
        let process = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Ok(ClientOptions {
            fqrn: self.fqrn,
            claimed_owner: self.claimed_owner,
            process_owner: process,
            uid_map: id_map(self.uid_map),
            gid_map: id_map(self.gid_map),
            world_readable: self.world_readable,
            raw_symlinks: self.raw_symlinks,
            environment: self.environment.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())).collect(),
            kernel_cache: Duration::from_secs(self.kernel_cache_s),
            xattr_visibility,
            tag: self.tag.unwrap_or_default(),
            public_keys,
        })
    }

    fn mount_settings(&self) -> MountSettings {
        let mut settings = MountSettings::at(&self.mountpoint);
        settings.source.clone_from(&self.fsname);
        settings.writable = self.read_write;
        settings.suid = self.suid;
        settings.allow_other = self.allow_other;
        settings.default_permissions = self.check_permissions;
        settings.workers = (self.worker_threads > 0).then_some(self.worker_threads);
        settings
    }

    fn mount(self) -> Result<Mount, Raised> {
        nearfs_fuse::stale::clear_stale_mount(&self.mountpoint, &self.fsname)?;
        let (trust, selection, settings) = (self.trust()?, self.selection()?, self.mount_settings());
        let runtime = transport::runtime()?;
        let options = self.network.options()?;
        let origin = Arc::new(Origin::open(&self.server_urls.join(";"), options, runtime.handle().clone())?);
        let sharing = if self.is_shared_cache { Sharing::Shared } else { Sharing::Exclusive };
        let cache = Arc::new(ObjectCache::new(DiskCache::new(&self.cache_dir, sharing)?, origin));
        let snapshot = Snapshot::open(&cache, &trust, &selection)?;
        let client = Arc::new(Client::open(cache, &snapshot, self.client_options(trust.keys.pem_texts().concat())?)?);
        let session = Session::mount(Arc::clone(&client) as _, &settings)?;
        let upcalls = Arc::clone(session.upcalls());
        client.count_also(move || upcalls.snapshot().into_iter().map(|(n, c)| (format!("upcall_{n}"), c)).collect());
        Ok(Mount { session, client, runtime: Some(runtime) })
    }
}

/// Verifies a snapshot, loads its root catalog and mounts it.
#[pyfunction]
#[pyo3(signature = (**request))]
pub(crate) fn mount(py: Python<'_>, request: Option<Bound<'_, PyDict>>) -> PyResult<Mount> {
    let request = request.unwrap_or_else(|| PyDict::new(py));
    let request: MountRequest = request.extract()?;
    Ok(py.detach(|| request.mount())?)
}

/// Tells whether something is mounted on exactly this path.
#[pyfunction]
pub(crate) fn is_mounted(mountpoint: PathBuf) -> Result<bool, Raised> {
    nearfs_fuse::mount_table::is_mounted(&mountpoint)
        .map_err(|e| Error::io("read mount table for", mountpoint.display().to_string(), e).into())
}

/// Unmounts what a crashed client left behind.
#[pyfunction]
#[pyo3(signature = (mountpoint, fsname = "cvmfs2"))]
pub(crate) fn clear_stale_mount(py: Python<'_>, mountpoint: PathBuf, fsname: &str) -> Result<bool, Raised> {
    Ok(py.detach(|| nearfs_fuse::stale::clear_stale_mount(&mountpoint, fsname))?)
}
