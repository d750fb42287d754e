//! A catalog decoded once into flat arrays: what every look-up, listing and `stat` is answered from.
//!
//! Rows lie breadth first, the entries of one directory side by side and sorted by name, so that a look-up is a binary
//! search and a listing is a slice; no path is hashed and no SQL runs after decoding. Decoding checks what the reader
//! cannot see: that names are names, that every row's key is the hash of its path, that mountpoints exist. Rows that
//! no directory leads to are counted and left out, as the reference client never shows them.
//!
//! Immutable after decoding, shared between threads without locks.

use std::collections::HashMap;
use std::path::Path;

use nearfs_format::chunk::{Chunk, ChunkList};
use nearfs_format::dirent::{Compression, EntryFlags, FileType, Hardlinks};
use nearfs_format::hash::ContentHash;
use nearfs_format::path::{PathHash, RepoPath, check_name};
use nearfs_format::xattr::XattrList;

use super::reader::{CatalogReader, ChunkRow, NestedRow};
use crate::error::{Error, ErrorKind, Result};

const OPERATION: &str = "read catalog";
/// More rows than this do not fit the 32-bit row numbers, whatever the file says.
const ROWS_MAX: usize = u32::MAX as usize - 1;

/// A row's position; the catalog's own root directory is row 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId(pub u32);

impl RowId {
    /// The catalog's root directory.
    pub const ROOT: Self = Self(0);

    const fn at(self) -> usize {
        self.0 as usize
    }
}

/// Bytes kept in the index's text pool.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    len: u32,
}

/// One entry. Fixed size; variable parts lie in the pool.
#[derive(Debug, Clone)]
pub struct IndexRow {
    /// Size in bytes, or device number.
    pub size: u64,
    /// Unix seconds.
    pub mtime: i64,
    /// Nanoseconds.
    pub mtime_ns: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Owner; `None` where the catalog records none.
    pub owner: Option<(u32, u32)>,
    /// Hardlink group and link count.
    pub hardlinks: Hardlinks,
    /// Flags.
    pub flags: EntryFlags,
    /// File type, checked.
    pub file_type: FileType,
    /// Hash of the whole-file object.
    pub hash: Option<ContentHash>,
    /// How its objects are stored.
    pub compression: Compression,
    parent: u32,
    children: Span,
    name: Span,
    symlink: Span,
    xattr: Span,
}

/// A decoded catalog.
#[derive(Debug)]
pub struct CatalogIndex {
    subject: String,
    root_prefix: RepoPath,
    rows: Vec<IndexRow>,
    pool: Vec<u8>,
    chunks: HashMap<u32, Vec<Chunk>>,
    nested: HashMap<u32, NestedRow>,
    binds: HashMap<u32, NestedRow>,
    first_of_group: HashMap<u32, u32>,
    counters: HashMap<String, i64>,
    revision: u64,
    ttl_s: Option<u64>,
    authz: Option<String>,
    unreachable_rows: usize,
}

/// A row before it has its place.
struct Loose {
    key: PathHash,
    parent_key: PathHash,
    row: IndexRow,
}

impl CatalogIndex {
    /// Decodes an uncompressed catalog file; `subject` names it in errors.
    pub fn decode(file: &Path, subject: impl Into<String>) -> Result<Self> {
        let subject = subject.into();
        let reader = CatalogReader::open(file, subject.clone())?;
        let mut index = Self {
            root_prefix: reader.root_prefix()?,
            subject,
            rows: Vec::new(),
            pool: Vec::new(),
            chunks: HashMap::new(),
            nested: HashMap::new(),
            binds: HashMap::new(),
            first_of_group: HashMap::new(),
            counters: reader.counters()?,
            revision: reader.number("revision").unwrap_or(0),
            ttl_s: reader.number("TTL"),
            authz: reader.property("voms_authz").map(str::to_owned),
            unreachable_rows: 0,
        };
        let loose = index.read_rows(&reader)?;
        let keys = index.place_rows(loose)?;
        index.read_chunks(&reader, &keys)?;
        index.nested = index.place_mountpoints(reader.nested()?);
        index.binds = index.place_mountpoints(reader.bind_mountpoints()?);
        Ok(index)
    }

