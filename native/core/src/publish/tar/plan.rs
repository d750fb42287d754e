//! From an archive's tree to the changes that make the base revision show it.
//!
//! Owns the comparison with the base catalogs: an entry whose attributes and content are those of its row is no change.
//! Walks the tree once, hands out each change as it finds it, and looks at no directory that the archive does not touch.
//! Source: format.md 10.3, 10.4.

use nearfs_format::dirent::{Entry, EntryFlags, FileType};
use nearfs_format::path::RepoPath;
use nearfs_format::xattr::XattrList;

use super::super::pipeline::Content;
use super::super::plan::{Action, Change, Found};
use super::super::scan::refused;
use super::super::tree::CatalogTree;
use super::super::types::PublishSettings;
use super::contents::{Contents, Ticket};
use super::merge::{Given, Node, Said, Unpacked};
use crate::error::Result;
use crate::progress::Progress;

/// Permissions and size of a directory that nobody described (10.4).
const IMPLIED_MODE: u32 = 0o40_755;
pub(super) const DIRECTORY_BYTES: u64 = 4096;

/// Takes a change with its content, as soon as the walk has found it.
pub(super) type Sink<'k> = dyn FnMut(Change, Option<Content>) -> Result<()> + 'k;

/// The comparison under way.
pub(super) struct Planner<'t, 's, 'k> {
    /// The base revision, which nobody changes meanwhile.
    pub(super) tree: &'t mut CatalogTree<'s>,
    pub(super) settings: &'t PublishSettings,
    /// Owner of directories that nobody described.
    pub(super) implied_owner: (u32, u32),
    pub(super) unpacked: &'t Unpacked,
    /// `None` in a dry run, where contents count as equal.
    pub(super) stored: Option<&'t Contents>,
    pub(super) sink: &'t mut Sink<'k>,
}

/// Where the walk is.
struct Place {
    path: RepoPath,
    /// The base revision has a directory here that still shows.
    in_base: bool,
    mirrors: bool,
}

