//! The cache directory: where an object lies, how it gets there, who may use the directory.
//!
//! Layout of client.md 4.1: objects decompressed as `<2 hex>/<rest>` without suffix, mode 0600 in directories of
//! mode 0700, temporary files in `txn/`, objects of the wrong size in `quarantaine/`. Knows nothing of hosts.
//!
//! Threads and processes: every operation is one atomic step of the file system, so a directory may be shared. A
//! crash leaves at most temporary files behind, which the next holder of the lock removes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nearfs_format::object::ObjectId;
use rustix::fs::{FlockOperation, OFlags, flock};

use super::breadcrumb::Breadcrumb;
use super::pending::PendingObject;
use crate::error::{Error, ErrorKind, Result};

const SENTINEL: &str = ".cvmfscache";
const TXN: &str = "txn";
/// The reference client's spelling.
const QUARANTINE: &str = "quarantaine";
/// Marks a cache of the 2.0 series, whose layout differs.
const OLD_CACHE: &str = "cvmfscatalog.cache";
/// Temporary files of other processes in a shared cache count as left behind after that long.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);
const MAX_BREADCRUMB_BYTES: u64 = 256;

/// Whether other clients use the directory too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One repository's own directory.
    Exclusive,
    /// `shared/`: several repositories, several processes.
    Shared,
}

/// An object of the cache, open for reading. Stays readable when the object is evicted.
#[derive(Debug, Clone)]
pub struct CachedObject {
    file: Arc<File>,
    size_bytes: u64,
    path: Arc<Path>,
}

impl CachedObject {
    pub(super) fn new(file: Arc<File>, size_bytes: u64, path: PathBuf) -> Self {
        Self { file, size_bytes, path: path.into() }
    }

    /// Returns the content's size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the open file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Reads at `offset` until `buffer` is full or the content ends; returns the number of bytes.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", self.path.display().to_string(), e)),
            }
        }
        Ok(filled)
    }

    /// Reads the whole content, which the caller knows to be at most `limit_bytes`.
    pub fn read_all(&self, limit_bytes: u64) -> Result<Vec<u8>> {
        if self.size_bytes > limit_bytes {
            let reason = format!("{}: {} bytes, more than {limit_bytes}", self.path.display(), self.size_bytes);
            return Err(Error::new(ErrorKind::Corrupt, "read", reason));
        }
        let mut bytes = vec![0; self.size_bytes as usize];
        let got = self.read_at(&mut bytes, 0)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// Returns the path, for SQLite, which opens files by name. The object may be evicted meanwhile.
    pub fn cache_path(&self) -> &Path {
        &self.path
    }
}

/// Holds `lock.<fqrn>` of a workspace; released when dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct WorkspaceLock {
    _file: File,
}

/// The cache directory.
#[derive(Debug)]
pub struct DiskCache {
    dir: PathBuf,
    sharing: Sharing,
}

impl DiskCache {
    /// Opens the cache in `dir`, creating what is missing. Refuses a cache of the 2.0 series.
    pub fn new(dir: impl Into<PathBuf>, sharing: Sharing) -> Result<Self> {
        let cache = Self { dir: dir.into(), sharing };
        if cache.dir.join(OLD_CACHE).exists() {
            let subject = format!("{}: a cache of CernVM-FS 2.0; remove its content", cache.dir.display());
            return Err(Error::new(ErrorKind::Unsupported, "use cache", subject));
        }
        cache.create_layout()?;
        Ok(cache)
    }

