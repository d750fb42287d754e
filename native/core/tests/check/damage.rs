//! Every class of damage is found, by its path and with nothing else beside it.

use std::sync::atomic::AtomicBool;

use nearfs_core::ErrorKind;
use nearfs_core::replica::check::{CheckSettings, check};
use nearfs_format::codec::deflate;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::ObjectKind;
use nearfs_format::path::{PathHash, RepoPath};

use crate::fixture::{Repository, assert_findings};

type Expected<'a> = &'a [(&'a str, &'a str)];

/// Spoils one catalog by SQL and lists what has to be found.
fn spoilt(mountpoint: &str, sql: &str, expected: Expected<'_>) {
    let mut repository = Repository::new();
    repository.catalog(mountpoint).execute_batch(sql).unwrap();
    repository.store();
    assert_findings(&repository.check().findings, expected, sql);
}

/// Like [`spoilt`], with counters that agree with the damage.
fn spoilt_and_counted(mountpoint: &str, sql: &str, expected: Expected<'_>) {
    let mut repository = Repository::new();
    repository.catalog(mountpoint).execute_batch(sql).unwrap();
    repository.recount();
    repository.store();
    assert_findings(&repository.check().findings, expected, sql);
}

fn key(path: &str) -> String {
    let PathHash { first, second } = PathHash::of(path.as_bytes());
    format!("md5path_1 = {first}, md5path_2 = {second}")
}

fn parent_key(path: &str) -> String {
    key(path).replace("md5path", "parent")
}

#[test]
fn a_sound_repository_has_no_findings_and_is_visited_parents_first() {
    let repository = Repository::new();
    let report = repository.check();
    assert_eq!(report.findings, []);
    assert_eq!(report.catalogs.iter().map(|(_, path)| path.as_str()).collect::<Vec<_>>(), ["/", "/a", "/a/b"]);
    assert_eq!(report.catalogs[0].0, repository.root.0.to_string());
}

#[test]
fn every_stored_counter_is_compared() {
    for mountpoint in ["", "/a", "/a/b"] {
        for part in ["self", "subtree"] {
            for name in nearfs_format::counters::Counters::NAMES {
                let sql = format!("UPDATE statistics SET value = value + 5 WHERE counter = '{part}_{name}'");
                let place = if mountpoint.is_empty() { "at /".to_owned() } else { format!("at {mountpoint}") };
                let problem = format!("catalog statistics mismatch: {part}_{name} (expected: ");
                spoilt(mountpoint, &sql, &[(&place, &problem)]);
            }
        }
    }
    let missing = "DELETE FROM statistics WHERE counter = 'self_dir'";
    spoilt("/a", missing, &[("at /a", "counter `self_dir` is missing")]);
    spoilt("/a", "DELETE FROM statistics", &[("at /a", "no statistics counters")]);
}

#[test]
fn transition_rows_have_to_equal_nested_roots() {
    for (column, what) in [
        ("hardlinks = 9", "linkcounts"),
        ("mode = mode | 1024", "modes"),
        ("size = 1", "sizes"),
        ("mtime = 1", "timestamps"),
        ("mtimens = 7", "timestamps"),
        ("uid = 77", "owners"),
        ("gid = 77", "owners"),
        ("flags = flags | 0x8000", "flags"),
        ("xattr = x'010106016d6f72652e7a63'", "extended attributes"),
    ] {
        let sql = format!("UPDATE catalog SET {column} WHERE name = 'a'");
        spoilt("", &sql, &[("/a", what)]);
    }
    let unreadable = "UPDATE catalog SET xattr = x'0101067573657261' WHERE name = 'a'";
    spoilt("", unreadable, &[("/a", "extended attributes of the"), ("/a", "extended attributes cannot be read")]);
    let no_xattr = "UPDATE catalog SET xattr = NULL WHERE name = 'a'";
    spoilt_and_counted("/a", no_xattr, &[("/a", "extended attributes of the transition point")]);
}

