//! Bundle specifications: read, written, and those of a revision listed.

use std::path::PathBuf;

use nearfs_core::Error;
use nearfs_core::repo::bundles;
use nearfs_core::store::local::LocalStore;
use nearfs_format::bundle::BundleSpec;
use pyo3::prelude::*;

use crate::errors::Raised;
use crate::values;

/// Path, size in bytes (nothing where there is no file), whether in chunks.
type Dependency = (Vec<u8>, Option<u64>, bool);

/// Trigger, dependencies, entries that are no paths, why nothing can be said of it.
type Listed = (Vec<u8>, Vec<Dependency>, usize, Option<String>);

/// Returns the files that a specification in `directory` lists, and how many entries are no paths.
#[pyfunction]
pub(crate) fn parse_bundle(content: &[u8], directory: &[u8]) -> Result<(Vec<Vec<u8>>, usize), Raised> {
    let spec = BundleSpec::parse(content, &values::repo_path(directory)?);
    let spec = spec.map_err(|e| Error::format("read", "bundle specification", e))?;
    Ok((spec.dependencies().iter().map(|path| path.as_bytes().to_vec()).collect(), spec.left_out()))
}

/// Returns a specification of these files, and how many it cannot hold.
#[pyfunction]
#[pyo3(signature = (paths))]
pub(crate) fn encode_bundle(paths: Vec<Vec<u8>>) -> Result<(String, usize), Raised> {
    let paths = paths.iter().map(|path| values::repo_path(path)).collect::<Result<Vec<_>, _>>()?;
    let spec = BundleSpec::of(paths);
    Ok((spec.encode(), spec.left_out()))
}

/// Returns the bundles of a revision.
#[pyfunction]
pub(crate) fn list_bundles(py: Python<'_>, storage: PathBuf, root_hash: &str) -> Result<Vec<Listed>, Raised> {
    let root_hash = values::hash(root_hash)?;
    py.detach(|| {
        let listed = bundles::list_bundles(LocalStore::open(storage)?, root_hash)?;
        let dependency = |one: bundles::Dependency| (one.path.as_bytes().to_vec(), one.size_bytes, one.is_chunked);
        let shown = |one: bundles::Bundle| {
            let dependencies = one.dependencies.into_iter().map(dependency).collect();
            (one.trigger.as_bytes().to_vec(), dependencies, one.left_out, one.problem)
        };
        Ok(listed.into_iter().map(shown).collect())
    })
}
