//! What happens to the bytes of an object: hashed, deflated, inflated, cut. Pure functions; nothing is read or stored.

use nearfs_core::Error;
use nearfs_format::chunker::{self, ChunkSizes};
use nearfs_format::codec;
use pyo3::prelude::*;

use crate::errors::Raised;
use crate::values;

const INFLATED: &str = "zlib stream in the argument";

/// Returns the hash of `content` as text.
#[pyfunction]
#[pyo3(signature = (content, *, hash_algorithm))]
pub(crate) fn hash_content(py: Python<'_>, content: &[u8], hash_algorithm: &str) -> Result<String, Raised> {
    let algorithm = values::algorithm(hash_algorithm)?;
    Ok(py.detach(|| algorithm.hash(content)).to_string())
}

/// Returns the names that a cached file of this content may have: as it is, and deflated.
#[pyfunction]
#[pyo3(signature = (file, *, hash_algorithm))]
pub(crate) fn names_of_file(
    py: Python<'_>,
    file: std::path::PathBuf,
    hash_algorithm: &str,
) -> Result<(String, String), Raised> {
    let algorithm = values::algorithm(hash_algorithm)?;
    let names = py.detach(|| nearfs_core::cache::audit::names_of_file(&file, algorithm))?;
    Ok((names.plain.to_string(), names.deflated.to_string()))
}

/// Returns `content` as it is stored.
#[pyfunction]
pub(crate) fn deflate(py: Python<'_>, content: &[u8]) -> Vec<u8> {
    py.detach(|| codec::deflate(content))
}

/// Returns the content of an object whose size is known.
#[pyfunction]
#[pyo3(signature = (stored, *, size))]
pub(crate) fn inflate(py: Python<'_>, stored: &[u8], size: u64) -> Result<Vec<u8>, Raised> {
    let inflated = py.detach(|| codec::inflate_exact(stored, size));
    Ok(inflated.map_err(|e| Error::format("inflate", INFLATED, e))?)
}

/// Returns where `content` is cut into chunks.
#[pyfunction]
#[pyo3(signature = (content, *, chunk_sizes))]
pub(crate) fn cut_marks(py: Python<'_>, content: &[u8], chunk_sizes: (u64, u64, u64)) -> Result<Vec<u64>, Raised> {
    let (min, avg, max) = chunk_sizes;
    let sizes = ChunkSizes::new(min, avg, max).map_err(|e| Raised::invalid("cut", e.to_string()))?;
    Ok(py.detach(|| {
        let mut marks = chunker::cut_marks(content, &sizes);
        // A mark at the very end begins no chunk.
        marks.retain(|mark| *mark < content.len() as u64);
        marks
    }))
}
