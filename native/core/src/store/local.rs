//! Objects in a directory of this machine, in the reference's layout.
//!
//! Owns `data/`, its temporary area `data/txn` and the named files beside it. Source: format.md 1.1. Objects appear by
//! rename, so a reader never sees half of one. Many threads may write at once; several processes may too, as long as
//! only one of them replaces named files (the publish lock is the caller's).
//!
//! Durability: objects are not flushed one by one. [`ObjectWrite::sync`] flushes the whole file system once. A power
//! cut before it can leave objects of the right name and the wrong length; they are replaced when stored again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nearfs_format::hash::{ContentHash, DIGEST_BYTES};
use nearfs_format::object::{ObjectId, ObjectKind};

use super::{ObjectList, ObjectRead, ObjectRemove, ObjectWrite, ObjectWriter, Stored};
use crate::error::{Error, ErrorKind, Result};

/// The temporary area, on the same file system as the objects, so that rename works.
const TEMPORARY: &str = "data/txn";
/// Name prefix of our temporary files; the process id follows.
const TEMPORARY_PREFIX: &str = "nearfs.";
/// A temporary file of somebody else is a leftover after this long: no upload of one object takes a day.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);
const FILE_MODE: u32 = 0o666;
const DIRECTORY_MODE: u32 = 0o777;
/// Makes names of temporary files distinct within this process.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A repository's storage below one directory.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// Opens the storage at `root`. `NotFound` if there is none.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let temporary = root.join(TEMPORARY);
        if !temporary.is_dir() {
            let subject = format!("{}: it has no {TEMPORARY} directory", root.display());
            return Err(Error::new(ErrorKind::NotFound, "open repository storage", subject));
        }
        Ok(Self { root })
    }

    /// Creates the directories `data/00` to `data/ff` and `data/txn` below `root`, and opens the storage. Directories
    /// that exist are kept.
    pub fn create_skeleton(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let create = |path: PathBuf| {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(&path)
                .map_err(|e| Error::io("create directory", path.display().to_string(), e))
        };
        create(root.join(TEMPORARY))?;
        for first in 0..=255_u8 {
            create(root.join(format!("data/{first:02x}")))?;
        }
        Ok(Self { root })
    }

    /// Returns the directory of the storage.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where an object lies.
    pub fn path_of(&self, id: &ObjectId) -> PathBuf {
        self.root.join(id.key())
    }

    fn named_path(&self, name: &str) -> Result<PathBuf> {
        nearfs_format::path::check_name(name.as_bytes())
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "name", name.to_owned()).with_source(e))?;
        Ok(self.root.join(name))
    }

    fn temporary(&self) -> Result<Temporary> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        // The time tells apart processes that had the same id one after the other.
        let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{TEMPORARY}/{TEMPORARY_PREFIX}{}.{number}.{moment:x}", std::process::id());
        let path = self.root.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(|e| Error::io("create temporary file", path.display().to_string(), e))?;
        Ok(Temporary { file, path, keep: false })
    }
}

/// Says whether an object is at `path` with that length. Another length is what a power cut leaves.
fn has(path: &Path, size_bytes: u64) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(stat) => Ok(stat.is_file() && stat.len() == size_bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("look for", path.display().to_string(), e)),
    }
}

fn read_bounded(path: &Path, what: &str, limit_bytes: u64) -> Result<Vec<u8>> {
    let failed = |e| Error::io("read", format!("{what} at {}", path.display()), e);
    let too_large =
        || Error::new(ErrorKind::Corrupt, "read", format!("{what} at {}: over {limit_bytes} bytes", path.display()));
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > limit_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // One byte more than allowed shows that the file grew past the limit.
    file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit_bytes { Err(too_large()) } else { Ok(bytes) }
}

impl ObjectRead for LocalStore {
    fn read(&self, id: &ObjectId, limit_bytes: u64) -> Result<Vec<u8>> {
        read_bounded(&self.path_of(id), &id.to_string(), limit_bytes)
    }

    fn open(&self, id: &ObjectId) -> Result<Box<dyn Read + Send>> {
        let path = self.path_of(id);
        let file = File::open(&path).map_err(|e| Error::io("open", format!("{id} at {}", path.display()), e))?;
        Ok(Box::new(file))
    }

