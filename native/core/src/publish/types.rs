//! Plain values that go into a publish and come out of it. No behaviour.

use std::fmt;
use std::path::{Path, PathBuf};

use nearfs_format::chunker::ChunkSizes;
use nearfs_format::codec::Effort;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::manifest::DEFAULT_TTL_S;
use nearfs_format::path::RepoPath;

use crate::catalog::OwnerMap;

/// What the first revision of a repository needs (format.md 10.2).
#[derive(Debug, Clone)]
pub struct NewRepository {
    /// Fully qualified repository name.
    pub fqrn: String,
    /// Algorithm that names the objects.
    pub hash_algorithm: HashAlgorithm,
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
    /// Clients drop the content first.
    pub volatile: bool,
    /// Authorization requirement, if access is controlled.
    pub voms_authz: Option<String>,
    /// Now, Unix seconds.
    pub now: i64,
}

/// The revision that a publish builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseRevision {
    /// Hash of its root catalog.
    pub root_hash: ContentHash,
}

/// Where the changes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The upper directory of an overlay whose lower directory is the base revision.
    Overlay {
        /// The upper directory.
        upper: PathBuf,
    },
    /// A directory that the repository shall equal. A file whose type, mode, owner, size and modification time equal
    /// those of the base revision counts as unchanged and is not read.
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// A directory that a directory of the repository shall equal; the rest stays as it is. Compared like `Directory`.
    Subtree {
        /// The directory.
        path: PathBuf,
        /// Where it goes; made with its parents where it is missing.
        target: RepoPath,
        /// Remove what `target` has and the directory has not.
        mirrors: bool,
        /// Owner and group of every entry; `None` keeps those of the files.
        owner: Option<(u32, u32)>,
    },
}

impl Source {
    /// Returns the directory that is read.
    pub fn directory(&self) -> &Path {
        let (Self::Overlay { upper: directory }
        | Self::Directory { path: directory }
        | Self::Subtree { path: directory, .. }) = self;
        directory
    }

    /// Returns the directory of the repository that it stands for.
    pub(super) fn target(&self) -> RepoPath {
        match self {
            Self::Overlay { .. } | Self::Directory { .. } => RepoPath::root(),
            Self::Subtree { target, .. } => target.clone(),
        }
    }
}

/// How to publish.
#[derive(Debug, Clone)]
pub struct PublishSettings {
    /// Algorithm that names new objects.
    pub hash_algorithm: HashAlgorithm,
    /// How file objects are stored.
    pub compression: Compression,
    /// How hard to deflate. Anything but the stock effort gives objects other names than the reference's.
    pub effort: Effort,
    /// Where to cut large files; `None` stores every file whole.
    pub chunk_sizes: Option<ChunkSizes>,
    /// Store extended attributes (`CVMFS_INCLUDE_XATTRS`).
    pub include_xattrs: bool,
    /// Store nanoseconds of modification times (`CVMFS_ENABLE_MTIME_NS`).
    pub mtime_ns: bool,
    /// Leave out fifos, sockets and devices, with a warning (`CVMFS_IGNORE_SPECIAL_FILES`).
    pub ignore_special: bool,
    /// Split hardlink groups that span directories, instead of refusing them (`CVMFS_IGNORE_XDIR_HARDLINKS`).
    pub ignore_xdir_hardlinks: bool,
    /// What is too large, and whether that ends the publish.
    pub limits: Limits,
    /// Splits large catalogs and merges small ones (`CVMFS_AUTOCATALOGS`); `None` leaves them alone.
    pub autocatalogs: Option<CatalogWeights>,
    /// Keep packs of small files (`NEARFS_PACKS`); `false` removes those that there are.
    pub packs: bool,
    /// Flag new regular files as external data (`CVMFS_EXTERNAL_DATA`).
    pub is_external: bool,
    /// Flag new regular files for direct I/O (`publish -d`).
    pub direct_io: bool,
    /// Value of the root catalog's `TTL` property, in seconds.
    pub ttl_s: u64,
    /// Revision number to use instead of the next one; has to be larger than the base revision's.
    pub manual_revision: Option<u64>,
    /// Sets the root catalog's `volatile` property; a repository that has it keeps it either way.
    pub volatile: bool,
    /// Says who may read the repository from now on (the root catalog's `voms_authz`); empty is everybody, `None` leaves
    /// it as it is.
    pub membership: Option<String>,
    /// What owners on disk become (`CVMFS_UID_MAP`).
    pub users: OwnerMap,
    /// What groups on disk become (`CVMFS_GID_MAP`).
    pub groups: OwnerMap,
    /// Now, Unix seconds: the `last_modified` of every new catalog.
    pub now: i64,
    /// Worker threads; 0 means one for each core.
    pub workers: usize,
}

