//! A small repository of three catalogs, written here and not by the engine, whose catalogs can be spoilt by SQL.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nearfs_core::catalog::schema::CREATE;
use nearfs_core::replica::PathRules;
use nearfs_core::replica::check::{CheckReport, CheckSettings, Finding, check};
use nearfs_format::codec::deflate;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::{PathHash, RepoPath};
use rusqlite::{Connection, params};

/// Mountpoints, parents first.
pub const MOUNTPOINTS: [&str; 3] = ["", "/a", "/a/b"];
/// What each counter counts, in SQL of its own.
const COUNTED: [(&str, &str); 12] = [
    ("regular", "SELECT count(*) FROM catalog WHERE mode & 61440 = 32768"),
    ("symlink", "SELECT count(*) FROM catalog WHERE mode & 61440 = 40960"),
    ("special", "SELECT count(*) FROM catalog WHERE mode & 61440 IN (4096, 8192, 24576, 49152)"),
    ("dir", "SELECT count(*) FROM catalog WHERE mode & 61440 = 16384"),
    ("nested", "SELECT count(*) FROM nested_catalogs"),
    ("chunked", "SELECT count(*) FROM catalog WHERE flags & 64"),
    ("chunks", "SELECT count(*) FROM chunks"),
    ("file_size", "SELECT coalesce(sum(size), 0) FROM catalog WHERE mode & 61440 = 32768"),
    ("chunked_size", "SELECT coalesce(sum(size), 0) FROM catalog WHERE flags & 64"),
    ("xattr", "SELECT count(*) FROM catalog WHERE xattr IS NOT NULL"),
    ("external", "SELECT count(*) FROM catalog WHERE flags & 128"),
    ("external_file_size", "SELECT coalesce(sum(size), 0) FROM catalog WHERE flags & 128"),
];
const NO_HASH: Option<ContentHash> = None;

/// One row to be written; the rest is the same everywhere.
struct Row<'a> {
    path: &'a str,
    mode: u32,
    flags: u32,
    hardlinks: i64,
    size: usize,
    hash: Option<ContentHash>,
    symlink: &'a str,
    xattr: Option<&'a [u8]>,
}

const FILE: Row<'_> =
    Row { path: "", mode: 0o100_644, flags: 4, hardlinks: 1, size: 0, hash: NO_HASH, symlink: "", xattr: None };
const DIRECTORY: Row<'_> = Row { mode: 0o040_755, flags: 1, hardlinks: 2, size: 4096, ..FILE };

pub struct Repository {
    directory: tempfile::TempDir,
    /// Hash and size of the root catalog at the last `store`.
    pub root: (ContentHash, u64),
}

impl Repository {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut repository = Self { directory, root: (ContentHash::null(HashAlgorithm::Sha1), 0) };
        std::fs::create_dir(repository.directory.path().join("data")).unwrap();
        for (at, mountpoint) in MOUNTPOINTS.iter().enumerate() {
            let catalog = repository.create(at);
            let property = "INSERT INTO properties VALUES (?, ?)";
            catalog.execute(property, ["schema", "2.5"]).unwrap();
            catalog.execute(property, ["schema_revision", "7"]).unwrap();
            if !mountpoint.is_empty() {
                catalog.execute(property, ["root_prefix", mountpoint]).unwrap();
            }
        }
        repository.fill_root();
        repository.fill_nested();
        repository.recount();
        repository.store();
        repository
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn object(&self, hash: ContentHash, kind: ObjectKind) -> PathBuf {
        self.path().join(ObjectId::new(hash, kind).key())
    }

    fn working_copy(&self, at: usize) -> PathBuf {
        self.path().join(format!("catalog-{at}.db"))
    }

    fn create(&self, at: usize) -> Connection {
        let catalog = self.connect(at);
        for sql in CREATE {
            catalog.execute_batch(sql).unwrap();
        }
        catalog
    }

    /// Opens the working copy of the catalog at a mountpoint; nothing is checked by SQLite either.
    pub fn catalog(&self, mountpoint: &str) -> Connection {
        let at = MOUNTPOINTS.iter().position(|m| *m == mountpoint).unwrap();
        self.connect(at)
    }

