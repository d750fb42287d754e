//! Packs follow the catalogs of a publish: all of them right, none left over, within their limit.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;

use common::edits::{any_edits, apply, noise};
use common::{
    Catalog, Catalogs, Kind, MARKER, Model, PACKS, Tree, content, dir, expect_beside_packs, file, put, show,
    show_upper, take,
};
use nearfs_core::ErrorKind;
use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    BaseRevision, CatalogWeights, Committed, NewRepository, PublishSettings, Source, create_repository, publish,
};
use nearfs_core::store::{LocalStore, ObjectRead as _, ObjectRemove as _};
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::pack::Pack;
use nearfs_format::pack_table::{PackTable, packs_name, table_name};
use nearfs_format::path::RepoPath;
use proptest::prelude::*;
use tempfile::TempDir;

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
        let settings = PublishSettings { packs: true, ..PublishSettings::new(600) };
        Self { directory, store, head, tree: Tree::new(), settings, sources: 0 }
    }

    fn source(&mut self) -> PathBuf {
        self.sources += 1;
        self.directory.path().join(format!("source{}", self.sources))
    }

    fn publish(&mut self, source: &Source) -> nearfs_core::Result<()> {
        let base = BaseRevision { root_hash: self.head.root_hash };
        self.head = publish(&self.store, &base, source, &self.settings, &Progress::new())?;
        Ok(())
    }

    /// Publishes a tree as a whole directory, and checks everything.
    fn show(&mut self, tree: Tree) -> Catalogs {
        let path = self.source();
        show(&tree, &path);
        self.publish(&Source::Directory { path }).unwrap();
        self.tree = tree;
        self.expect()
    }

    /// Changes the tree, publishes that as an overlay, and checks everything.
    fn edit(&mut self, change: impl FnOnce(&mut Tree)) -> Catalogs {
        let mut tree = self.tree.clone();
        change(&mut tree);
        let upper = self.source();
        show_upper(&self.tree, &tree, &upper, |_| false);
        self.publish(&Source::Overlay { upper }).unwrap();
        self.tree = tree;
        self.expect()
    }

    fn expect(&self) -> Catalogs {
        let catalogs = expect_beside_packs(&self.store, &self.head.root_hash, &self.tree);
        check_packs(&self.store, &catalogs);
        catalogs
    }
}

/// A file without a pattern.
fn random(size_bytes: usize, seed: u64) -> Model {
    Model { kind: Kind::File(noise(size_bytes, seed)), ..file("") }
}

fn path(path: &str) -> RepoPath {
    RepoPath::parse(path.as_bytes()).unwrap()
}

/// The files of a catalog that a pack may hold, by hash.
fn files(catalog: &Catalog) -> Vec<(String, ContentHash, u64)> {
    let is_plain = |flags: i64| flags & 0xc0 == 0;
    let rows = catalog.rows.iter().filter(|(_, row)| row.mode & 0o170_000 == 0o100_000 && is_plain(row.flags));
    rows.map(|(path, row)| {
        let algorithm = HashAlgorithm::from_flag_id((row.flags as u32 >> 8) & 7).unwrap();
        (path.clone(), ContentHash::from_digest(algorithm, row.hash.as_ref().unwrap()).unwrap(), row.size as u64)
    })
    .collect()
}

