//! A model of a tree, the disk that shows it, and a reader of catalogs that shares no code with the writer.
#![allow(dead_code, unreachable_pub, missing_docs, missing_debug_implementations, clippy::unwrap_used)]

pub mod archives;
pub mod edits;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nearfs_core::store::{LocalStore, ObjectRead as _};
use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};
use rusqlite::Connection;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

pub const MARKER: &str = ".cvmfscatalog";
/// Where packs lie.
pub const PACKS: &str = "/.nearfs";

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File(Vec<u8>),
    Link(String),
    Fifo,
}

/// One entry of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub kind: Kind,
    pub mode: u32,
    pub mtime: i64,
}

/// A tree: entries by path, `/a/b`; the root is implied.
pub type Tree = BTreeMap<String, Model>;

pub fn dir() -> Model {
    Model { kind: Kind::Dir, mode: 0o755, mtime: 1_000_000 }
}

pub fn file(content: &str) -> Model {
    Model { kind: Kind::File(content.as_bytes().to_vec()), mode: 0o644, mtime: 1_000_001 }
}

pub fn link(target: &str) -> Model {
    Model { kind: Kind::Link(target.into()), mode: 0o777, mtime: 1_000_002 }
}

pub fn tree(entries: &[(&str, Model)]) -> Tree {
    entries.iter().map(|(path, model)| ((*path).to_owned(), model.clone())).collect()
}

pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').unwrap().0
}

/// Adds an entry and the directories above it; does nothing where something else is in the way.
pub fn put(tree: &mut Tree, path: &str, model: Model) {
    let mut above = parent(path).to_owned();
    let mut missing = Vec::new();
    while !above.is_empty() {
        match tree.get(&above) {
            Some(entry) if entry.kind == Kind::Dir => break,
            Some(_) => return,
            None => missing.push(above.clone()),
        }
        above = parent(&above).to_owned();
    }
    for path in missing {
        tree.insert(path, dir());
    }
    if model.kind != Kind::Dir || tree.get(path).is_some_and(|old| old.kind != Kind::Dir) {
        take(tree, path);
    }
    tree.insert(path.to_owned(), model);
}

/// Removes an entry and what is below it.
pub fn take(tree: &mut Tree, path: &str) {
    let below = format!("{path}/");
    tree.retain(|key, _| key != path && !key.starts_with(&below));
}

fn host(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn make(path: &Path, model: &Model) {
    match &model.kind {
        Kind::Dir => fs::create_dir(path).unwrap(),
        Kind::File(content) => fs::write(path, content).unwrap(),
        Kind::Link(target) => symlink(target, path).unwrap(),
        Kind::Fifo => rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0).unwrap(),
    }
}

