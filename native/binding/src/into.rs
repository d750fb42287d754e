//! Publishing into a directory of the repository: from an archive, or from a directory on disk.

use std::path::PathBuf;

use nearfs_core::progress;
use nearfs_core::publish::{self, Archive, BaseRevision, IngestSettings, Plan, Source};
use nearfs_core::store::local::LocalStore;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Raised;
use crate::progress::Progress;
use crate::publish::{PublishRequest, committed};
use crate::values;

/// Where it goes and what else happens there; filled by name from Python.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Target {
    /// `archive`, `stdin`, `directory`, or `nothing` for deletions alone.
    kind: String,
    path: Vec<u8>,
    deletions: Vec<Vec<u8>>,
    owner: Option<(u32, u32)>,
    makes_catalog: bool,
    mirrors: bool,
}

/// What the engine is asked for.
enum Wanted {
    Archive(Option<Archive>, IngestSettings),
    Directory(Source),
}

impl Target {
    fn wanted(self, source: PathBuf) -> Result<Wanted, Raised> {
        let base = values::repo_path(&self.path)?;
        let deletions = self.deletions.iter().map(|path| values::repo_path(path)).collect::<Result<_, _>>()?;
        let archive = match self.kind.as_str() {
            "archive" => Some(Archive::File(source)),
            "stdin" => Some(Archive::StandardInput),
            "nothing" => None,
            _ => {
                let source = Source::Subtree { path: source, target: base, mirrors: self.mirrors, owner: self.owner };
                return Ok(Wanted::Directory(source));
            }
        };
        let (owner, makes_catalog, mirrors) = (self.owner, self.makes_catalog, self.mirrors);
        Ok(Wanted::Archive(archive, IngestSettings { base, deletions, owner, makes_catalog, mirrors }))
    }
}

/// Stores what changes in one directory of the repository, and the catalogs that say so.
#[pyfunction]
#[pyo3(signature = (storage, *, progress, target, request))]
pub(crate) fn publish_into<'py>(
    py: Python<'py>,
    storage: PathBuf,
    progress: &Progress,
    target: Target,
    request: PublishRequest,
) -> PyResult<Bound<'py, PyDict>> {
    let base = BaseRevision { root_hash: values::hash(&request.base_root_hash)? };
    let settings = request.settings()?;
    let wanted = target.wanted(request.source)?;
    let counters: &progress::Progress = &progress.0;
    let done = py.detach(|| {
        let store = LocalStore::open(storage)?;
        match wanted {
            Wanted::Archive(archive, ingest) => {
                publish::ingest(&store, &base, archive.as_ref(), &ingest, &settings, counters)
            }
            Wanted::Directory(source) => publish::publish(&store, &base, &source, &settings, counters),
        }
    });
    committed(py, &done.map_err(Raised::from)?)
}

/// Returns what `publish_into` would change, a line an entry, and its warnings.
#[pyfunction]
#[pyo3(signature = (storage, *, progress, target, request))]
pub(crate) fn plan_into(
    py: Python<'_>,
    storage: PathBuf,
    progress: &Progress,
    target: Target,
    request: PublishRequest,
) -> Result<(Vec<String>, Vec<String>), Raised> {
    let base = BaseRevision { root_hash: values::hash(&request.base_root_hash)? };
    let settings = request.settings()?;
    let wanted = target.wanted(request.source)?;
    let counters: &progress::Progress = &progress.0;
    py.detach(|| {
        let store = LocalStore::open(storage)?;
        let plan: Plan = match wanted {
            Wanted::Archive(archive, ingest) => {
                publish::plan_ingest(&store, &base, archive.as_ref(), &ingest, &settings, counters)?
            }
            Wanted::Directory(source) => publish::plan(&store, &base, &source, &settings)?,
        };
        let lines = plan.listing().map(|listed| listed.to_string()).collect();
        Ok((lines, plan.warnings.iter().map(ToString::to_string).collect()))
    })
}
