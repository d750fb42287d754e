//! The rows of one catalog as they lie in it, damaged or not, and the tree that they form.
//!
//! Owns reading and placing: what has no place (orphans, keys of other paths, names that are none) is found here. Unlike
//! [`crate::catalog::index`], which refuses what it cannot serve, it goes on. One catalog, one thread.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;

use nearfs_format::dirent::{Compression, EntryFlags, FileType, Hardlinks};
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::path::{PathHash, RepoPath, check_name};

use super::findings::Findings;
use crate::catalog::reader::{CatalogReader, CatalogRow};
use crate::error::{Error, ErrorKind, Result};

/// Says that a row has no place in the tree.
const NOWHERE: u32 = u32::MAX;
/// Orphans that are named; the others are counted.
const ORPHANS_NAMED: usize = 5;

/// Bytes kept in the table's text pool.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

/// One row. Fixed size; variable parts lie in the pool.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: PathHash,
    pub(super) parent_key: PathHash,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) mtime_ns: u32,
    pub(super) mode: u32,
    pub(super) file_type: Option<FileType>,
    pub(super) flags: EntryFlags,
    pub(super) hardlinks: Hardlinks,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) hash: Option<ContentHash>,
    /// Position of the directory that holds it; its own for the root.
    parent: u32,
    name: Span,
    symlink: Span,
    xattr: Span,
}

impl Row {
    /// Says whether it is a directory; the mode decides, as for every reader.
    pub(super) fn is_directory(&self) -> bool {
        self.file_type == Some(FileType::Directory)
    }

    /// Says whether it is a regular file.
    pub(super) fn is_regular(&self) -> bool {
        self.file_type == Some(FileType::Regular)
    }

    /// Returns how its objects are stored; what the flags mean by nonsense is reported when they are read.
    pub(super) fn compression(&self) -> Compression {
        self.flags.compression().unwrap_or_default()
    }
}

/// All rows of a catalog.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) prefix: RepoPath,
    pub(super) rows: Vec<Row>,
    /// False where reading stopped early: counts say nothing then.
    pub(super) is_complete: bool,
    pool: Vec<u8>,
    /// Positions by key, for mountpoints and chunks.
    by_key: Vec<(PathHash, u32)>,
}

impl Table {
    /// Reads all rows; where reading stops, keeps those before.
    pub(super) fn read(reader: &CatalogReader, prefix: RepoPath, findings: &mut Findings) -> Self {
        let mut table = Self { prefix, rows: Vec::new(), is_complete: true, pool: Vec::new(), by_key: Vec::new() };
        if let Err(e) = reader.rows(|raw| table.push(&raw, findings)) {
            findings.of_catalog(format_args!("catalog entries cannot be read: {e}"));
            table.is_complete = false;
        }
        let Self { rows, pool, .. } = &mut table;
        rows.sort_unstable_by(|a, b| {
            a.parent_key.cmp(&b.parent_key).then_with(|| bytes_of(pool, a.name).cmp(bytes_of(pool, b.name)))
        });
        table.by_key = rows.iter().enumerate().map(|(at, row)| (row.key, at as u32)).collect();
        table.by_key.sort_unstable();
        table
    }

