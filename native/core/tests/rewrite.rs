//! Changes to every catalog of a revision: owners, hardlink groups, hashes of chunked files, counters.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{Catalogs, Kind, MARKER, Model, Tree, dir, edits::noise, file, md5_key, read_revision, show, tree};
use nearfs_core::ErrorKind;
use nearfs_core::catalog::OwnerMap;
use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    BaseRevision, Committed, NewRepository, PublishSettings, Rewrite, Source, create_repository, publish, rewrite,
};
use nearfs_core::store::{LocalStore, ObjectRead as _, ObjectWrite as _};
use nearfs_format::chunker::ChunkSizes;
use nearfs_format::codec::deflate;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use rusqlite::Connection;

/// Two chains of nested catalogs, one of them two deep; a chunked file in the middle.
fn sample() -> Tree {
    let big = Model { kind: Kind::File(noise(40_000, 7)), mode: 0o644, mtime: 5 };
    tree(&[
        ("/a", dir()),
        (&format!("/a/{MARKER}"), file("")),
        ("/a/b", dir()),
        (&format!("/a/b/{MARKER}"), file("")),
        ("/a/b/f", file("deep")),
        ("/a/big", big),
        ("/n", dir()),
        (&format!("/n/{MARKER}"), file("")),
        ("/n/x", file("same")),
        ("/n/y", file("same")),
    ])
}

fn settings(now: i64) -> PublishSettings {
    PublishSettings {
        chunk_sizes: Some(ChunkSizes::new(4096, 8192, 16_384).unwrap()),
        workers: 3,
        ..PublishSettings::new(now)
    }
}

fn published(directory: &Path) -> (LocalStore, ContentHash) {
    let store = LocalStore::create_skeleton(directory.join("storage")).unwrap();
    let new = NewRepository {
        fqrn: "rewrite.example.org".into(),
        hash_algorithm: HashAlgorithm::Sha1,
        uid: 0,
        gid: 0,
        volatile: false,
        voms_authz: None,
        now: 1,
    };
    let head = create_repository(&store, &new).unwrap();
    let path = directory.join("source");
    show(&sample(), &path);
    let base = BaseRevision { root_hash: head.root_hash };
    let head = publish(&store, &base, &Source::Directory { path }, &settings(2), &Progress::new()).unwrap();
    (store, head.root_hash)
}

fn apply(store: &LocalStore, root_hash: ContentHash, rule: &Rewrite) -> nearfs_core::Result<Option<Committed>> {
    rewrite(store, &BaseRevision { root_hash }, rule, &settings(9), &Progress::new())
}

/// Changes the catalog at the first mountpoint behind the publisher's back, and those above so that they name it.
fn damaged(store: &LocalStore, root_hash: ContentHash, mountpoints: &[&str], sql: &str) -> ContentHash {
    let catalogs = read_revision(store, &root_hash);
    let (mut new, mut sql) = (root_hash, sql.to_owned());
    for mountpoint in mountpoints {
        let id = ObjectId::new(catalogs[*mountpoint].hash.parse().unwrap(), ObjectKind::Catalog);
        let copy = tempfile::NamedTempFile::new().unwrap();
        fs::write(copy.path(), common::inflate(&store.read(&id, u64::MAX).unwrap())).unwrap();
        let db = Connection::open(copy.path()).unwrap();
        db.execute_batch(&sql).unwrap();
        db.close().unwrap();
        let bytes = fs::read(copy.path()).unwrap();
        let stored = deflate(&bytes);
        new = HashAlgorithm::Sha1.hash(&stored);
        store.put(&ObjectId::new(new, ObjectKind::Catalog), &stored).unwrap();
        sql = format!("UPDATE nested_catalogs SET sha1 = '{new}', size = {} WHERE path = '{mountpoint}'", bytes.len());
    }
    new
}

fn everything_but_counters(catalogs: &Catalogs) -> Vec<(&String, &common::RawRow)> {
    catalogs.values().flat_map(|catalog| &catalog.rows).collect()
}

#[test]
fn owners_change_everywhere_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let (store, base) = published(directory.path());
    let before = read_revision(&store, &base);
    let (uid, gid) = (before[""].rows["/a"].uid as u32, before[""].rows["/a"].gid as u32);
    // What becomes 501 is not then 502 by the next line.
    let users = OwnerMap { exact: [(uid, 501), (501, 502)].into(), otherwise: None };
    let groups = OwnerMap { exact: [(gid.wrapping_add(1), 9)].into(), otherwise: Some(77) };
    let done = apply(&store, base, &Rewrite::Owners { users: users.clone(), groups: groups.clone() }).unwrap().unwrap();
    assert_eq!((done.revision, done.catalogs_new), (2, 4));
    let after = read_revision(&store, &done.root_hash);
    let owners: Vec<_> = after.values().flat_map(|c| c.rows.values()).map(|row| (row.uid, row.gid)).collect();
    assert!(owners.iter().all(|owner| *owner == (501, 77)), "{owners:?}");
    for (mountpoint, catalog) in &after {
        assert_eq!(catalog.properties["previous_revision"], before[mountpoint].hash);
        assert_eq!(catalog.properties["last_modified"], "9");
        assert_eq!((&catalog.counters, &catalog.chunks), (&before[mountpoint].counters, &before[mountpoint].chunks));
    }
    let nobody = Rewrite::Owners { users: OwnerMap::default(), groups };
    assert_eq!(apply(&store, done.root_hash, &nobody).unwrap(), None, "all groups are 77 already");
}

