//! Tag databases and reference logs: sound ones are accepted, every class of damage is found.

use nearfs_core::ErrorKind;
use nearfs_core::replica::check::{Finding, check_history, check_references};
use nearfs_format::codec::deflate;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::ObjectKind;
use rusqlite::Connection;

use crate::fixture::{Repository, assert_findings};

const FQRN: &str = "small.example.org";
const HISTORY: &str = "CREATE TABLE properties (key TEXT PRIMARY KEY, value TEXT);
    INSERT INTO properties VALUES ('schema', '1.0'), ('schema_revision', '3'), ('fqrn', 'small.example.org');
    CREATE TABLE branches (branch TEXT PRIMARY KEY, parent TEXT, initial_revision INTEGER);
    INSERT INTO branches VALUES ('', NULL, 0), ('dev', '', 3);
    CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, description TEXT,
                       size INTEGER, branch TEXT);
    INSERT INTO tags VALUES ('v1', '1111111111111111111111111111111111111111', 1, 1, 0, '', 1, '');
    INSERT INTO tags VALUES ('v3', '3333333333333333333333333333333333333333', 3, 1, 0, '', 1, 'dev');";

/// Returns the bytes of a database that these statements make.
fn database(sql: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("db");
    let connection = Connection::open(&file).unwrap();
    for sql in sql {
        connection.execute_batch(sql).unwrap();
    }
    drop(connection);
    std::fs::read(file).unwrap()
}

fn history_findings(sql: &str) -> Vec<Finding> {
    let repository = Repository::new();
    let history = repository.put(&deflate(&database(&[HISTORY, sql])), ObjectKind::History);
    check_history(repository.path(), history, FQRN).unwrap()
}

#[test]
fn branches_and_tags_have_to_agree() {
    assert_eq!(history_findings(""), []);
    for (sql, expected) in [
        (
            "UPDATE branches SET branch = 'a b' WHERE branch = 'dev'; UPDATE tags SET branch = 'a b' WHERE name = 'v3'",
            &[("branch a b", "invalid branch name")][..],
        ),
        ("UPDATE tags SET branch = '' WHERE name = 'v3'", &[("branch dev", "dangling branch")]),
        ("UPDATE tags SET branch = 'x' WHERE name = 'v1'", &[("tag v1", "unknown branch `x`")]),
        ("UPDATE tags SET revision = 2 WHERE name = 'v3'", &[("tag v3", "invalid revision 2: its branch begins at 3")]),
        ("UPDATE tags SET revision = -1 WHERE name = 'v1'", &[("tag v1", "invalid revision -1")]),
        ("UPDATE tags SET name = 'a b' WHERE name = 'v1'", &[("tag a b", "invalid tag name")]),
        ("UPDATE tags SET hash = '11' WHERE name = 'v1'", &[("tag v1", "invalid root catalog")]),
        ("UPDATE tags SET hash = replace(hash, '1', '0') WHERE name = 'v1'", &[("tag v1", "zero hash")]),
        ("UPDATE branches SET parent = 'gone' WHERE branch = 'dev'", &[("branch dev", "unknown parent branch `gone`")]),
        ("UPDATE branches SET parent = NULL WHERE branch = 'dev'", &[("branch `dev`", "only the default branch")]),
        ("UPDATE properties SET value = 'other' WHERE key = 'fqrn'", &[("tag database", "property fqrn mismatch")]),
        ("DELETE FROM properties WHERE key = 'schema'", &[("tag database", "property schema mismatch")]),
        ("DROP TABLE tags", &[("tag database", "cannot be read")]),
        ("CREATE VIEW v AS SELECT 1", &[("tag database", "views, triggers or virtual tables")]),
        ("PRAGMA journal_mode = WAL", &[("tag database", "write-ahead log")]),
    ] {
        assert_findings(&history_findings(sql), expected, sql);
    }
    let old = "DROP TABLE branches; ALTER TABLE tags DROP COLUMN branch; ALTER TABLE tags DROP COLUMN size";
    assert_eq!(history_findings(old), [], "schema revision 0");
}