/// Checks every table and pack against the catalog that they are of; returns how many packs there are.
fn check_packs(store: &LocalStore, catalogs: &Catalogs) -> usize {
    let Some(own) = catalogs.get(PACKS) else { return 0 };
    assert!(own.rows[PACKS].flags & 0x20 != 0 && catalogs[""].rows[PACKS].flags & 0x8000 != 0, "hidden, a mountpoint");
    let mut expected = BTreeSet::from([PACKS.to_owned(), format!("{PACKS}/{MARKER}")]);
    let (mut count, mut packed_bytes) = (0, 0);
    for (mountpoint, catalog) in catalogs.iter().filter(|(mountpoint, _)| !mountpoint.starts_with(PACKS)) {
        let name = format!("{PACKS}/{}", table_name(&path(mountpoint)));
        if !own.rows.contains_key(&name) {
            continue;
        }
        let directory = format!("{PACKS}/{}", packs_name(&path(mountpoint)));
        expected.extend([name.clone(), directory.clone()]);
        let table = PackTable::parse(&content(store, catalogs, &name)).unwrap();
        let content_bytes = check_catalog(store, catalogs, catalog, &directory, &table);
        let said = own.rows[&name].xattr.as_ref().unwrap();
        let shown = if mountpoint.is_empty() { "/" } else { mountpoint };
        assert!(said.ends_with(format!("{content_bytes} {shown}").as_bytes()), "attribute of {name}");
        packed_bytes += content_bytes;
        count += table.packs().len();
    }
    assert_eq!(own.rows.keys().cloned().collect::<BTreeSet<_>>(), expected, "nothing is left over");
    let total: u64 = catalogs.values().map(|c| c.counters["self_file_size"] as u64).sum();
    let packs: u64 = catalogs
        .iter()
        .filter(|(path, _)| path.starts_with(PACKS))
        .map(|(_, c)| c.counters["self_file_size"] as u64)
        .sum();
    assert!(packed_bytes * 5 <= total - packs, "{packed_bytes} of {total} bytes are packed");
    count
}

/// Checks the packs of one catalog; returns how much content is in them.
fn check_catalog(
    store: &LocalStore,
    catalogs: &Catalogs,
    catalog: &Catalog,
    directory: &str,
    table: &PackTable,
) -> u64 {
    let files = files(catalog);
    let mut content_bytes = 0;
    let mut named = BTreeSet::from([directory.to_owned(), format!("{directory}/{MARKER}")]);
    for (number, reference) in table.packs().iter().enumerate() {
        let row = catalogs[directory].rows.iter().find(|(_, row)| row.hash.as_deref() == Some(reference.hash.digest()));
        let (name, row) = row.expect("a pack that the table names");
        named.insert(name.clone());
        assert_eq!((row.size, row.flags), (i64::from(reference.size_bytes), 0x804), "stored as it is");
        let bytes = content(store, catalogs, name);
        let pack = Pack::parse(&bytes).unwrap();
        assert!(pack.len() > 1);
        for (hash, size) in pack.hashes() {
            let stored = store.read(&ObjectId::new(hash, ObjectKind::File), u64::MAX).unwrap();
            assert_eq!((pack.get(&hash).unwrap(), size), (Some(stored.as_slice()), stored.len()));
            assert!(table.of_object(&hash).any(|found| found == number), "{hash} leads to its pack");
            content_bytes += files.iter().find(|(_, other, _)| *other == hash).unwrap().2;
        }
    }
    assert_eq!(catalogs[directory].rows.keys().cloned().collect::<BTreeSet<_>>(), named, "packs of the table only");
    content_bytes
}

/// Two nested catalogs with small files, and a large file that makes room for packs.
fn sample() -> Tree {
    let mut tree = Tree::new();
    put(&mut tree, "/large", random(400_000, 1));
    for (name, files) in [("a", 12), ("b", 8)] {
        put(&mut tree, &format!("/{name}/{MARKER}"), file(""));
        for number in 0..files {
            put(&mut tree, &format!("/{name}/d{}/f{number}.lua", number % 3), file(&format!("{name} {number}")));
        }
    }
    tree
}

fn packs_of(catalogs: &Catalogs, mountpoint: &str) -> BTreeSet<String> {
    let directory = format!("{PACKS}/{}", packs_name(&path(mountpoint)));
    catalogs
        .get(&directory)
        .map_or_else(BTreeSet::new, |c| c.rows.keys().filter(|p| **p != directory).cloned().collect())
}

#[test]
fn small_files_of_every_catalog_are_packed_once_somebody_asks() {
    let mut repository = Repository::new();
    repository.settings.packs = false;
    let before = repository.show(sample());
    assert!(!before.contains_key(PACKS));
    repository.settings.packs = true;
    let after = repository.edit(|tree| put(tree, "/other", file("x")));
    assert_eq!(check_packs(&repository.store, &after), 2, "one pack of each nested catalog");
    assert_eq!((packs_of(&after, "/a").len(), packs_of(&after, "/b").len()), (2, 2), "and its marker");
    repository.settings.packs = false;
    let without = repository.edit(|tree| put(tree, "/other", file("y")));
    assert!(!without.contains_key(PACKS) && !without[""].rows.contains_key(PACKS));
    assert_eq!(without[""].rows[""].hardlinks, before[""].rows[""].hardlinks);
}

