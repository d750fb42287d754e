//! The cache directory: where an object lies, how it gets there, who may use the directory.
//!
//! Layout of client.md 4.1: objects decompressed as `<2 hex>/<rest>` without suffix, mode 0600 in directories of
//! mode 0700 (0660 and 0770 in an alien cache), temporary files in `txn/`, damaged objects in `quarantaine/`. Knows
//! nothing of hosts, and nothing of limits: see [`super::quota`].
//!
//! Threads and processes: every operation is one atomic step of the file system, so a directory may be shared. A
//! crash leaves at most temporary files behind, which a later start removes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nearfs_format::object::ObjectId;
use rustix::fs::{Access, FlockOperation, OFlags, access, flock};

use super::breadcrumb::Breadcrumb;
use super::cached::CachedObject;
use super::pending::PendingObject;
use super::spill::SpillBudget;
use crate::error::{Error, ErrorKind, Result};

const SENTINEL: &str = ".cvmfscache";
/// Where temporary files lie.
pub(super) const TXN: &str = "txn";
/// The reference client's spelling.
const QUARANTINE: &str = "quarantaine";
/// Marks a cache of the 2.0 series, whose layout differs.
const OLD_CACHE: &str = "cvmfscatalog.cache";
/// Temporary files that nobody holds open count as left behind after that long: between creating one and locking it
/// lies a moment.
const LEFTOVER_AGE: Duration = Duration::from_secs(10);
/// The same where locks may not reach the other machines of a cluster.
const ALIEN_LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);
const MAX_BREADCRUMB_BYTES: u64 = 256;

/// Whether other clients use the directory too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One repository's own directory.
    Exclusive,
    /// `shared/`: several repositories, several processes.
    Shared,
    /// A directory that several machines fill: group-readable, never cleaned up.
    Alien,
}

impl Sharing {
    /// Returns the modes of files and of directories.
    pub(super) const fn modes(self) -> (u32, u32) {
        match self {
            Self::Exclusive | Self::Shared => (0o600, 0o700),
            Self::Alien => (0o660, 0o770),
        }
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
    /// Where breadcrumbs lie: an alien cache does not take them, because it belongs to many clients.
    notes: PathBuf,
    sharing: Sharing,
    is_read_only: bool,
    spilled: SpillBudget,
}

impl DiskCache {
    /// Opens the cache in `dir`, creating what is missing. Refuses a cache of the 2.0 series.
    ///
    /// A cache that exists and may not be written is used as it is; what it lacks is held in memory.
    pub fn new(dir: impl Into<PathBuf>, sharing: Sharing) -> Result<Self> {
        let dir = dir.into();
        Self::with_notes(dir.clone(), dir, sharing)
    }

    /// Like [`DiskCache::new`], with the notes of last known roots in another directory.
    pub fn with_notes(dir: impl Into<PathBuf>, notes: impl Into<PathBuf>, sharing: Sharing) -> Result<Self> {
        let (dir, notes) = (dir.into(), notes.into());
        if dir.join(OLD_CACHE).exists() {
            let subject = format!("{}: a cache of CernVM-FS 2.0; remove its content", dir.display());
            return Err(Error::new(ErrorKind::Unsupported, "use cache", subject));
        }
        let mut cache = Self { dir, notes, sharing, is_read_only: false, spilled: SpillBudget::default() };
        cache.is_read_only =
            cache.dir.join(SENTINEL).exists() && access(&cache.dir, Access::WRITE_OK | Access::EXEC_OK).is_err();
        if cache.is_read_only {
            tracing::warn!(cache = %cache.dir.display(), "the cache is read-only: what it lacks is not kept");
        } else {
            cache.create_layout()?;
        }
        if cache.notes != cache.dir {
            create_dir(&cache.notes, Sharing::Exclusive)?;
        }
        Ok(cache)
    }

    fn create_layout(&self) -> Result<()> {
        let sentinel = self.dir.join(SENTINEL);
        self.create_dir(&self.dir.join(TXN))?;
        self.create_dir(&self.dir.join(QUARANTINE))?;
        // Written last: where it is, the 256 directories were made. One that vanished since is made by a commit.
        if sentinel.exists() {
            return Ok(());
        }
        for head in 0..=0xffu8 {
            self.create_dir(&self.dir.join(format!("{head:02x}")))?;
        }
        let failed = |e| Error::io("create", sentinel.display().to_string(), e);
        let file = private_file(&sentinel).map_err(failed)?;
        file.set_permissions(fs::Permissions::from_mode(self.sharing.modes().0)).map_err(failed)
    }

    /// Creates a directory and its parents, if they are missing, with the mode of this cache.
    fn create_dir(&self, path: &Path) -> Result<()> {
        create_dir(path, self.sharing)
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns who uses the directory.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Says whether nothing can be added.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Returns the bytes of objects that are held in memory, because the directory did not take them.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled.used_bytes()
    }

    /// Returns a directory for temporary files; leftovers in the cache's own are removed by a later start.
    pub fn scratch_dir(&self) -> PathBuf {
        if self.is_read_only { std::env::temp_dir() } else { self.dir.join(TXN) }
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

    /// Removes temporary files whose writers are dead. They cost space only: what cannot be removed stays.
    pub fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(self.dir.join(TXN)) else { return };
        for entry in entries.flatten() {
            let is_ours = entry.file_name().as_encoded_bytes().starts_with(b"fetch");
            let is_old = match self.sharing {
                Sharing::Exclusive => true,
                Sharing::Shared => is_older(&entry, LEFTOVER_AGE),
                Sharing::Alien => is_older(&entry, ALIEN_LEFTOVER_AGE),
            };
            if is_ours && is_old && has_no_writer(&entry.path()) {
                if let Err(error) = fs::remove_file(entry.path()) {
                    tracing::warn!(path = %entry.path().display(), %error, "cannot remove a left-over temporary file");
                }
            }
        }
    }