    fn push(&mut self, raw: &CatalogRow<'_>, findings: &mut Findings) -> Result<()> {
        if self.rows.len() >= NOWHERE as usize {
            return Err(Error::new(ErrorKind::Unsupported, "read catalog", "more than 2^32 entries"));
        }
        let flags = EntryFlags(raw.flags);
        let mut wrong = |problem: String| {
            findings.of_catalog(format_args!("entry `{}`: {problem}", raw.name.escape_ascii()));
        };
        let algorithm = flags.hash_algorithm().unwrap_or_else(|e| {
            wrong(e.to_string());
            HashAlgorithm::Sha1
        });
        if let Err(e) = flags.compression() {
            wrong(e.to_string());
        }
        let hash = raw
            .digest
            .and_then(|digest| ContentHash::from_digest(algorithm, digest).map_err(|e| wrong(e.to_string())).ok());
        let row = Row {
            key: raw.path_hash,
            parent_key: raw.parent_hash,
            size: raw.size,
            mtime: raw.mtime,
            mtime_ns: raw.mtime_ns,
            mode: raw.mode,
            file_type: FileType::from_mode(raw.mode),
            flags,
            hardlinks: Hardlinks::from_column(raw.hardlinks),
            owner: raw.owner,
            hash: hash.filter(|h| !h.is_null()),
            parent: NOWHERE,
            name: self.keep(raw.name)?,
            symlink: self.keep(raw.symlink)?,
            xattr: self.keep(raw.xattr)?,
        };
        self.rows.push(row);
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<Span> {
        let full = || Error::new(ErrorKind::Unsupported, "read catalog", "more than 4 GiB of names");
        let start = u32::try_from(self.pool.len()).map_err(|_| full())?;
        let len = u32::try_from(bytes.len()).map_err(|_| full())?;
        self.pool.extend_from_slice(bytes);
        Ok(Span { start, len })
    }

    /// Places every row below the root directory and reports what cannot be placed; returns the root's position, `None`
    /// if there is no root directory.
    pub(super) fn place(&mut self, findings: &mut Findings) -> Option<u32> {
        self.report_repeated_keys(findings);
        let Some(root) = self.position(self.prefix.hash()) else {
            findings.at(&self.prefix, "no entry for the root directory of the catalog");
            return None;
        };
        if !self.rows[root as usize].is_directory() {
            findings.at(&self.prefix, "the root entry of the catalog is not a directory");
            return None;
        }
        self.rows[root as usize].parent = root;
        let mut families = self.families();
        let mut queue = VecDeque::from([(root, self.prefix.clone())]);
        while let Some((directory, path)) = queue.pop_front() {
            // Taken out, so that a row that claims to be its own ancestor is not visited twice.
            let Some((from, to)) = families.remove(&path.hash()) else { continue };
            for at in from..to {
                if self.rows[at as usize].parent != NOWHERE {
                    continue;
                }
                self.rows[at as usize].parent = directory;
                let is_repeated = at > from && self.name(at) == self.name(at - 1);
                if let Some(child) = self.check_place(at, &path, is_repeated, findings)
                    && self.rows[at as usize].is_directory()
                {
                    queue.push_back((at, child));
                }
            }
        }
        if self.is_complete {
            self.report_orphans(findings);
        }
        Some(root)
    }

    /// Returns the range of rows with each parent key; rows are sorted by it.
    fn families(&self) -> HashMap<PathHash, (u32, u32)> {
        let mut families: HashMap<PathHash, (u32, u32)> = HashMap::new();
        for (at, row) in self.rows.iter().enumerate() {
            families.entry(row.parent_key).or_insert((at as u32, 0)).1 = at as u32 + 1;
        }
        families
    }

    /// Returns the path of an entry of `directory`, `None` if its name can lead nowhere.
    fn check_place(
        &self,
        at: u32,
        directory: &RepoPath,
        is_repeated: bool,
        findings: &mut Findings,
    ) -> Option<RepoPath> {
        let name = self.name(at);
        if let Err(e) = check_name(name) {
            findings.at(directory, format_args!("invalid name of an entry: {e}"));
            return None;
        }
        let Ok(path) = directory.join(name) else { return None };
        if path.hash() != self.rows[at as usize].key {
            let key = self.rows[at as usize].key.hex();
            findings
                .at(&path, format_args!("path hash mismatch (expected: {} / in catalog: {key})", path.hash().hex()));
        }
        if is_repeated {
            findings.at(&path, "the name occurs twice in its directory");
        }
        Some(path)
    }

    fn report_repeated_keys(&self, findings: &mut Findings) {
        for pair in self.by_key.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let name = self.name(pair[1].1).escape_ascii();
            findings.of_catalog(format_args!("path hash {} of entry `{name}` occurs twice", pair[0].0.hex()));
        }
    }

    fn report_orphans(&self, findings: &mut Findings) {
        let orphans = || (0..self.rows.len() as u32).filter(|at| !self.is_placed(*at));
        let count = orphans().count();
        if count == 0 {
            return;
        }
        let mut names = String::new();
        for at in orphans().take(ORPHANS_NAMED) {
            let _ = write!(names, " `{}`", self.name(at).escape_ascii());
        }
        let (total, placed) = (self.rows.len(), self.rows.len() - count);
        findings.of_catalog(format_args!(
            "orphaned entries: no directory leads to {count} of them (reachable: {placed} / in catalog: {total}):{names}"
        ));
    }

    /// Returns the position of the row with that key.
    pub(super) fn position(&self, key: PathHash) -> Option<u32> {
        let at = self.by_key.partition_point(|(known, _)| *known < key);
        self.by_key.get(at).filter(|(known, _)| *known == key).map(|(_, position)| *position)
    }

    /// Returns positions and rows of the entries that have a place, the root included.
    pub(super) fn placed(&self) -> impl Iterator<Item = (u32, &Row)> {
        (0_u32..).zip(&self.rows).filter(|(_, row)| row.parent != NOWHERE)
    }

    /// Says whether a directory leads to the row.
    pub(super) fn is_placed(&self, at: u32) -> bool {
        self.rows[at as usize].parent != NOWHERE
    }

    /// Returns a row.
    pub(super) fn row(&self, at: u32) -> &Row {
        &self.rows[at as usize]
    }

    /// Returns the position of the directory that holds a placed row; the root's is its own.
    pub(super) fn parent(&self, at: u32) -> u32 {
        self.rows[at as usize].parent
    }

    /// Returns the last name of an entry.
    pub(super) fn name(&self, at: u32) -> &[u8] {
        bytes_of(&self.pool, self.rows[at as usize].name)
    }

    /// Returns a symlink's target.
    pub(super) fn symlink(&self, at: u32) -> &[u8] {
        bytes_of(&self.pool, self.rows[at as usize].symlink)
    }

    /// Returns the blob of extended attributes, empty for none.
    pub(super) fn xattr(&self, at: u32) -> &[u8] {
        bytes_of(&self.pool, self.rows[at as usize].xattr)
    }

    /// Returns the path of a row for messages; of one without a place, as much as is known.
    pub(super) fn path(&self, at: u32) -> RepoPath {
        let mut names = Vec::new();
        let mut position = at;
        // Ends: a row gets its place after the directory that holds it.
        while self.is_placed(position) && self.parent(position) != position {
            names.push(self.name(position));
            position = self.parent(position);
        }
        names.into_iter().rev().fold(self.prefix.clone(), |path, name| path.join(name).unwrap_or(path))
    }
}

fn bytes_of(pool: &[u8], span: Span) -> &[u8] {
    &pool[span.start as usize..][..span.len as usize]
}