fn attributes(path: &Path, model: &Model) {
    if !matches!(model.kind, Kind::Link(_)) {
        fs::set_permissions(path, fs::Permissions::from_mode(model.mode)).unwrap();
    }
    let time = Timespec { tv_sec: model.mtime, tv_nsec: 7 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Puts a tree on disk.
pub fn show(tree: &Tree, root: &Path) {
    fs::create_dir_all(root).unwrap();
    for (path, model) in tree {
        make(&host(root, path), model);
    }
    // Directories last and inside out: what is put in them changes their times.
    for (path, model) in tree.iter().rev() {
        attributes(&host(root, path), model);
    }
}

/// Puts on disk what the upper directory of an overlay would hold after `before` became `after`. Directories of both
/// that `is_opaque` names are hidden and written anew.
pub fn show_upper(before: &Tree, after: &Tree, root: &Path, is_opaque: impl Fn(&str) -> bool) {
    fs::create_dir_all(root).unwrap();
    let hidden: BTreeSet<&str> = after
        .iter()
        .filter(|(path, model)| {
            model.kind == Kind::Dir && before.get(*path).is_some_and(|b| b.kind == Kind::Dir) && is_opaque(path)
        })
        .map(|(path, _)| path.as_str())
        .collect();
    let is_hidden = |path: &str| {
        let mut above = parent(path);
        loop {
            if hidden.contains(above) {
                return true;
            }
            if above.is_empty() {
                return false;
            }
            above = parent(above);
        }
    };
    let mut needed: BTreeSet<String> = hidden.iter().map(|path| (*path).to_owned()).collect();
    for (path, model) in after {
        if before.get(path) != Some(model) || is_hidden(path) {
            needed.insert(path.clone());
        }
    }
    let gone: Vec<&String> = before
        .keys()
        .filter(|path| {
            let above = parent(path);
            let shows = above.is_empty()
                || (after.get(above).is_some_and(|m| m.kind == Kind::Dir)
                    && before.get(above).is_some_and(|m| m.kind == Kind::Dir));
            !after.contains_key(*path) && shows && !is_hidden(path)
        })
        .collect();
    let mut above: Vec<String> = needed.iter().chain(gone.iter().copied()).cloned().collect();
    while let Some(path) = above.pop() {
        let up = parent(&path);
        if !up.is_empty() && needed.insert(up.to_owned()) {
            above.push(up.to_owned());
        }
    }
    for path in &needed {
        make(&host(root, path), &after[path]);
    }
    for path in gone {
        let (above, name) = path.rsplit_once('/').unwrap();
        fs::write(host(root, above).join(format!(".wh.{name}")), b"").unwrap();
    }
    for path in hidden {
        fs::write(host(root, path).join(".wh..wh..opq"), b"").unwrap();
    }
    for path in needed.iter().rev() {
        attributes(&host(root, path), &after[path]);
    }
}

/// One row as it lies in a catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRow {
    pub parent: (i64, i64),
    pub key: (i64, i64),
    pub name: Vec<u8>,
    pub hardlinks: i64,
    pub hash: Option<Vec<u8>>,
    pub size: i64,
    pub mode: i64,
    pub mtime: i64,
    pub mtimens: Option<i64>,
    pub flags: i64,
    pub symlink: Vec<u8>,
    pub uid: i64,
    pub gid: i64,
    pub xattr: Option<Vec<u8>>,
}

/// Offset, size and digest of a chunk.
pub type ChunkRow = (i64, i64, Vec<u8>);

/// One catalog, read with plain SQL.
#[derive(Debug)]
pub struct Catalog {
    pub hash: String,
    pub size: u64,
    pub rows: BTreeMap<String, RawRow>,
    pub chunks: BTreeMap<String, Vec<ChunkRow>>,
    pub nested: BTreeMap<String, (String, u64)>,
    pub properties: BTreeMap<String, String>,
    pub counters: BTreeMap<String, i64>,
}

/// All catalogs of a revision, by mountpoint.
pub type Catalogs = BTreeMap<String, Catalog>;

pub fn inflate(stored: &[u8]) -> Vec<u8> {
    nearfs_format::codec::inflate_bounded(stored, 1 << 32).unwrap()
}

pub fn md5_key(path: &str) -> (i64, i64) {
    let hash = nearfs_format::path::PathHash::of(path.as_bytes());
    (hash.first, hash.second)
}

fn text(row: &rusqlite::Row<'_>, index: usize) -> Vec<u8> {
    row.get_ref(index).unwrap().as_bytes().unwrap().to_vec()
}

/// Reads one catalog object.
pub fn read_catalog(store: &LocalStore, mountpoint: &str, hash: &str) -> Catalog {
    let id = ObjectId::new(hash.parse().unwrap(), ObjectKind::Catalog);
    let stored = store.read(&id, u64::MAX).unwrap();
    assert_eq!(id.hash.algorithm().hash(&stored), id.hash, "object has its name's hash");
    let bytes = inflate(&stored);
    assert_eq!(bytes[18..20], [1, 1], "rollback journal format");
    let copy = tempfile::NamedTempFile::new().unwrap();
    fs::write(copy.path(), &bytes).unwrap();
    let db = Connection::open(copy.path()).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let broken: i64 = db.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0)).unwrap();
    assert_eq!(broken, 0);
    let mut statement = db
        .prepare(
            "SELECT md5path_1, md5path_2, parent_1, parent_2, name, hardlinks, hash, size, mode, mtime, mtimens, \
             flags, symlink, uid, gid, xattr, typeof(name), typeof(symlink) FROM catalog",
        )
        .unwrap();
    let rows: Vec<RawRow> = statement
        .query_map([], |row| {
            assert_eq!((row.get::<_, String>(16)?, row.get::<_, String>(17)?), ("text".into(), "text".into()));
            Ok(RawRow {
                key: (row.get(0)?, row.get(1)?),
                parent: (row.get(2)?, row.get(3)?),
                name: text(row, 4),
                hardlinks: row.get(5)?,
                hash: row.get(6)?,
                size: row.get(7)?,
                mode: row.get(8)?,
                mtime: row.get(9)?,
                mtimens: row.get(10)?,
                flags: row.get(11)?,
                symlink: text(row, 12),
                uid: row.get(13)?,
                gid: row.get(14)?,
                xattr: row.get(15)?,
            })
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let pairs = |sql: &str| -> Vec<(String, String)> {
        let mut statement = db.prepare(sql).unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let properties: BTreeMap<_, _> = pairs("SELECT key, value FROM properties").into_iter().collect();
    let counters = pairs("SELECT counter, CAST(value AS TEXT) FROM statistics")
        .into_iter()
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    let nested = pairs("SELECT path, sha1 || ' ' || size FROM nested_catalogs")
        .into_iter()
        .map(|(path, value)| {
            let (hash, size) = value.split_once(' ').unwrap();
            (path, (hash.to_owned(), size.parse().unwrap()))
        })
        .collect();
    let mut chunk_rows: Vec<((i64, i64), ChunkRow)> = db
        .prepare("SELECT md5path_1, md5path_2, offset, size, hash FROM chunks")
        .unwrap()
        .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?, row.get(4)?))))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    chunk_rows.sort();
    // Paths follow from walking down; a row that the walk does not meet is an orphan.
    let (mut by_path, mut chunks) = (BTreeMap::new(), BTreeMap::new());
    let mut pending = vec![mountpoint.to_owned()];
    let count = rows.len();
    let root = rows.iter().find(|row| row.key == md5_key(mountpoint)).expect("root row").clone();
    by_path.insert(mountpoint.to_owned(), root);
    while let Some(directory) = pending.pop() {
        for row in rows.iter().filter(|row| row.parent == md5_key(&directory)) {
            let path = format!("{directory}/{}", String::from_utf8_lossy(&row.name));
            if row.name.is_ascii() {
                assert_eq!(row.key, md5_key(&path));
            }
            if row.mode & 0o170_000 == 0o040_000 && row.flags & 2 == 0 {
                pending.push(path.clone());
            }
            by_path.insert(path, row.clone());
        }
    }
    assert_eq!(by_path.len(), count, "no orphans in {mountpoint}");
    for (key, chunk) in chunk_rows {
        let path = by_path.iter().find(|(_, row)| row.key == key).unwrap().0;
        chunks.entry(path.clone()).or_insert_with(Vec::new).push(chunk);
    }
    Catalog { hash: hash.to_owned(), size: bytes.len() as u64, rows: by_path, chunks, nested, properties, counters }
}

