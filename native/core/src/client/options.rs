//! What a configuration decides about how a repository is shown. Values only; Python reads the files.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::prefetch::PrefetchSettings;

/// When magic extended attributes are listed; reading them always works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XattrVisibility {
    /// On the root directory only, the default.
    #[default]
    RootOnly,
    /// On every entry.
    Always,
    /// Nowhere.
    Never,
}

/// Which magic attributes not everybody may read, and who may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XattrGuard {
    /// Their names (`CVMFS_XATTR_PROTECTED_XATTRS`).
    pub names: HashSet<String>,
    /// Primary groups that may read them (`CVMFS_XATTR_PRIVILEGED_GIDS`); root's may always.
    pub gids: HashSet<u32>,
}

impl XattrGuard {
    /// Says whether a caller of this primary group may read an attribute.
    pub fn lets_read(&self, name: &str, gid: u32) -> bool {
        gid == 0 || self.gids.contains(&gid) || !self.names.contains(name)
    }
}

/// A uid or gid map: exact numbers first, then the `*` line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Lines `from to`.
    pub exact: HashMap<u32, u32>,
    /// The line `* to`.
    pub default: Option<u32>,
}

impl IdMap {
    /// Returns the number that is shown for a number in a catalog.
    pub fn map(&self, id: u32) -> u32 {
        self.exact.get(&id).copied().or(self.default).unwrap_or(id)
    }
}

/// How a repository is shown.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Fully qualified repository name.
    pub fqrn: String,
    /// Everything belongs to this uid and gid (`CVMFS_CLAIM_OWNERSHIP`).
    pub claimed_owner: Option<(u32, u32)>,
    /// Owner of entries whose catalog records none, and of what the client makes up.
    pub process_owner: (u32, u32),
    /// Map for uids.
    pub uid_map: IdMap,
    /// Map for gids.
    pub gid_map: IdMap,
    /// Everybody may read (`CVMFS_WORLD_READABLE`).
    pub world_readable: bool,
    /// Symlinks are shown as published: a publisher's union lies above (`CVMFS_SERVER_CACHE_MODE`), which also has to
    /// hear of every attribute that it is not there, rather than that there are none.
    pub raw_symlinks: bool,
    /// Variables for symlink targets.
    pub environment: HashMap<Vec<u8>, Vec<u8>>,
    /// How long the kernel may keep entries and attributes (`CVMFS_KCACHE_TIMEOUT`).
    pub kernel_cache: Duration,
    /// About how much memory the decoded nested catalogs may take, bytes.
    pub catalog_bytes: u64,
    /// What is fetched before it is asked for.
    pub prefetch: PrefetchSettings,
    /// Where learned traces may lie, the best place first.
    pub trace_directories: Vec<PathBuf>,
    /// Where magic attributes are listed.
    pub xattr_visibility: XattrVisibility,
    /// Who may read which of them.
    pub xattr_guard: XattrGuard,
    /// The root catalog of a fixed revision is asked for under `.cvmfsalt-` (`CVMFS_ALT_ROOT_PATH`).
    pub alternative_root: bool,
    /// Tag that the mount was asked for, for `user.tag`.
    pub tag: String,
    /// PEM texts of the master keys, for `user.pubkeys`.
    pub public_keys: String,
}
