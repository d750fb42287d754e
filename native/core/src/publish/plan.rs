//! What a publish will change, as a value: made by the scan, printed by a dry run, executed by the commit.
//!
//! Owns no I/O. Changes come name by name, so a directory comes directly before what is in it, and a removal before
//! the addition that takes its place. A publish never holds a whole plan: changes flow through [`Changes`].

use std::fmt;
use std::path::PathBuf;

use nearfs_format::chunk::Chunk;
use nearfs_format::dirent::{Compression, FileType};
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::path::RepoPath;
use nearfs_format::xattr::XattrList;

use super::types::Warning;
use crate::error::Result;

/// The file that makes its directory a nested catalog.
pub const CATALOG_MARKER: &[u8] = b".cvmfscatalog";

/// An entry as it was found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its type.
    pub file_type: FileType,
    /// `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; the device number of a device.
    pub size: u64,
    /// Modification time, Unix seconds.
    pub mtime: i64,
    /// Nanoseconds of the modification time.
    pub mtime_ns: u32,
    /// Target of a symlink.
    pub symlink: Vec<u8>,
    /// Extended attributes to store.
    pub xattrs: XattrList,
    /// Content that is not read from the file: `None` for a file that is.
    pub given: Option<Box<GivenContent>>,
}

/// Content of a regular file that somebody else stored: the base revision, or whoever wrote a graft descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenContent {
    /// The whole-file object, if there is one.
    pub hash: Option<ContentHash>,
    /// The chunks, in order; empty for a whole file.
    pub chunks: Vec<Chunk>,
    /// Algorithm of the hashes.
    pub hash_algorithm: HashAlgorithm,
    /// How the objects are stored.
    pub compression: Compression,
    /// Says whether the content lies outside the repository; `None` follows the settings.
    pub is_external: Option<bool>,
}

/// What happens at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// An entry appears.
    Add(Found),
    /// A non-directory takes the place of another.
    Replace(Found),
    /// A directory of the base revision gets new attributes.
    Touch(Found),
    /// An entry vanishes with everything below it.
    Remove,
    /// A directory appears with everything that the base revision has below `from`.
    Copy {
        /// A directory of the base revision.
        from: RepoPath,
        /// The directory's attributes.
        found: Found,
    },
    /// A non-directory becomes another name of `first`, which is in the same directory and comes before it. Replaces
    /// the non-directory that the base revision has there, if any.
    Link {
        /// The first name of the group; an [`Action::Add`] or [`Action::Replace`] of its own.
        first: RepoPath,
        /// Number of names in the group.
        linkcount: u32,
        /// Says whether the base revision has an entry here.
        replaces: bool,
    },
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: RepoPath,
    /// What.
    pub action: Action,
}

impl Change {
    /// Returns the lines that a verbose listing has for the change.
    pub fn listing(&self) -> impl Iterator<Item = Listed> + use<> {
        let (label, boundary) = match self.action {
            Action::Add(_) => (Label::Add, Some(Label::CatalogAdd)),
            Action::Copy { .. } | Action::Link { replaces: false, .. } => (Label::Add, None),
            Action::Remove => (Label::Remove, Some(Label::CatalogRemove)),
            Action::Replace(_) | Action::Touch(_) | Action::Link { .. } => (Label::Modify, None),
        };
        let boundary =
            boundary.zip(marked_directory(&self.path)).map(|(label, directory)| Listed { label, path: directory });
        std::iter::once(Listed { label, path: self.path.clone() }).chain(boundary)
    }
}

/// Takes changes one by one, as a scan finds them. Whoever calls it has to name a directory before what is in it, and
/// a removal before the addition that takes its place; names in order keep few catalogs open.
pub(super) trait Changes {
    /// Takes one change. Blocks while too many are under way; an error ends the scan.
    fn change(&mut self, change: Change) -> Result<()>;

    /// Takes a warning.
    fn warn(&mut self, warning: Warning);

    /// Fails once nobody wants more changes.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Changes for Plan {
    fn change(&mut self, change: Change) -> Result<()> {
        self.changes.push(change);
        Ok(())
    }

    fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }
}

/// The changes of one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The directory on disk that stands for `target`.
    pub source: PathBuf,
    /// The directory of the repository that changes.
    pub target: RepoPath,
    /// Changes, sorted by path.
    pub changes: Vec<Change>,
    /// What was left out, in the order of paths.
    pub warnings: Vec<Warning>,
}

/// How a verbose listing calls a change (server.md 3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label {
    /// `[add]`
    Add,
    /// `[rem]`
    Remove,
    /// `[mod]`
    Modify,
    /// `[x-catalog-add]`
    CatalogAdd,
    /// `[x-catalog-rem]`
    CatalogRemove,
}

impl Label {
    /// Returns the word between the brackets.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "rem",
            Self::Modify => "mod",
            Self::CatalogAdd => "x-catalog-add",
            Self::CatalogRemove => "x-catalog-rem",
        }
    }
}

/// One line of a verbose listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What happens.
    pub label: Label,
    /// The path.
    pub path: RepoPath,
}

impl fmt::Display for Listed {
    /// `[add] /dir/file`; catalog boundaries without the leading slash, as the reference prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string();
        let path = match self.label {
            Label::CatalogAdd | Label::CatalogRemove => path.trim_start_matches('/'),
            _ => path.as_str(),
        };
        write!(f, "[{}] {path}", self.label.as_str())
    }
}

/// Returns the directory that `path` marks as a nested catalog.
pub(super) fn marked_directory(path: &RepoPath) -> Option<RepoPath> {
    if path.name() == CATALOG_MARKER { path.parent() } else { None }
}

impl Plan {
    /// Says whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the lines of a verbose listing.
    pub fn listing(&self) -> impl Iterator<Item = Listed> {
        self.changes.iter().flat_map(Change::listing)
    }
}