    fn corrupt(&self, reason: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Corrupt, OPERATION, format!("{}: {reason}", self.subject))
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<Span> {
        let start = u32::try_from(self.pool.len()).map_err(|_| self.corrupt("more than 4 GiB of names"))?;
        self.pool.extend_from_slice(bytes);
        Ok(Span { start, len: bytes.len() as u32 })
    }

    fn bytes(&self, span: Span) -> &[u8] {
        &self.pool[span.start as usize..(span.start + span.len) as usize]
    }

    fn read_rows(&mut self, reader: &CatalogReader) -> Result<Vec<Loose>> {
        let mut loose = Vec::new();
        reader.rows(|raw| {
            if loose.len() >= ROWS_MAX {
                return Err(self.corrupt("too many rows"));
            }
            let flags = EntryFlags(raw.flags);
            let malformed =
                |e| Error::format(OPERATION, format!("{}: entry `{}`", self.subject, raw.name.escape_ascii()), e);
            let file_type = FileType::from_mode(raw.mode)
                .ok_or_else(|| self.corrupt(format!("mode {:o} of `{}`", raw.mode, raw.name.escape_ascii())))?;
            let algorithm = flags.hash_algorithm().map_err(malformed)?;
            let hash = raw.digest.map(|d| ContentHash::from_digest(algorithm, d)).transpose().map_err(malformed)?;
            let compression = flags.compression().map_err(malformed)?;
            let row = IndexRow {
                size: raw.size,
                mtime: raw.mtime,
                mtime_ns: raw.mtime_ns,
                mode: raw.mode,
                owner: raw.owner,
                hardlinks: Hardlinks::from_column(raw.hardlinks),
                flags,
                file_type,
                hash: hash.filter(|h| !h.is_null()),
                compression,
                parent: 0,
                children: Span::default(),
                name: self.keep(raw.name)?,
                symlink: self.keep(raw.symlink)?,
                xattr: self.keep(raw.xattr)?,
            };
            loose.push(Loose { key: raw.path_hash, parent_key: raw.parent_hash, row });
            Ok(())
        })?;
        Ok(loose)
    }

    /// Orders rows breadth first from the root; returns the path hashes of files that say they have chunks.
    fn place_rows(&mut self, mut loose: Vec<Loose>) -> Result<HashMap<PathHash, u32>> {
        let root_key = self.root_prefix.hash();
        let root = loose
            .iter()
            .position(|l| l.key == root_key)
            .ok_or_else(|| self.corrupt(format!("no row for its root directory {}", self.root_prefix)))?;
        let root = loose.swap_remove(root).row;
        if root.file_type != FileType::Directory {
            return Err(self.corrupt("its root is not a directory"));
        }
        let pool = std::mem::take(&mut self.pool);
        loose.sort_unstable_by(|a, b| {
            a.parent_key.cmp(&b.parent_key).then_with(|| span_of(&pool, a.row.name).cmp(span_of(&pool, b.row.name)))
        });
        self.pool = pool;

        let total = loose.len();
        let mut family: HashMap<PathHash, (usize, usize)> = HashMap::new();
        for (at, l) in loose.iter().enumerate() {
            family.entry(l.parent_key).or_insert((at, at)).1 = at + 1;
        }
        let mut slots: Vec<Option<Loose>> = loose.into_iter().map(Some).collect();
        let mut chunked = HashMap::new();
        self.rows = Vec::with_capacity(total + 1);
        self.rows.push(root);
        let mut queue = std::collections::VecDeque::from([(0_u32, self.root_prefix.as_bytes().to_vec())]);
        while let Some((parent, path)) = queue.pop_front() {
            // Taken out, so that a row that claims to be its own ancestor cannot be visited twice.
            let Some((from, to)) = family.remove(&PathHash::of(&path)) else { continue };
            self.rows[parent as usize].children = Span { start: self.rows.len() as u32, len: (to - from) as u32 };
            for slot in &mut slots[from..to] {
                let Some(Loose { key, mut row, .. }) = slot.take() else { continue };
                let name = self.bytes(row.name);
                check_name(name).map_err(|e| Error::format(OPERATION, &self.subject, e))?;
                if PathHash::of_child(&path, name) != key {
                    let place = path.escape_ascii();
                    return Err(self.corrupt(format!("`{place}/{}` has the key of another path", name.escape_ascii())));
                }
                let id = self.rows.len() as u32;
                if row.file_type == FileType::Directory {
                    let mut child = Vec::with_capacity(path.len() + 1 + name.len());
                    child.extend_from_slice(&path);
                    child.push(b'/');
                    child.extend_from_slice(name);
                    queue.push_back((id, child));
                }
                if row.flags.has(EntryFlags::CHUNKED) {
                    chunked.insert(key, id);
                }
                if row.hardlinks.group != 0 {
                    self.first_of_group.entry(row.hardlinks.group).or_insert(id);
                }
                row.parent = parent;
                self.rows.push(row);
            }
        }
        self.unreachable_rows = total + 1 - self.rows.len();
        Ok(chunked)
    }