/// Reads a whole revision and checks every rule that holds between catalogs (format.md 12).
pub fn read_revision(store: &LocalStore, root_hash: &ContentHash) -> Catalogs {
    let mut catalogs = Catalogs::new();
    let mut pending = vec![(String::new(), root_hash.to_string(), None)];
    while let Some((mountpoint, hash, size)) = pending.pop() {
        let catalog = read_catalog(store, &mountpoint, &hash);
        assert!(size.is_none_or(|size| size == 0 || size == catalog.size), "recorded size of {mountpoint}");
        assert_eq!(catalog.properties.get("root_prefix").map_or("", String::as_str), mountpoint);
        for (path, (hash, size)) in &catalog.nested {
            pending.push((path.clone(), hash.clone(), Some(*size)));
        }
        catalogs.insert(mountpoint, catalog);
    }
    for (mountpoint, catalog) in &catalogs {
        check_catalog(&catalogs, mountpoint, catalog);
    }
    catalogs
}

fn check_catalog(catalogs: &Catalogs, mountpoint: &str, catalog: &Catalog) {
    let root = &catalog.rows[mountpoint];
    assert_eq!(root.flags & 0x20 != 0, !mountpoint.is_empty(), "nested root flag of {mountpoint}");
    if !mountpoint.is_empty() {
        let holder = catalogs.values().find(|c| c.nested.contains_key(mountpoint)).unwrap();
        let transition = &holder.rows[mountpoint];
        assert_eq!(transition.flags, root.flags & !0x20 | 2);
        assert_eq!(RawRow { flags: 0, ..transition.clone() }, RawRow { flags: 0, ..root.clone() });
        let marker = &catalog.rows[&format!("{mountpoint}/{MARKER}")];
        assert_eq!(marker.mode & 0o170_000, 0o100_000);
    }
    let mut own: BTreeMap<&str, i64> = BTreeMap::new();
    let mut count = |name: &'static str, by: i64| *own.entry(name).or_default() += by;
    for (path, row) in &catalog.rows {
        let kind = row.mode & 0o170_000;
        match kind {
            0o040_000 => count("dir", 1),
            0o120_000 => count("symlink", 1),
            0o100_000 => {
                count("regular", 1);
                count("file_size", row.size);
                if row.flags & 0x40 != 0 {
                    count("chunked", 1);
                    count("chunked_size", row.size);
                }
                if row.flags & 0x80 != 0 {
                    count("external", 1);
                    count("external_file_size", row.size);
                }
            }
            _ => count("special", 1),
        }
        count("xattr", i64::from(row.xattr.is_some()));
        assert_eq!(row.flags & 1 != 0, kind == 0o040_000, "directory flag of {path}");
        assert_eq!(row.flags & 2 != 0, catalog.nested.contains_key(path), "mountpoint flag of {path}");
        // A bind mountpoint shows the link count of another root.
        if kind == 0o040_000 && row.flags & 0x4000 == 0 {
            let inside = if row.flags & 2 == 0 { catalog } else { &catalogs[path] };
            let subdirectories =
                inside.rows.iter().filter(|(p, r)| *p != path && r.parent == row.key && r.flags & 1 != 0).count();
            assert_eq!(row.hardlinks, 2 + subdirectories as i64, "link count of {path}");
            assert!(row.hash.is_none());
        }
        if row.name == MARKER.as_bytes() {
            assert_eq!(parent(path), mountpoint, "a marker outside of a nested root");
        }
        if let Some(chunks) = catalog.chunks.get(path) {
            let mut end = 0;
            for (offset, size, _) in chunks {
                assert_eq!(*offset, end);
                end += size;
            }
            assert_eq!((end, row.flags & 0x40), (row.size, 0x40));
        } else {
            assert_eq!(row.flags & 0x40, 0);
            assert_eq!(row.hash.is_some(), kind == 0o100_000, "hash of {path}");
        }
    }
    count("nested", catalog.nested.len() as i64);
    count("chunks", catalog.chunks.values().map(|list| list.len() as i64).sum());
    assert_eq!(catalog.counters.len(), 24);
    for (name, value) in &catalog.counters {
        let expected = match name.split_once('_').unwrap() {
            ("self", name) => own.get(name).copied().unwrap_or(0),
            (_, name) => catalog
                .nested
                .keys()
                .map(|path| {
                    let counters = &catalogs[path].counters;
                    counters[&format!("self_{name}")] + counters[&format!("subtree_{name}")]
                })
                .sum(),
        };
        assert_eq!(*value, expected, "{name} of {mountpoint}");
    }
}

