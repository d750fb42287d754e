//! An object that is being written: a temporary file in `txn/` that becomes an object by a rename, or vanishes.
//!
//! Belongs to one thread. Dropping it without [`PendingObject::commit`] removes the file; so does any failure.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nearfs_format::object::ObjectId;
use tempfile::NamedTempFile;

use super::disk::{CachedObject, create_private_dir};
use crate::error::{Error, Result};

/// An object on its way into the cache.
#[derive(Debug)]
pub struct PendingObject {
    id: ObjectId,
    temporary: NamedTempFile,
    target: PathBuf,
    size_bytes: u64,
}

impl PendingObject {
    /// Creates the temporary file, mode 0600.
    pub(super) fn create(id: ObjectId, txn: &Path, target: PathBuf) -> Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("fetch")
            .rand_bytes(6)
            .tempfile_in(txn)
            .map_err(|e| Error::io("create a temporary file for", format!("{id} in {}", txn.display()), e))?;
        Ok(Self { id, temporary, target, size_bytes: 0 })
    }

    /// Returns how many bytes were written.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Appends bytes. A full disk is [`crate::ErrorKind::NoSpace`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.temporary.as_file_mut().write_all(bytes).map_err(|e| self.failed("write", e))?;
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes the bytes written an object of the cache.
    ///
    /// Without `sync`, nothing waits for the disk: the content can be fetched again, and whoever opens it knows its
    /// size, so what a power failure leaves behind is found out. An object whose size no one knows has to be synced.
    pub fn commit(self, sync: bool) -> Result<CachedObject> {
        if sync {
            self.temporary.as_file().sync_data().map_err(|e| self.failed("sync", e))?;
        }
        let Self { id, temporary, target, size_bytes } = self;
        let failed = |e| Error::io("commit", format!("{id} as {}", target.display()), e);
        let file = match temporary.persist(&target) {
            Ok(file) => file,
            Err(refused) if refused.error.kind() == std::io::ErrorKind::NotFound => {
                // A cleaner of old files takes empty directories with it.
                create_private_dir(target.parent().unwrap_or(Path::new("/")))?;
                refused.file.persist(&target).map_err(|e| failed(e.error))?
            }
            Err(refused) => return Err(failed(refused.error)),
        };
        // The written file stays open for reading: it is this very content whatever happens to the name.
        reopened(&file, &target)
            .map(|file| CachedObject::new(Arc::new(file), size_bytes, target.clone()))
            .map_err(failed)
    }

    fn failed(&self, operation: &'static str, error: std::io::Error) -> Error {
        Error::io(operation, format!("{} in the cache ({} bytes so far)", self.id, self.size_bytes), error)
    }
}

/// Opens the committed file for reading only; falls back to the descriptor that wrote it if the name is gone already.
fn reopened(written: &File, path: &Path) -> std::io::Result<File> {
    match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => written.try_clone(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use nearfs_format::hash::HashAlgorithm;
    use nearfs_format::object::ObjectKind;
    use tempfile::TempPath;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_write_to_a_full_disk_is_told_apart_and_the_file_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fetchabc");
        std::fs::write(&path, "").unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let temporary = NamedTempFile::from_parts(full, TempPath::try_from_path(&path).unwrap());
        let id = ObjectId::new(HashAlgorithm::Sha1.hash(b""), ObjectKind::File);
        let mut pending = PendingObject { id, temporary, target: dir.path().join("target"), size_bytes: 0 };
        let error = pending.write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.to_string().contains(&id.to_string()), "{error}");
        drop(pending);
        assert!(!path.exists());
    }
}
