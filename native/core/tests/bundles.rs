//! Bundles of a publish: the flag follows specification and trigger, and packs follow the files that are listed.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;

use common::archives::Archive as Tar;
use common::edits::{any_edits, apply, noise};
use common::{
    Catalogs, Kind, MARKER, Model, PACKS, Tree, content, entries, expect_beside_packs, file, put, read_revision, show,
    show_upper, take,
};
use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    Archive, BaseRevision, Committed, IngestSettings, NewRepository, PublishSettings, Rewrite, Source, copy_directory,
    create_repository, ingest, publish, rewrite,
};
use nearfs_core::repo::bundles::list_bundles;
use nearfs_core::store::LocalStore;
use nearfs_format::bundle::{BundleSpec, specification_path};
use nearfs_format::dirent::Compression;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::pack::Pack;
use nearfs_format::pack_table::{PackKey, PackTable, packs_name, table_name};
use nearfs_format::path::RepoPath;
use proptest::prelude::*;
use tempfile::TempDir;

const FLAG: i64 = 0x2_0000;

struct Repository {
    directory: TempDir,
    store: LocalStore,
    head: Committed,
    tree: Tree,
    settings: PublishSettings,
    sources: u32,
}

impl Repository {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::create_skeleton(directory.path().join("storage")).unwrap();
        let new = NewRepository {
            fqrn: "test.example.org".into(),
            hash_algorithm: HashAlgorithm::Sha1,
            uid: 0,
            gid: 0,
            volatile: false,
            voms_authz: None,
            now: 500,
        };
        let head = create_repository(&store, &new).unwrap();
        Self { directory, store, head, tree: Tree::new(), settings: PublishSettings::new(600), sources: 0 }
    }

    fn packing() -> Self {
        let mut repository = Self::new();
        repository.settings.packs = true;
        repository
    }

    fn base(&self) -> BaseRevision {
        BaseRevision { root_hash: self.head.root_hash }
    }

    fn source(&mut self) -> PathBuf {
        self.sources += 1;
        self.directory.path().join(format!("source{}", self.sources))
    }

    fn show(&mut self, tree: Tree) -> Catalogs {
        let path = self.source();
        show(&tree, &path);
        self.head =
            publish(&self.store, &self.base(), &Source::Directory { path }, &self.settings, &Progress::new()).unwrap();
        self.tree = tree;
        self.expect()
    }

    fn edit(&mut self, change: impl FnOnce(&mut Tree)) -> Catalogs {
        let mut tree = self.tree.clone();
        change(&mut tree);
        let upper = self.source();
        show_upper(&self.tree, &tree, &upper, |_| false);
        self.head =
            publish(&self.store, &self.base(), &Source::Overlay { upper }, &self.settings, &Progress::new()).unwrap();
        self.tree = tree;
        self.expect()
    }

    /// Checks the revision, and that exactly the triggers have the flag.
    fn expect(&self) -> Catalogs {
        let catalogs = expect_beside_packs(&self.store, &self.head.root_hash, &self.tree);
        let is_file = |path: &str| matches!(self.tree.get(path), Some(Model { kind: Kind::File(_), .. }));
        let is_trigger = |path: &&String| {
            let Some(beside) = specification_path(&repo_path(path)) else { return false };
            let Some(Model { kind: Kind::File(text), .. }) = self.tree.get(&beside.to_string()) else { return false };
            is_file(path) && BundleSpec::parse(text, &RepoPath::root()).is_ok()
        };
        let expected: Vec<&String> = self.tree.keys().filter(is_trigger).collect();
        let rows = entries(&catalogs);
        let flagged: Vec<&String> =
            rows.iter().filter(|(_, row)| row.flags & FLAG != 0).map(|(path, _)| path).collect();
        assert_eq!(flagged, expected);
        catalogs
    }

    fn warnings(&self) -> String {
        self.head.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

fn repo_path(path: &str) -> RepoPath {
    RepoPath::parse(path.as_bytes()).unwrap()
}

fn lists(paths: &[&str]) -> Model {
    file(&BundleSpec::of(paths.iter().map(|path| repo_path(path))).encode())
}

fn random(size_bytes: usize, seed: u64) -> Model {
    Model { kind: Kind::File(noise(size_bytes, seed)), ..file("") }
}

fn is_trigger(catalogs: &Catalogs, path: &str) -> bool {
    entries(catalogs)[path].flags & FLAG != 0
}

#[test]
fn a_file_is_a_trigger_while_a_specification_lies_beside_it() {
    let mut repository = Repository::new();
    let mut tree = Tree::new();
    for path in ["/top", "/d/run", "/d/other", "/n/run"] {
        put(&mut tree, path, file(path));
    }
    put(&mut tree, &format!("/n/{MARKER}"), file(""));
    let before = repository.show(tree);
    let after = repository.edit(|tree| {
        for path in ["/.cvmfsbundle-top", "/d/.cvmfsbundle-run", "/n/.cvmfsbundle-run", "/n/.cvmfsbundle-none"] {
            put(tree, path, lists(&["/d/other"]));
        }
    });
    assert!(["/top", "/d/run", "/n/run"].iter().all(|path| is_trigger(&after, path)));
    let (old, new) = (entries(&before), entries(&after));
    for path in ["/top", "/d/run", "/d/other", "/n/run"] {
        assert_eq!(old[path], common::RawRow { flags: old[path].flags, ..new[path].clone() }, "nothing else changed");
    }
    assert_eq!(repository.head.changes.files_added, 4);
    // Replaced, touched by nobody, moved away, specification removed.
    let third = repository.edit(|tree| {
        put(tree, "/d/run", file("another"));
        take(tree, "/n/.cvmfsbundle-run");
    });
    assert!(is_trigger(&third, "/top") && is_trigger(&third, "/d/run") && !is_trigger(&third, "/n/run"));
    let last = repository.edit(|tree| {
        take(tree, "/d/.cvmfsbundle-run");
        take(tree, "/top");
        put(tree, "/n/none", file("the trigger comes after its specification"));
    });
    assert!(!is_trigger(&last, "/d/run") && is_trigger(&last, "/n/none"));
    assert_eq!(repository.warnings(), "");
}

#[test]
fn an_invalid_specification_is_an_ordinary_file_and_is_named() {
    let mut repository = Repository::new();
    let mut tree = Tree::new();
    for name in ["a", "b", "c", "d", "e"] {
        put(&mut tree, &format!("/d/{name}"), file(name));
    }
    put(&mut tree, "/d/.cvmfsbundle-a", file("{ no JSON"));
    put(&mut tree, "/d/.cvmfsbundle-b", file(&BundleSpec::default().encode().replace("CVMFS_BUNDLE", "OTHER")));
    put(&mut tree, "/d/.cvmfsbundle-c", random((1 << 20) + 1, 1));
    put(&mut tree, "/d/.cvmfsbundle-d", common::link("a"));
    put(&mut tree, "/d/.cvmfsbundle-e", file(""));
    repository.show(tree);
    let warnings = repository.warnings();
    for (name, reason) in [("a", "line 1"), ("b", "`OTHER`"), ("c", "too large"), ("e", "no JSON object")] {
        let line = warnings.lines().find(|line| line.starts_with(&format!("/d/.cvmfsbundle-{name}:")));
        assert!(line.is_some_and(|line| line.contains(reason)), "{name}: {warnings}");
    }
    assert_eq!(warnings.lines().count(), 4);
    let loose = r#"{"name": "CVMFS_BUNDLE", "dependencies": ["/d/b", "../b", "/d//c"]}"#;
    let accepted = repository.edit(|tree| put(tree, "/d/.cvmfsbundle-a", file(loose)));
    assert!(is_trigger(&accepted, "/d/a"));
    assert!(repository.warnings().contains("/d/.cvmfsbundle-a: 2 of its dependencies are no paths"));
    let mended = repository.edit(|tree| put(tree, "/d/.cvmfsbundle-a", lists(&["/d/b"])));
    assert!(is_trigger(&mended, "/d/a"));
    let broken = repository.edit(|tree| put(tree, "/d/.cvmfsbundle-a", file("{")));
    assert!(!is_trigger(&broken, "/d/a"));
}

#[test]
fn specifications_are_read_however_they_are_stored() {
    let mut repository = Repository::new();
    repository.settings.compression = Compression::None;
    repository.settings.hash_algorithm = HashAlgorithm::Shake128;
    repository.settings.chunk_sizes = nearfs_format::chunker::ChunkSizes::new(1024, 2048, 4096).ok();
    let mut tree = Tree::new();
    let many: Vec<String> = (0..500).map(|number| format!("/d/file-{number}")).collect();
    put(&mut tree, "/d/run", random(9000, 1));
    put(&mut tree, "/d/.cvmfsbundle-run", lists(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    let catalogs = repository.show(tree);
    let rows = entries(&catalogs);
    assert!(rows["/d/.cvmfsbundle-run"].flags & 0x40 != 0 && rows["/d/run"].flags & 0x40 != 0, "both in chunks");
    assert!(is_trigger(&catalogs, "/d/run"));
}

#[test]
fn archives_copies_and_rewriting_keep_the_flag_right() {
    let mut repository = Repository::new();
    let spec = BundleSpec::of([repo_path("/sw/lib")]).encode();
    let mut tar = Tar::default();
    tar.file("run", b"run").file("lib", b"lib").file(".cvmfsbundle-run", spec.as_bytes());
    let path = repository.directory.path().join("archive.tar");
    std::fs::write(&path, tar.end()).unwrap();
    let wanted = IngestSettings { base: repo_path("/sw"), ..IngestSettings::default() };
    let (archive, settings) = (Archive::File(path), repository.settings.clone());
    let once = |repository: &Repository| {
        ingest(&repository.store, &repository.base(), Some(&archive), &wanted, &settings, &Progress::new()).unwrap()
    };
    repository.head = once(&repository);
    let revision = |repository: &Repository| read_revision(&repository.store, &repository.head.root_hash);
    assert!(is_trigger(&revision(&repository), "/sw/run"));
    repository.head = once(&repository);
    assert!(is_trigger(&revision(&repository), "/sw/run"), "the same archive again");
    repository.head =
        copy_directory(&repository.store, &repository.base(), &repo_path("/sw"), &repo_path("/new"), &settings)
            .unwrap();
    assert!(is_trigger(&revision(&repository), "/new/run") && !is_trigger(&revision(&repository), "/new/lib"));
    for rule in [Rewrite::BreakHardlinks, Rewrite::Statistics] {
        assert!(rewrite(&repository.store, &repository.base(), &rule, &settings, &Progress::new()).unwrap().is_none());
    }
    let deletion = IngestSettings { deletions: vec![repo_path("/sw/.cvmfsbundle-run")], ..IngestSettings::default() };
    repository.head =
        ingest(&repository.store, &repository.base(), None, &deletion, &settings, &Progress::new()).unwrap();
    assert!(!is_trigger(&revision(&repository), "/sw/run"));
}

/// Returns the files in the packs that a trigger leads to, in the order of the packs; the order within one is that in
/// which the objects lie in it.
fn bundle_of(repository: &Repository, catalogs: &Catalogs, mountpoint: &str, trigger: &str) -> Vec<String> {
    let name = format!("{PACKS}/{}", table_name(&repo_path(mountpoint)));
    if !catalogs.get(PACKS).is_some_and(|own| own.rows.contains_key(&name)) {
        return Vec::new();
    }
    let table = PackTable::parse(&content(&repository.store, catalogs, &name)).unwrap();
    let directory = &catalogs[&format!("{PACKS}/{}", packs_name(&repo_path(mountpoint)))];
    let names: Vec<(Vec<u8>, String)> =
        entries(catalogs).into_iter().filter_map(|(path, row)| Some((row.hash?, path))).collect();
    let mut found = Vec::new();
    for number in table.of_trigger(PackKey::of_trigger(&repo_path(trigger))) {
        let reference = table.packs()[number];
        let is_it = |row: &common::RawRow| row.hash.as_deref() == Some(reference.hash.digest());
        let path = directory.rows.iter().find(|(_, row)| is_it(row)).unwrap().0;
        let bytes = content(&repository.store, catalogs, path);
        let pack = Pack::parse(&bytes).unwrap();
        let mut members: Vec<(usize, ContentHash)> =
            pack.hashes().map(|(hash, _)| (pack.get(&hash).unwrap().unwrap().as_ptr() as usize, hash)).collect();
        members.sort_unstable();
        for (_, hash) in members {
            found.push(names.iter().find(|(digest, _)| digest == hash.digest()).unwrap().1.clone());
        }
    }
    found
}

/// Two nested catalogs, a program in one with files in both, and a large file that makes room for packs.
fn program() -> Tree {
    let mut tree = Tree::new();
    put(&mut tree, "/large", random(400_000, 1));
    for name in ["a", "b"] {
        put(&mut tree, &format!("/{name}/{MARKER}"), file(""));
        (0..9).for_each(|n| put(&mut tree, &format!("/{name}/f{n}"), file(&format!("{name} {n}"))));
    }
    put(&mut tree, "/a/run", file("program"));
    put(&mut tree, "/a/big", random(130 << 10, 3));
    put(&mut tree, "/a/.cvmfsbundle-run", lists(&["/b/f3", "/a/run", "/a/big", "/a/f7", "/b/none", "/a", "/b/f1"]));
    tree
}

#[test]
fn the_small_files_of_a_bundle_are_packed_in_its_order() {
    let mut repository = Repository::packing();
    let catalogs = repository.show(program());
    assert_eq!(bundle_of(&repository, &catalogs, "/a", "/a/run"), ["/b/f3", "/a/f7", "/b/f1"]);
    assert!(bundle_of(&repository, &catalogs, "/b", "/a/run").is_empty());
    let without = repository.edit(|tree| take(tree, "/a/.cvmfsbundle-run"));
    assert!(bundle_of(&repository, &without, "/a", "/a/run").is_empty());
}

#[test]
fn packs_of_a_bundle_follow_their_files_in_whatever_catalog() {
    let mut repository = Repository::packing();
    let before = repository.show(program());
    let table = |catalogs: &Catalogs, name: &str| {
        entries(catalogs)[&format!("{PACKS}/{}", table_name(&repo_path(name)))].clone()
    };
    let other = repository.edit(|tree| put(tree, "/large", random(400_000, 2)));
    assert_eq!(before[PACKS].hash, other[PACKS].hash, "a change elsewhere");
    // The dependency's catalog changed, the trigger's did not.
    let changed = repository.edit(|tree| put(tree, "/b/f1", file("another")));
    assert_eq!(before["/a"].hash, changed["/a"].hash);
    assert_ne!(table(&before, "/a").hash, table(&changed, "/a").hash);
    assert_eq!(bundle_of(&repository, &changed, "/a", "/a/run"), ["/b/f3", "/a/f7", "/b/f1"]);
    // A file that was not there when the bundle was packed.
    let more = repository.edit(|tree| put(tree, "/b/none", file("now there")));
    assert_eq!(bundle_of(&repository, &more, "/a", "/a/run"), ["/b/f3", "/a/f7", "/b/none", "/b/f1"]);
    let fewer = repository.edit(|tree| take(tree, "/b"));
    assert_eq!(bundle_of(&repository, &fewer, "/a", "/a/run"), [""; 0], "one file is no pack");
    let again = repository.edit(|tree| {
        for (path, model) in program().iter().filter(|(path, _)| path.starts_with("/b")) {
            put(tree, path, model.clone());
        }
    });
    assert!(!again[PACKS].rows.is_empty());
}

#[test]
fn bundles_of_the_same_files_share_a_pack() {
    let mut repository = Repository::packing();
    let mut tree = program();
    put(&mut tree, "/a/run2", file("program"));
    put(&mut tree, "/a/.cvmfsbundle-run2", lists(&["/b/f3", "/a/f7", "/b/f1"]));
    let catalogs = repository.show(tree);
    let expected = ["/b/f3", "/a/f7", "/b/f1"];
    assert_eq!(bundle_of(&repository, &catalogs, "/a", "/a/run"), expected);
    assert_eq!(bundle_of(&repository, &catalogs, "/a", "/a/run2"), expected);
    let packs = catalogs[&format!("{PACKS}/{}", packs_name(&repo_path("/a")))].rows.len();
    assert_eq!(packs, 4, "the directory, its marker, the files of the directory, the bundle");
}

#[test]
fn packs_of_directories_make_room_for_bundles() {
    let mut repository = Repository::packing();
    let mut tree = Tree::new();
    for name in ["a", "b", "c"] {
        put(&mut tree, &format!("/{name}/{MARKER}"), file(""));
        (0..40)
            .for_each(|n| put(&mut tree, &format!("/{name}/{n}.x"), random(2000, n + 100 * name.as_bytes()[0] as u64)));
    }
    // 240,000 bytes of small files and as much beside them: a fifth is less than the files of two directories.
    put(&mut tree, "/large", random(240_000, 1));
    put(&mut tree, "/b/run", file("program"));
    let before = repository.show(tree);
    let packed = |catalogs: &Catalogs| {
        let own = &catalogs[PACKS].rows;
        own.keys().filter(|path| path.starts_with(&format!("{PACKS}/t"))).cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(packed(&before).len(), 1, "no room for more");
    let wanted: Vec<String> = (0..40).map(|n| format!("/c/{n}.x")).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let after = repository.edit(|tree| put(tree, "/b/.cvmfsbundle-run", lists(&wanted)));
    assert_eq!(bundle_of(&repository, &after, "/b", "/b/run"), wanted);
    assert_eq!(packed(&after).len(), 1, "the bundle alone");
    // It stays, whatever changes.
    let later = repository.edit(|tree| put(tree, "/a/1.x", file("another")));
    assert_eq!(bundle_of(&repository, &later, "/b", "/b/run"), wanted);
}

#[test]
fn bundles_of_a_revision_are_listed_with_what_their_files_are() {
    let mut repository = Repository::new();
    repository.settings.chunk_sizes = nearfs_format::chunker::ChunkSizes::new(1024, 2048, 4096).ok();
    let mut tree = program();
    put(&mut tree, "/top", file("another program"));
    put(&mut tree, "/.cvmfsbundle-top", lists(&["/b/f1"]));
    repository.show(tree);
    let listed =
        list_bundles(LocalStore::open(repository.directory.path().join("storage")).unwrap(), repository.head.root_hash)
            .unwrap();
    let triggers: Vec<String> = listed.iter().map(|bundle| bundle.trigger.to_string()).collect();
    assert_eq!(triggers, ["/top", "/a/run"]);
    let files: Vec<_> =
        listed[1].dependencies.iter().map(|one| (one.path.to_string(), one.size_bytes, one.is_chunked)).collect();
    let expected = [
        ("/b/f3", Some(3), false),
        ("/a/run", Some(7), false),
        ("/a/big", Some(130 << 10), true),
        ("/a/f7", Some(3), false),
        ("/b/none", None, false),
        ("/a", None, false),
        ("/b/f1", Some(3), false),
    ];
    assert_eq!(files, expected.map(|(path, size, chunked)| (path.to_owned(), size, chunked)));
    assert!(listed.iter().all(|bundle| bundle.problem.is_none() && bundle.left_out == 0));
    repository.edit(|tree| put(tree, "/.cvmfsbundle-top", file("{")));
    let root_hash = repository.head.root_hash;
    let store = LocalStore::open(repository.directory.path().join("storage")).unwrap();
    assert_eq!(list_bundles(store, root_hash).unwrap().len(), 1, "an invalid one begins no bundle");
}

/// Makes edits about triggers and specifications of edits about names of one letter.
fn with_bundles(edits: Vec<(String, Option<Model>)>) -> Vec<(String, Option<Model>)> {
    let rename = |path: String| path.replace("/!x", "/.cvmfsbundle-a").replace("/c", "/.cvmfsbundle-b");
    let specify = |model: Model| match &model.kind {
        Kind::File(text) if text.len() % 3 > 0 => {
            Model { mode: model.mode, mtime: model.mtime, ..lists(&["/a", "/a/b", "/b"]) }
        }
        _ => model,
    };
    let edits = edits.into_iter().map(|(path, model)| {
        let path = rename(path);
        let model = if path.contains("/.cvmfsbundle-") { model.map(specify) } else { model };
        (path, model)
    });
    edits.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random trees and edits: exactly the files with a valid specification beside them have the flag.
    #[test]
    fn any_history_of_edits_has_the_triggers_of_its_last_revision(
        first in any_edits(40),
        steps in prop::collection::vec((any_edits(12), any::<bool>(), any::<bool>()), 1..5),
    ) {
        let mut repository = Repository::new();
        let mut tree = Tree::new();
        apply(&mut tree, &with_bundles(first));
        repository.show(tree.clone());
        for (edits, as_directory, packs) in steps {
            repository.settings.packs = packs;
            apply(&mut tree, &with_bundles(edits));
            if as_directory {
                repository.show(tree.clone());
            } else {
                repository.edit(|shown| *shown = tree.clone());
            }
        }
    }
}