/// Says whether a path is that of packs.
pub fn is_of_packs(path: &str) -> bool {
    path == PACKS || path.starts_with("/.nearfs/")
}

/// Returns the row of every path but the root; mountpoints once.
pub fn entries(catalogs: &Catalogs) -> BTreeMap<String, RawRow> {
    let rows = catalogs
        .iter()
        .flat_map(|(mountpoint, catalog)| catalog.rows.iter().filter(move |(path, _)| *path != mountpoint));
    rows.map(|(path, row)| (path.clone(), row.clone())).collect()
}

/// Reads the content of a file through its objects.
pub fn content(store: &LocalStore, catalogs: &Catalogs, path: &str) -> Vec<u8> {
    let catalog = catalogs.values().find(|c| c.rows.get(path).is_some_and(|r| r.flags & 1 == 0)).unwrap();
    let row = &catalog.rows[path];
    let algorithm = nearfs_format::hash::HashAlgorithm::from_flag_id((row.flags as u32 >> 8) & 7).unwrap();
    let read = |digest: &[u8], kind| {
        let id = ObjectId::new(ContentHash::from_digest(algorithm, digest).unwrap(), kind);
        let mut stored = Vec::new();
        store.open(&id).unwrap().read_to_end(&mut stored).unwrap();
        assert_eq!(algorithm.hash(&stored), id.hash);
        if row.flags & 0x800 == 0 { inflate(&stored) } else { stored }
    };
    match catalog.chunks.get(path) {
        None => read(row.hash.as_ref().unwrap(), ObjectKind::File),
        Some(chunks) => chunks.iter().flat_map(|(_, _, digest)| read(digest, ObjectKind::Chunk)).collect(),
    }
}

