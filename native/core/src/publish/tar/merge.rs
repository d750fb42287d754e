//! The tree that an archive unpacks to, put together member by member.
//!
//! Owns what a later member does to an earlier one: the outcome is the tree that GNU tar would leave, except that
//! nothing goes through symlinks. Keeps attributes only, in a database beside the objects, since an archive names things
//! in any order: memory is that of the database's pages, whatever the archive holds. Belongs to one thread.

use std::path::Path;

use nearfs_format::dirent::FileType;
use nearfs_format::path::{RepoPath, check_name};
use nearfs_format::xattr::XattrList;
use rusqlite::{Row, ToSql};

use super::super::plan::Found;
use super::super::scan::refused;
use super::contents::Ticket;
use crate::database::Database;
use crate::error::{Error, Result};

/// Paths have NUL bytes for slashes: their order is the order of names, each directory directly before what is in it.
const SCHEMA: &str = "CREATE TABLE nodes (path BLOB PRIMARY KEY, said INTEGER NOT NULL, replaces INTEGER NOT NULL, \
                      mirrors INTEGER NOT NULL, mode INTEGER, uid INTEGER, gid INTEGER, size INTEGER, mtime INTEGER, \
                      mtime_ns INTEGER, symlink BLOB, xattrs BLOB, content INTEGER) WITHOUT ROWID;";
const PAGE_BYTES: u32 = 4096;
/// Pages in memory; the kernel's cache has the others.
const MEMORY: &str = "PRAGMA cache_size=-16384;";
/// So many nodes are read in one go by the walk.
const BATCH: i64 = 256;
const COLUMNS: &str = "said, replaces, mirrors, mode, uid, gid, size, mtime, mtime_ns, symlink, xattrs, content";

/// An entry that the archive has.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) found: Found,
    /// The content of a regular file; hardlinks share one.
    pub(super) content: Option<Ticket>,
}

/// What is known of a path.
#[derive(Debug)]
pub(super) enum Said {
    /// Nothing but that something of the base revision goes, here or below.
    Nothing,
    /// It has to be a directory, since something is in it.
    Implied,
    /// The archive has it.
    Given(Box<Given>),
}

const NOTHING: i64 = 0;
const IMPLIED: i64 = 1;
const GIVEN: i64 = 2;

/// One name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) said: Said,
    /// The entry of the base revision goes first, with everything below it.
    pub(super) replaces: bool,
    /// What the base revision has below, and the archive has not, goes.
    pub(super) mirrors: bool,
}

impl Node {
    fn is_directory(&self) -> bool {
        match &self.said {
            Said::Given(given) => given.found.file_type == FileType::Directory,
            Said::Nothing | Said::Implied => true,
        }
    }
}

/// The tree.
#[derive(Debug)]
pub(super) struct Unpacked {
    database: Database,
    /// The directory that was found to be one last: members come directory by directory.
    last: Option<RepoPath>,
}

impl Unpacked {
    /// Returns a tree of nothing; its database lies in `scratch`.
    pub(super) fn create(scratch: &Path) -> Result<Self> {
        let database = Database::create(scratch, "the list of an archive's members".into(), PAGE_BYTES, &[SCHEMA])?;
        database.run(MEMORY)?;
        let tree = Self { database, last: None };
        tree.make(&RepoPath::root(), NOTHING)?;
        Ok(tree)
    }

