//! Whole revisions of a storage: compared with each other, and their catalogs listed.

use std::path::PathBuf;

use nearfs_core::repo::diff::{Change, Diff, Difference};
use nearfs_core::repo::listing;
use nearfs_core::store::local::LocalStore;
use nearfs_format::dirent::FileType;
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::errors::Raised;
use crate::values;

/// What happened (`A`, `R`, `M`), the letters of a modification, the type letter, the path, the size in bytes.
type Shown = (char, String, char, Vec<u8>, u64);

/// Depth, path, hash, uncompressed size in bytes, entries.
type Listed = (usize, Vec<u8>, String, u64, u64);

fn shown(difference: Difference) -> Shown {
    let (what, letters) = match difference.change {
        Change::Added => ('A', String::new()),
        Change::Removed => ('R', String::new()),
        Change::Modified(letters) => ('M', letters),
    };
    let kind = match difference.file_type {
        FileType::Directory => 'D',
        FileType::Symlink => 'S',
        FileType::Regular if difference.path.name() == b".cvmfscatalog" => 'N',
        FileType::Regular => 'F',
        _ => 'X',
    };
    (what, letters, kind, difference.path.as_bytes().to_vec(), difference.size)
}

/// The differences between two revisions, read in portions.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct RevisionDiff(Mutex<Diff<LocalStore>>);

#[pymethods]
impl RevisionDiff {
    #[new]
    #[pyo3(signature = (storage, *, from_root, to_root))]
    fn new(py: Python<'_>, storage: PathBuf, from_root: &str, to_root: &str) -> Result<Self, Raised> {
        let (from, to) = (values::hash(from_root)?, values::hash(to_root)?);
        let diff = py.detach(|| Diff::new(LocalStore::open(storage)?, from, to))?;
        Ok(Self(Mutex::new(diff)))
    }

    /// Returns how many more regular files, symlinks, directories and nested catalogs there are.
    fn growth(&self) -> [i64; 4] {
        self.0.lock().growth()
    }

    /// Returns at most `count` further differences, none at the end.
    fn next(&self, py: Python<'_>, count: usize) -> Result<Vec<Shown>, Raised> {
        py.detach(|| {
            let mut diff = self.0.lock();
            let portion = diff.by_ref().take(count).collect::<Result<Vec<_>, _>>()?;
            Ok(portion.into_iter().map(shown).collect())
        })
    }
}

/// Returns the catalogs of a revision.
#[pyfunction]
pub(crate) fn list_catalogs(py: Python<'_>, storage: PathBuf, root_hash: &str) -> Result<Vec<Listed>, Raised> {
    let root_hash = values::hash(root_hash)?;
    py.detach(|| {
        let listed = listing::list_catalogs(LocalStore::open(storage)?, root_hash)?;
        let shown = |one: listing::ListedCatalog| {
            (one.depth, one.path.as_bytes().to_vec(), one.hash.to_string(), one.size_bytes, one.entries)
        };
        Ok(listed.into_iter().map(shown).collect())
    })
}
