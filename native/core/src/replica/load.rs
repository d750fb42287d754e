//! Opens catalogs as they are stored, wherever they come from: streamed to a scratch file, bounded, hashed on the way.
//!
//! Owns the scratch file, which vanishes with the opened catalog. Belongs to one thread.

use std::io::{ErrorKind as IoKind, Read, Write as _};
use std::path::Path;

use nearfs_format::FormatError;
use nearfs_format::codec::Inflater;
use nearfs_format::hash::{ContentHash, Hasher};
use nearfs_format::object::{ObjectId, ObjectKind};
use tempfile::TempPath;

use crate::catalog::reader::CatalogReader;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::store::Store;
use crate::store::local::temporary_prefix;

/// Largest catalog that is inflated; those of 500,000 entries, the recommended limit, have about 100 MB.
const CATALOG_LIMIT_BYTES: u64 = 4 << 30;
const BLOCK_BYTES: usize = 256 << 10;

/// A catalog and the file that it lies in.
pub(super) struct Opened {
    pub(super) reader: CatalogReader,
    _file: TempPath,
}

impl Opened {
    /// Returns the root catalog before this one; null and unreadable mean none (4.8).
    pub(super) fn previous_revision(&self) -> Option<ContentHash> {
        let text = self.reader.property("previous_revision")?;
        text.trim().parse::<ContentHash>().ok().filter(|hash| !hash.is_null())
    }
}

/// Why inflating ended early.
enum Stop {
    Damaged(FormatError),
    Failed(Error),
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Self::Damaged(error)
    }
}

/// Opens a catalog; `None` where the store does not have it. `Corrupt` if it is not what its hash says.
pub(super) fn open(store: &dyn Store, hash: ContentHash, progress: &Progress) -> Result<Option<Opened>> {
    match store.open(&ObjectId::new(hash, ObjectKind::Catalog)) {
        Ok(source) => inflate(source, hash, &store.scratch_dir(), progress).map(Some),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens a catalog whose stored bytes come from `source`. `Corrupt` if they are not what the hash says.
pub(super) fn inflate(mut source: impl Read, hash: ContentHash, scratch: &Path, progress: &Progress) -> Result<Opened> {
    let id = ObjectId::new(hash, ObjectKind::Catalog);
    let failed = |e| Error::io("write scratch file in", scratch.display().to_string(), e);
    let mut file = tempfile::Builder::new().prefix(&temporary_prefix()).tempfile_in(scratch).map_err(failed)?;
    let (mut inflater, mut hasher) = (Inflater::new(CATALOG_LIMIT_BYTES), Hasher::new(hash.algorithm()));
    let damaged = |e| Error::format("inflate", id.to_string(), e);
    let mut block = vec![0; BLOCK_BYTES];
    let mut inflated = Ok(());
    loop {
        progress.check("read catalogs")?;
        let read = match source.read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == IoKind::Interrupted => continue,
            Err(e) => return Err(Error::io("read", id.to_string(), e)),
        };
        hasher.update(&block[..read]);
        if inflated.is_ok() {
            inflated = inflater
                .push(&block[..read], &mut |piece: &[u8]| file.write_all(piece).map_err(|e| Stop::Failed(failed(e))));
        }
    }
    let actual = hasher.finish();
    if actual != hash {
        return Err(Error::new(ErrorKind::Corrupt, "verify", format!("{id}: the stored bytes have hash {actual}")));
    }
    match inflated {
        Ok(()) => {}
        Err(Stop::Damaged(e)) => return Err(damaged(e)),
        Err(Stop::Failed(e)) => return Err(e),
    }
    inflater.finish().map_err(damaged)?;
    let reader = CatalogReader::open(file.path(), id.to_string())?;
    Ok(Opened { reader, _file: file.into_temp_path() })
}