impl PublishSettings {
    /// Returns the reference's defaults (format.md 11.3) for a publish at `now`.
    pub fn new(now: i64) -> Self {
        Self {
            hash_algorithm: HashAlgorithm::Sha1,
            compression: Compression::Zlib,
            effort: Effort::Stock,
            chunk_sizes: Some(ChunkSizes::default()),
            include_xattrs: false,
            mtime_ns: false,
            ignore_special: false,
            ignore_xdir_hardlinks: true,
            limits: Limits::default(),
            autocatalogs: None,
            packs: false,
            is_external: false,
            direct_io: false,
            ttl_s: DEFAULT_TTL_S,
            manual_revision: None,
            volatile: false,
            membership: None,
            users: OwnerMap::default(),
            groups: OwnerMap::default(),
            now,
            workers: 0,
        }
    }

    /// Returns how many worker threads to use.
    pub(crate) fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            count => count,
        }
    }
}

/// What is too large (server.md 4). A limit of 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// MiB of a file (`CVMFS_FILE_MBYTE_LIMIT`).
    pub file_mbytes: u64,
    /// Thousand entries of a nested catalog (`CVMFS_NESTED_KCATALOG_LIMIT`).
    pub nested_kentries: u64,
    /// Thousand entries of the root catalog (`CVMFS_ROOT_KCATALOG_LIMIT`).
    pub root_kentries: u64,
    /// Ends the publish where a limit is exceeded, instead of a warning (`CVMFS_ENFORCE_LIMITS`).
    pub is_enforced: bool,
}

impl Default for Limits {
    /// The reference's limits (format.md 11.3).
    fn default() -> Self {
        Self { file_mbytes: 1024, nested_kentries: 500, root_kentries: 200, is_enforced: false }
    }
}

/// Between how many entries automatic catalogs are kept (format.md 10.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogWeights {
    /// A catalog with more entries is split.
    pub max: u64,
    /// An automatic catalog with fewer entries is merged, and no smaller directory is split off.
    pub min: u64,
}

impl Default for CatalogWeights {
    fn default() -> Self {
        Self { max: 100_000, min: 1000 }
    }
}

/// What was stored. Sizes are those of the objects as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoredCounts {
    /// Objects that the store did not have, catalogs included.
    pub objects_new: u64,
    /// Bytes of those objects.
    pub bytes_new: u64,
    /// Objects that were to be stored and that the store had, catalogs included.
    pub objects_reused: u64,
    /// Catalogs among the new objects.
    pub catalogs_new: u64,
    /// Bytes of those catalogs.
    pub catalog_bytes_new: u64,
    /// Catalogs among the objects that the store had.
    pub catalogs_reused: u64,
}

