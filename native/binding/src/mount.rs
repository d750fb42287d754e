//! Mounting: a client, a FUSE session over it; and the mount as an object that Python waits for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nearfs_core::Error;
use nearfs_core::cache::Quota;
use nearfs_core::client::Client;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_fuse::{Session, Upcalls};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Raised;
use crate::following::Following;
use crate::opening::{MountRequest, Opened};
use crate::route::Route;
use crate::tracing::Tracing;
use crate::values;

/// How long an unmount waits before it becomes a lazy one.
pub(crate) const UNMOUNT_GRACE: Duration = Duration::from_secs(3);

/// Hash, size in bytes, description, is catalog, is pinned.
type Listed = (String, u64, String, bool, bool);

/// A mounted repository. The session goes first: its workers need the sockets.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct Mount {
    session: Session,
    opened: Opened,
}

/// Lets a client tell the counts of its loop with its own.
pub(crate) fn count_upcalls(client: &Client, upcalls: &Arc<Upcalls>) {
    let upcalls = Arc::clone(upcalls);
    client.count_also(move || upcalls.snapshot().into_iter().map(|(n, c)| (format!("upcall_{n}"), c)).collect());
}

/// Returns what a client and its loop have counted.
pub(crate) fn counters<'py>(py: Python<'py>, client: &Client) -> PyResult<Bound<'py, PyDict>> {
    let counted = PyDict::new(py);
    for (name, count) in client.all_counters() {
        counted.set_item(name, count)?;
    }
    Ok(counted)
}

#[pymethods]
impl Mount {
    /// Returns True when the mount has ended, False when the time is over.
    fn wait(&self, py: Python<'_>, timeout_s: f64) -> bool {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        py.detach(|| {
            let has_ended = self.session.wait(timeout);
            if has_ended {
                // Who holds this may do so until the process ends; what was learned is to be written down before.
                self.opened.client.stop_prefetch();
            }
            has_ended
        })
    }

    /// Unmounts, lazily if it is busy.
    fn unmount(&self, py: Python<'_>) -> Result<(), Raised> {
        py.detach(|| self.session.unmount(UNMOUNT_GRACE))?;
        Ok(())
    }

    /// Returns what was counted.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counters(py, &self.opened.client)
    }

    /// Returns the bytes of all cached objects and of the pinned ones; None without a limit.
    fn cache_size(&self, py: Python<'_>) -> Result<Option<(u64, u64)>, Raised> {
        Ok(py.detach(|| self.opened.client.cache().quota().map(Quota::size).transpose())?)
    }

    /// Removes what was not used for longest; returns whether all objects take at most `goal_bytes` now.
    fn cache_cleanup(&self, py: Python<'_>, goal_bytes: u64) -> Result<bool, Raised> {
        Ok(py.detach(|| self.opened.client.cache().quota().map_or(Ok(false), |quota| quota.cleanup(goal_bytes)))?)
    }

    /// Returns (hash, size, description, is catalog, is pinned) of all objects, the one used last first.
    fn cache_list(&self, py: Python<'_>) -> Result<Vec<Listed>, Raised> {
        let mut listed = Vec::new();
        let mut keep = |object: &nearfs_core::cache::ListedObject| {
            let (hash, text) = (object.hash.to_string(), object.description.clone());
            listed.push((hash, object.size_bytes, text, object.is_catalog, object.is_pinned));
        };
        py.detach(|| self.opened.client.cache().quota().map_or(Ok(()), |quota| quota.list(&mut keep)))?;
        Ok(listed)
    }

    /// Removes one object; returns whether it was there.
    fn cache_evict(&self, py: Python<'_>, hash: &str) -> Result<bool, Raised> {
        let id = ObjectId::new(values::hash(hash)?, ObjectKind::File);
        Ok(py.detach(|| self.opened.client.cache().evict(&id))?)
    }

    /// Removes a file's objects; returns whether they are gone, None where the path is no regular file.
    fn evict(&self, py: Python<'_>, path: &[u8]) -> Result<Option<bool>, Raised> {
        let path = values::repo_path(path)?;
        Ok(py.detach(|| self.opened.client.evict_file(&path))?)
    }

    /// Fetches a file and keeps it cached; returns whether it is kept, None where the path is no regular file.
    fn pin(&self, py: Python<'_>, path: &[u8]) -> Result<Option<bool>, Raised> {
        let path = values::repo_path(path)?;
        Ok(py.detach(|| self.opened.client.pin_file(&path))?)
    }

    /// Returns how many clean-ups there were within the last seconds; None without a limit.
    fn cache_cleanups(&self, py: Python<'_>, period_s: u64) -> Result<Option<u64>, Raised> {
        let period = Duration::from_secs(period_s);
        Ok(py.detach(|| self.opened.client.cache().quota().map(|quota| quota.cleanups_within(period)).transpose())?)
    }

    /// Changes the limit of this mount; returns False where there is none to change.
    fn set_cache_limit(&self, limit_bytes: u64) -> bool {
        self.opened.client.cache().quota().map(|quota| quota.set_limit(limit_bytes)).is_some()
    }

    #[getter]
    fn updates(&self) -> Following {
        Following::of(&self.opened)
    }

    #[getter]
    fn tracing(&self) -> Tracing {
        Tracing(Arc::clone(&self.opened.client))
    }

    #[getter]
    fn route(&self) -> Route {
        Route::of(&self.opened.client)
    }

    #[getter]
    fn external_route(&self) -> Result<Route, Raised> {
        Route::to_external(&self.opened.client)
    }

    #[getter]
    fn root_hash(&self) -> String {
        self.opened.client.tree().root().catalog.hash.to_string()
    }

    #[getter]
    fn revision(&self) -> u64 {
        self.opened.client.tree().root().index.revision()
    }
}

/// Verifies a snapshot, loads its root catalog and mounts it.
#[pyfunction]
#[pyo3(signature = (**request))]
pub(crate) fn mount(py: Python<'_>, request: Option<Bound<'_, PyDict>>) -> PyResult<Mount> {
    let request = request.unwrap_or_else(|| PyDict::new(py));
    let request: MountRequest = request.extract()?;
    let mounted = py.detach(|| {
        let opened = request.open()?;
        let session = Session::mount(Arc::clone(&opened.client) as _, &opened.settings)?;
        count_upcalls(&opened.client, session.upcalls());
        opened.updates.start(session.kept())?;
        Ok::<_, Raised>(Mount { session, opened })
    });
    Ok(mounted?)
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