#[test]
fn only_catalogs_that_change_and_those_above_are_stored() {
    let directory = tempfile::tempdir().unwrap();
    let (store, base) = published(directory.path());
    assert_eq!(apply(&store, base, &Rewrite::BreakHardlinks).unwrap(), None);
    let linked = "UPDATE catalog SET hardlinks = (3 << 32) | 2 WHERE name IN ('x', 'y')";
    let linked = damaged(&store, base, &["/n", ""], linked);
    let done = apply(&store, linked, &Rewrite::BreakHardlinks).unwrap().unwrap();
    assert_eq!((done.catalogs_new, done.changes.files_changed), (2, 2));
    let (before, after) = (read_revision(&store, &base), read_revision(&store, &done.root_hash));
    assert_eq!(everything_but_counters(&after), everything_but_counters(&before));
    assert_eq!(after["/a/b"].hash, before["/a/b"].hash);
    assert_eq!(apply(&store, done.root_hash, &Rewrite::BreakHardlinks).unwrap(), None);
}

#[test]
fn hashes_of_whole_files_go_only_where_chunks_are() {
    let directory = tempfile::tempdir().unwrap();
    let (store, base) = published(directory.path());
    let bulk = "UPDATE catalog SET hash = zeroblob(20) WHERE name = 'big'; \
                UPDATE catalog SET flags = flags | 64 WHERE name = '.cvmfscatalog'";
    let bulk = damaged(&store, base, &["/a", ""], bulk);
    let done = apply(&store, bulk, &Rewrite::DropBulkHashes).unwrap().unwrap();
    assert_eq!((done.catalogs_new, done.changes.files_changed), (2, 1));
    let after = common::read_catalog(&store, "", &done.root_hash.to_string());
    let inner = common::read_catalog(&store, "/a", &after.nested["/a"].0);
    assert_eq!(inner.rows["/a/big"].hash, None);
    assert!(inner.chunks["/a/big"].len() > 1);
    assert!(inner.rows[&format!("/a/{MARKER}")].hash.is_some(), "without chunks its content would be lost");
}

#[test]
fn counters_are_counted_whatever_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let (store, base) = published(directory.path());
    assert_eq!(apply(&store, base, &Rewrite::Statistics).unwrap(), None);
    for sql in [
        "UPDATE statistics SET value = value + 7 WHERE counter LIKE 'self_%'",
        "DELETE FROM statistics",
        "UPDATE statistics SET value = 'many' WHERE counter = 'self_dir'",
    ] {
        let wrong = damaged(&store, base, &["/a/b", "/a", ""], sql);
        let done = apply(&store, wrong, &Rewrite::Statistics).unwrap().unwrap();
        assert_eq!((done.catalogs_new, done.changes.files_changed), (3, 0));
        let (before, after) = (read_revision(&store, &base), read_revision(&store, &done.root_hash));
        for (mountpoint, catalog) in &after {
            assert_eq!(catalog.counters, before[mountpoint].counters, "{mountpoint}");
        }
        assert_eq!(apply(&store, done.root_hash, &Rewrite::Statistics).unwrap(), None);
    }
    // A sum of the root alone that is wrong.
    let wrong = damaged(&store, base, &[""], "UPDATE statistics SET value = 1 WHERE counter = 'subtree_regular'");
    let done = apply(&store, wrong, &Rewrite::Statistics).unwrap().unwrap();
    assert_eq!(done.catalogs_new, 1);
    read_revision(&store, &done.root_hash);
}

#[test]
fn a_catalog_that_is_missing_or_without_counters_stops_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let (store, base) = published(directory.path());
    let rule =
        Rewrite::Owners { users: OwnerMap { exact: [].into(), otherwise: Some(5) }, groups: OwnerMap::default() };
    let uncounted = damaged(&store, base, &["/n", ""], "DELETE FROM statistics WHERE counter = 'self_dir'");
    assert_eq!(apply(&store, uncounted, &rule).unwrap_err().kind(), ErrorKind::Corrupt);
    let (first, second) = md5_key("/n");
    let renamed = format!("UPDATE properties SET value = '/m' WHERE key = 'root_prefix' AND {first} != {second}");
    let elsewhere = damaged(&store, base, &["/n", ""], &renamed);
    assert_eq!(apply(&store, elsewhere, &rule).unwrap_err().kind(), ErrorKind::Corrupt);
    let deep = read_revision(&store, &base)["/a/b"].hash.parse().unwrap();
    fs::remove_file(directory.path().join("storage").join(ObjectId::new(deep, ObjectKind::Catalog).key())).unwrap();
    assert_eq!(apply(&store, base, &rule).unwrap_err().kind(), ErrorKind::NotFound);
    let progress = Progress::new();
    progress.cancel();
    let cancelled = rewrite(&store, &BaseRevision { root_hash: base }, &rule, &settings(9), &progress).unwrap_err();
    assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
}