#[test]
fn a_history_that_cannot_be_loaded_is_a_finding() {
    let repository = Repository::new();
    let absent = HashAlgorithm::Sha1.hash(b"absent");
    let findings = check_history(repository.path(), absent, FQRN).unwrap();
    assert_findings(&findings, &[("tag database", "missing from the storage")], "absent");
    let garbage = repository.put(&deflate(b"no database"), ObjectKind::History);
    let findings = check_history(repository.path(), garbage, FQRN).unwrap();
    assert_findings(&findings, &[("tag database", "cannot be read")], "garbage");
}

const REFLOG: &str = "CREATE TABLE properties (key TEXT PRIMARY KEY, value TEXT);
    INSERT INTO properties VALUES ('schema', '1.0'), ('schema_revision', '0'), ('fqrn', 'small.example.org');
    CREATE TABLE refs (hash TEXT PRIMARY KEY, type INTEGER, timestamp INTEGER);
    INSERT INTO refs VALUES ('1111111111111111111111111111111111111111', 0, 5),
                            ('2222222222222222222222222222222222222222', 1, 5),
                            ('3333333333333333333333333333333333333333-shake128', 2, 5),
                            ('4444444444444444444444444444444444444444', 3, 5);";

fn references() -> [(ContentHash, ObjectKind); 4] {
    let hash = |text: &str| text.repeat(40).parse().unwrap();
    let shake = format!("{}-shake128", "3".repeat(40)).parse().unwrap();
    [
        (hash("1"), ObjectKind::Catalog),
        (hash("2"), ObjectKind::Certificate),
        (shake, ObjectKind::History),
        (hash("4"), ObjectKind::Metainfo),
    ]
}

fn log_findings(sql: &str) -> Vec<Finding> {
    let repository = Repository::new();
    let log = database(&[REFLOG, sql]);
    std::fs::write(repository.path().join(".cvmfsreflog"), &log).unwrap();
    let checksum = format!("{}\n", HashAlgorithm::Sha1.hash(&log));
    check_references(repository.path(), &checksum, &references()).unwrap()
}

#[test]
fn the_reference_log_has_to_know_the_manifest() {
    assert_eq!(log_findings(""), []);
    for (sql, expected) in [
        ("DELETE FROM refs WHERE type = 0", &[("catalog 1111", "missing from the reference log")][..]),
        ("DELETE FROM refs WHERE type = 1", &[("certificate 2222", "missing from the reference log")]),
        ("UPDATE refs SET type = 3 WHERE type = 2", &[("history 3333", "missing from the reference log")]),
        ("DELETE FROM refs WHERE type = 3", &[("metainfo 4444", "missing from the reference log")]),
        ("INSERT INTO refs VALUES ('xy', 0, 0)", &[("reference log", "invalid reference `xy`")]),
        ("UPDATE properties SET value = '1' WHERE key = 'schema_revision'", &[("reference log", "schema_revision")]),
        ("DROP TABLE refs", &[("reference log", "cannot be read")]),
    ] {
        assert_findings(&log_findings(sql), expected, sql);
    }
}

#[test]
fn the_reference_log_has_to_be_the_one_that_was_written() {
    let repository = Repository::new();
    let checksum = "1".repeat(40);
    assert_eq!(check_references(repository.path(), "", &references()).unwrap(), []);
    let findings = check_references(repository.path(), &checksum, &references()).unwrap();
    assert_findings(&findings, &[(".cvmfsreflog", "missing from the storage")], "missing log");
    std::fs::write(repository.path().join(".cvmfsreflog"), database(&[REFLOG])).unwrap();
    let findings = check_references(repository.path(), &checksum, &references()).unwrap();
    assert_findings(&findings, &[(".cvmfsreflog", "reference log mismatch")], "another log");
    let findings = check_references(repository.path(), "", &references()).unwrap();
    assert_findings(&findings, &[(".cvmfsreflog", "checksum is unknown")], "no checksum");
    let error = check_references(repository.path(), "nonsense", &references()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
