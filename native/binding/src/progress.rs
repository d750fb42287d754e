//! Counters of a running operation, shared with the engine; Python polls them.

use std::sync::Arc;

use nearfs_core::progress;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Counters of a running publish, and the way to stop it.
#[pyclass(frozen, module = "nearfs._native")]
#[derive(Default)]
pub(crate) struct Progress(pub(crate) Arc<progress::Progress>);

#[pymethods]
impl Progress {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Returns the counters by name.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counted = self.0.counted();
        let counts = PyDict::new(py);
        counts.set_item("files_total", counted.files_total)?;
        counts.set_item("files_done", counted.files_done)?;
        counts.set_item("bytes_total", counted.bytes_total)?;
        counts.set_item("bytes_done", counted.bytes_done)?;
        Ok(counts)
    }

    /// Makes the operation end at the next file.
    fn cancel(&self) {
        self.0.cancel();
    }
}
