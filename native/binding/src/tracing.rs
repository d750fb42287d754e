//! What programs open: recordings on request, and the files in which learned traces are kept.

use std::sync::Arc;

use nearfs_core::Error;
use nearfs_core::client::Client;
use nearfs_format::trace::{Trace, TraceItem};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::Raised;

/// Path, and for a file in chunks the offsets of those that were read.
type Item = (Py<PyBytes>, Option<Vec<u64>>);

fn items(py: Python<'_>, items: Vec<TraceItem>) -> Vec<Item> {
    items.into_iter().map(|item| (PyBytes::new(py, item.path.as_bytes()).unbind(), item.offsets)).collect()
}

/// The recordings of one mount.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct Tracing(pub(crate) Arc<Client>);

#[pymethods]
impl Tracing {
    /// Records what a process group opens, with the session that it leads, or what anybody does; returns a token.
    #[pyo3(signature = (group = None))]
    fn begin(&self, group: Option<u32>) -> u32 {
        self.0.traces().begin_recording(group)
    }

    /// Ends a recording; returns its files and whether there were more, None where there is none of that token.
    fn end(&self, py: Python<'_>, token: u32) -> Option<(Vec<Item>, bool)> {
        let recorded = py.detach(|| self.0.traces().end_recording(token))?;
        Some((items(py, recorded.items), recorded.is_cut))
    }
}

/// What a trace's text says: the name of its file, its trigger, the path after which it begins if it is not that, what it
/// lists, its files.
type Parsed = (String, Py<PyBytes>, Option<Py<PyBytes>>, &'static str, Vec<Item>);

/// Reads a learned trace.
#[pyfunction]
pub(crate) fn parse_trace(py: Python<'_>, content: &[u8]) -> Result<Parsed, Raised> {
    let trace = Trace::parse(content).map_err(|error| Error::format("read", "trace", error))?;
    let bytes = |path: &nearfs_format::path::RepoPath| PyBytes::new(py, path.as_bytes()).unbind();
    let (name, listing) = (trace.name().clone(), trace.listing().name());
    let after = name.after.as_ref().map(bytes);
    Ok((name.file_name(), bytes(&name.trigger), after, listing, items(py, trace.into_items())))
}