    fn connect(&self, at: usize) -> Connection {
        let catalog = Connection::open(self.working_copy(at)).unwrap();
        catalog.execute_batch("PRAGMA foreign_keys=OFF; PRAGMA synchronous=OFF").unwrap();
        catalog
    }

    pub fn put(&self, stored: &[u8], kind: ObjectKind) -> ContentHash {
        let hash = HashAlgorithm::Sha1.hash(stored);
        let path = self.object(hash, kind);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, stored).unwrap();
        hash
    }

    fn add(&self, mountpoint: &str, row: Row<'_>) {
        let path = RepoPath::parse(row.path.as_bytes()).unwrap();
        let (key, parent) = (path.hash(), path.parent().map_or(PathHash::NULL, |p| p.hash()));
        let name = std::str::from_utf8(path.name()).unwrap();
        let digest = row.hash.map(|h| *h.digest());
        self.catalog(mountpoint)
            .execute(
                "INSERT INTO catalog VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1700000000, NULL, ?, ?, ?, 10, 20, ?)",
                params![
                    key.first,
                    key.second,
                    parent.first,
                    parent.second,
                    row.hardlinks,
                    digest,
                    row.size as i64,
                    row.mode,
                    row.flags,
                    name,
                    row.symlink,
                    row.xattr
                ],
            )
            .unwrap();
    }

    fn add_chunk(&self, path: &str, offset: usize, content: &[u8]) {
        let hash = self.put(&deflate(content), ObjectKind::Chunk);
        let key = PathHash::of(path.as_bytes());
        let sql = "INSERT INTO chunks VALUES (?, ?, ?, ?, ?)";
        let row = params![key.first, key.second, offset as i64, content.len() as i64, *hash.digest()];
        self.catalog("").execute(sql, row).unwrap();
    }

    fn fill_root(&self) {
        let hash = Some(self.put(&deflate(b"content"), ObjectKind::File));
        let plain = Some(self.put(b"plain content", ObjectKind::File));
        let elsewhere = Some(HashAlgorithm::Sha1.hash(b"not stored here"));
        let xattr: Option<&[u8]> = Some(b"\x01\x01\x06\x01user.ab");
        self.add("", Row { hardlinks: 4, ..DIRECTORY });
        self.add("", Row { path: "/a", flags: 3, hardlinks: 4, xattr, ..DIRECTORY });
        self.add("", Row { path: "/bind", flags: 0x4001, ..DIRECTORY });
        self.add("", Row { path: "/file", size: 7, hash, xattr, ..FILE });
        self.add("", Row { path: "/plain", flags: 0x804, size: 13, hash: plain, ..FILE });
        self.add("", Row { path: "/ext", flags: 0x884, size: 99, hash: elsewhere, ..FILE });
        self.add("", Row { path: "/link", mode: 0o120_777, flags: 0xc, size: 4, symlink: "file", ..FILE });
        self.add("", Row { path: "/fifo", mode: 0o010_644, flags: 0x14, ..FILE });
        self.add("", Row { path: "/tty", mode: 0o020_644, flags: 0x14, size: 1281, ..FILE });
        for path in ["/h1", "/h2"] {
            self.add("", Row { path, hardlinks: 1 << 32 | 2, size: 7, hash, ..FILE });
        }
        self.add("", Row { path: "/big", flags: 0x44, size: 11, ..FILE });
        self.add_chunk("/big", 0, b"first ");
        self.add_chunk("/big", 6, b"chunk");
        let catalog = self.catalog("");
        catalog.execute("INSERT INTO nested_catalogs VALUES ('/a', '', 0)", []).unwrap();
        let other_root = HashAlgorithm::Sha1.hash(b"another revision").to_string();
        catalog.execute("INSERT INTO bind_mountpoints VALUES ('/bind', ?, 1)", [other_root]).unwrap();
    }

    fn fill_nested(&self) {
        let hash = Some(self.put(&deflate(b""), ObjectKind::File));
        let xattr: Option<&[u8]> = Some(b"\x01\x01\x06\x01user.ab");
        self.add("/a", Row { path: "/a", flags: 0x21, hardlinks: 4, xattr, ..DIRECTORY });
        self.add("/a", Row { path: "/a/.cvmfscatalog", hash, ..FILE });
        self.add("/a", Row { path: "/a/d", hardlinks: 3, ..DIRECTORY });
        self.add("/a", Row { path: "/a/d/e", ..DIRECTORY });
        self.add("/a", Row { path: "/a/d/f", hash, ..FILE });
        self.add("/a", Row { path: "/a/b", flags: 3, ..DIRECTORY });
        self.catalog("/a").execute("INSERT INTO nested_catalogs VALUES ('/a/b', '', 0)", []).unwrap();
        self.add("/a/b", Row { path: "/a/b", flags: 0x21, ..DIRECTORY });
        self.add("/a/b", Row { path: "/a/b/.cvmfscatalog", hash, ..FILE });
    }

    /// Sets all 24 counters to what is there; what is registered nowhere is not there.
    pub fn recount(&self) {
        let mut below = [0_i64; 12];
        for (at, mountpoint) in MOUNTPOINTS.iter().enumerate().rev() {
            let catalog = self.connect(at);
            let nested = catalog
                .query_row("SELECT count(*) FROM nested_catalogs WHERE path LIKE ? || '/%'", [mountpoint], |row| {
                    row.get::<_, i64>(0)
                })
                .unwrap();
            if nested == 0 {
                below = [0; 12];
            }
            for ((name, sql), below) in COUNTED.iter().zip(&mut below) {
                let own: i64 = catalog.query_row(sql, [], |row| row.get(0)).unwrap();
                for (counter, value) in [(format!("self_{name}"), own), (format!("subtree_{name}"), *below)] {
                    catalog
                        .execute("INSERT OR REPLACE INTO statistics VALUES (?, ?)", params![counter, value])
                        .unwrap();
                }
                *below += own;
            }
        }
    }

    /// Stores all catalogs, deepest first, and registers each in its parent, unless the row there is gone.
    pub fn store(&mut self) {
        self.store_first(MOUNTPOINTS.len());
    }

    /// Stores the catalogs above a mountpoint, whose own catalog stays as its parent says.
    pub fn store_above(&mut self, mountpoint: &str) {
        self.store_first(MOUNTPOINTS.iter().position(|m| *m == mountpoint).unwrap());
    }

    fn store_first(&mut self, count: usize) {
        for (at, mountpoint) in MOUNTPOINTS.iter().enumerate().take(count).rev() {
            let bytes = std::fs::read(self.working_copy(at)).unwrap();
            let hash = self.put(&deflate(&bytes), ObjectKind::Catalog);
            self.root = (hash, bytes.len() as u64);
            if at > 0 {
                let sql = "UPDATE nested_catalogs SET sha1 = ?, size = ? WHERE path = ?";
                let row = params![hash.to_string(), bytes.len() as i64, mountpoint];
                self.catalog(MOUNTPOINTS[at - 1]).execute(sql, row).unwrap();
            }
        }
    }

    pub fn settings(&self) -> CheckSettings {
        CheckSettings {
            fqrn: "small.example.org".into(),
            root_hash: self.root.0,
            expected_size_bytes: self.root.1,
            check_chunks: true,
            verify_content: true,
            subtree: RepoPath::root(),
            paths: PathRules::default(),
        }
    }

    pub fn check(&self) -> CheckReport {
        check(self.path(), &self.settings(), &AtomicBool::new(false)).unwrap()
    }
}

/// Asserts that the findings are these (subject, part of the problem), in any order, and no others.
pub fn assert_findings(findings: &[Finding], expected: &[(&str, &str)], case: &str) {
    let fits =
        |f: &Finding, (subject, problem): &(&str, &str)| f.subject.contains(subject) && f.problem.contains(problem);
    for wanted in expected {
        assert!(findings.iter().any(|f| fits(f, wanted)), "{case}: no {wanted:?} in {findings:#?}");
    }
    for found in findings {
        assert!(expected.iter().any(|wanted| fits(found, wanted)), "{case}: unexpected {found:#?}");
    }
    assert_eq!(findings.len(), expected.len(), "{case}: {findings:#?}");
}
