//! An object that is being written: a temporary file that becomes an object by getting its name, or vanishes.
//!
//! A disk that is full, or may not be written, costs the caching and not the content: what was written so far moves
//! to memory, and the object is read from there by whoever wanted it.
//!
//! Belongs to one thread. Dropping it without [`PendingObject::commit`] removes the file; so does any failure.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nearfs_format::object::{ObjectId, ObjectKind};
use tempfile::TempPath;

use super::cached::{CachedObject, Uncached};
use super::checks::Summing;
use super::disk::{Sharing, create_dir, is_refusal};
use super::spill::{SpillBudget, Spilled};
use super::temporary::Temporary;
use crate::error::{Error, Result};

/// A file system in memory on every Linux; the directory for temporary files where it is missing.
const MEMORY_DIR: &str = "/dev/shm";
const PIECE_BYTES: usize = 1 << 20;

/// An object on its way into the cache.
#[derive(Debug)]
pub struct PendingObject {
    id: ObjectId,
    place: Place,
    budget: SpillBudget,
    size_bytes: u64,
    summing: Summing,
}

#[derive(Debug)]
enum Place {
    Disk { temporary: Temporary, target: PathBuf, sharing: Sharing },
    Memory(InMemory),
}

/// A catalog needs a name, because SQLite opens files by name; everything else is better off without.
#[derive(Debug)]
struct InMemory {
    file: File,
    name: Option<TempPath>,
    spilled: Spilled,
}

impl PendingObject {
    /// Creates the temporary file.
    pub(super) fn create(
        id: ObjectId,
        limit_bytes: u64,
        txn: &Path,
        target: PathBuf,
        sharing: Sharing,
        budget: &SpillBudget,
    ) -> Result<Self> {
        // SQLite opens catalogs by their names, also those that the cache does not take.
        let temporary = Temporary::create(txn, sharing, id.kind == ObjectKind::Catalog)
            .map_err(|e| Error::io("create a temporary file for", format!("{id} in {}", txn.display()), e))?;
        Ok(Self {
            id,
            place: Place::Disk { temporary, target, sharing },
            budget: budget.clone(),
            size_bytes: 0,
            summing: Summing::new(limit_bytes),
        })
    }

    /// Begins an object that will not be cached.
    pub(super) fn in_memory(id: ObjectId, limit_bytes: u64, budget: &SpillBudget) -> Result<Self> {
        let place = Place::Memory(InMemory::create(id.kind, budget)?);
        Ok(Self { id, place, budget: budget.clone(), size_bytes: 0, summing: Summing::new(limit_bytes) })
    }

    /// Returns how many bytes were written.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Says whether the cache directory did not take it.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.place, Place::Memory(_))
    }

    /// Appends bytes. [`crate::ErrorKind::NoSpace`] means that neither the disk nor memory has room.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match &mut self.place {
            Place::Disk { temporary, .. } => temporary.file().write_all(bytes),
            Place::Memory(memory) => return memory.append(&self.id, bytes).map(|()| self.count(bytes)),
        };
        match written.map_err(|e| self.failed("write", e)) {
            Err(error) if is_refusal(error.kind()) => {
                tracing::warn!(%error, "the cache takes no more: going on in memory");
                let id = self.id;
                self.move_to_memory()?.append(&id, bytes)?;
            }
            other => other?,
        }
        self.count(bytes);
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.summing.update(bytes);
        self.size_bytes += bytes.len() as u64;
    }

    /// Replaces the file on the disk by one in memory that holds what was written so far.
    fn move_to_memory(&mut self) -> Result<&mut InMemory> {
        let mut memory = InMemory::create(self.id.kind, &self.budget)?;
        if let Place::Disk { temporary, .. } = &self.place {
            let mut piece = vec![0; PIECE_BYTES];
            let mut offset = 0;
            while offset < self.size_bytes {
                let length = piece.len().min((self.size_bytes - offset) as usize);
                let read = temporary.file().read_exact_at(&mut piece[..length], offset);
                read.map_err(|e| self.failed("read back", e))?;
                memory.append(&self.id, &piece[..length])?;
                offset += length as u64;
            }
        }
        self.place = Place::Memory(memory);
        match &mut self.place {
            Place::Memory(memory) => Ok(memory),
            Place::Disk { .. } => Err(Error::new(crate::ErrorKind::Internal, "hold in memory", self.id.to_string())),
        }
    }

    /// Makes the bytes written an object of the cache, where the directory takes it.
    ///
    /// Without `sync`, nothing waits for the disk: the content can be fetched again, and whoever opens it knows its
    /// size, so what a power failure leaves behind is found out. An object whose size no one knows has to be synced.
    pub fn commit(self, sync: bool) -> Result<CachedObject> {
        let Place::Disk { temporary, target, sharing } = self.place else { return self.keep_out() };
        let (id, size_bytes, checks) = (self.id, self.size_bytes, self.summing.finish());
        let failed = |e| Error::io("commit", format!("{id} ({size_bytes} bytes) as {}", target.display()), e);
        checks.keep_with(temporary.file());
        if sync {
            temporary.file().sync_data().map_err(failed)?;
        }
        let persisted = match temporary.persist(&target) {
            Err((temporary, error)) if error.kind() == io::ErrorKind::NotFound => {
                // A cleaner of old files takes empty directories with it.
                create_dir(target.parent().unwrap_or(Path::new("/")), sharing)?;
                temporary.persist(&target)
            }
            other => other,
        };
        let (temporary, error) = match persisted {
            Ok(file) => {
                let file = reopened(file, &target)?;
                return Ok(CachedObject::written(file, checks, target, None));
            }
            Err((temporary, error)) => (temporary, failed(error)),
        };
        if !is_refusal(error.kind()) {
            return Err(error);
        }
        tracing::warn!(%error, "the cache does not take an object");
        let (file, name) = temporary.into_parts();
        Ok(uncached(id, file, name, |file, path, kept| CachedObject::written(file, checks, path, Some(kept))))
    }

    /// Gives the object to its reader without adding it to the cache.
    pub fn keep_out(self) -> Result<CachedObject> {
        let checks = self.summing.finish();
        Ok(match self.place {
            Place::Disk { temporary, .. } => {
                let (file, name) = temporary.into_parts();
                uncached(self.id, file, name, |file, path, kept| CachedObject::written(file, checks, path, Some(kept)))
            }
            Place::Memory(InMemory { file, name, spilled }) => {
                let path = name.as_ref().map_or_else(|| PathBuf::from("memory"), |name| name.to_path_buf());
                let kept = Uncached { _name: name, _memory: Some(spilled) };
                CachedObject::written(file, checks, path, Some(kept))
            }
        })
    }

    fn failed(&self, operation: &'static str, error: io::Error) -> Error {
        Error::io(operation, format!("{} in the cache ({} bytes so far)", self.id, self.size_bytes), error)
    }
}

