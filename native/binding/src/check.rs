//! Checks of a repository's storage.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use nearfs_core::replica::PathRules;
use nearfs_core::replica::check::{self, CheckSettings, Finding};
use nearfs_format::path::RepoPath;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Raised;
use crate::values;

type Shown<'py> = Vec<Bound<'py, PyDict>>;

fn shown<'py>(py: Python<'py>, findings: &[Finding]) -> PyResult<Shown<'py>> {
    let one = |finding: &Finding| {
        let entry = PyDict::new(py);
        entry.set_item("subject", &finding.subject)?;
        entry.set_item("problem", &finding.problem)?;
        Ok(entry)
    };
    findings.iter().map(one).collect()
}

/// Walks every catalog of a revision; returns its catalogs and what is wrong.
#[pyfunction(name = "check")]
#[pyo3(signature = (storage, *, fqrn, root_hash, expected_size, check_chunks, verify_content, subtree, paths))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python")]
pub(crate) fn check_revision<'py>(
    py: Python<'py>,
    storage: PathBuf,
    fqrn: String,
    root_hash: &str,
    expected_size: u64,
    check_chunks: bool,
    verify_content: bool,
    subtree: &str,
    paths: &[u8],
) -> PyResult<(Vec<(String, String)>, Shown<'py>)> {
    let settings = CheckSettings {
        fqrn,
        root_hash: values::hash(root_hash)?,
        expected_size_bytes: expected_size,
        check_chunks,
        verify_content,
        subtree: RepoPath::parse(subtree.trim_end_matches('/').as_bytes()).map_err(Raised::from)?,
        paths: PathRules::parse(paths).map_err(Raised::from)?,
    };
    let report = py.detach(|| check::check(&storage, &settings, &AtomicBool::new(false))).map_err(Raised::from)?;
    Ok((report.catalogs, shown(py, &report.findings)?))
}

/// Returns what is wrong with a history.
#[pyfunction]
#[pyo3(signature = (storage, *, history, fqrn))]
pub(crate) fn check_history<'py>(py: Python<'py>, storage: PathBuf, history: &str, fqrn: &str) -> PyResult<Shown<'py>> {
    let hash = values::hash(history)?;
    let findings = py.detach(|| check::check_history(&storage, hash, fqrn)).map_err(Raised::from)?;
    shown(py, &findings)
}

/// Returns what is wrong with the reference log.
#[pyfunction]
#[pyo3(signature = (storage, *, checksum, references))]
pub(crate) fn check_references<'py>(
    py: Python<'py>,
    storage: PathBuf,
    checksum: &str,
    references: Vec<(String, String)>,
) -> PyResult<Shown<'py>> {
    let references: Vec<_> = values::references(&references)?.into_iter().map(|id| (id.hash, id.kind)).collect();
    let findings = py.detach(|| check::check_references(&storage, checksum, &references)).map_err(Raised::from)?;
    shown(py, &findings)
}