    fn create_layout(&self) -> Result<()> {
        let sentinel = self.dir.join(SENTINEL);
        create_private_dir(&self.dir.join(TXN))?;
        create_private_dir(&self.dir.join(QUARANTINE))?;
        // Written last: where it is, the 256 directories were made. One that vanished since is made by a commit.
        if sentinel.exists() {
            return Ok(());
        }
        for head in 0..=0xffu8 {
            create_private_dir(&self.dir.join(format!("{head:02x}")))?;
        }
        private_file(&sentinel).map(drop).map_err(|e| Error::io("create", sentinel.display().to_string(), e))
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the directory for temporary files; leftovers there are removed by a later start.
    pub fn scratch_dir(&self) -> PathBuf {
        self.dir.join(TXN)
    }

    /// Takes `lock.<fqrn>` without waiting; [`ErrorKind::Busy`] if another process has it. Removes temporary files
    /// that a dead process left behind.
    pub fn lock(&self, fqrn: &str) -> Result<WorkspaceLock> {
        let path = self.workspace_file("lock", fqrn)?;
        let failed = |e: io::Error| Error::io("lock", path.display().to_string(), e);
        let file = private_file(&path).map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => {
                let subject = format!("{}: another process uses this cache for {fqrn}", path.display());
                Error::new(ErrorKind::Busy, "lock", subject)
            }
            e => failed(e.into()),
        })?;
        self.remove_leftovers();
        Ok(WorkspaceLock { _file: file })
    }

    /// Leftovers cost space only: what cannot be removed stays, and is logged.
    fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(self.dir.join(TXN)) else { return };
        for entry in entries.flatten() {
            let is_ours = entry.file_name().as_encoded_bytes().starts_with(b"fetch");
            if is_ours && (self.sharing == Sharing::Exclusive || is_old(&entry)) {
                if let Err(error) = fs::remove_file(entry.path()) {
                    tracing::warn!(path = %entry.path().display(), %error, "cannot remove a left-over temporary file");
                }
            }
        }
    }

    /// Opens an object, or returns nothing if the cache does not have it.
    ///
    /// An object of another size than `expected_size` is damaged: it is moved to `quarantaine/` and counts as missing.
    pub fn open(&self, id: &ObjectId, expected_size: Option<u64>) -> Result<Option<CachedObject>> {
        let path = self.object_path(id);
        let failed = |e: io::Error| Error::io("open", format!("{id} in the cache as {}", path.display()), e);
        // Not blocking, because a FIFO in its place would otherwise be waited for.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() || expected_size.is_some_and(|size| size != metadata.len()) {
            tracing::warn!(%id, size = metadata.len(), expected = ?expected_size, "damaged object in the cache");
            self.quarantine(id)?;
            return Ok(None);
        }
        Ok(Some(CachedObject::new(Arc::new(file), metadata.len(), path)))
    }

    /// Says whether the object is there, without opening it.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.object_path(id).is_file()
    }

    /// Begins writing an object.
    pub fn begin(&self, id: &ObjectId) -> Result<PendingObject> {
        let txn = self.dir.join(TXN);
        match PendingObject::create(*id, &txn, self.object_path(id)) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                create_private_dir(&txn)?;
                PendingObject::create(*id, &txn, self.object_path(id))
            }
            other => other,
        }
    }

    /// Moves an object away whose content is not what it should be; the next open fetches it again.
    pub fn quarantine(&self, id: &ObjectId) -> Result<()> {
        let path = self.object_path(id);
        let place = self.dir.join(QUARANTINE).join(id.cache_key().replace('/', ""));
        match fs::rename(&path, &place) {
            Ok(()) => Ok(()),
            // Another thread was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.exists() => Ok(()),
            // Better gone than served, even where it cannot be kept for inspection.
            Err(_) => fs::remove_file(&path).map_err(|e| Error::io("quarantine", format!("{id} in the cache"), e)),
        }
    }

    /// Reads the note of the last known root; nothing if there is none.
    pub fn read_breadcrumb(&self, fqrn: &str) -> Result<Option<Breadcrumb>> {
        let path = self.workspace_file("cvmfschecksum", fqrn)?;
        let failed = |e: io::Error| Error::io("read", path.display().to_string(), e);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BREADCRUMB_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        let breadcrumb = String::from_utf8_lossy(&bytes)
            .parse()
            .map_err(|e| Error::format("read", format!("{}; removing the file helps", path.display()), e))?;
        Ok(Some(breadcrumb))
    }

    /// Writes the note of the last known root: all of it or nothing.
    pub fn write_breadcrumb(&self, fqrn: &str, breadcrumb: &Breadcrumb) -> Result<()> {
        let path = self.workspace_file("cvmfschecksum", fqrn)?;
        let write = || -> io::Result<()> {
            let mut temporary = tempfile::Builder::new().prefix("fetch").tempfile_in(self.dir.join(TXN))?;
            temporary.write_all(breadcrumb.to_string().as_bytes())?;
            // Synced, because an empty note after a power failure would cost the offline mount.
            temporary.as_file().sync_data()?;
            temporary.persist(&path).map(drop).map_err(|e| e.error)
        };
        write().map_err(|e| Error::io("write", path.display().to_string(), e))
    }

    fn object_path(&self, id: &ObjectId) -> PathBuf {
        self.dir.join(id.cache_key())
    }

    fn workspace_file(&self, prefix: &str, fqrn: &str) -> Result<PathBuf> {
        if fqrn.is_empty() || fqrn.starts_with('.') || fqrn.contains(['/', '\0']) {
            let subject = format!("`{}`: it is no repository name", fqrn.escape_debug());
            return Err(Error::new(ErrorKind::InvalidInput, "use cache", subject));
        }
        Ok(self.dir.join(format!("{prefix}.{fqrn}")))
    }
}

fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > LEFTOVER_AGE))
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Creates a directory of mode 0700 and its parents, if they are missing.
pub(super) fn create_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io("create directory", path.display().to_string(), e))
}