/// Wraps a temporary file that stays out of the cache: a catalog keeps its name while it is used.
fn uncached(
    id: ObjectId,
    file: File,
    name: Option<TempPath>,
    wrap: impl FnOnce(File, PathBuf, Uncached) -> CachedObject,
) -> CachedObject {
    let path = name.as_ref().map_or_else(|| PathBuf::from("no name"), |name| name.to_path_buf());
    let name = name.filter(|_| id.kind == ObjectKind::Catalog);
    wrap(file, path, Uncached { _name: name, _memory: None })
}

impl InMemory {
    fn append(&mut self, id: &ObjectId, bytes: &[u8]) -> Result<()> {
        self.spilled.grow(bytes.len() as u64)?;
        self.file.write_all(bytes).map_err(|e| Error::io("hold in memory", id.to_string(), e))
    }

    fn create(kind: ObjectKind, budget: &SpillBudget) -> Result<Self> {
        let (file, spilled) = budget.create_file()?;
        if kind != ObjectKind::Catalog {
            return Ok(Self { file, name: None, spilled });
        }
        let named = |dir: &Path| tempfile::Builder::new().prefix("nearfs-catalog").tempfile_in(dir);
        let (file, name) = named(Path::new(MEMORY_DIR))
            .or_else(|_| named(&std::env::temp_dir()))
            .map_err(|e| Error::io("create", "a temporary file outside the cache", e))?
            .into_parts();
        Ok(Self { file, name: Some(name), spilled })
    }
}

/// Opens the committed file for reading only; falls back to the descriptor that wrote it if the name is gone already.
fn reopened(written: File, path: &Path) -> Result<File> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(written),
        other => other.map_err(|e| Error::io("open", path.display().to_string(), e)),
    }
}

#[cfg(test)]
mod tests {
    use nearfs_format::hash::HashAlgorithm;

    use super::*;

    #[test]
    fn a_disk_that_fills_up_costs_the_caching_and_not_the_content() {
        let dir = tempfile::tempdir().unwrap();
        for kind in [ObjectKind::File, ObjectKind::Catalog] {
            let id = ObjectId::new(HashAlgorithm::Sha1.hash(b""), kind);
            let budget = SpillBudget::default();
            let target = dir.path().join("target");
            let mut pending =
                PendingObject::create(id, 100, dir.path(), target.clone(), Sharing::Exclusive, &budget).unwrap();
            pending.write(b"first, ").unwrap();
            pending.move_to_memory().unwrap();
            pending.write(b"then memory").unwrap();
            assert!(pending.is_in_memory());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            let object = pending.commit(true).unwrap();
            assert_eq!(object.read_all(100).unwrap(), b"first, then memory");
            assert_eq!(object.cache_path().exists(), kind == ObjectKind::Catalog);
            assert_eq!(budget.used_bytes(), 18);
            let name = object.cache_path().to_path_buf();
            drop(object);
            assert_eq!(budget.used_bytes(), 0);
            assert!(!name.exists() && !target.exists());
        }
    }
}