#[test]
fn only_packs_whose_files_changed_are_written() {
    let mut repository = Repository::new();
    let before = repository.show(sample());
    let after = repository.edit(|tree| put(tree, "/b/d0/f0.lua", file("changed")));
    assert_eq!(packs_of(&before, "/a"), packs_of(&after, "/a"));
    assert_ne!(packs_of(&before, "/b"), packs_of(&after, "/b"));
    let same = format!("{PACKS}/{}", packs_name(&path("/a")));
    assert_eq!(before[&same].hash, after[&same].hash, "nobody touched that catalog");
    // A change beside the packed files: the catalog is another one, its pack is not.
    let beside = repository.edit(|tree| put(tree, "/b/large", random(300_000, 2)));
    assert_eq!(packs_of(&after, "/b"), packs_of(&beside, "/b"));
    assert_eq!(after[PACKS].hash, beside[PACKS].hash, "nothing to be said about packs");
}

#[test]
fn packs_go_with_their_catalogs() {
    let mut repository = Repository::new();
    let mut tree = sample();
    put(&mut tree, &format!("/b/deep/{MARKER}"), file(""));
    (0..9).for_each(|number| put(&mut tree, &format!("/b/deep/{number}.py"), file(&format!("deep {number}"))));
    repository.show(tree);
    assert_eq!(check_packs(&repository.store, &repository.expect()), 3);
    // Merged into the catalog above, which packs the files of the other kind apart.
    let merged = repository.edit(|tree| take(tree, &format!("/b/deep/{MARKER}")));
    assert_eq!(packs_of(&merged, "/b").len(), 3);
    repository.edit(|tree| put(tree, &format!("/b/deep/{MARKER}"), file("")));
    let removed = repository.edit(|tree| take(tree, "/b"));
    assert_eq!(check_packs(&repository.store, &removed), 1);
    let last = repository.edit(|tree| take(tree, "/a"));
    assert_eq!(check_packs(&repository.store, &last), 0);
}

#[test]
fn packs_stay_within_their_share() {
    let mut repository = Repository::new();
    let mut tree = Tree::new();
    for number in 0..60 {
        put(&mut tree, &format!("/x/{number}.lua"), random(1000, number));
        put(&mut tree, &format!("/y/{number}.py"), random(100, 100 + number));
    }
    // 60,000 bytes, of which a fifth may be packed: the 6,000 bytes of many small files.
    let catalogs = repository.show(tree);
    assert_eq!(check_packs(&repository.store, &catalogs), 1);
    let table = PackTable::parse(&content(&repository.store, &catalogs, &format!("{PACKS}/{}", table_name(&path("")))))
        .unwrap();
    let (_, hash, _) = files(&catalogs[""]).into_iter().find(|(path, _, _)| path == "/y/7.py").unwrap();
    assert!(table.of_object(&hash).next().is_some());
    // Where everything small goes, so does the directory.
    let without = repository.edit(|tree| tree.retain(|path, _| !path.starts_with("/y")));
    assert_eq!(check_packs(&repository.store, &without), 0);
}

#[test]
fn automatic_catalogs_are_packed_where_they_end_up() {
    let mut repository = Repository::new();
    repository.settings.autocatalogs = Some(CatalogWeights { max: 60, min: 10 });
    let mut tree = Tree::new();
    put(&mut tree, "/large", random(400_000, 1));
    for directory in 0..4 {
        (0..30).for_each(|n| put(&mut tree, &format!("/{directory}/{n}.lua"), file(&format!("{directory} {n}"))));
    }
    let path = repository.source();
    show(&tree, &path);
    repository.publish(&Source::Directory { path }).unwrap();
    let catalogs = common::read_revision(&repository.store, &repository.head.root_hash);
    assert!(catalogs.keys().filter(|path| !path.starts_with(PACKS)).count() > 2, "there are automatic catalogs");
    assert!(check_packs(&repository.store, &catalogs) > 2);
}