#[test]
fn root_rows_and_prefixes_say_where_a_catalog_belongs() {
    spoilt(
        "/a/b",
        "UPDATE properties SET value = '/x' WHERE key = 'root_prefix'",
        &[
            ("at /a/b", "root prefix mismatch (expected: /a/b / in catalog: /x)"),
            ("/x", "no entry for the root directory"),
        ],
    );
    spoilt("/a/b", "UPDATE properties SET value = 'x' WHERE key = 'root_prefix'", &[("at /a/b", "root prefix cannot")]);
    spoilt("/a/b", "UPDATE catalog SET mode = 33188 WHERE name = 'b'", &[("/a/b", "not a directory")]);
    spoilt("/a/b", "UPDATE catalog SET flags = 1 WHERE name = 'b'", &[("/a/b", "not marked as such")]);
    spoilt("/a/b", "UPDATE catalog SET parent_1 = 1 WHERE name = 'b'", &[("/a/b", "parent of the catalog's root")]);
    spoilt("", "UPDATE catalog SET flags = 0x21 WHERE name = ''", &[("/", "marked as the root of a nested catalog")]);
    spoilt("", "UPDATE catalog SET name = 'x' WHERE name = ''", &[("/", "has the name `x`")]);
    spoilt(
        "/a/b",
        "UPDATE catalog SET name = 'x' WHERE name = 'b'",
        &[("/a/b", "has the name `x`"), ("/a/b", "names of the transition point")],
    );
}

#[test]
fn entries_without_a_place_are_found() {
    let orphan = format!("UPDATE catalog SET {}, {} WHERE name = 'f'", parent_key("/gone"), key("/gone/f"));
    spoilt("/a", &orphan, &[("at /a", "orphaned entries: no directory leads to 1")]);
    let below_a_file = format!("UPDATE catalog SET {}, {} WHERE name = 'tty'", parent_key("/file"), key("/file/tty"));
    spoilt("", &below_a_file, &[("at /", "orphaned entries")]);
    // A cycle of two directories that nothing leads to.
    let cycle = format!(
        "UPDATE catalog SET {} WHERE name = 'd'; UPDATE catalog SET hardlinks = 3 WHERE name = 'a'",
        parent_key("/a/d/e")
    );
    spoilt("/a", &cycle, &[("at /a", "orphaned entries: no directory leads to 3"), ("/a", "linkcounts of the trans")]);
    // A root that says that it lies within itself.
    spoilt(
        "/a",
        &format!("UPDATE catalog SET {} WHERE name = 'a'", parent_key("/a/d")),
        &[("/a", "parent of the catalog's root entry")],
    );
}

#[test]
fn names_and_keys_have_to_be_those_of_the_path() {
    spoilt("", "UPDATE catalog SET name = 'other' WHERE name = 'tty'", &[("/other", "path hash mismatch")]);
    for name in ["''", "'.'", "'..'", "'x/y'", "CAST(x'610062' AS TEXT)"] {
        let sql = format!("UPDATE catalog SET name = {name} WHERE name = 'tty'");
        spoilt("", &sql, &[("/", "invalid name")]);
    }
    let twice = "UPDATE catalog SET name = 'fifo' WHERE name = 'tty'";
    spoilt("", twice, &[("/fifo", "path hash mismatch"), ("/fifo", "occurs twice")]);
}

#[test]
fn markers_are_where_nested_catalogs_begin() {
    let moved = format!("UPDATE catalog SET name = 'x', {} WHERE name = '.cvmfscatalog'", key("/a/b/x"));
    spoilt("/a/b", &moved, &[("/a/b", "nested catalog without marker")]);
    let below = format!("UPDATE catalog SET name = '.cvmfscatalog', {} WHERE name = 'f'", key("/a/d/.cvmfscatalog"));
    spoilt("/a", &below, &[("/a/d/.cvmfscatalog", "abandoned nested catalog marker")]);
    let in_root = format!("UPDATE catalog SET name = '.cvmfscatalog', {} WHERE name = 'tty'", key("/.cvmfscatalog"));
    spoilt("", &in_root, &[("/.cvmfscatalog", "abandoned nested catalog marker")]);
    let fifo = "UPDATE catalog SET mode = 4516, flags = 0x14, hash = NULL WHERE name = '.cvmfscatalog'";
    spoilt_and_counted("/a/b", fifo, &[("/a/b/.cvmfscatalog", "marker is no regular file")]);
}