/// How many entries changed, by kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangeCounts {
    /// Non-directories added.
    pub files_added: u64,
    /// Non-directories replaced by others.
    pub files_changed: u64,
    /// Non-directories removed, those below a removed directory included.
    pub files_removed: u64,
    /// Symlinks among the added.
    pub symlinks_added: u64,
    /// Symlinks among what took the place of others.
    pub symlinks_changed: u64,
    /// Symlinks among the removed.
    pub symlinks_removed: u64,
    /// Directories added.
    pub directories_added: u64,
    /// Directories whose attributes changed.
    pub directories_changed: u64,
    /// Directories removed, those below a removed directory included.
    pub directories_removed: u64,
    /// Bytes of the regular files that were added, or took the place of others.
    pub bytes_added: u64,
    /// Bytes of the regular files that were removed or replaced.
    pub bytes_removed: u64,
}

/// Something that was left out or altered, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Warning {
    /// An extended attribute with a value longer than 255 bytes, or beyond the 255th, was left out.
    XattrSkipped(RepoPath),
    /// A fifo, socket or device was left out as the settings ask.
    SpecialSkipped(RepoPath),
    /// A file with several names was published as independent files.
    HardlinkBroken(RepoPath),
    /// A name that belongs to the union file system was left out.
    ReservedName(RepoPath),
    /// What was to be deleted was not there.
    NothingToDelete(RepoPath),
    /// A file with a meaning that is experimental.
    Bundles(RepoPath),
    /// A bundle specification that no client can use, and why.
    BundleInvalid(RepoPath, String),
    /// A bundle specification with so many entries that are no paths.
    BundleEntries(RepoPath, usize),
    /// A file is larger than so many MiB: path, limit, size in MiB.
    LargeFile(RepoPath, u64, u64),
    /// A catalog has more than so many entries: mountpoint, limit, entries.
    LargeCatalog(RepoPath, u64, u64),
}

impl Warning {
    /// Returns what it is about.
    pub fn path(&self) -> &RepoPath {
        let (Self::XattrSkipped(path)
        | Self::SpecialSkipped(path)
        | Self::HardlinkBroken(path)
        | Self::ReservedName(path)
        | Self::NothingToDelete(path)
        | Self::Bundles(path)
        | Self::BundleInvalid(path, _)
        | Self::BundleEntries(path, _)
        | Self::LargeFile(path, ..)
        | Self::LargeCatalog(path, ..)) = self;
        path
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::XattrSkipped(path) => write!(f, "{path}: extended attributes over the limits were left out"),
            Self::SpecialSkipped(path) => write!(f, "'{path}' is a special file, ignoring."),
            Self::HardlinkBroken(path) => write!(f, "{path}: hardlinks became independent files"),
            Self::ReservedName(path) => write!(f, "{path}: left out, the name belongs to the union file system"),
            Self::NothingToDelete(path) => write!(f, "{path}: there was nothing to delete"),
            Self::Bundles(_) => {
                f.write_str(".cvmfsbundles file encountered. Bundles is currently an experimental feature.")
            }
            Self::BundleInvalid(path, reason) => {
                write!(f, "{path}: published as an ordinary file, since it is no bundle specification: {reason}")
            }
            Self::BundleEntries(path, count) => {
                write!(f, "{path}: {count} of its dependencies are no paths in the repository, clients ignore them")
            }
            Self::LargeFile(..) | Self::LargeCatalog(..) => {
                write!(f, "WARNING: {}", super::limits::sentence(self).unwrap_or_default())
            }
        }
    }
}

/// A new revision, complete in the store and durable; a signed manifest makes it visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Hash of the root catalog (manifest `C`).
    pub root_hash: ContentHash,
    /// Uncompressed size of the root catalog file in bytes (manifest `B`).
    pub root_size_bytes: u64,
    /// Revision number (manifest `S`).
    pub revision: u64,
    /// Time to live in seconds (manifest `D`).
    pub ttl_s: u64,
    /// What came into the store.
    pub stored: StoredCounts,
    /// Catalogs written.
    pub catalogs_new: u64,
    /// What changed.
    pub changes: ChangeCounts,
    /// What was left out, in the order of paths.
    pub warnings: Vec<Warning>,
}
