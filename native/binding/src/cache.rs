//! The cache directory of a client: whether an object is there, and its content.

use std::path::PathBuf;

use nearfs_core::cache::{self, CachedObject, Sharing};
use nearfs_core::{Error, ErrorKind};
use nearfs_format::object::{ObjectId, ObjectKind};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::Raised;
use crate::values;

/// A cache directory. Fetches nothing.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct DiskCache(cache::DiskCache);

#[pymethods]
impl DiskCache {
    /// Opens the cache in `cache_dir`, creating what is missing.
    #[new]
    #[pyo3(signature = (cache_dir, *, is_shared))]
    fn new(py: Python<'_>, cache_dir: PathBuf, is_shared: bool) -> Result<Self, Raised> {
        let sharing = if is_shared { Sharing::Shared } else { Sharing::Exclusive };
        Ok(Self(py.detach(|| cache::DiskCache::new(cache_dir, sharing))?))
    }

    /// Returns the content of an object of known size, or `None`.
    #[pyo3(signature = (hash_text, *, size))]
    fn read<'py>(&self, py: Python<'py>, hash_text: &str, size: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        // The layout has no suffix: the kind is a word for errors only.
        let id = ObjectId::new(values::hash(hash_text)?, ObjectKind::File);
        let opened = py.detach(|| self.0.open(&id, Some(size))).map_err(Raised::from)?;
        // The object's size was checked against the file's, so that memory is taken for what is there. Read straight
        // into the object that Python gets: nobody else has it yet, so other threads may run meanwhile.
        let read = |object: CachedObject| PyBytes::new_with(py, size as usize, |buffer| fill(py, &object, buffer));
        opened.map(read).transpose()
    }
}

fn fill(py: Python<'_>, object: &CachedObject, buffer: &mut [u8]) -> PyResult<()> {
    let got = py.detach(|| object.read_at(buffer, 0)).map_err(Raised::from)?;
    if got < buffer.len() {
        let place = object.cache_path().display();
        let reason = format!("{place}: cut off at {got} of {} bytes while it was read", buffer.len());
        return Err(Raised::from(Error::new(ErrorKind::Corrupt, "read", reason)).into());
    }
    Ok(())
}