    fn read_chunks(&mut self, reader: &CatalogReader, chunked: &HashMap<PathHash, u32>) -> Result<()> {
        if chunked.is_empty() {
            return Ok(());
        }
        reader.chunks(|ChunkRow { path_hash, offset, size, digest }| {
            if let Some(&row) = chunked.get(&path_hash) {
                let algorithm = self.rows[row as usize]
                    .flags
                    .hash_algorithm()
                    .map_err(|e| Error::format(OPERATION, &self.subject, e))?;
                let hash = ContentHash::new(algorithm, digest);
                self.chunks.entry(row).or_default().push(Chunk { offset, size, hash });
            }
            Ok(())
        })
    }

    /// Mountpoints whose directory is missing are left out: nothing can lead to them.
    fn place_mountpoints(&self, mountpoints: Vec<NestedRow>) -> HashMap<u32, NestedRow> {
        mountpoints
            .into_iter()
            .filter_map(|nested| {
                let row = self.find(&nested.path)?;
                (row != RowId::ROOT && self.row(row).file_type == FileType::Directory).then_some((row.0, nested))
            })
            .collect()
    }

    /// Returns the path at which the catalog is mounted.
    pub fn root_prefix(&self) -> &RepoPath {
        &self.root_prefix
    }

    /// Returns the number of rows, the root row included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Says whether there is no row; never true for a decoded catalog.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the row, which has to come from this index.
    pub fn row(&self, id: RowId) -> &IndexRow {
        &self.rows[id.at()]
    }

    /// Returns an entry's name; the root row's is empty in a root catalog.
    pub fn name(&self, id: RowId) -> &[u8] {
        self.bytes(self.row(id).name)
    }

    /// Returns a symlink's target before variables are expanded.
    pub fn symlink(&self, id: RowId) -> &[u8] {
        self.bytes(self.row(id).symlink)
    }

    /// Returns the stored extended attributes; an unreadable blob counts as none, as in the reference client.
    pub fn xattrs(&self, id: RowId) -> XattrList {
        match self.bytes(self.row(id).xattr) {
            [] => XattrList::default(),
            blob => XattrList::parse(blob).unwrap_or_default(),
        }
    }

    /// Returns the directory that holds an entry; the root row's is itself.
    pub fn parent(&self, id: RowId) -> RowId {
        RowId(self.row(id).parent)
    }

    /// Returns the rows of a directory's entries, sorted by name; empty for everything else.
    pub fn children(&self, id: RowId) -> std::ops::Range<u32> {
        let Span { start, len } = self.row(id).children;
        start..start + len
    }