/// Checks that a revision shows exactly the tree; returns its catalogs.
pub fn expect(store: &LocalStore, root_hash: &ContentHash, tree: &Tree) -> Catalogs {
    let catalogs = expect_beside_packs(store, root_hash, tree);
    assert!(!catalogs.contains_key(PACKS), "nobody asked for packs");
    catalogs
}

/// Does what [`expect`] does for a repository that may have packs, which it leaves alone.
pub fn expect_beside_packs(store: &LocalStore, root_hash: &ContentHash, tree: &Tree) -> Catalogs {
    let catalogs = read_revision(store, root_hash);
    let mut found = entries(&catalogs);
    found.retain(|path, _| !is_of_packs(path));
    let paths: Vec<_> = found.keys().collect();
    assert_eq!(paths, tree.keys().collect::<Vec<_>>());
    for (path, model) in tree {
        let row = &found[path];
        let type_bits = match &model.kind {
            Kind::Dir => 0o040_000,
            Kind::File(_) => 0o100_000,
            Kind::Link(_) => 0o120_000,
            Kind::Fifo => 0o010_000,
        };
        assert_eq!(row.mode, type_bits | i64::from(model.mode), "mode of {path}");
        assert_eq!(row.mtime, model.mtime, "time of {path}");
        match &model.kind {
            Kind::File(expected) => {
                assert_eq!(row.size, expected.len() as i64);
                assert_eq!(content(store, &catalogs, path), *expected, "content of {path}");
            }
            Kind::Link(target) => assert_eq!(row.symlink, target.as_bytes()),
            Kind::Dir | Kind::Fifo => {}
        }
    }
    let mountpoints: Vec<&str> = tree.keys().filter_map(|path| path.strip_suffix(&format!("/{MARKER}"))).collect();
    let mut nested: Vec<&str> =
        catalogs.keys().map(String::as_str).filter(|path| !path.is_empty() && !is_of_packs(path)).collect();
    nested.sort_unstable();
    let mut mountpoints = mountpoints;
    mountpoints.sort_unstable();
    assert_eq!(nested, mountpoints);
    catalogs
}