    fn size(&self, id: &ObjectId) -> Result<Option<u64>> {
        let path = self.path_of(id);
        match fs::metadata(&path) {
            Ok(stat) => Ok(Some(stat.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("look for", format!("{id} at {}", path.display()), e)),
        }
    }

    fn read_named(&self, name: &str, limit_bytes: u64) -> Result<Vec<u8>> {
        read_bounded(&self.named_path(name)?, name, limit_bytes)
    }
}

impl ObjectWrite for LocalStore {
    fn put(&self, id: &ObjectId, bytes: &[u8]) -> Result<Stored> {
        let path = self.path_of(id);
        if has(&path, bytes.len() as u64)? {
            return Ok(Stored { was_new: false });
        }
        let mut temporary = self.temporary()?;
        temporary.file.write_all(bytes).map_err(|e| Error::io("write", temporary.path.display().to_string(), e))?;
        Ok(Stored { was_new: temporary.become_object(&path, bytes.len() as u64)? })
    }

    fn begin(&self) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(LocalWriter { store: self, temporary: self.temporary()?, written_bytes: 0 }))
    }

    fn put_named(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.named_path(name)?;
        let mut temporary = self.temporary()?;
        let failed = |e| Error::io("write", name.to_owned(), e);
        temporary.file.write_all(bytes).map_err(failed)?;
        temporary.file.sync_all().map_err(failed)?;
        temporary.rename_to(&path)?;
        let directory = File::open(&self.root).map_err(failed)?;
        directory.sync_all().map_err(failed)
    }

    fn sync(&self) -> Result<()> {
        let failed = |e: io::Error| Error::io("flush the file system of", self.root.display().to_string(), e);
        // The objects' own directory: `data` may be a mount point of its own.
        let directory = File::open(self.root.join(TEMPORARY)).map_err(failed)?;
        rustix::fs::syncfs(&directory).map_err(|e| failed(e.into()))
    }

    fn scratch_dir(&self) -> PathBuf {
        self.root.join(TEMPORARY)
    }

    fn clear_leftovers(&self) -> Result<u64> {
        let directory = self.root.join(TEMPORARY);
        let failed = |e| Error::io("clear", directory.display().to_string(), e);
        let mut removed = 0;
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if is_leftover(&entry) && fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Says whether a temporary file's maker is dead: by the process id in a name of ours, by age in any other.
fn is_leftover(entry: &fs::DirEntry) -> bool {
    let Ok(stat) = entry.metadata() else { return false };
    if !stat.is_file() {
        return false;
    }
    let name = entry.file_name();
    let process = name
        .to_str()
        .and_then(|name| name.strip_prefix(TEMPORARY_PREFIX))
        .and_then(|rest| rest.split('.').next())
        .and_then(|digits| digits.parse::<u32>().ok());
    let dead = process.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists());
    dead || stat.modified().ok().and_then(|m| m.elapsed().ok()).is_some_and(|age| age > LEFTOVER_AGE)
}

/// Returns the name prefix for temporary files in [`ObjectWrite::scratch_dir`]: leftovers are known by it.
pub fn temporary_prefix() -> String {
    format!("{TEMPORARY_PREFIX}{}.", std::process::id())
}

impl ObjectRemove for LocalStore {
    fn remove(&self, id: &ObjectId) -> Result<bool> {
        let path = self.path_of(id);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("remove", format!("{id} at {}", path.display()), e)),
        }
    }
}

impl ObjectList for LocalStore {
    fn list(&self, visit: &mut dyn FnMut(ObjectId, u64) -> Result<()>) -> Result<()> {
        for first in 0..=255_u8 {
            let directory = self.root.join(format!("data/{first:02x}"));
            let failed = |e| Error::io("list", directory.display().to_string(), e);
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let Some(id) = name.to_str().and_then(|name| object_of(first, name)) else { continue };
                visit(id, entry.metadata().map_err(failed)?.len())?;
            }
        }
        Ok(())
    }
}

/// Reads the id back from a file name below `data/<first>`.
fn object_of(first: u8, name: &str) -> Option<ObjectId> {
    let kind = match name.bytes().last()? {
        b'P' => ObjectKind::Chunk,
        b'C' => ObjectKind::Catalog,
        b'H' => ObjectKind::History,
        b'X' => ObjectKind::Certificate,
        b'M' => ObjectKind::Metainfo,
        _ => ObjectKind::File,
    };
    let rest = name.strip_suffix(kind.suffix())?;
    if rest.len() < 2 * DIGEST_BYTES - 2 {
        return None;
    }
    let hash: ContentHash = format!("{first:02x}{rest}").parse().ok()?;
    Some(ObjectId::new(hash, kind))
}

/// A file in the temporary area that vanishes unless it is renamed.
struct Temporary {
    file: File,
    path: PathBuf,
    keep: bool,
}

