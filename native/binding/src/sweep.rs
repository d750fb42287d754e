//! Garbage collection: a plan, its execution, and what belongs in the reference log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nearfs_core::replica::PathRules;
use nearfs_core::replica::sweep::{self, Head, KeptRevision, Plan, Removal, Retention, SweepSettings, Swept};
use nearfs_core::store::local::LocalStore;
use nearfs_format::hash::ContentHash;
use nearfs_format::reflog::RefKind;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Raised;
use crate::progress::Progress;
use crate::values;

/// What the manifest names, as Python writes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct GivenHead {
    root_hash: String,
    history: Option<String>,
    certificate: Option<String>,
    metainfo: Option<String>,
}

impl GivenHead {
    fn checked(&self) -> Result<Head, Raised> {
        let optional = |text: &Option<String>| text.as_deref().map(values::hash).transpose();
        Ok(Head {
            root_hash: values::hash(&self.root_hash)?,
            history: optional(&self.history)?,
            certificate: optional(&self.certificate)?,
            metainfo: optional(&self.metainfo)?,
        })
    }
}

/// What a garbage collection is going to do; executed once.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct SweepPlan {
    storage: PathBuf,
    plan: Mutex<Option<Plan>>,
    kept: Vec<KeptRevision>,
    outdated: [u64; RefKind::ALL.len()],
    referenced: [u64; RefKind::ALL.len()],
    #[pyo3(get)]
    condemned: usize,
    #[pyo3(get)]
    catalogs_kept: u64,
    #[pyo3(get)]
    oldest_kept_s: i64,
    #[pyo3(get)]
    warnings: Vec<String>,
}

fn by_kind<'py>(py: Python<'py>, counts: &[u64; RefKind::ALL.len()]) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    for (kind, count) in RefKind::ALL.into_iter().zip(counts) {
        shown.set_item(kind.object_kind().suffix(), count)?;
    }
    Ok(shown)
}

#[pymethods]
impl SweepPlan {
    /// Returns the newest revision and those before it that stay, newest first.
    #[getter]
    fn kept<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let one = |kept: &KeptRevision| {
            let shown = PyDict::new(py);
            shown.set_item("root_hash", kept.root_hash.to_string())?;
            shown.set_item("revision", kept.revision)?;
            shown.set_item("last_modified_s", kept.last_modified_s)?;
            shown.set_item("added_s", kept.added_s)?;
            Ok(shown)
        };
        self.kept.iter().map(one).collect()
    }

    /// Returns how many references the log has, by suffix letter.
    #[getter]
    fn referenced<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        by_kind(py, &self.referenced)
    }

    /// Returns how many auxiliary objects are outdated, by suffix letter.
    #[getter]
    fn outdated<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        by_kind(py, &self.outdated)
    }

    /// Deletes what can go.
    #[pyo3(signature = (*, is_dry_run, measure, listing, progress))]
    fn execute<'py>(
        &self,
        py: Python<'py>,
        is_dry_run: bool,
        measure: bool,
        listing: Option<PathBuf>,
        progress: &Progress,
    ) -> PyResult<Bound<'py, PyDict>> {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).take();
        let plan = plan.ok_or_else(|| Raised::invalid("execute", "the plan: it was executed already"))?;
        let removal = Removal { is_dry_run, measure, listing };
        let progress = Arc::clone(&progress.0);
        let swept =
            py.detach(|| plan.execute(&LocalStore::open(&self.storage)?, &removal, &progress)).map_err(Raised::from)?;
        shown(py, &swept)
    }
}

fn shown<'py>(py: Python<'py>, swept: &Swept) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("revisions", swept.revisions)?;
    shown.set_item("catalogs", swept.catalogs)?;
    shown.set_item("objects", swept.objects)?;
    shown.set_item("auxiliary", swept.auxiliary)?;
    shown.set_item("bytes", swept.bytes)?;
    shown.set_item("duplicates", swept.duplicates)?;
    shown.set_item("warnings", &swept.warnings)?;
    shown.set_item("reflog", swept.reflog.as_deref())?;
    Ok(shown)
}

/// Finds out what can go; changes nothing.
#[pyfunction]
#[pyo3(signature = (storage, *, fqrn, head, checksum, keep_revisions, keep_since_s, also_kept, paths, progress))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python")]
pub(crate) fn plan_sweep(
    py: Python<'_>,
    storage: PathBuf,
    fqrn: String,
    head: GivenHead,
    checksum: &str,
    keep_revisions: Option<u64>,
    keep_since_s: i64,
    also_kept: Vec<String>,
    paths: &[u8],
    progress: &Progress,
) -> PyResult<SweepPlan> {
    let retention = keep_revisions.map_or(Retention::Since(keep_since_s), Retention::Revisions);
    let mut settings = SweepSettings::new(fqrn, head.checked()?, retention, values::hash(checksum)?);
    settings.paths = PathRules::parse(paths).map_err(Raised::from)?;
    settings.also_kept = also_kept.iter().map(|text| values::hash(text)).collect::<Result<Vec<_>, _>>()?;
    let progress = Arc::clone(&progress.0);
    let mut plan =
        py.detach(|| sweep::plan(&LocalStore::open(&storage)?, &settings, &progress)).map_err(Raised::from)?;
    let mut outdated = [0; RefKind::ALL.len()];
    for (count, kind) in outdated.iter_mut().zip(RefKind::ALL) {
        *count = plan.outdated.iter().filter(|reference| reference.kind == kind).count() as u64;
    }
    Ok(SweepPlan {
        storage,
        kept: std::mem::take(&mut plan.kept),
        outdated,
        referenced: plan.referenced,
        condemned: plan.condemned.len(),
        catalogs_kept: plan.catalogs_kept,
        oldest_kept_s: plan.oldest_kept_s,
        warnings: std::mem::take(&mut plan.warnings),
        plan: Mutex::new(Some(plan)),
    })
}

/// The bytes of a log, and what was added to it: hash and suffix letter.
type Rebuilt = (Vec<u8>, Vec<(String, String)>);

/// Returns the reference log with everything added that can be found, and what was added; nothing is written.
#[pyfunction]
#[pyo3(signature = (storage, *, fqrn, head, checksum, now_s))]
pub(crate) fn rebuild_references(
    py: Python<'_>,
    storage: PathBuf,
    fqrn: &str,
    head: GivenHead,
    checksum: Option<&str>,
    now_s: i64,
) -> Result<Rebuilt, Raised> {
    let (head, checksum) = (head.checked()?, checksum.map(values::hash).transpose()?);
    let checksum: Option<&ContentHash> = checksum.as_ref();
    let progress = nearfs_core::progress::Progress::new();
    let rebuilt = py.detach(|| {
        let store = LocalStore::open(storage)?;
        sweep::rebuild(&store, fqrn, &head, checksum, now_s, &progress)
    })?;
    let added = rebuilt.added.iter().map(|r| (r.hash.to_string(), r.kind.object_kind().suffix().to_owned()));
    Ok((rebuilt.reflog, added.collect()))
}
