//! Catalogs of a storage, decoded, and the content of small files: for commands that look at whole revisions.
//!
//! Owns the way from an object to a decoded catalog: verified, bounded, unpacked to a scratch file that vanishes.
//! Whoever may read the storage may: nothing is written there. One catalog at a time is in memory as a file.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use nearfs_format::chunk::Chunk;
use nearfs_format::codec;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;

use crate::catalog::index::CatalogIndex;
use crate::catalog::reader::NestedRow;
use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectRead;
use crate::store::verify::read_verified;

/// The catalog passes through memory; larger ones than this are refused.
const CATALOG_LIMIT_BYTES: u64 = 4 << 30;

/// Reads the catalogs of a storage.
#[derive(Debug)]
pub struct StoredCatalogs<S> {
    store: S,
    scratch: PathBuf,
}

impl<S: ObjectRead> StoredCatalogs<S> {
    /// Reads from `store`; scratch files lie in the machine's directory for temporary files.
    pub fn new(store: S) -> Self {
        Self { store, scratch: std::env::temp_dir() }
    }

    /// Returns what it reads from.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Returns a root catalog, decoded.
    pub fn root(&self, hash: ContentHash) -> Result<Arc<CatalogIndex>> {
        self.load(&NestedRow { path: RepoPath::root(), hash, size_bytes: 0 })
    }

    /// Returns a nested catalog, decoded; `NotFound` if it is not in the storage, `Corrupt` if it is not what its name
    /// says.
    pub fn load(&self, row: &NestedRow) -> Result<Arc<CatalogIndex>> {
        Ok(self.load_sized(row)?.0)
    }

    /// Returns with a catalog how many bytes it has uncompressed; errors as for [`StoredCatalogs::load`].
    pub fn load_sized(&self, row: &NestedRow) -> Result<(Arc<CatalogIndex>, u64)> {
        let id = ObjectId::new(row.hash, ObjectKind::Catalog);
        let subject = format!("{id} of {}", row.path);
        let stored = read_verified(&self.store, &id, codec::stored_size_limit(CATALOG_LIMIT_BYTES))?;
        let content = codec::inflate_bounded(&stored, CATALOG_LIMIT_BYTES)
            .map_err(|e| Error::format("inflate", subject.clone(), e))?;
        let failed = |e| Error::io("unpack", subject.clone(), e);
        let mut file = tempfile::NamedTempFile::new_in(&self.scratch).map_err(failed)?;
        file.write_all(&content).map_err(failed)?;
        Ok((Arc::new(CatalogIndex::decode(file.path(), subject)?), content.len() as u64))
    }
}

/// A file of a storage, as its row says.
#[derive(Debug, Clone, Copy)]
pub struct StoredFile<'r> {
    /// Where, for errors.
    pub path: &'r RepoPath,
    /// Size of its content in bytes. The caller has found it small enough.
    pub size_bytes: u64,
    /// How its objects are stored.
    pub compression: Compression,
    /// Its object, where it is stored whole.
    pub hash: Option<ContentHash>,
    /// Its chunks; none where it is stored whole.
    pub chunks: &'r [Chunk],
}

impl StoredFile<'_> {
    /// Returns the content: verified, and of that size or an error.
    pub fn read<S: ObjectRead + ?Sized>(&self, store: &S) -> Result<Vec<u8>> {
        let corrupt = |reason: &str| Error::new(ErrorKind::Corrupt, "read", format!("{}: {reason}", self.path));
        if self.chunks.is_empty() {
            let hash = self.hash.ok_or_else(|| corrupt("its catalog names no object"))?;
            return self.object(store, &ObjectId::new(hash, ObjectKind::File), self.size_bytes);
        }
        let (mut content, mut left_bytes) = (Vec::new(), self.size_bytes);
        for chunk in self.chunks {
            // A damaged catalog may have chunks of any size.
            left_bytes = left_bytes.checked_sub(chunk.size).ok_or_else(|| corrupt("its chunks are larger"))?;
            content.extend(self.object(store, &ObjectId::new(chunk.hash, ObjectKind::Chunk), chunk.size)?);
        }
        if left_bytes == 0 { Ok(content) } else { Err(corrupt("its chunks are smaller")) }
    }

    fn object<S: ObjectRead + ?Sized>(&self, store: &S, id: &ObjectId, size_bytes: u64) -> Result<Vec<u8>> {
        let stored = read_verified(store, id, codec::stored_size_limit(size_bytes))?;
        let malformed = |e| Error::format("read", format!("{id} of {}", self.path), e);
        match self.compression {
            Compression::Zlib => codec::inflate_exact(&stored, size_bytes).map_err(malformed),
            Compression::None if stored.len() as u64 == size_bytes => Ok(stored),
            Compression::None => {
                let subject = format!("{id} of {}: {} bytes instead of {size_bytes}", self.path, stored.len());
                Err(Error::new(ErrorKind::Corrupt, "read", subject))
            }
        }
    }
}
