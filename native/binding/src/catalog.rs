//! One catalog file, decoded once and asked often.

use std::path::PathBuf;

use nearfs_core::catalog::index::{CatalogIndex, RowId};
use nearfs_core::{Error, ErrorKind};
use nearfs_format::dirent::FileType;
use nearfs_format::path::RepoPath;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::Raised;

/// mode, size in bytes, mtime in Unix seconds, hash of the object or `None`.
type Found = (u32, u64, i64, Option<String>);
/// The name, and what [`Found`] holds.
type Listed<'py> = (Bound<'py, PyBytes>, u32, u64, i64, Option<String>);

/// A decoded catalog; nested catalogs are not followed.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct Catalog(CatalogIndex);

#[pymethods]
impl Catalog {
    /// Decodes an uncompressed catalog file.
    #[new]
    fn new(py: Python<'_>, file: PathBuf) -> Result<Self, Raised> {
        let subject = format!("catalog {}", file.display());
        Ok(Self(py.detach(|| CatalogIndex::decode(&file, subject))?))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Returns what the catalog says of a path, or `None`.
    fn find(&self, path: &[u8]) -> Result<Option<Found>, Raised> {
        let row = self.0.find(&RepoPath::parse(path)?);
        Ok(row.map(|row| self.found(row)))
    }

    /// Returns the entries of a directory, sorted by name.
    fn entries<'py>(&self, py: Python<'py>, directory: &[u8]) -> Result<Vec<Listed<'py>>, Raised> {
        let path = RepoPath::parse(directory)?;
        let failed = |kind, reason: &str| {
            let place = if path.is_root() { "/".into() } else { path.as_bytes().escape_ascii().to_string() };
            Error::new(kind, "list", format!("`{place}`: {reason}"))
        };
        let row = self.0.find(&path).ok_or_else(|| failed(ErrorKind::NotFound, "no such entry in this catalog"))?;
        if self.0.row(row).file_type != FileType::Directory {
            return Err(failed(ErrorKind::InvalidInput, "it is not a directory").into());
        }
        let listed = |id: u32| {
            let (mode, size, mtime, hash) = self.found(RowId(id));
            (PyBytes::new(py, self.0.name(RowId(id))), mode, size, mtime, hash)
        };
        Ok(self.0.children(row).map(listed).collect())
    }
}

impl Catalog {
    fn found(&self, id: RowId) -> Found {
        let row = self.0.row(id);
        (row.mode, row.size, row.mtime, row.hash.map(|hash| hash.to_string()))
    }
}
