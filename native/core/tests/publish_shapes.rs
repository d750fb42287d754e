//! What shapes a revision besides plain changes: renames, metadata-only copies, hardlinks, grafts, limits, automatic
//! catalogs, the virtual directory.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Catalogs, MARKER, RawRow, Tree, dir, entries, expect, file, link, put, read_revision, show, take, tree};
use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    BaseRevision, CatalogWeights, Committed, Limits, NewRepository, PublishSettings, Snapshot, Source,
    create_repository, publish, update_virtual_directory,
};
use nearfs_core::store::LocalStore;
use nearfs_core::{ErrorKind, Result};
use nearfs_format::chunker::ChunkSizes;
use nearfs_format::hash::HashAlgorithm;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, setxattr};
use tempfile::TempDir;

const HASH: &str = "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78";

struct Repository {
    directory: TempDir,
    store: LocalStore,
    head: Committed,
    settings: PublishSettings,
}

impl Repository {
    fn of(tree: &Tree) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::create_skeleton(directory.path().join("storage")).unwrap();
        let new = NewRepository {
            fqrn: "shape.example.org".into(),
            hash_algorithm: HashAlgorithm::Sha1,
            uid: 0,
            gid: 0,
            volatile: false,
            voms_authz: None,
            now: 1,
        };
        let head = create_repository(&store, &new).unwrap();
        let mut settings = PublishSettings::new(600);
        settings.chunk_sizes = Some(ChunkSizes::new(512, 1024, 2048).unwrap());
        let mut repository = Self { directory, store, head, settings };
        let path = repository.fresh("first");
        show(tree, &path);
        repository.publish(Source::Directory { path }).unwrap();
        repository
    }

    fn fresh(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn base(&self) -> BaseRevision {
        BaseRevision { root_hash: self.head.root_hash }
    }

    fn publish(&mut self, source: Source) -> Result<Catalogs> {
        self.head = publish(&self.store, &self.base(), &source, &self.settings, &Progress::new())?;
        Ok(read_revision(&self.store, &self.head.root_hash))
    }
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn mark(path: &Path, name: &str, value: &str) {
    setxattr(path, name, value.as_bytes(), XattrFlags::empty()).unwrap();
}

fn moved(tree: &Tree, from: &str, to: &str) -> Tree {
    let renamed = |path: &String| path.strip_prefix(from).map_or(path.clone(), |rest| format!("{to}{rest}"));
    tree.iter().map(|(path, model)| (renamed(path), model.clone())).collect()
}

fn content(rows: &std::collections::BTreeMap<String, RawRow>, path: &str) -> (Option<Vec<u8>>, i64, i64) {
    (rows[path].hash.clone(), rows[path].size, rows[path].flags)
}

fn sample() -> Tree {
    tree(&[
        ("/a", dir()),
        ("/a/big", file(&"0123456789".repeat(700))),
        ("/a/f", file("one")),
        ("/a/n", dir()),
        (&format!("/a/n/{MARKER}"), file("")),
        ("/a/n/x", file("two")),
        ("/a/n/deep", dir()),
        (&format!("/a/n/deep/{MARKER}"), file("")),
        ("/a/n/deep/y", link("x")),
        ("/b", dir()),
        ("/b/g", file("three")),
    ])
}

#[test]
fn renamed_directories_arrive_with_their_catalogs() {
    let mut repository = Repository::of(&sample());
    let upper = repository.fresh("upper");
    // mv /a /b/moved, then in it: n/x removed, f replaced, n renamed to m within.
    whiteout(&upper.join("a"));
    fs::create_dir_all(upper.join("b/moved/m")).unwrap();
    mark(&upper.join("b/moved"), "user.overlay.redirect", "/a");
    mark(&upper.join("b/moved/m"), "user.overlay.redirect", "n");
    whiteout(&upper.join("b/moved/n"));
    whiteout(&upper.join("b/moved/m/x"));
    fs::write(upper.join("b/moved/f"), "new").unwrap();
    let rows = entries(&repository.publish(Source::Overlay { upper: upper.clone() }).unwrap());
    let mut want: Vec<String> = moved(&sample(), "/a", "/b/moved").into_keys().collect();
    want.retain(|path| path != "/b/moved/n/x");
    let mut want: Vec<String> = want.iter().map(|path| path.replace("/b/moved/n", "/b/moved/m")).collect();
    want.sort();
    let have: Vec<String> = rows.keys().filter(|path| !path.is_empty()).cloned().collect();
    assert_eq!(have, want);
    assert_eq!(rows["/b/moved/f"].size, 3);
    let catalogs = read_revision(&repository.store, &repository.head.root_hash);
    assert!(catalogs.contains_key("/b/moved/m") && catalogs.contains_key("/b/moved/m/deep"));
    assert!(catalogs[""].chunks["/b/moved/big"].len() > 1);
    // Two directories that changed places.
    let upper = repository.fresh("swap");
    let before = entries(&catalogs);
    for (name, target) in [("c", "/b/moved"), ("b", "/b/moved/m")] {
        fs::create_dir_all(upper.join(name)).unwrap();
        mark(&upper.join(name), "user.overlay.redirect", target);
    }
    let rows = entries(&repository.publish(Source::Overlay { upper }).unwrap());
    assert_eq!(content(&rows, "/c/big"), content(&before, "/b/moved/big"));
    assert!(rows.contains_key("/c/m/deep/y") && rows.contains_key("/b/deep/y") && !rows.contains_key("/b/g"));
}

#[test]
fn a_copy_keeps_hardlink_groups() {
    let mut repository = Repository::of(&Tree::new());
    let source = repository.fresh("linked");
    show(&sample(), &source);
    fs::hard_link(source.join("a/f"), source.join("a/f2")).unwrap();
    repository.publish(Source::Directory { path: source }).unwrap();
    let upper = repository.fresh("upper");
    fs::create_dir(upper.join("copy")).unwrap();
    mark(&upper.join("copy"), "user.overlay.redirect", "a");
    let rows = entries(&repository.publish(Source::Overlay { upper }).unwrap());
    let group = |path: &str| (rows[path].hardlinks >> 32, rows[path].hardlinks & 0xffff_ffff);
    assert_eq!((group("/a/f"), group("/a/f2")), ((1, 2), (1, 2)));
    assert_eq!((group("/copy/f"), group("/copy/f2")), ((2, 2), (2, 2)));
}

#[test]
fn a_redirect_that_leads_nowhere_is_refused() {
    let mut repository = Repository::of(&sample());
    for target in ["/nowhere", "/a/f", "..", "/a/../b", "a/n", ""] {
        let upper = repository.fresh("upper");
        fs::create_dir_all(upper.join("d")).unwrap();
        mark(&upper.join("d"), "user.overlay.redirect", target);
        let error = repository.publish(Source::Overlay { upper }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{target}: {error}");
    }
    let upper = repository.fresh("stat");
    fs::write(upper.join("f"), "x").unwrap();
    mark(&upper.join("f"), "user.fuseoverlayfs.override_stat", "0:0:600");
    assert_eq!(repository.publish(Source::Overlay { upper }).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn metadata_only_copies_keep_their_content() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut repository = Repository::of(&sample());
    let before = entries(&read_revision(&repository.store, &repository.head.root_hash));
    let upper = repository.fresh("upper");
    fs::create_dir(upper.join("a")).unwrap();
    for (name, redirect) in [("a/big", ""), ("a/renamed", "f"), ("elsewhere", "/b/g")] {
        fs::write(upper.join(name), "").unwrap();
        fs::set_permissions(upper.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        mark(&upper.join(name), "user.overlay.metacopy", "");
        if !redirect.is_empty() {
            mark(&upper.join(name), "user.overlay.redirect", redirect);
        }
    }
    let catalogs = repository.publish(Source::Overlay { upper: upper.clone() }).unwrap();
    let rows = entries(&catalogs);
    for (now, then) in [("/a/big", "/a/big"), ("/a/renamed", "/a/f"), ("/elsewhere", "/b/g")] {
        assert_eq!(content(&rows, now), content(&before, then), "{now}");
        assert_eq!(rows[now].mode, 0o100_600);
    }
    assert!(catalogs[""].chunks["/a/big"].len() > 1);
    fs::write(upper.join("lost"), "").unwrap();
    mark(&upper.join("lost"), "user.overlay.metacopy", "");
    assert_eq!(repository.publish(Source::Overlay { upper }).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_link_outside_of_the_upper_directory_is_noticed() {
    let mut repository = Repository::of(&Tree::new());
    let source = repository.fresh("linked");
    fs::write(source.join("x"), "x").unwrap();
    fs::hard_link(source.join("x"), source.join("y")).unwrap();
    repository.publish(Source::Directory { path: source }).unwrap();
    let upper = repository.fresh("upper");
    fs::write(upper.join("x"), "changed").unwrap();
    let index = repository.fresh("index");
    fs::hard_link(upper.join("x"), index.join("0")).unwrap();
    let error = repository.publish(Source::Overlay { upper: upper.clone() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    // Without the index the change shows under one name only.
    fs::remove_file(index.join("0")).unwrap();
    let rows = entries(&repository.publish(Source::Overlay { upper }).unwrap());
    assert_eq!((rows["/x"].size, rows["/y"].size), (7, 1));
    assert_eq!((rows["/x"].hardlinks, rows["/y"].hardlinks), (1, 1));
}

#[test]
fn hardlinks_of_a_directory_become_groups() {
    let mut repository = Repository::of(&Tree::new());
    let source = repository.fresh("linked");
    let at = |name: &str| source.join(name);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("one"), "x".repeat(5000)).unwrap();
    for name in ["two", "three", "d/four"] {
        fs::hard_link(at("one"), at(name)).unwrap();
    }
    let directory = Source::Directory { path: source.clone() };
    let group = |rows: &std::collections::BTreeMap<String, RawRow>, name: &str| {
        (rows[name].hardlinks >> 32, rows[name].hardlinks & 0xffff_ffff)
    };
    let rows = entries(&repository.publish(directory.clone()).unwrap());
    for name in ["/one", "/two", "/three"] {
        assert_eq!(group(&rows, name), (1, 3), "{name}");
        assert_eq!(content(&rows, name), content(&rows, "/d/four"));
    }
    assert_eq!(group(&rows, "/d/four"), (0, 1));
    // Nothing changed, nothing written; then one name becomes a file of its own.
    repository.publish(directory.clone()).unwrap();
    assert_eq!(repository.head.changes, nearfs_core::publish::ChangeCounts::default());
    fs::remove_file(at("two")).unwrap();
    fs::write(at("two"), "own").unwrap();
    let rows = entries(&repository.publish(directory.clone()).unwrap());
    assert_eq!((group(&rows, "/one").1, group(&rows, "/three").1, group(&rows, "/two")), (2, 2, (0, 1)));
    assert_eq!(group(&rows, "/one").0, group(&rows, "/three").0);
    repository.settings.ignore_xdir_hardlinks = false;
    let error = repository.publish(directory).unwrap_err();
    assert!(error.to_string().contains("Hardlinks across directories (/d/four)"), "{error}");
}

#[test]
fn grafts_describe_content_that_is_elsewhere() {
    let mut repository = Repository::of(&sample());
    let upper = repository.fresh("upper");
    fs::write(upper.join("placed"), "").unwrap();
    fs::write(upper.join(".cvmfsgraft-placed"), format!("size=9\nchecksum={HASH}-rmd160\ncompression=none\n")).unwrap();
    let chunks = format!("chunk_offsets=0,4\nchunk_checksums={HASH},{HASH}\n");
    fs::write(upper.join(".cvmfsgraft-alone"), format!("size=9\nchecksum={HASH}\n{chunks}")).unwrap();
    fs::create_dir(upper.join("a")).unwrap();
    fs::write(upper.join("a/.cvmfsgraft-f"), format!("size=77\nchecksum={HASH}\n")).unwrap();
    let catalogs = repository.publish(Source::Overlay { upper: upper.clone() }).unwrap();
    let rows = entries(&catalogs);
    assert_eq!((rows["/placed"].size, rows["/placed"].flags), (9, 0x904));
    assert_eq!((rows["/alone"].size, rows["/alone"].flags), (9, 0x44));
    assert!(rows["/alone"].hash.is_some() && rows["/a/f"].mode == 0o100_644);
    assert_eq!((rows["/a/f"].size, rows["/a/f"].mtime), (77, 1_000_001));
    assert_eq!(catalogs[""].chunks["/alone"].len(), 2);
    assert!(!rows.keys().any(|path| path.contains("cvmfsgraft")));
    fs::write(upper.join(".cvmfsgraft-placed"), "size=9\n").unwrap();
    let error = repository.publish(Source::Overlay { upper }).unwrap_err().to_string();
    assert!(error.contains("Encountered a grafted file (placed) with invalid grafting information"), "{error}");
}

#[test]
fn limits_warn_or_end_the_publish() {
    let mut repository = Repository::of(&sample());
    let path = repository.fresh("large");
    for index in 0..1100 {
        fs::write(path.join(index.to_string()), "").unwrap();
    }
    fs::File::create(path.join("large")).unwrap().set_len((1 << 20) + 1).unwrap();
    repository.settings.limits = Limits { file_mbytes: 1, nested_kentries: 1, root_kentries: 1, is_enforced: false };
    let source = Source::Directory { path };
    repository.publish(source.clone()).unwrap();
    let warned: Vec<String> = repository.head.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(warned[0].starts_with("WARNING: file at /large is larger than 1 megabytes (1)."), "{warned:?}");
    assert!(warned[1].starts_with("WARNING: catalog at / has more than 1000 entries (1102)."), "{warned:?}");
    repository.settings.limits.is_enforced = true;
    let error = repository.publish(source).unwrap_err().to_string();
    assert!(error.contains("FATAL: file at /large"), "{error}");
}

#[test]
fn automatic_catalogs_come_and_go() {
    let mut content = Tree::new();
    for (name, count) in [("p", 30), ("q", 12), ("r", 40)] {
        for index in 0..count {
            put(&mut content, &format!("/{name}/{index}"), file("x"));
        }
    }
    put(&mut content, "/r/sub/deep", file("y"));
    let mut repository = Repository::of(&content);
    repository.settings.autocatalogs = Some(CatalogWeights { max: 60, min: 10 });
    let path = repository.fresh("tree");
    show(&content, &path);
    let catalogs = repository.publish(Source::Directory { path: path.clone() }).unwrap();
    // 88 entries: without r 46, still more than 30; without p 16.
    assert_eq!(catalogs.keys().collect::<Vec<_>>(), ["", "/p", "/r"]);
    let rows = entries(&catalogs);
    let marker = &rows["/r/.cvmfsautocatalog"];
    assert_eq!((marker.mode, marker.mtime, marker.flags), (0o100_600, 600, 4));
    let before = repository.head.catalogs_new;
    repository.publish(Source::Directory { path }).unwrap();
    assert!(before == 3 && repository.head.catalogs_new == 1, "the markers stay although the directory lacks them");
    let upper = repository.fresh("upper");
    fs::create_dir(upper.join("p")).unwrap();
    for index in 0..28 {
        whiteout(&upper.join(format!("p/{index}")));
    }
    let catalogs = repository.publish(Source::Overlay { upper }).unwrap();
    assert_eq!(catalogs.keys().collect::<Vec<_>>(), ["", "/r"]);
    assert!(!entries(&catalogs).contains_key("/p/.cvmfsautocatalog"));
}

#[test]
fn the_virtual_directory_shows_tags() {
    let mut repository = Repository::of(&sample());
    let tagged = repository.head.clone();
    let snapshot = |name: &str, of: &Committed| Snapshot {
        name: name.into(),
        root_hash: of.root_hash,
        root_size_bytes: of.root_size_bytes,
    };
    let update = |repository: &Repository, snapshots: Option<&[Snapshot]>| {
        update_virtual_directory(&repository.store, &repository.base(), snapshots, &repository.settings).unwrap()
    };
    assert_eq!(update(&repository, None), None);
    repository.head = update(&repository, Some(&[snapshot("one", &tagged), snapshot("a/b", &tagged)])).unwrap();
    let catalogs = read_revision(&repository.store, &repository.head.root_hash);
    assert_eq!(catalogs[""].rows["/.cvmfs"].flags, 0x8003);
    let rows = &catalogs["/.cvmfs"].rows;
    assert_eq!((rows["/.cvmfs"].flags, rows["/.cvmfs"].mode, rows["/.cvmfs"].size), (0x8021, 0o040_555, 97));
    assert_eq!((rows["/.cvmfs/snapshots"].flags, rows["/.cvmfs/snapshots"].hardlinks), (1, 3));
    assert_eq!((rows["/.cvmfs/snapshots/one"].flags, rows["/.cvmfs/.cvmfscatalog"].mode), (0x4001, 0o100_444));
    assert_eq!(update(&repository, Some(&[snapshot("one", &tagged)])), None);
    // Another commit keeps it; users cannot change it.
    let upper = repository.fresh("upper");
    fs::create_dir(upper.join(".cvmfs")).unwrap();
    let error = repository.publish(Source::Overlay { upper: upper.clone() }).unwrap_err().to_string();
    assert!(error.contains("[ERROR] invalid attempt to modify /.cvmfs"), "{error}");
    fs::remove_dir(upper.join(".cvmfs")).unwrap();
    whiteout(&upper.join("b"));
    repository.publish(Source::Overlay { upper }).unwrap();
    repository.head = update(&repository, Some(&[snapshot("two", &repository.head)])).unwrap();
    let catalogs = read_revision(&repository.store, &repository.head.root_hash);
    let names: Vec<&String> = catalogs["/.cvmfs"].rows.keys().filter(|path| path.contains("snapshots/")).collect();
    assert_eq!(names, ["/.cvmfs/snapshots/two"]);
    repository.head = update(&repository, None).unwrap();
    let mut want = sample();
    take(&mut want, "/b");
    expect(&repository.store, &repository.head.root_hash, &want);
}