    /// Finds an entry of a directory by name.
    pub fn child(&self, directory: RowId, name: &[u8]) -> Option<RowId> {
        let Span { start, len } = self.row(directory).children;
        let rows = &self.rows[start as usize..(start + len) as usize];
        let at = rows.binary_search_by(|row| self.bytes(row.name).cmp(name)).ok()?;
        Some(RowId(start + at as u32))
    }

    /// Finds an entry by its path from the repository root, within this catalog only.
    pub fn find(&self, path: &RepoPath) -> Option<RowId> {
        if !path.starts_with(&self.root_prefix) {
            return None;
        }
        let below = path.names().skip(self.root_prefix.names().count());
        below.into_iter().try_fold(RowId::ROOT, |row, name| self.child(row, name))
    }

    /// Returns an entry's path from the repository root.
    pub fn path(&self, id: RowId) -> RepoPath {
        let mut names = Vec::new();
        let mut at = id;
        while at != RowId::ROOT {
            names.push(self.name(at));
            at = self.parent(at);
        }
        names.into_iter().rev().fold(self.root_prefix.clone(), |path, name| path.join(name).unwrap_or(path))
    }

    /// Returns the row that stands for all members of an entry's hardlink group.
    pub fn canonical(&self, id: RowId) -> RowId {
        match self.row(id).hardlinks.group {
            0 => id,
            group => RowId(self.first_of_group.get(&group).copied().unwrap_or(id.0)),
        }
    }

    /// Returns the nested catalog that starts at a directory.
    pub fn nested(&self, id: RowId) -> Option<&NestedRow> {
        self.nested.get(&id.0)
    }

    /// Returns the root catalog that is bound to a directory.
    pub fn bind(&self, id: RowId) -> Option<&NestedRow> {
        self.binds.get(&id.0)
    }

    /// Returns all nested catalogs, in no order.
    pub fn all_nested(&self) -> impl Iterator<Item = &NestedRow> {
        self.nested.values()
    }

    /// Returns the chunks of a file, `None` for a file stored whole.
    pub fn chunks(&self, id: RowId) -> Result<Option<ChunkList>> {
        let row = self.row(id);
        if !row.flags.has(EntryFlags::CHUNKED) {
            return Ok(None);
        }
        let chunks = self.chunks.get(&id.0).cloned().unwrap_or_default();
        let wrong = |e| Error::format(OPERATION, format!("{}: chunks of {}", self.subject, self.path(id)), e);
        ChunkList::new(chunks, row.size).map(Some).map_err(wrong)
    }

    /// Returns the chunks of a file as they stand in the catalog; empty for a file stored whole.
    pub(super) fn chunk_rows(&self, id: RowId) -> &[Chunk] {
        self.chunks.get(&id.0).map_or(&[], Vec::as_slice)
    }

    /// Returns a statistics counter, 0 where the catalog has none.
    pub fn counter(&self, name: &str) -> i64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Returns the catalog's revision; the root catalog's is the repository's.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the time to live in seconds that a root catalog asks for.
    pub fn ttl_s(&self) -> Option<u64> {
        self.ttl_s
    }

    /// Returns about how many bytes of memory it takes.
    pub fn memory_bytes(&self) -> u64 {
        let chunks: usize = self.chunks.values().map(|chunks| chunks.capacity() * size_of::<Chunk>() + 64).sum();
        let rows = self.rows.capacity() * size_of::<IndexRow>();
        let tables = (self.nested.capacity() + self.binds.capacity()) * 2 * size_of::<NestedRow>();
        (rows + self.pool.capacity() + chunks + tables + self.first_of_group.capacity() * 16) as u64
    }

    /// Returns the membership requirement of a root catalog.
    pub fn authz(&self) -> Option<&str> {
        self.authz.as_deref()
    }

    /// Returns how many rows no directory leads to.
    pub fn unreachable_rows(&self) -> usize {
        self.unreachable_rows
    }
}

fn span_of(pool: &[u8], span: Span) -> &[u8] {
    &pool[span.start as usize..(span.start + span.len) as usize]
}
