//! What a configuration decides about how a repository is shown. Values only; Python reads the files.

use std::collections::HashMap;
use std::time::Duration;

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
    /// Symlinks are shown as published (`CVMFS_SERVER_CACHE_MODE`).
    pub raw_symlinks: bool,
    /// Variables for symlink targets.
    pub environment: HashMap<Vec<u8>, Vec<u8>>,
    /// How long the kernel may keep entries and attributes (`CVMFS_KCACHE_TIMEOUT`).
    pub kernel_cache: Duration,
    /// About how much memory the decoded nested catalogs may take, bytes.
    pub catalog_bytes: u64,
    /// Where magic attributes are listed.
    pub xattr_visibility: XattrVisibility,
    /// Tag that the mount was asked for, for `user.tag`.
    pub tag: String,
    /// PEM texts of the master keys, for `user.pubkeys`.
    pub public_keys: String,
}