impl Planner<'_, '_, '_> {
    /// Walks the tree from the repository's root.
    pub(super) fn walk(&mut self, progress: &Progress) -> Result<()> {
        let mut places: Vec<Place> = Vec::new();
        let mut nodes = self.unpacked.after(None)?;
        while let Some((last, _)) = nodes.last() {
            let last = last.clone();
            for (path, node) in nodes {
                progress.check("compare")?;
                while places.last().is_some_and(|place| !path.starts_with(&place.path)) {
                    places.pop();
                }
                let entered = match (path.parent(), places.last()) {
                    (None, _) => Some(self.enter(path, true, node.mirrors)?),
                    (Some(parent), Some(place)) if parent == place.path => {
                        let (in_base, mirrors) = (place.in_base, place.mirrors);
                        self.visit(path, in_base, mirrors, node)?
                    }
                    // What it is in goes, or is no directory.
                    _ => None,
                };
                places.extend(entered);
            }
            nodes = self.unpacked.after(Some(&last))?;
        }
        Ok(())
    }

    fn push(&mut self, path: &RepoPath, action: Action, content: Option<Content>) -> Result<()> {
        (self.sink)(Change { path: path.clone(), action }, content)
    }

    /// Begins with a directory: what shall not stay in it goes first.
    fn enter(&mut self, path: RepoPath, in_base: bool, mirrors: bool) -> Result<Place> {
        if in_base && mirrors {
            for row in self.tree.children(&path)? {
                let is_own = path.is_root() && row.name == b".cvmfs";
                let child = path.join(&row.name).map_err(|e| refused(&path, e))?;
                if !is_own && !self.unpacked.has(&child)? {
                    self.push(&child, Action::Remove, None)?;
                }
            }
        }
        Ok(Place { path, in_base, mirrors })
    }

    fn visit(&mut self, path: RepoPath, in_base: bool, mirrors: bool, node: Node) -> Result<Option<Place>> {
        self.tree.arrive(&path);
        let mut before = if in_base { self.tree.find(&path)?.map(|row| row.entry) } else { None };
        if before.is_some() && (node.replaces || (mirrors && matches!(node.said, Said::Nothing))) {
            self.push(&path, Action::Remove, None)?;
            before = None;
        }
        let given = match node.said {
            // Nothing happens here, but something below goes.
            Said::Nothing if before.as_ref().is_some_and(Entry::is_directory) && self.unpacked.has_below(&path)? => {
                return self.enter(path, true, node.mirrors).map(Some);
            }
            Said::Nothing => return Ok(None),
            Said::Implied => match &before {
                Some(entry) if !entry.is_directory() => {
                    return Err(refused(
                        &path,
                        "it is no directory in the repository, but the archive has entries in it",
                    ));
                }
                Some(_) => None,
                None => Some(Given { found: self.implied(), content: None }),
            },
            Said::Given(given) => Some(*given),
        };
        let is_directory = given.as_ref().is_none_or(|given| given.found.file_type == FileType::Directory);
        let in_base = before.as_ref().is_some_and(Entry::is_directory) && is_directory;
        if let Some(given) = given {
            self.compare(&path, given, before.as_ref())?;
        }
        if is_directory { self.enter(path, in_base, mirrors || node.mirrors).map(Some) } else { Ok(None) }
    }

    fn compare(&mut self, path: &RepoPath, given: Given, before: Option<&Entry>) -> Result<()> {
        let Given { found, content } = given;
        let content = content.map(|ticket| self.content(ticket)).transpose()?;
        let is_directory = found.file_type == FileType::Directory;
        match before {
            None => self.push(path, Action::Add(found), content),
            Some(entry) if entry.is_directory() != is_directory => {
                self.push(path, Action::Remove, None)?;
                self.push(path, Action::Add(found), content)
            }
            Some(entry) if !self.has_attributes(&found, entry) => {
                let action = if is_directory { Action::Touch(found) } else { Action::Replace(found) };
                self.push(path, action, content)
            }
            Some(entry) if !is_directory && !self.has_content(path, content.as_ref(), entry)? => {
                self.push(path, Action::Replace(found), content)
            }
            Some(_) => Ok(()),
        }
    }

    fn content(&self, ticket: Ticket) -> Result<Content> {
        self.stored.map_or_else(|| Ok(Content::default()), |stored| stored.get(ticket))
    }

    fn has_attributes(&self, found: &Found, entry: &Entry) -> bool {
        let mtime_ns = self.settings.mtime_ns.then_some(found.mtime_ns);
        let is_directory = found.file_type == FileType::Directory;
        (found.mode, found.uid, found.gid, found.mtime) == (entry.mode, entry.uid, entry.gid, entry.mtime)
            && mtime_ns == entry.mtime_ns
            && found.xattrs == entry.xattrs
            && (is_directory || (found.size, &found.symlink) == (entry.size, &entry.symlink))
    }

    fn has_content(&mut self, path: &RepoPath, content: Option<&Content>, entry: &Entry) -> Result<bool> {
        let (Some(content), Some(_)) = (content, &self.stored) else { return Ok(true) };
        if entry.hash != content.hash || entry.flags.has(EntryFlags::CHUNKED) == content.chunks.is_empty() {
            return Ok(false);
        }
        Ok(content.chunks.is_empty() || self.tree.chunks(path, entry)? == content.chunks)
    }

    fn implied(&self) -> Found {
        Found {
            file_type: FileType::Directory,
            mode: IMPLIED_MODE,
            uid: self.implied_owner.0,
            gid: self.implied_owner.1,
            size: DIRECTORY_BYTES,
            mtime: self.settings.now,
            mtime_ns: 0,
            symlink: Vec::new(),
            xattrs: XattrList::default(),
            given: None,
        }
    }
}
