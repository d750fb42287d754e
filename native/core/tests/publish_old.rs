//! Base revisions that this version would not write: older schemas, hardlink groups, damage.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{MARKER, Tree, dir, expect, file, put, read_revision, show, show_upper, tree};
use nearfs_core::ErrorKind;
use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    BaseRevision, Committed, NewRepository, PublishSettings, Source, Warning, create_repository, publish,
};
use nearfs_core::store::{LocalStore, ObjectRead as _, ObjectWrite as _};
use nearfs_format::codec::deflate;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

fn sample() -> Tree {
    tree(&[
        ("/d", dir()),
        ("/d/x", file("same")),
        ("/d/y", file("same")),
        ("/d/z", file("same")),
        ("/n", dir()),
        (&format!("/n/{MARKER}"), file("")),
        ("/n/f", file("two")),
    ])
}

/// Publishes the sample into a new storage.
fn published(directory: &Path) -> (LocalStore, ContentHash) {
    let store = LocalStore::create_skeleton(directory.join("storage")).unwrap();
    let new = NewRepository {
        fqrn: "old.example.org".into(),
        hash_algorithm: HashAlgorithm::Sha1,
        uid: 0,
        gid: 0,
        volatile: true,
        voms_authz: None,
        now: 1,
    };
    let head = create_repository(&store, &new).unwrap();
    let path = directory.join("source");
    show(&sample(), &path);
    let head = run(&store, head.root_hash, &Source::Directory { path }).unwrap();
    (store, head.root_hash)
}

fn run(store: &LocalStore, root_hash: ContentHash, source: &Source) -> nearfs_core::Result<Committed> {
    publish(store, &BaseRevision { root_hash }, source, &PublishSettings::new(2), &Progress::new())
}

fn catalog_bytes(store: &LocalStore, hash: &ContentHash) -> Vec<u8> {
    common::inflate(&store.read(&ObjectId::new(*hash, ObjectKind::Catalog), u64::MAX).unwrap())
}

fn store_bytes(store: &LocalStore, bytes: &[u8]) -> ContentHash {
    let stored = deflate(bytes);
    let hash = HashAlgorithm::Sha1.hash(&stored);
    store.put(&ObjectId::new(hash, ObjectKind::Catalog), &stored).unwrap();
    hash
}

/// Changes a catalog behind the publisher's back; returns the hash of the result.
fn rewritten(store: &LocalStore, hash: &ContentHash, sql: &str) -> ContentHash {
    let copy = tempfile::NamedTempFile::new().unwrap();
    fs::write(copy.path(), catalog_bytes(store, hash)).unwrap();
    let db = Connection::open(copy.path()).unwrap();
    db.execute_batch(sql).unwrap();
    db.close().unwrap();
    store_bytes(store, &fs::read(copy.path()).unwrap())
}

fn upper_of(directory: &TempDir, edit: impl FnOnce(&mut Tree)) -> (Source, Tree) {
    let mut after = sample();
    edit(&mut after);
    let upper = directory.path().join("upper");
    show_upper(&sample(), &after, &upper, |_| false);
    (Source::Overlay { upper }, after)
}

const REVISION_0: &str = "
    ALTER TABLE catalog DROP COLUMN mtimens; ALTER TABLE catalog DROP COLUMN xattr;
    ALTER TABLE nested_catalogs DROP COLUMN size; DROP TABLE bind_mountpoints;
    DELETE FROM statistics WHERE counter LIKE '%xattr' OR counter LIKE '%external%' OR counter LIKE '%special';
    UPDATE properties SET value = '0' WHERE key = 'schema_revision';";

#[test]
fn older_revisions_of_the_schema_are_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let (store, head) = published(directory.path());
    let root = rewritten(&store, &head, REVISION_0);
    let (source, after) = upper_of(&directory, |t| put(t, "/d/new/f", file("new")));
    let done = run(&store, root, &source).unwrap();
    let catalogs = expect(&store, &done.root_hash, &after);
    assert_eq!(catalogs[""].properties["schema_revision"], "7");
    assert_eq!(catalogs[""].properties["volatile"], "1", "what was set at creation stays");
    // Split and merge between a catalog of old and one of new column order.
    let (again, after) = {
        let before = after;
        let mut after = before.clone();
        put(&mut after, &format!("/d/{MARKER}"), file(""));
        let upper = directory.path().join("upper2");
        show_upper(&before, &after, &upper, |_| false);
        (Source::Overlay { upper }, after)
    };
    let done = run(&store, done.root_hash, &again).unwrap();
    expect(&store, &done.root_hash, &after);
}