#[test]
fn many_catalogs_are_packed_a_few_at_a_time() {
    let mut repository = Repository::new();
    let mut tree = Tree::new();
    put(&mut tree, "/large", random(400_000, 1));
    for number in 0..80 {
        put(&mut tree, &format!("/c{number:02}/{MARKER}"), file(""));
        (0..5).for_each(|n| put(&mut tree, &format!("/c{number:02}/{n}.lua"), file(&format!("{number} {n}"))));
    }
    let catalogs = repository.show(tree);
    assert_eq!(check_packs(&repository.store, &catalogs), 80);
    let catalogs = repository.edit(|tree| (20..60).for_each(|number| take(tree, &format!("/c{number}"))));
    assert_eq!(check_packs(&repository.store, &catalogs), 40);
}

#[test]
fn an_object_that_is_missing_or_damaged_is_left_out() {
    let mut repository = Repository::new();
    repository.settings.packs = false;
    let catalogs = repository.show(sample());
    let files = files(&catalogs["/a"]);
    let object = |at: usize| ObjectId::new(files[at].1, ObjectKind::File);
    repository.store.remove(&object(1)).unwrap();
    let damaged = repository.directory.path().join("storage").join(object(2).key());
    let length = std::fs::metadata(&damaged).unwrap().len() as usize;
    std::fs::write(damaged, vec![b'x'; length]).unwrap();
    repository.settings.packs = true;
    let mut tree = repository.tree.clone();
    put(&mut tree, "/other", file("x"));
    let upper = repository.source();
    show_upper(&repository.tree, &tree, &upper, |_| false);
    repository.publish(&Source::Overlay { upper }).unwrap();
    let catalogs = common::read_revision(&repository.store, &repository.head.root_hash);
    let packs = packs_of(&catalogs, "/a");
    let pack = packs.iter().find(|path| !path.ends_with(MARKER)).unwrap();
    let bytes = content(&repository.store, &catalogs, pack);
    let pack = Pack::parse(&bytes).unwrap();
    // Twelve files, less those two; the marker is empty.
    assert_eq!(pack.len(), 10);
    assert!((1..=2).all(|at| pack.get(&files[at].1) == Ok(None)), "{files:?}");
}

#[test]
fn the_directory_of_packs_is_the_publishers_own() {
    let mut repository = Repository::new();
    repository.show(sample());
    let mut tree = Tree::new();
    put(&mut tree, "/.nearfs/x", file("mine"));
    let upper = repository.source();
    show(&tree, &upper);
    let error = repository.publish(&Source::Overlay { upper }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let upper = repository.source();
    show(&Tree::new(), &upper);
    std::fs::write(upper.join(".wh..nearfs"), b"").unwrap();
    let error = repository.publish(&Source::Overlay { upper }).unwrap_err();
    assert!(error.to_string().contains("/.nearfs"), "{error}");
    let mut elsewhere = repository.tree.clone();
    put(&mut elsewhere, "/a/.nearfs", dir());
    repository.show(elsewhere);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random trees and edits: the revision equals the model, and its packs are right.
    #[test]
    fn any_history_of_edits_has_the_packs_of_its_last_revision(
        first in any_edits(40),
        steps in prop::collection::vec((any_edits(12), any::<bool>(), 0..5_u8), 1..5),
    ) {
        let mut repository = Repository::new();
        let mut tree = Tree::new();
        apply(&mut tree, &first);
        put(&mut tree, "/large", random(100_000, 1));
        repository.show(tree.clone());
        for (edits, as_directory, packs) in &steps {
            repository.settings.packs = *packs > 0;
            apply(&mut tree, edits);
            put(&mut tree, "/large", random(100_000, 1));
            if *as_directory {
                repository.show(tree.clone());
            } else {
                repository.edit(|shown| *shown = tree.clone());
            }
        }
    }
}