#[test]
fn files_links_and_specials_keep_to_their_columns() {
    for (sql, expected) in [
        ("SET hash = NULL WHERE name = 'file'", &[("/file", "regular file with zero hash")][..]),
        ("SET hash = zeroblob(20) WHERE name = 'file'", &[("/file", "zero hash")]),
        ("SET hash = x'00' WHERE name = 'file'", &[("at /", "digest of 1 bytes"), ("/file", "zero hash")]),
        ("SET symlink = 'x' WHERE name = 'file'", &[("/file", "symbolic link's target")]),
        ("SET size = 5 WHERE name = 'link'", &[("/link", "wrong symbolic link size (expected: 4 / in catalog: 5)")]),
        ("SET symlink = '', size = 0 WHERE name = 'link'", &[("/link", "without target")]),
        ("SET hash = zeroblob(19) || x'01' WHERE name = 'link'", &[("/link", "with a content hash")]),
        ("SET size = 5 WHERE name = 'fifo'", &[("/fifo", "special file with size 5")]),
        ("SET symlink = 'x' WHERE name = 'tty'", &[("/tty", "symbolic link's target")]),
        ("SET hash = zeroblob(19) || x'01' WHERE name = 'tty'", &[("/tty", "with a content hash")]),
        ("SET hash = zeroblob(19) || x'01' WHERE name = 'bind'", &[("/bind", "with a content hash")]),
        ("SET flags = flags | 0x10000 WHERE name = 'tty'", &[("/tty", "invalid direct I/O flag")]),
        ("SET flags = flags | 0x80 WHERE name = 'bind'", &[("/bind", "invalid external flag")]),
        ("SET flags = flags | 0x40 WHERE name = 'link'", &[("/link", "invalid chunked flag")]),
        ("SET flags = flags | 8 WHERE name = 'file'", &[("/file", "disagree: symbolic link")]),
        (
            "SET flags = 4 WHERE name = 'bind'",
            &[("/bind", "disagree: directory"), ("/bind", "disagree: file"), ("/bind", "dangling bind mountpoint")],
        ),
        ("SET flags = flags | 0x300 WHERE name = 'fifo'", &[("at /", "hash algorithm id 3")]),
        ("SET flags = flags | 0x1000 WHERE name = 'fifo'", &[("at /", "compression id 2")]),
        ("SET mode = 420 WHERE name = 'fifo'", &[("/fifo", "invalid type in mode"), ("at /", "self_special")]),
        ("SET xattr = x'02' WHERE name = 'file'", &[("/file", "extended attributes cannot be read")]),
    ] {
        spoilt("", &format!("UPDATE catalog {sql}"), expected);
    }
}

#[test]
fn link_counts_and_groups_have_to_agree() {
    for (sql, expected) in [
        ("hardlinks = 5 WHERE name = ''", &[("/", "wrong directory linkcount (expected: 4 / in catalog: 5)")][..]),
        ("hardlinks = 1 << 32 | 4 WHERE name = ''", &[("/", "directory in hardlink group 1")]),
        ("hardlinks = 0 WHERE name = 'file'", &[("/file", "linkcount is 0")]),
        ("hardlinks = 2 WHERE name = 'file'", &[("/file", "in no hardlink group")]),
        (
            "hardlinks = 1 << 32 | 2 WHERE name = 'fifo'",
            &[
                ("/fifo", "wrong size of hardlink group 1 (linkcount: 2 / members in catalog: 3)"),
                ("/h1", "mode differs from /fifo"),
                ("/h2", "mode differs from /fifo"),
            ],
        ),
        (
            "hardlinks = 2 << 32 | 2 WHERE name = 'h2'",
            &[("/h1", "wrong size of hardlink group 1"), ("/h2", "wrong size of hardlink group 2")],
        ),
        ("hardlinks = 1 << 32 | 3 WHERE name = 'h2'", &[("/h2", "linkcount differs from /h1")]),
        ("mtime = 5 WHERE name = 'h2'", &[("/h2", "timestamp differs from /h1")]),
        ("uid = 5 WHERE name = 'h2'", &[("/h2", "owner differs from /h1")]),
    ] {
        spoilt("", &format!("UPDATE catalog SET {sql}"), expected);
    }
    let spread = "UPDATE catalog SET hardlinks = 1 << 32 | 2 WHERE name IN ('f', '.cvmfscatalog')";
    spoilt("/a", spread, &[("/a/.cvmfscatalog", "spans several directories")]);
}

