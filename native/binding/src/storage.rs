//! The storage of a repository: single objects, named files, durability.

use std::path::PathBuf;

use nearfs_core::store::local::LocalStore;
use nearfs_core::store::verify::Verified;
use nearfs_core::store::{ObjectRead as _, ObjectWrite as _};
use nearfs_core::{Error, ErrorKind};
use nearfs_format::codec;
use nearfs_format::object::{ObjectId, ObjectKind};
use pyo3::prelude::*;

use crate::errors::Raised;
use crate::values;

/// Makes the directories of a storage.
#[pyfunction]
pub(crate) fn create_storage(py: Python<'_>, storage: PathBuf) -> Result<(), Raised> {
    py.detach(|| LocalStore::create_skeleton(storage).map(drop))?;
    Ok(())
}

/// Stores a compressed object and returns its hash.
#[pyfunction]
#[pyo3(signature = (storage, content, *, suffix, hash_algorithm))]
pub(crate) fn put_object(
    py: Python<'_>,
    storage: PathBuf,
    content: Vec<u8>,
    suffix: &str,
    hash_algorithm: &str,
) -> Result<String, Raised> {
    let (kind, algorithm) = (values::kind(suffix)?, values::algorithm(hash_algorithm)?);
    py.detach(|| {
        let stored = codec::deflate(&content);
        let id = ObjectId::new(algorithm.hash(&stored), kind);
        LocalStore::open(storage)?.put(&id, &stored)?;
        Ok(id.hash.to_string())
    })
}

/// Returns the content of a stored object, checked and inflated.
#[pyfunction]
#[pyo3(signature = (storage, hash_text, *, suffix, limit))]
pub(crate) fn read_object(
    py: Python<'_>,
    storage: PathBuf,
    hash_text: &str,
    suffix: &str,
    limit: u64,
) -> Result<Vec<u8>, Raised> {
    let id = ObjectId::new(values::hash(hash_text)?, values::kind(suffix)?);
    py.detach(|| {
        if id.kind == ObjectKind::Chunk || id.kind == ObjectKind::File {
            let reason = format!("{id}: only its catalog row says how it is stored");
            return Err(Raised::from(Error::new(ErrorKind::InvalidInput, "read", reason)));
        }
        let stored = Verified(LocalStore::open(storage)?).read(&id, codec::stored_size_limit(limit))?;
        codec::inflate_bounded(&stored, limit).map_err(|e| Error::format("read", id.to_string(), e).into())
    })
}

/// Replaces a file in the repository's root.
#[pyfunction]
pub(crate) fn write_named(py: Python<'_>, storage: PathBuf, name: &str, content: Vec<u8>) -> Result<(), Raised> {
    py.detach(|| LocalStore::open(storage)?.put_named(name, &content))?;
    Ok(())
}

/// Returns when everything stored so far is on disk.
#[pyfunction]
pub(crate) fn sync_storage(py: Python<'_>, storage: PathBuf) -> Result<(), Raised> {
    py.detach(|| LocalStore::open(storage)?.sync())?;
    Ok(())
}
