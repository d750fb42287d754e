//! What a root catalog in a store says of itself: for tags that are set to it by hand.

use std::io::Write as _;

use nearfs_format::codec;
use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};

use crate::catalog::reader::CatalogReader;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use crate::store::verify::read_verified;

/// The catalog passes through memory; larger ones than this are refused.
const CATALOG_LIMIT_BYTES: u64 = 4 << 30;

/// Revision, time and size of a root catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootFacts {
    /// The repository's revision.
    pub revision: u64,
    /// Time of its last commit, Unix seconds.
    pub last_modified_s: u64,
    /// Size of the uncompressed catalog, bytes.
    pub size_bytes: u64,
}

/// Reads the facts; `NotFound` if there is no such object, `InvalidInput` if it is a nested catalog.
pub fn root_facts(store: &dyn Store, root_hash: ContentHash) -> Result<RootFacts> {
    let id = ObjectId::new(root_hash, ObjectKind::Catalog);
    let stored = read_verified(store, &id, codec::stored_size_limit(CATALOG_LIMIT_BYTES))?;
    let content = codec::inflate_bounded(&stored, CATALOG_LIMIT_BYTES)
        .map_err(|e| Error::format("inflate", id.to_string(), e))?;
    let mut file =
        tempfile::NamedTempFile::new_in(store.scratch_dir()).map_err(|e| Error::io("unpack", id.to_string(), e))?;
    file.write_all(&content).map_err(|e| Error::io("unpack", id.to_string(), e))?;
    let reader = CatalogReader::open(file.path(), id.to_string())?;
    if !reader.root_prefix()?.is_root() {
        let reason = format!("{id}: it is a nested catalog, not a root catalog");
        return Err(Error::new(ErrorKind::InvalidInput, "read", reason));
    }
    let number = |key| reader.number(key).unwrap_or(0);
    Ok(RootFacts {
        revision: number("revision"),
        last_modified_s: number("last_modified"),
        size_bytes: content.len() as u64,
    })
}