    /// Makes a node where there is none.
    fn make(&self, path: &RepoPath, said: i64) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO nodes (path, said, replaces, mirrors) VALUES (?1, ?2, 0, 0)";
        self.database.execute(sql, &[&key(path), &said]).map(drop)
    }

    fn set(&self, path: &RepoPath, assignment: &str) -> Result<()> {
        self.database.execute(&format!("UPDATE nodes SET {assignment} WHERE path = ?1"), &[&key(path)]).map(drop)
    }

    /// Makes the directories that `path` is in. Fails where the archive has something else in the place of one.
    fn enter(&mut self, path: &RepoPath) -> Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if self.last.as_ref() == Some(&parent) {
            return Ok(());
        }
        for directory in ancestors(path)? {
            match self.get(&directory)? {
                None => self.make(&directory, IMPLIED)?,
                Some(node) if !node.is_directory() => {
                    return Err(refused(path, "its parent is no directory in the archive"));
                }
                Some(_) => self.imply(&directory)?,
            }
        }
        self.last = Some(parent);
        Ok(())
    }

    fn imply(&self, path: &RepoPath) -> Result<()> {
        self.database.execute("UPDATE nodes SET said = 1 WHERE path = ?1 AND said = 0", &[&key(path)]).map(drop)
    }

    /// Says that the archive has `given` here; what it had before goes, unless both are directories.
    pub(super) fn give(&mut self, path: &RepoPath, given: &Given) -> Result<()> {
        self.enter(path)?;
        if given.found.file_type != FileType::Directory {
            self.database.execute("DELETE FROM nodes WHERE path > ?1 AND path < ?2", &[&below(path), &beyond(path)])?;
            if self.last.as_ref().is_some_and(|last| last.starts_with(path)) {
                self.last = None;
            }
        }
        let sql = "INSERT INTO nodes (path, replaces, mirrors, said, mode, uid, gid, size, mtime, mtime_ns, symlink, \
                   xattrs, content) VALUES (?1, 0, 0, 2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                   ON CONFLICT (path) DO UPDATE SET said = 2, mode = ?2, uid = ?3, gid = ?4, size = ?5, mtime = ?6, \
                   mtime_ns = ?7, symlink = ?8, xattrs = ?9, content = ?10";
        let found = &given.found;
        // Sizes and device numbers of 64 bits keep their bits.
        let (size, xattrs) = (found.size as i64, found.xattrs.encode());
        let values: [&dyn ToSql; 10] = [
            &key(path),
            &found.mode,
            &found.uid,
            &found.gid,
            &size,
            &found.mtime,
            &found.mtime_ns,
            &found.symlink,
            &xattrs,
            &given.content,
        ];
        self.database.execute(sql, &values).map(drop)
    }

    /// Says that the directory at `path` has nothing of the base revision but what the archive has.
    pub(super) fn mirror(&mut self, path: &RepoPath) -> Result<()> {
        self.require(path)?;
        self.set(path, "mirrors = 1")
    }

    /// Says that there has to be a directory.
    pub(super) fn require(&mut self, path: &RepoPath) -> Result<()> {
        self.enter(path)?;
        self.make(path, IMPLIED)?;
        self.imply(path)
    }

    /// Says that the base revision's entry goes, as a layer's whiteout does: it lies in a directory.
    pub(super) fn hide(&mut self, path: &RepoPath) -> Result<()> {
        self.enter(path)?;
        self.make(path, NOTHING)?;
        self.set(path, "replaces = 1")
    }

    /// Says that the base revision's entry goes, whatever is around it.
    pub(super) fn delete(&self, path: &RepoPath) -> Result<()> {
        for directory in ancestors(path)? {
            self.make(&directory, NOTHING)?;
        }
        self.make(path, NOTHING)?;
        self.set(path, "replaces = 1")
    }

    fn get(&self, path: &RepoPath) -> Result<Option<Node>> {
        let sql = format!("SELECT path, {COLUMNS} FROM nodes WHERE path = ?1");
        self.database.row(&sql, &[&key(path)], |row| self.node(row))
    }

    /// Says whether anything is known of `path`.
    pub(super) fn has(&self, path: &RepoPath) -> Result<bool> {
        Ok(self.database.row("SELECT 1 FROM nodes WHERE path = ?1", &[&key(path)], |_| Ok(()))?.is_some())
    }

    /// Says whether anything is known of what is below `path`.
    pub(super) fn has_below(&self, path: &RepoPath) -> Result<bool> {
        let sql = "SELECT 1 FROM nodes WHERE path > ?1 AND path < ?2 LIMIT 1";
        Ok(self.database.row(sql, &[&below(path), &beyond(path)], |_| Ok(()))?.is_some())
    }

    /// Returns the node at `path` if there is one, and whether the base revision no longer shows there.
    pub(super) fn find(&self, path: &RepoPath) -> Result<(Option<Node>, bool)> {
        let mut is_hidden = false;
        for directory in ancestors(path)? {
            let Some(node) = self.get(&directory)? else { return Ok((None, is_hidden)) };
            is_hidden |= node.replaces;
            if !node.is_directory() {
                return Ok((None, true));
            }
        }
        let node = self.get(path)?;
        let is_replaced = node.as_ref().is_some_and(|node| node.replaces);
        Ok((node, is_hidden || is_replaced))
    }

    /// Returns some nodes, in the order of names: those after `path`, or the first ones.
    pub(super) fn after(&self, path: Option<&RepoPath>) -> Result<Vec<(RepoPath, Node)>> {
        let read = |row: &Row<'_>| Ok((self.path(row)?, self.node(row)?));
        match path {
            None => {
                let sql = format!("SELECT path, {COLUMNS} FROM nodes ORDER BY path LIMIT ?1");
                self.database.rows(&sql, &[&BATCH], read)
            }
            Some(path) => {
                let sql = format!("SELECT path, {COLUMNS} FROM nodes WHERE path > ?2 ORDER BY path LIMIT ?1");
                self.database.rows(&sql, &[&BATCH, &key(path)], read)
            }
        }
    }

    fn path(&self, row: &Row<'_>) -> Result<RepoPath> {
        let mut bytes = self.database.bytes(row, 0)?;
        bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'/');
        RepoPath::parse(&bytes).map_err(|e| self.database.corrupt(e))
    }

    fn node(&self, row: &Row<'_>) -> Result<Node> {
        let said = match self.database.integer(row, 1)? {
            NOTHING => Said::Nothing,
            IMPLIED => Said::Implied,
            GIVEN => Said::Given(Box::new(self.given(row)?)),
            other => return Err(self.database.corrupt(format!("a node says {other}"))),
        };
        let (replaces, mirrors) = (self.database.integer(row, 2)? != 0, self.database.integer(row, 3)? != 0);
        Ok(Node { said, replaces, mirrors })
    }

    fn given(&self, row: &Row<'_>) -> Result<Given> {
        let database = &self.database;
        let mode = database.unsigned(row, 4)?;
        let file_type =
            FileType::from_mode(mode).ok_or_else(|| database.corrupt(format!("a node has mode {mode:o}")))?;
        let xattrs = database.bytes(row, 11)?;
        let xattrs = if xattrs.is_empty() { Ok(XattrList::default()) } else { XattrList::parse(&xattrs) };
        let content = row.get(12).map_err(|e| crate::database::sql_error("read", database.subject(), e))?;
        let found = Found {
            file_type,
            mode,
            uid: database.unsigned(row, 5)?,
            gid: database.unsigned(row, 6)?,
            size: database.integer(row, 7)? as u64,
            mtime: database.integer(row, 8)?,
            mtime_ns: database.unsigned(row, 9)?,
            symlink: database.bytes(row, 10)?,
            xattrs: xattrs.map_err(|e| database.corrupt(e))?,
            given: None,
        };
        Ok(Given { found, content })
    }
}

/// Returns the directories that `path` is in, the root first.
fn ancestors(path: &RepoPath) -> Result<Vec<RepoPath>> {
    let mut directory = RepoPath::root();
    let mut found = Vec::new();
    for name in path.names() {
        let next = directory.join(name).map_err(|e| Error::format("use", path.to_string(), e))?;
        found.push(std::mem::replace(&mut directory, next));
    }
    Ok(found)
}

fn key(path: &RepoPath) -> Vec<u8> {
    path.as_bytes().iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

/// Returns the key before those of everything below `path`.
fn below(path: &RepoPath) -> Vec<u8> {
    [key(path).as_slice(), &[0]].concat()
}

/// Returns the key behind those of everything below `path`.
fn beyond(path: &RepoPath) -> Vec<u8> {
    [key(path).as_slice(), &[1]].concat()
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