#[test]
fn mountpoints_and_their_tables_have_to_agree() {
    spoilt_and_counted("/a", "DELETE FROM nested_catalogs", &[("/a/b", "nested catalog is not registered")]);
    spoilt("", "DELETE FROM bind_mountpoints", &[("/bind", "bind mountpoint is not registered")]);
    let other = format!("INSERT INTO bind_mountpoints VALUES ('/nowhere', '{}', 0)", "1".repeat(40));
    spoilt("", &other, &[("/nowhere", "dangling bind mountpoint")]);
    let zero = format!("UPDATE bind_mountpoints SET sha1 = '{}'", "0".repeat(40));
    spoilt("", &zero, &[("/bind", "bind mountpoint with zero hash")]);
    let both = format!("INSERT INTO bind_mountpoints VALUES ('/a', '{}', 0)", "1".repeat(40));
    spoilt("", &both, &[("/a", "duplicate nested catalog"), ("/a", "dangling bind mountpoint")]);
    spoilt(
        "",
        "UPDATE catalog SET flags = flags | 0x4000 WHERE name = 'a'",
        &[
            ("/a", "more than one of"),
            ("/a", "bind mountpoint is not registered"),
            ("/a", "flags of the transition point"),
        ],
    );
    spoilt("/a", "UPDATE catalog SET flags = 1 WHERE name = 'b'", &[("/a/b", "dangling nested catalog")]);
    spoilt("/a", "UPDATE catalog SET flags = 0x21 WHERE name = 'd'", &[("/a/d", "below the root of this one")]);
    spoilt(
        "",
        "UPDATE catalog SET flags = 6 WHERE name = 'tty'",
        &[("/tty", "mountpoint is not a directory"), ("/tty", "nested catalog is not registered")],
    );
    let occupied = format!("UPDATE catalog SET {}, {} WHERE name = 'f'", parent_key("/a/b"), key("/a/b/f"));
    spoilt("/a", &occupied, &[("/a/b", "mountpoint has entries in the catalog that holds it")]);
    let unreadable = "UPDATE nested_catalogs SET sha1 = 'zz' WHERE path = '/a/c'; \
                      INSERT INTO nested_catalogs VALUES ('/a/c', 'zz', 0)";
    spoilt("/a", unreadable, &[("at /a", "nested catalogs cannot be read")]);
}

#[test]
fn chunks_have_to_cover_their_file() {
    for (sql, expected) in [
        ("UPDATE chunks SET offset = 7 WHERE offset = 6", &[("/big", "misaligned file chunks")][..]),
        ("DELETE FROM chunks WHERE offset = 0", &[("/big", "misaligned file chunks")]),
        ("DELETE FROM chunks WHERE offset = 6", &[("/big", "misaligned file chunks")]),
        ("DELETE FROM chunks", &[("/big", "chunked file without chunks")]),
        ("UPDATE catalog SET size = 12 WHERE name = 'big'", &[("/big", "misaligned file chunks")]),
        ("UPDATE chunks SET hash = zeroblob(20) WHERE offset = 6", &[("/big", "chunk at 6 with zero hash")]),
        ("UPDATE chunks SET md5path_1 = 5", &[("at /", "belong to no entry"), ("/big", "without chunks")]),
        ("UPDATE chunks SET hash = x'00'", &[("at /", "file chunks cannot be read")]),
    ] {
        let mut repository = Repository::new();
        repository.catalog("").execute_batch(sql).unwrap();
        repository.recount();
        repository.store();
        assert_findings(&repository.check().findings, expected, sql);
    }
    let sql = format!("UPDATE chunks SET {}", key("/file"));
    spoilt("", &sql, &[("/file", "is no chunked file"), ("/big", "chunked file without chunks")]);
}

