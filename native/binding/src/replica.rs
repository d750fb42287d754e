//! Replication: what a source serves, and bringing it over.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nearfs_core::Error;
use nearfs_core::replica::PathRules;
use nearfs_core::replica::pull::{self, PullSettings, Pulled, SourceHead};
use nearfs_core::repo::reflog::Reflog;
use nearfs_core::store::ObjectWrite as _;
use nearfs_core::store::local::LocalStore;
use nearfs_core::transport::{self, Origin};
use nearfs_format::trust::MasterKeys;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tokio::runtime::Runtime;

use crate::errors::Raised;
use crate::network::NetworkRequest;
use crate::progress::Progress;
use crate::values;

/// Beside requests for objects there are those for catalogs.
const FURTHER_REQUESTS: u32 = 40;

/// A repository to be replicated, with the connections to it. Dropping it ends them without waiting.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct ReplicaSource {
    origin: Arc<Origin>,
    runtime: Mutex<Option<Runtime>>,
    in_flight: u32,
    fqrn: String,
    head: Mutex<Option<SourceHead>>,
}

impl Drop for ReplicaSource {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

#[pymethods]
impl ReplicaSource {
    /// Prepares to ask `url`; nothing is asked yet.
    #[new]
    #[pyo3(signature = (url, *, fqrn, network, in_flight))]
    fn new(url: &str, fqrn: String, network: NetworkRequest, in_flight: u32) -> Result<Self, Raised> {
        let runtime = transport::runtime()?;
        let mut options = network.options()?;
        let in_flight = in_flight.clamp(1, 4096);
        options.http.parallel_requests = (in_flight + FURTHER_REQUESTS) as usize;
        let origin = Arc::new(Origin::open(url, options, runtime.handle().clone())?);
        Ok(Self { origin, runtime: Mutex::new(Some(runtime)), in_flight, fqrn, head: Mutex::new(None) })
    }

    /// Returns a small file of the repository's root, unverified.
    fn fetch<'py>(&self, py: Python<'py>, name: &str, limit: u64) -> Result<Bound<'py, PyBytes>, Raised> {
        let bytes = py.detach(|| self.origin.fetch_small(name, limit, true))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Asks for the newest revision and verifies it.
    #[pyo3(signature = (storage, *, public_keys, now_s))]
    fn head<'py>(
        &self,
        py: Python<'py>,
        storage: PathBuf,
        public_keys: Vec<Vec<u8>>,
        now_s: i64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let keys = MasterKeys::parse(&public_keys)
            .map_err(|e| Error::format("read key", format!("public key of {}", self.fqrn), e))
            .map_err(Raised::from)?;
        let head = py
            .detach(|| pull::head(&self.origin, &self.fqrn, &keys, now_s, &LocalStore::open(storage)?))
            .map_err(Raised::from)?;
        let shown = PyDict::new(py);
        shown.set_item("manifest", PyBytes::new(py, &head.manifest))?;
        shown.set_item("whitelist", PyBytes::new(py, &head.whitelist))?;
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        Ok(shown)
    }

    /// Brings over what the head reaches.
    #[pyo3(signature = (storage, *, is_initial, threshold_s, verifies, known, paths, rewalks, progress))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn pull<'py>(
        &self,
        py: Python<'py>,
        storage: PathBuf,
        is_initial: bool,
        threshold_s: Option<i64>,
        verifies: bool,
        known: Vec<String>,
        paths: &[u8],
        rewalks: bool,
        progress: &Progress,
    ) -> PyResult<Bound<'py, PyDict>> {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let head = head.ok_or_else(|| Raised::invalid("replicate", "a source whose head was not asked for"))?;
        let known = known.iter().map(|text| values::hash(text)).collect::<Result<_, _>>()?;
        let paths = PathRules::parse(paths).map_err(Raised::from)?;
        let settings =
            PullSettings { in_flight: self.in_flight, is_initial, threshold_s, verifies, known, paths, rewalks };
        let progress = Arc::clone(&progress.0);
        let pulled = py
            .detach(|| {
                let store = Arc::new(LocalStore::open(storage)?);
                pull::pull(&self.origin, &store, &head.fields, &self.fqrn, &settings, &progress)
            })
            .map_err(Raised::from)?;
        shown(py, &pulled)
    }
}

fn shown<'py>(py: Python<'py>, pulled: &Pulled) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("roots", pulled.roots.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    shown.set_item("catalogs_new", pulled.catalogs_new)?;
    shown.set_item("objects_new", pulled.objects_new)?;
    shown.set_item("bytes_new", pulled.bytes_new)?;
    shown.set_item("objects_seen", pulled.objects_seen)?;
    shown.set_item("tags", pulled.tags)?;
    shown.set_item("warnings", &pulled.warnings)?;
    Ok(shown)
}

/// Returns the references of a log, hash and suffix letter, oldest first.
#[pyfunction]
#[pyo3(signature = (storage, *, fqrn, checksum))]
pub(crate) fn list_references(
    py: Python<'_>,
    storage: PathBuf,
    fqrn: &str,
    checksum: &str,
) -> Result<Vec<(String, &'static str)>, Raised> {
    let checksum = values::hash(checksum)?;
    py.detach(|| {
        let store = LocalStore::open(storage)?;
        let reflog = Reflog::load(&store, &store.scratch_dir(), fqrn, &checksum)?;
        let listed = reflog.list()?.into_iter();
        Ok(listed.map(|one| (one.hash.to_string(), one.kind.object_kind().suffix())).collect())
    })
}