    /// Opens an object, or returns nothing if the cache does not have it.
    ///
    /// An object of another size than `expected_size`, or than it was written with, is damaged: it is moved to
    /// `quarantaine/` and counts as missing. Content is checked while it is read.
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
        let object = metadata.is_file().then(|| CachedObject::opened(file, metadata.len(), path));
        let object = object.filter(|object| object.has_size(expected_size));
        if object.is_none() {
            tracing::warn!(%id, size = metadata.len(), expected = ?expected_size, "damaged object in the cache");
            self.quarantine(id)?;
        }
        Ok(object)
    }

    /// Removes an object; says whether it was there. Who has it open reads on.
    pub fn remove(&self, id: &ObjectId) -> Result<bool> {
        match fs::remove_file(self.object_path(id)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("remove", format!("{id} from the cache"), e)),
        }
    }

    /// Says whether the object is there, without opening it.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.object_path(id).is_file()
    }

    /// Begins writing an object whose content has at most `limit_bytes`.
    ///
    /// Where the directory takes nothing, because the disk is full or the cache read-only, it is written to memory.
    pub fn begin(&self, id: &ObjectId, limit_bytes: u64) -> Result<PendingObject> {
        if self.is_read_only {
            return PendingObject::in_memory(*id, limit_bytes, &self.spilled);
        }
        let txn = self.dir.join(TXN);
        let create =
            || PendingObject::create(*id, limit_bytes, &txn, self.object_path(id), self.sharing, &self.spilled);
        match create() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.create_dir(&txn)?;
                create()
            }
            Err(e) if is_refusal(e.kind()) => PendingObject::in_memory(*id, limit_bytes, &self.spilled),
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
            // Nothing can be done, and reading it again says the same.
            Err(_) if self.is_read_only => Ok(()),
            // Better gone than served, even where it cannot be kept for inspection.
            Err(_) => fs::remove_file(&path).map_err(|e| Error::io("quarantine", format!("{id} in the cache"), e)),
        }
    }

    /// Reads the note of the last known root; nothing if there is none.
    ///
    /// An alien cache that was filled beforehand brings a note along; the client's own goes first.
    pub fn read_breadcrumb(&self, fqrn: &str) -> Result<Option<Breadcrumb>> {
        let mut path = self.workspace_file("cvmfschecksum", fqrn)?;
        if self.notes != self.dir && !path.exists() {
            path = self.dir.join(format!("cvmfschecksum.{fqrn}"));
        }
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

    /// Writes the note of the last known root: all of it or nothing. A full or read-only disk costs the note only: what
    /// it is good for, mounting without a network, needs a cache that takes objects anyway.
    pub fn write_breadcrumb(&self, fqrn: &str, breadcrumb: &Breadcrumb) -> Result<()> {
        let path = self.workspace_file("cvmfschecksum", fqrn)?;
        let write = || -> io::Result<()> {
            let mut temporary = tempfile::Builder::new().prefix("fetch").tempfile_in(&self.notes)?;
            temporary.write_all(breadcrumb.to_string().as_bytes())?;
            // Synced, because an empty note after a power failure would cost the offline mount.
            temporary.as_file().sync_data()?;
            temporary.persist(&path).map(drop).map_err(|e| e.error)
        };
        match write().map_err(|e| Error::io("write", path.display().to_string(), e)) {
            Err(error) if is_refusal(error.kind()) => {
                tracing::warn!(%error, "cannot note the last known root: without a network, the next mount will fail");
                Ok(())
            }
            other => other,
        }
    }

    fn object_path(&self, id: &ObjectId) -> PathBuf {
        self.dir.join(id.cache_key())
    }

    fn workspace_file(&self, prefix: &str, fqrn: &str) -> Result<PathBuf> {
        if fqrn.is_empty() || fqrn.starts_with('.') || fqrn.contains(['/', '\0']) {
            let subject = format!("`{}`: it is no repository name", fqrn.escape_debug());
            return Err(Error::new(ErrorKind::InvalidInput, "use cache", subject));
        }
        Ok(self.notes.join(format!("{prefix}.{fqrn}")))
    }
}

/// Says whether a directory that refuses to be written for this reason still serves as a cache.
pub(super) fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NoSpace | ErrorKind::ReadOnly | ErrorKind::PermissionDenied)
}

fn is_older(entry: &fs::DirEntry, limit: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > limit))
}

/// Who writes a temporary file holds a lock on it, which ends with the process.
fn has_no_writer(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Creates a directory and its parents, if they are missing.
pub(super) fn create_dir(path: &Path, sharing: Sharing) -> Result<()> {
    let failed = |e| Error::io("create directory", path.display().to_string(), e);
    let (_, mode) = sharing.modes();
    match path.parent() {
        Some(parent) if !parent.exists() => create_dir(parent, sharing)?,
        _ => {}
    }
    match DirBuilder::new().mode(mode).create(path) {
        // The mask of the process would take the group's right to write.
        Ok(()) if sharing == Sharing::Alien => {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(failed),
    }
}
