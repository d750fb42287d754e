//! The first revision of a repository: one empty directory.
//!
//! Owns the root row's values. Source: format.md 10.2.

use nearfs_format::dirent::{Entry, EntryFlags, FileType, Hardlinks};
use nearfs_format::manifest::DEFAULT_TTL_S;
use nearfs_format::path::RepoPath;
use nearfs_format::xattr::XattrList;

use super::finish::store_catalog;
use super::pipeline::Tally;
use super::types::{ChangeCounts, Committed, NewRepository};
use crate::catalog::{CatalogWriter, Previous, Seal};
use crate::error::Result;
use crate::store::Store;

/// Size that the reference gives the root directory.
const ROOT_SIZE_BYTES: u64 = 4096;
const ROOT_PERMISSIONS: u32 = 0o755;

/// Stores the root catalog of a new repository, at revision 0. The storage has to exist; nothing refers to the catalog
/// until a manifest does.
pub fn create_repository(store: &dyn Store, new: &NewRepository) -> Result<Committed> {
    let writer = CatalogWriter::create(&store.scratch_dir(), &RepoPath::root())?;
    let root = Entry {
        mode: FileType::Directory.mode_bits() | ROOT_PERMISSIONS,
        size: ROOT_SIZE_BYTES,
        mtime: new.now,
        mtime_ns: None,
        uid: new.uid,
        gid: new.gid,
        hardlinks: Hardlinks { group: 0, linkcount: 2 },
        flags: EntryFlags(EntryFlags::DIRECTORY),
        hash: None,
        symlink: Vec::new(),
        xattrs: XattrList::default(),
    };
    writer.insert(&RepoPath::root(), &root, &[])?;
    if let Some(requirement) = &new.voms_authz {
        writer.set_membership(requirement)?;
    }
    // Without a TTL property: the first publish writes it (10.9).
    let seal = Seal {
        previous: Previous::Absent,
        revision: 0,
        last_modified: new.now,
        ttl_s: None,
        is_volatile: new.volatile,
    };
    let finished = writer.finish(&seal, nearfs_format::counters::Counters::default())?;
    let tally = Tally::default();
    let (root_hash, root_size_bytes) = store_catalog(store, new.hash_algorithm, &finished.bytes, &tally)?;
    store.sync()?;
    Ok(Committed {
        root_hash,
        root_size_bytes,
        revision: 0,
        ttl_s: DEFAULT_TTL_S,
        stored: tally.counts(),
        catalogs_new: 1,
        changes: ChangeCounts::default(),
        warnings: Vec::new(),
    })
}