#[test]
fn missing_and_damaged_objects_are_two_different_things() {
    let repository = Repository::new();
    let sha1 = |bytes: &[u8]| HashAlgorithm::Sha1.hash(bytes);
    let shared = repository.object(sha1(&deflate(b"content")), ObjectKind::File);
    let chunk = repository.object(sha1(&deflate(b"chunk")), ObjectKind::Chunk);
    std::fs::write(repository.object(sha1(b"plain content"), ObjectKind::File), b"plain c0ntent").unwrap();
    std::fs::remove_file(&shared).unwrap();
    std::fs::remove_file(&chunk).unwrap();
    let missing = [
        ("/file", "missing from the storage"),
        ("/h1", "missing from the storage"),
        ("/h2", "missing from the storage"),
        ("/big", "partial data chunk"),
    ];
    let with_damage = [&missing[..], &[("/plain", "damaged: the stored bytes have hash")]].concat();
    assert_findings(&repository.check().findings, &with_damage, "verify");

    let presence = CheckSettings { verify_content: false, ..repository.settings() };
    let findings = check(repository.path(), &presence, &AtomicBool::new(false)).unwrap().findings;
    assert_findings(&findings, &missing, "presence");
    let neither = CheckSettings { check_chunks: false, ..presence };
    assert_eq!(check(repository.path(), &neither, &AtomicBool::new(false)).unwrap().findings, []);

    std::fs::create_dir(&shared).unwrap();
    std::fs::write(&chunk, deflate(b"chunk")).unwrap();
    let findings = repository.check().findings;
    assert_eq!(findings.iter().filter(|f| f.problem.contains("no regular file")).count(), 3, "{findings:#?}");
}

#[test]
fn objects_have_to_have_the_stated_size_and_form() {
    for (sql, expected) in [
        ("size = 8 WHERE name = 'file'", ("/file", "fewer")),
        ("size = 6 WHERE name = 'file'", ("/file", "more")),
        ("size = 12 WHERE name = 'plain'", ("/plain", "wrong size (expected: 12 / stored: 13)")),
        ("flags = 4 WHERE name = 'plain'", ("/plain", "zlib")),
        ("flags = 0x804 WHERE name = 'file'", ("/file", "wrong size")),
    ] {
        spoilt_and_counted("", &format!("UPDATE catalog SET {sql}"), &[expected]);
    }
}

