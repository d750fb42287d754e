//! Tag histories and reference logs: read, edited, stored.

use std::path::PathBuf;

use nearfs_core::repo::branches::Branch;
use nearfs_core::repo::facts::root_facts;
use nearfs_core::repo::history::HistoryDb;
use nearfs_core::repo::reflog::{Reference, Reflog};
use nearfs_core::store::ObjectWrite as _;
use nearfs_core::store::local::LocalStore;
use nearfs_core::{Error, ErrorKind};
use nearfs_format::hash::ContentHash;
use nearfs_format::history::Tag;
use nearfs_format::object::ObjectId;
use nearfs_format::reflog::RefKind;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Raised;
use crate::values;

/// A tag as Python writes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct GivenTag {
    name: String,
    root_hash: String,
    size: u64,
    revision: u64,
    timestamp: i64,
    branch: String,
    description: String,
}

impl GivenTag {
    fn checked(self) -> Result<Tag, Raised> {
        Ok(Tag {
            name: self.name,
            root_hash: values::hash(&self.root_hash)?,
            revision: self.revision,
            timestamp: self.timestamp,
            description: self.description,
            size_bytes: self.size,
            branch: self.branch,
            channel: 0,
        })
    }
}

fn shown<'py>(py: Python<'py>, tag: &Tag) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("name", &tag.name)?;
    shown.set_item("root_hash", tag.root_hash.to_string())?;
    shown.set_item("size", tag.size_bytes)?;
    shown.set_item("revision", tag.revision)?;
    shown.set_item("timestamp", tag.timestamp)?;
    shown.set_item("branch", &tag.branch)?;
    shown.set_item("description", &tag.description)?;
    Ok(shown)
}

fn history(store: &LocalStore, hash: Option<ContentHash>, fqrn: &str) -> Result<HistoryDb, Error> {
    let scratch = store.scratch_dir();
    hash.map_or_else(|| HistoryDb::create(&scratch, fqrn), |hash| HistoryDb::load(store, &scratch, fqrn, hash))
}

/// Returns all tags. Whoever may read the storage may: nothing is written there.
fn tags_of(store: &LocalStore, hash: ContentHash, fqrn: &str) -> Result<Vec<Tag>, Error> {
    HistoryDb::load(store, &std::env::temp_dir(), fqrn, hash)?.tags()
}

/// Returns the tags, newest first.
#[pyfunction]
#[pyo3(signature = (storage, *, history, fqrn))]
pub(crate) fn list_tags<'py>(
    py: Python<'py>,
    storage: PathBuf,
    history: Option<&str>,
    fqrn: &str,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let Some(hash) = history.map(values::hash).transpose()? else { return Ok(Vec::new()) };
    let tags = py.detach(|| tags_of(&LocalStore::open(storage)?, hash, fqrn)).map_err(Raised::from)?;
    tags.iter().map(|tag| shown(py, tag)).collect()
}

/// Returns the branches beside the default one: name, the branch that each left, its first revision.
#[pyfunction]
#[pyo3(signature = (storage, *, history, fqrn))]
pub(crate) fn list_branches(
    py: Python<'_>,
    storage: PathBuf,
    history: Option<&str>,
    fqrn: &str,
) -> Result<Vec<(String, String, u64)>, Raised> {
    let Some(hash) = history.map(values::hash).transpose()? else { return Ok(Vec::new()) };
    py.detach(|| {
        let store = LocalStore::open(storage)?;
        let branches = HistoryDb::load(&store, &std::env::temp_dir(), fqrn, hash)?.branches()?;
        Ok(branches.into_iter().map(|branch| (branch.name, branch.parent, branch.initial_revision)).collect())
    })
}

/// Writes a history with tags removed and added and returns its hash; branches that no tag is left on go as well.
#[pyfunction]
#[pyo3(signature = (storage, *, history, fqrn, hash_algorithm, remove, add, head, branch=None))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python")]
pub(crate) fn edit_tags(
    py: Python<'_>,
    storage: PathBuf,
    history: Option<&str>,
    fqrn: &str,
    hash_algorithm: &str,
    remove: Vec<String>,
    add: Vec<GivenTag>,
    head: Option<GivenTag>,
    branch: Option<(String, String, u64)>,
) -> Result<String, Raised> {
    let previous = history.map(values::hash).transpose()?;
    let algorithm = values::algorithm(hash_algorithm)?;
    let add = add.into_iter().map(GivenTag::checked).collect::<Result<Vec<_>, _>>()?;
    let head = head.map(GivenTag::checked).transpose()?;
    py.detach(|| {
        let store = LocalStore::open(storage)?;
        let mut history = self::history(&store, previous, fqrn)?;
        if let Some(previous) = previous {
            history.set_previous_revision(previous)?;
        }
        for name in &remove {
            history.remove(name)?;
        }
        if let Some((name, parent, initial_revision)) = branch {
            history.add_branch(&Branch { name, parent, initial_revision })?;
        }
        for tag in &add {
            history.insert(tag)?;
        }
        if !remove.is_empty() {
            history.prune_branches()?;
        }
        if let Some(head) = &head {
            history.advance_trunk(head)?;
        }
        Ok(history.save(&store, algorithm)?.hash.to_string())
    })
}

/// Returns revision, last-modified time and uncompressed size of a root catalog.
#[pyfunction]
pub(crate) fn catalog_facts(py: Python<'_>, storage: PathBuf, root_hash: &str) -> Result<(u64, u64, u64), Raised> {
    let root_hash = values::hash(root_hash)?;
    py.detach(|| {
        let facts = root_facts(&LocalStore::open(storage)?, root_hash)?;
        Ok((facts.revision, facts.last_modified_s, facts.size_bytes))
    })
}

/// Returns the reference log with references added; nothing is written.
#[pyfunction]
#[pyo3(signature = (storage, *, fqrn, hash_algorithm, checksum, references, now_s))]
pub(crate) fn record_references(
    py: Python<'_>,
    storage: PathBuf,
    fqrn: &str,
    hash_algorithm: &str,
    checksum: Option<&str>,
    references: Vec<(String, String)>,
    now_s: i64,
) -> Result<Vec<u8>, Raised> {
    values::algorithm(hash_algorithm)?;
    let checksum = checksum.map(values::hash).transpose()?;
    let references = values::references(&references)?;
    py.detach(|| {
        let store = LocalStore::open(storage)?;
        let scratch = store.scratch_dir();
        let mut reflog = match checksum {
            Some(checksum) => Reflog::load(&store, &scratch, fqrn, &checksum)?,
            None => Reflog::create(&scratch, fqrn)?,
        };
        for ObjectId { hash, kind } in references {
            let kind = RefKind::from_object_kind(kind).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidInput,
                    "record",
                    format!("{hash}: no reference log lists a {}", kind.noun()),
                )
            })?;
            reflog.add(&Reference { hash, kind, timestamp: now_s })?;
        }
        Ok(reflog.into_bytes()?)
    })
}
