//! The tree that an archive unpacks to, put together member by member.
//!
//! Owns what a later member does to an earlier one: the outcome is the tree that GNU tar would leave, except that
//! nothing goes through symlinks. Keeps attributes only; contents are tickets into what `intake` stores. Memory: about
//! 300 bytes a member.

use std::collections::BTreeMap;

use nearfs_format::path::{RepoPath, check_name};

use super::super::plan::Found;
use super::super::scan::refused;
use crate::error::Result;

/// Number of a stored content; hardlinks share one.
pub(super) type Ticket = u32;

/// An entry that the archive has.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) found: Found,
    /// The content of a regular file.
    pub(super) content: Option<Ticket>,
}

/// What is known of a path.
#[derive(Debug, Default)]
pub(super) enum Said {
    /// Nothing but that something of the base revision goes.
    #[default]
    Nothing,
    /// It has to be a directory, since something is in it.
    Implied,
    /// The archive has it.
    Given(Box<Given>),
}

/// One name.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) children: BTreeMap<Box<[u8]>, Node>,
    pub(super) said: Said,
    /// The entry of the base revision goes first, with everything below it.
    pub(super) replaces: bool,
    /// What the base revision has below, and the archive has not, goes.
    pub(super) mirrors: bool,
}

impl Node {
    fn is_directory(&self) -> bool {
        match &self.said {
            Said::Given(given) => given.found.file_type == nearfs_format::dirent::FileType::Directory,
            Said::Nothing | Said::Implied => true,
        }
    }

    /// Returns the node at `path`, made where it was missing. Fails where a parent is no directory.
    pub(super) fn at(&mut self, path: &RepoPath) -> Result<&mut Self> {
        let mut node = self;
        for name in path.names() {
            if !node.is_directory() {
                return Err(refused(path, "its parent is no directory in the archive"));
            }
            if matches!(node.said, Said::Nothing) {
                node.said = Said::Implied;
            }
            node = node.children.entry(name.into()).or_default();
        }
        Ok(node)
    }

    /// Returns the node at `path` if it was made, and whether the base revision no longer shows there.
    pub(super) fn find(&self, path: &RepoPath) -> (Option<&Self>, bool) {
        let (mut node, mut is_hidden) = (self, self.replaces);
        for name in path.names() {
            let Some(child) = node.children.get(name) else { return (None, is_hidden || !node.is_directory()) };
            node = child;
            is_hidden |= node.replaces;
        }
        (Some(node), is_hidden)
    }

    /// Says that the archive has `given` here; what it had before goes, unless both are directories.
    pub(super) fn give(&mut self, given: Given) {
        if given.found.file_type != nearfs_format::dirent::FileType::Directory {
            self.children.clear();
        }
        self.said = Said::Given(Box::new(given));
    }

    /// Says that there has to be a directory.
    pub(super) fn imply(&mut self) {
        if matches!(self.said, Said::Nothing) {
            self.said = Said::Implied;
        }
    }
}

/// Returns where a member named `name` goes below `base`: leading slashes and `.` do not count, `..` is refused.
pub(super) fn place(base: &RepoPath, name: &[u8]) -> Result<RepoPath> {
    let mut path = base.clone();
    for part in name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        if part == b".." {
            return Err(refused(base, format!("the archive's member `{}` leads out of it", name.escape_ascii())));
        }
        let bad = |reason: String| refused(&path, format!("the archive's member `{}`: {reason}", name.escape_ascii()));
        check_name(part).map_err(|e| bad(e.to_string()))?;
        path = path.join(part).map_err(|e| bad(e.to_string()))?;
    }
    Ok(path)
}
