//! The bundles of a revision: which triggers there are, and what their specifications list.
//!
//! Owns the look-up of triggers and dependencies. Looks at every catalog; a few are in memory at a time, however many
//! there are. Belongs to one thread.

use std::collections::HashMap;
use std::sync::Arc;

use nearfs_format::bundle::{BUNDLE_MAX_BYTES, BundleSpec, specification_path};
use nearfs_format::dirent::{EntryFlags, FileType};
use nearfs_format::hash::ContentHash;
use nearfs_format::path::RepoPath;

use super::stored::{StoredCatalogs, StoredFile};
use crate::catalog::index::{CatalogIndex, RowId};
use crate::catalog::reader::NestedRow;
use crate::error::Result;
use crate::store::ObjectRead;

/// Catalogs that are kept for the next dependency.
const KEPT_CATALOGS: usize = 16;

/// A file that a specification lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Where.
    pub path: RepoPath,
    /// Size of its content in bytes; `None` where there is no regular file.
    pub size_bytes: Option<u64>,
    /// Says whether it comes in chunks, each a request.
    pub is_chunked: bool,
}

/// A bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The file whose opening begins it.
    pub trigger: RepoPath,
    /// What its specification lists, in that order.
    pub dependencies: Vec<Dependency>,
    /// Entries that are no paths.
    pub left_out: usize,
    /// Why nothing can be said of the specification.
    pub problem: Option<String>,
}

/// Lists the bundles of the revision with that root catalog, those of a catalog in the order of its rows.
pub fn list_bundles<S: ObjectRead>(store: S, root_hash: ContentHash) -> Result<Vec<Bundle>> {
    let root = NestedRow { path: RepoPath::root(), hash: root_hash, size_bytes: 0 };
    let mut look = Look { catalogs: StoredCatalogs::new(store), root, kept: HashMap::new() };
    let (mut bundles, mut pending) = (Vec::new(), vec![look.root.clone()]);
    while let Some(place) = pending.pop() {
        let index = look.catalogs.load(&place)?;
        for row in (0..index.len() as u32).map(RowId) {
            if index.row(row).flags.has(EntryFlags::BUNDLE_TRIGGER) {
                bundles.push(look.bundle(&index, index.path(row))?);
            }
        }
        let mut nested: Vec<_> = index.all_nested().cloned().collect();
        nested.sort_by(|a, b| b.path.cmp(&a.path));
        pending.extend(nested);
    }
    Ok(bundles)
}

struct Look<S> {
    catalogs: StoredCatalogs<S>,
    root: NestedRow,
    kept: HashMap<ContentHash, Arc<CatalogIndex>>,
}

impl<S: ObjectRead> Look<S> {
    fn bundle(&mut self, index: &CatalogIndex, trigger: RepoPath) -> Result<Bundle> {
        let (dependencies, left_out) = (Vec::new(), 0);
        let specification = match self.specification(index, &trigger) {
            Ok(specification) => specification,
            Err(problem) => return Ok(Bundle { trigger, dependencies, left_out, problem: Some(problem) }),
        };
        let dependencies = specification.dependencies().iter().map(|path| self.dependency(path));
        let dependencies = dependencies.collect::<Result<_>>()?;
        Ok(Bundle { trigger, dependencies, left_out: specification.left_out(), problem: None })
    }

    /// Reads what lies beside a trigger, in the same catalog; an error says why that cannot be.
    fn specification(&self, index: &CatalogIndex, trigger: &RepoPath) -> Result<BundleSpec, String> {
        let beside = specification_path(trigger).and_then(|path| index.find(&path).map(|row| (path, row)));
        let (path, row) = beside.ok_or("there is no specification beside it")?;
        let entry = index.row(row);
        if entry.file_type != FileType::Regular || entry.flags.has(EntryFlags::EXTERNAL) {
            return Err("its specification lies outside of the repository".into());
        }
        if entry.size > BUNDLE_MAX_BYTES as u64 {
            return Err(format!("its specification has {} bytes, more than {BUNDLE_MAX_BYTES}", entry.size));
        }
        let chunks = index.chunks(row).map_err(|e| e.to_string())?;
        let file = StoredFile {
            path: &path,
            size_bytes: entry.size,
            compression: entry.compression,
            hash: entry.hash,
            chunks: chunks.as_ref().map_or(&[], |chunks| chunks.as_slice()),
        };
        let content = file.read(self.catalogs.store()).map_err(|e| e.to_string())?;
        BundleSpec::parse(&content, &path.parent().unwrap_or_default()).map_err(|e| e.to_string())
    }

    fn dependency(&mut self, path: &RepoPath) -> Result<Dependency> {
        let index = self.answering(path)?;
        let row = index.find(path).map(|row| index.row(row)).filter(|row| row.file_type == FileType::Regular);
        let is_chunked = row.is_some_and(|row| row.flags.has(EntryFlags::CHUNKED));
        Ok(Dependency { path: path.clone(), size_bytes: row.map(|row| row.size), is_chunked })
    }

    /// Returns the catalog that answers for a path.
    fn answering(&mut self, path: &RepoPath) -> Result<Arc<CatalogIndex>> {
        let mut place = self.root.clone();
        loop {
            let index = self.load(&place)?;
            let Some(next) = index.all_nested().find(|nested| path.starts_with(&nested.path)).cloned() else {
                return Ok(index);
            };
            place = next;
        }
    }

    fn load(&mut self, place: &NestedRow) -> Result<Arc<CatalogIndex>> {
        if let Some(index) = self.kept.get(&place.hash) {
            return Ok(Arc::clone(index));
        }
        let index = self.catalogs.load(place)?;
        if self.kept.len() >= KEPT_CATALOGS {
            self.kept.clear();
        }
        self.kept.insert(place.hash, Arc::clone(&index));
        Ok(index)
    }
}
