//! Values that cross from the engine to a face: ids, attributes, listings. No behaviour.

use nearfs_format::dirent::FileType;

/// An inode number as the kernel sees it; 1 is the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory (`FUSE_ROOT_ID`).
    pub const ROOT: Self = Self(1);
}

/// The handle of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fh(pub u64);

/// What `stat` shows of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// File type.
    pub file_type: FileType,
    /// Permission bits, set-id and sticky bits included (`mode & 0o7777`).
    pub permissions: u16,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Link count.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device, as glibc's `makedev` encodes it (64 bit).
    pub rdev: u64,
    /// Modification time, Unix seconds; access and change time are the same.
    pub mtime_s: i64,
    /// Nanoseconds of the modification time.
    pub mtime_ns: u32,
}

impl Attr {
    /// Preferred I/O size that the reference client reports.
    pub const BLOCK_BYTES: u32 = 4096;

    /// Returns `st_blocks`: one plus the size in units of 512 bytes, as the reference client reports it.
    pub const fn blocks(&self) -> u64 {
        1 + self.size_bytes / 512
    }
}

/// One entry of a directory listing.
#[derive(Debug, Clone, Copy)]
pub struct ListedEntry<'a> {
    /// Name, bytes.
    pub name: &'a [u8],
    /// Attributes; complete, so that a face can answer readdirplus.
    pub attr: Attr,
    /// Position after this entry: what the kernel passes to continue behind it.
    pub next: u64,
}

/// The answer to `open`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Handle for `read` and `release`.
    pub fh: Fh,
    /// The kernel may keep pages cached from earlier opens.
    pub keep_cache: bool,
    /// The kernel must not use its page cache.
    pub direct_io: bool,
}

/// The answer to `statfs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statfs {
    /// Block size in bytes.
    pub block_bytes: u32,
    /// Total blocks of the cache, 0 where it has no limit.
    pub blocks: u64,
    /// Free blocks of the cache.
    pub blocks_free: u64,
    /// Entries in the repository.
    pub files: u64,
    /// Entries in catalogs that are not loaded.
    pub files_free: u64,
}