#[test]
fn other_schemas_are_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let (store, head) = published(directory.path());
    let (source, _) = upper_of(&directory, |t| put(t, "/d/x", file("new")));
    for schema in ["1.2", "2.4", "2.6"] {
        let sql = format!("UPDATE properties SET value = '{schema}' WHERE key = 'schema'");
        let root = rewritten(&store, &head, &sql);
        let error = run(&store, root, &source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

#[test]
fn a_member_that_changes_leaves_its_hardlink_group() {
    let directory = tempfile::tempdir().unwrap();
    let (store, head) = published(directory.path());
    let group = |count: i64| (1_i64 << 32) | count;
    let sql = format!("UPDATE catalog SET hardlinks = {} WHERE name IN ('x', 'y', 'z')", group(3));
    let root = rewritten(&store, &head, &sql);
    let (source, _) = upper_of(&directory, |t| put(t, "/d/x", file("other")));
    let done = run(&store, root, &source).unwrap();
    assert!(matches!(&done.warnings[..], [Warning::HardlinkBroken(path)] if path.as_bytes() == b"/d/x"));
    let rows = common::entries(&read_revision(&store, &done.root_hash));
    assert_eq!(["/d/x", "/d/y", "/d/z"].map(|path| rows[path].hardlinks), [1, group(2), group(2)]);
    // A whiteout of another: the last one is an ordinary file again.
    let upper = directory.path().join("upper2");
    fs::create_dir_all(upper.join("d")).unwrap();
    fs::write(upper.join("d/.wh.y"), b"").unwrap();
    let done = run(&store, done.root_hash, &Source::Overlay { upper }).unwrap();
    let rows = common::entries(&read_revision(&store, &done.root_hash));
    assert_eq!((rows["/d/z"].hardlinks, rows.contains_key("/d/y")), (1, false));
}

#[test]
fn catalogs_that_lie_are_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let (store, head) = published(directory.path());
    let (source, _) = upper_of(&directory, |t| {
        put(t, "/d/x", file("new"));
        put(t, "/n/f", file("new"));
    });
    for sql in [
        "UPDATE nested_catalogs SET path = ''",
        "UPDATE nested_catalogs SET path = 'n'",
        "UPDATE nested_catalogs SET path = '/d/../n'",
        "UPDATE nested_catalogs SET path = '/d'",
        "UPDATE nested_catalogs SET sha1 = 'short'",
        "UPDATE nested_catalogs SET sha1 = ''",
        "UPDATE nested_catalogs SET size = 1",
        "UPDATE nested_catalogs SET size = -1",
        "UPDATE nested_catalogs SET size = 9223372036854775807",
        "DELETE FROM statistics WHERE counter = 'self_dir'",
        "UPDATE properties SET value = 'many' WHERE key = 'revision'",
        "INSERT INTO properties VALUES ('root_prefix', '/d')",
        "UPDATE catalog SET name = 'y' WHERE name = 'x'",
        "UPDATE catalog SET mode = -1 WHERE name = 'x'",
        "UPDATE catalog SET hash = x'00' WHERE name = 'x'",
        "UPDATE catalog SET flags = 4 + 1792 WHERE name = 'x'",
        "DROP TABLE chunks",
        "CREATE TRIGGER t AFTER INSERT ON catalog BEGIN DELETE FROM catalog; END",
        "CREATE VIEW v AS SELECT 1",
        "PRAGMA journal_mode = WAL",
    ] {
        let root = rewritten(&store, &head, sql);
        let error = run(&store, root, &source).expect_err(sql);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{sql}: {error}");
    }
    assert_eq!(fs::read_dir(store.scratch_dir()).unwrap().count(), 0, "nothing temporary stays");
}

#[test]
fn rows_in_a_circle_end_the_walk() {
    let directory = tempfile::tempdir().unwrap();
    let (store, head) = published(directory.path());
    // /d becomes its own grandparent: removing it must come to an end.
    let sql = "UPDATE catalog SET mode = 16877, flags = 1, hash = NULL WHERE name = 'x';
        INSERT INTO catalog SELECT 11, 12, md5path_1, md5path_2, 2, NULL, 0, 16877, 0, 0, 1, 'inner', '', 0, 0, NULL
            FROM catalog WHERE name = 'x';
        UPDATE catalog SET parent_1 = 11, parent_2 = 12 WHERE name = 'd';";
    let root = rewritten(&store, &head, sql);
    let upper = directory.path().join("upper");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join(".wh.d"), b"").unwrap();
    let result = run(&store, root, &Source::Overlay { upper });
    // Whether it is noticed or not: it ends, and a refusal is the catalog's fault.
    assert!(result.is_ok() || result.is_err_and(|error| error.kind() == ErrorKind::Corrupt));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever lies in a catalog, a publish succeeds or calls it corrupt; it never panics or hangs.
    #[test]
    fn damaged_bytes_never_panic(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let directory = tempfile::tempdir().unwrap();
        let (store, head) = published(directory.path());
        let mut bytes = catalog_bytes(&store, &head);
        for (index, value) in &damage {
            let index = index.index(bytes.len());
            bytes[index] = *value;
        }
        let root = store_bytes(&store, &bytes);
        let (source, _) = upper_of(&directory, |t| {
            put(t, "/d/x", file("new"));
            put(t, &format!("/d/{MARKER}"), file(""));
            common::take(t, "/n");
        });
        if let Err(error) = run(&store, root, &source) {
            let is_expected =
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::NotFound);
            prop_assert!(is_expected, "{:?}: {}", error.kind(), error);
        }
    }
}