impl Temporary {
    /// Becomes the object at `path`; says whether it was new. Where another writer was faster with the same object,
    /// that one stays, so that each object is counted once.
    fn become_object(mut self, path: &Path, size_bytes: u64) -> Result<bool> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.keep = true;
                Ok(true)
            }
            Err(Errno::EXIST) if has(path, size_bytes)? => Ok(false),
            // The rest is for the plain rename: an object of another length, a missing directory, a file system that
            // cannot refuse to replace.
            Err(_) => self.rename_to(path).map(|()| true),
        }
    }

    fn rename_to(mut self, path: &Path) -> Result<()> {
        let failed = |e| Error::io("store", path.display().to_string(), e);
        match fs::rename(&self.path, path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // A storage that was not made by us may lack the directory.
                let parent = path.parent().unwrap_or(path);
                DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent).map_err(failed)?;
                fs::rename(&self.path, path).map_err(failed)?;
            }
            result => result.map_err(failed)?,
        }
        self.keep = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.keep {
            // Best effort: what stays is removed by `clear_leftovers`.
            let _ = fs::remove_file(&self.path);
        }
    }
}

struct LocalWriter<'s> {
    store: &'s LocalStore,
    temporary: Temporary,
    written_bytes: u64,
}

impl Write for LocalWriter<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.temporary.file.write(buffer)?;
        self.written_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for LocalWriter<'_> {
    fn commit(self: Box<Self>, id: &ObjectId) -> Result<Stored> {
        let path = self.store.path_of(id);
        if has(&path, self.written_bytes)? {
            return Ok(Stored { was_new: false });
        }
        Ok(Stored { was_new: self.temporary.become_object(&path, self.written_bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use nearfs_format::hash::HashAlgorithm;

    use super::*;

    fn id(bytes: &[u8], kind: ObjectKind) -> ObjectId {
        ObjectId::new(HashAlgorithm::Sha1.hash(bytes), kind)
    }

    fn store() -> (tempfile::TempDir, LocalStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::create_skeleton(directory.path().join("repository")).unwrap();
        (directory, store)
    }

    fn temporaries(store: &LocalStore) -> usize {
        fs::read_dir(store.scratch_dir()).unwrap().count()
    }

    #[test]
    fn an_object_is_stored_once_and_listed() {
        let (_directory, store) = store();
        let object = id(b"x", ObjectKind::Chunk);
        assert_eq!(store.read(&object, 9).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(store.put(&object, b"x").unwrap().was_new);
        assert!(!store.put(&object, b"x").unwrap().was_new);
        let mut writer = store.begin().unwrap();
        writer.write_all(b"x").unwrap();
        assert!(!writer.commit(&object).unwrap().was_new);
        assert_eq!(store.read(&object, 1).unwrap(), b"x");
        assert_eq!(store.read(&object, 0).unwrap_err().kind(), ErrorKind::Corrupt);
        let mut seen = Vec::new();
        let mut visit = |id, size_bytes| {
            seen.push((id, size_bytes));
            Ok(())
        };
        store.list(&mut visit).unwrap();
        assert_eq!(seen, [(object, 1)]);
        store.sync().unwrap();
        assert_eq!(temporaries(&store), 0);
    }

    #[test]
    fn an_object_of_another_length_is_replaced() {
        let (_directory, store) = store();
        let object = id(b"whole", ObjectKind::File);
        fs::write(store.path_of(&object), b"").unwrap();
        assert!(store.put(&object, b"whole").unwrap().was_new);
        fs::write(store.path_of(&object), b"who").unwrap();
        let mut writer = store.begin().unwrap();
        writer.write_all(b"whole").unwrap();
        assert!(writer.commit(&object).unwrap().was_new);
        assert_eq!(store.read(&object, 5).unwrap(), b"whole");
    }

    #[test]
    fn named_files_are_replaced_and_stay_in_the_root() {
        let (_directory, store) = store();
        store.put_named(".cvmfspublished", b"one").unwrap();
        store.put_named(".cvmfspublished", b"two").unwrap();
        assert_eq!(store.read_named(".cvmfspublished", 3).unwrap(), b"two");
        assert_eq!(store.put_named("../x", b"").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(store.read_named(".cvmfsreflog", 3).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn leftovers_of_the_dead_are_cleared_and_those_of_the_living_kept() {
        let (_directory, store) = store();
        let living = store.begin().unwrap();
        // No process has an id above the kernel's limit of 2^22.
        fs::write(store.scratch_dir().join("nearfs.4194999.0.1"), b"").unwrap();
        fs::write(store.scratch_dir().join("of-another-tool"), b"").unwrap();
        assert_eq!(store.clear_leftovers().unwrap(), 1);
        assert_eq!(temporaries(&store), 2);
        drop(living);
        assert_eq!(temporaries(&store), 1);
    }
}