#[test]
fn large_objects_are_streamed_and_verified() {
    let content: Vec<u8> = (0..18_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut repository = Repository::new();
    let hash = repository.put(&deflate(&content), ObjectKind::File);
    let sql = "UPDATE catalog SET hash = ?, size = ? WHERE name = 'file'";
    repository.catalog("").execute(sql, rusqlite::params![*hash.digest(), content.len() as i64]).unwrap();
    repository.recount();
    repository.store();
    assert_eq!(repository.check().findings, []);
    let path = repository.object(hash, ObjectKind::File);
    let mut stored = std::fs::read(&path).unwrap();
    let middle = stored.len() / 2;
    stored[middle] ^= 1;
    std::fs::write(&path, &stored).unwrap();
    assert_findings(&repository.check().findings, &[("/file", "damaged")], "a flipped bit");
}

#[test]
fn catalogs_that_cannot_be_read_do_not_end_the_check() {
    let nested_hash = |repository: &Repository, mountpoint: &str, path: &str| -> ContentHash {
        let sql = "SELECT sha1 FROM nested_catalogs WHERE path = ?";
        let text: String = repository.catalog(mountpoint).query_row(sql, [path], |row| row.get(0)).unwrap();
        text.parse().unwrap()
    };
    let repository = Repository::new();
    let deepest = repository.object(nested_hash(&repository, "/a", "/a/b"), ObjectKind::Catalog);
    let stored = std::fs::read(&deepest).unwrap();
    let cases: [(&[u8], &str); 4] = [
        (&stored[..stored.len() / 2], "has hash"),
        (&deflate(b"no database"), "has hash"),
        (b"nothing", "zlib"),
        (&[&stored[..], b"tail"].concat(), "bytes follow its end"),
    ];
    for (bytes, problem) in cases {
        std::fs::write(&deepest, bytes).unwrap();
        assert_findings(&repository.check().findings, &[("at /a/b", problem)], problem);
    }
    std::fs::remove_file(&deepest).unwrap();
    let report = repository.check();
    assert_findings(&report.findings, &[("at /a/b", "catalog cannot be loaded: missing")], "missing");
    assert_eq!(report.catalogs.len(), 3);

    let mut repository = Repository::new();
    let garbage = repository.put(&deflate(b"no database"), ObjectKind::Catalog);
    let sql = "UPDATE nested_catalogs SET sha1 = ?, path = '/a/b', size = 0";
    repository.store();
    repository.catalog("/a").execute(sql, [garbage.to_string()]).unwrap();
    repository.store_above("/a/b");
    assert_findings(&repository.check().findings, &[("at /a/b", "catalog cannot be opened")], "no database");
}

#[test]
fn catalog_sizes_are_compared() {
    let mut repository = Repository::new();
    repository.catalog("/a").execute("UPDATE nested_catalogs SET size = 4096", []).unwrap();
    repository.store_above("/a/b");
    assert_findings(&repository.check().findings, &[("at /a/b", "catalog file size mismatch (expected: 4096")], "size");
    let mut settings = CheckSettings { expected_size_bytes: 17, ..repository.settings() };
    let findings = check(repository.path(), &settings, &AtomicBool::new(false)).unwrap().findings;
    assert_findings(&findings, &[("at /", "(expected: 17 /"), ("at /a/b", "(expected: 4096")], "root size");
    settings.expected_size_bytes = 0;
    let findings = check(repository.path(), &settings, &AtomicBool::new(false)).unwrap().findings;
    assert_findings(&findings, &[("at /a/b", "(expected: 4096")], "unknown root size");
}

#[test]
fn databases_that_clients_cannot_read_are_found() {
    spoilt("/a/b", "CREATE VIEW v AS SELECT 1", &[("at /a/b", "catalog cannot be opened")]);
    spoilt("/a/b", "UPDATE properties SET value = '2.3' WHERE key = 'schema'", &[("at /a/b", "cannot be opened")]);
    spoilt(
        "/a/b",
        "UPDATE catalog SET size = -1 WHERE name = '.cvmfscatalog'",
        &[("at /a/b", "entries cannot be read")],
    );
    spoilt("/a/b", "PRAGMA journal_mode=WAL", &[("at /a/b", "write-ahead log")]);
}

#[test]
fn a_subtree_is_checked_alone() {
    let mut repository = Repository::new();
    repository.catalog("").execute("UPDATE statistics SET value = 99 WHERE counter = 'self_dir'", []).unwrap();
    repository.catalog("/a/b").execute("UPDATE statistics SET value = 9 WHERE counter = 'self_dir'", []).unwrap();
    repository.store();
    let mut settings = CheckSettings { subtree: RepoPath::parse(b"/a").unwrap(), ..repository.settings() };
    let report = check(repository.path(), &settings, &AtomicBool::new(false)).unwrap();
    assert_eq!(report.catalogs.iter().map(|(_, path)| path.as_str()).collect::<Vec<_>>(), ["/a", "/a/b"]);
    assert_findings(&report.findings, &[("at /a/b", "self_dir (expected: 1 / in catalog: 9)")], "subtree");
    settings.subtree = RepoPath::parse(b"/a/d").unwrap();
    let error = check(repository.path(), &settings, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/a"), "{error}");
}

#[test]
fn many_problems_are_counted_not_listed() {
    let mut repository = Repository::new();
    {
        let mut catalog = repository.catalog("/a/b");
        let rows = catalog.transaction().unwrap();
        for n in 0..3000 {
            let sql = "INSERT INTO catalog SELECT ?, 0, md5path_1, md5path_2, 1, NULL, 0, 33188, 0, NULL, 4, ?, '', 0, \
                       0, NULL FROM catalog WHERE name = 'b'";
            rows.execute(sql, rusqlite::params![n, format!("f{n}")]).unwrap();
        }
        rows.commit().unwrap();
    }
    repository.recount();
    repository.store();
    let findings = repository.check().findings;
    assert_eq!(findings.len(), 1001);
    assert!(findings[1000].problem.contains("5000 more problems"), "{:?}", findings[1000]);
}

#[test]
fn what_stops_the_check_is_an_error() {
    let repository = Repository::new();
    let cancelled = check(repository.path(), &repository.settings(), &AtomicBool::new(true)).unwrap_err();
    assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
    let nowhere = check(&repository.path().join("nowhere"), &repository.settings(), &AtomicBool::new(false));
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn any_flipped_byte_of_a_catalog_is_survived() {
    // The page is stored under the hash it then has: only the rules can notice, and nothing may panic.
    let mut repository = Repository::new();
    let file = repository.path().join("catalog-2.db");
    let sound = std::fs::read(&file).unwrap();
    for at in (0..sound.len()).step_by(97) {
        let mut spoilt = sound.clone();
        spoilt[at] ^= 0x55;
        std::fs::write(&file, &spoilt).unwrap();
        repository.store();
        drop(repository.check());
    }
}
