//! A client that follows its repository: what a kernel may have kept is true after every switch, and what is open stays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "functions beside the tests stop at the first surprise too")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::edits::{any_edits, apply};
use common::{Kind, MARKER, Tree, dir, file, link, put, show, take, tree};
use nearfs_core::cache::disk::{DiskCache, Sharing};
use nearfs_core::cache::fill::ObjectCache;
use nearfs_core::catalog::succession::Changes;
use nearfs_core::client::filesystem::{FsError, Refusal};
use nearfs_core::client::options::{ClientOptions, IdMap, XattrGuard, XattrVisibility};
use nearfs_core::client::{Attr, Client, Fh, FileSystem, Ino};
use nearfs_core::prefetch::PrefetchSettings;
use nearfs_core::progress::Progress;
use nearfs_core::publish::{self, BaseRevision, NewRepository, PublishSettings, Source};
use nearfs_core::repo::snapshot::Snapshot;
use nearfs_core::store::LocalStore;
use nearfs_core::transport::{self, Origin, OriginOptions};
use nearfs_format::chunker::ChunkSizes;
use nearfs_format::dirent::FileType;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A repository that goes on.
struct Site {
    home: TempDir,
    store: LocalStore,
    root_hash: ContentHash,
    settings: PublishSettings,
    runtime: Runtime,
    revisions: u32,
}

impl Site {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let store = LocalStore::create_skeleton(home.path().join("storage")).unwrap();
        let new = NewRepository {
            fqrn: "lab.example.org".to_owned(),
            hash_algorithm: HashAlgorithm::Sha1,
            uid: 0,
            gid: 0,
            volatile: false,
            voms_authz: None,
            now: 1_700_000_000,
        };
        let root_hash = publish::create_repository(&store, &new).unwrap().root_hash;
        let settings = PublishSettings {
            chunk_sizes: Some(ChunkSizes::new(512, 1024, 2048).unwrap()),
            ..PublishSettings::new(1_700_000_001)
        };
        Self { home, store, root_hash, settings, runtime: transport::runtime().unwrap(), revisions: 0 }
    }

    fn publish(&mut self, tree: &Tree) -> Snapshot {
        self.revisions += 1;
        let path = self.home.path().join(format!("tree{}", self.revisions));
        show(tree, &path);
        let (base, source) = (BaseRevision { root_hash: self.root_hash }, Source::Directory { path });
        let done = publish::publish(&self.store, &base, &source, &self.settings, &Progress::new()).unwrap();
        self.root_hash = done.root_hash;
        self.snapshot()
    }

    fn snapshot(&self) -> Snapshot {
        let (root_hash, manifest) = (self.root_hash, None);
        Snapshot { root_hash, root_size_bytes: 0, manifest, is_fixed: false, is_offline: false }
    }

    /// Returns a client with an empty cache that shows the newest revision.
    fn client(&self) -> Client {
        let url = format!("file://{}", self.home.path().join("storage").display());
        let origin = Origin::open(&url, OriginOptions::default(), self.runtime.handle().clone()).unwrap();
        let directory = TempDir::new_in(self.home.path()).unwrap().keep();
        let cache = Arc::new(ObjectCache::new(DiskCache::new(directory, Sharing::Exclusive).unwrap(), origin.into()));
        Client::open(cache, &self.snapshot(), options()).unwrap()
    }
}

fn options() -> ClientOptions {
    ClientOptions {
        fqrn: "lab.example.org".to_owned(),
        claimed_owner: None,
        process_owner: (0, 0),
        uid_map: IdMap::default(),
        gid_map: IdMap::default(),
        world_readable: false,
        raw_symlinks: false,
        environment: HashMap::new(),
        // So little that catalogs come and go all the time.
        catalog_bytes: 1,
        prefetch: PrefetchSettings::default(),
        trace_directories: Vec::new(),
        kernel_cache: Duration::from_secs(60),
        xattr_visibility: XattrVisibility::RootOnly,
        xattr_guard: XattrGuard::default(),
        alternative_root: false,
        tag: String::new(),
        public_keys: String::new(),
    }
}

/// What a program sees of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    ino: u64,
    file_type: FileType,
    permissions: u16,
    mtime_s: i64,
    size_bytes: u64,
    /// Content or target; nothing for a directory.
    bytes: Vec<u8>,
}

/// A kernel that keeps every answer until it is told to forget it.
#[derive(Default)]
struct Kernel {
    names: HashMap<(Ino, Vec<u8>), Option<Ino>>,
    attrs: HashMap<Ino, Attr>,
    listings: HashMap<Ino, Vec<Vec<u8>>>,
    bytes: HashMap<Ino, Vec<u8>>,
}

impl Kernel {
    fn lookup(&mut self, client: &Client, parent: Ino, name: &[u8]) -> Option<Ino> {
        if let Some(known) = self.names.get(&(parent, name.to_vec())) {
            return *known;
        }
        let found = match client.lookup(parent, name) {
            Ok(attr) => {
                self.attrs.insert(attr.ino, attr);
                Some(attr.ino)
            }
            Err(FsError::Refused(Refusal::NoEntry)) => None,
            Err(error) => panic!("{error}"),
        };
        self.names.insert((parent, name.to_vec()), found);
        found
    }

    fn listing(&mut self, client: &Client, directory: Ino) -> Vec<Vec<u8>> {
        let fresh = || {
            let mut names = Vec::new();
            let mut keep = |entry: &nearfs_core::client::ListedEntry<'_>| {
                names.push(entry.name.to_vec());
                ControlFlow::Continue(())
            };
            client.list(directory, 0, &mut keep).unwrap();
            names.retain(|name| name != b"." && name != b"..");
            names
        };
        self.listings.entry(directory).or_insert_with(fresh).clone()
    }

    fn seen(&mut self, client: &Client, ino: Ino) -> Seen {
        let attr = *self.attrs.entry(ino).or_insert_with(|| client.getattr(ino).unwrap());
        let fresh = || match attr.file_type {
            FileType::Regular => read_all(client, client.open(ino, 0).unwrap().fh),
            FileType::Symlink => client.readlink(ino).unwrap(),
            _ => Vec::new(),
        };
        let bytes = self.bytes.entry(ino).or_insert_with(fresh).clone();
        let Attr { file_type, permissions, mtime_s, size_bytes, .. } = attr;
        Seen { ino: attr.ino.0, file_type, permissions, mtime_s, size_bytes, bytes }
    }

    /// Walks over everything that `enters` says, asks for names that are not there too, and returns what it saw.
    fn walk(&mut self, client: &Client, enters: &dyn Fn(&str) -> bool) -> BTreeMap<String, Seen> {
        let mut seen = BTreeMap::from([(String::new(), self.seen(client, Ino::ROOT))]);
        let mut directories = vec![(String::new(), Ino::ROOT)];
        while let Some((path, ino)) = directories.pop() {
            let names = self.listing(client, ino);
            for missing in ["a", "b", "c", "!x", "none"] {
                let found = self.lookup(client, ino, missing.as_bytes());
                assert_eq!(found.is_some(), names.iter().any(|name| name == missing.as_bytes()), "{path}/{missing}");
            }
            for name in names {
                let path = format!("{path}/{}", String::from_utf8(name.clone()).unwrap());
                let child =
                    self.lookup(client, ino, &name).unwrap_or_else(|| panic!("{path} is listed, but not there"));
                let entry = self.seen(client, child);
                if entry.file_type == FileType::Directory && enters(&path) {
                    directories.push((path.clone(), child));
                }
                seen.insert(path, entry);
            }
        }
        seen
    }

    fn forget(&mut self, changes: &Changes) {
        let ino = |number: &Option<u64>| number.map_or(Ino::ROOT, Ino);
        for (directory, name) in &changes.names {
            self.names.remove(&(ino(directory), name.clone()));
        }
        for entry in &changes.entries {
            let ino = ino(entry);
            self.attrs.remove(&ino);
            self.listings.remove(&ino);
            self.bytes.remove(&ino);
        }
    }
}

fn read_all(client: &Client, fh: Fh) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        client.read(fh, before as u64, 700, &mut bytes).unwrap();
        if bytes.len() == before {
            return bytes;
        }
    }
}

fn without_numbers(seen: &BTreeMap<String, Seen>) -> BTreeMap<String, Seen> {
    seen.iter().map(|(path, seen)| (path.clone(), Seen { ino: 0, ..seen.clone() })).collect()
}

fn everywhere(_: &str) -> bool {
    true
}

fn sample() -> Tree {
    tree(&[
        ("/a", dir()),
        (&format!("/a/{MARKER}"), file("")),
        ("/a/same", file("same")),
        ("/a/b", dir()),
        (&format!("/a/b/{MARKER}"), file("")),
        ("/a/b/deep", file("deep")),
        ("/c", dir()),
        ("/c/file", file("one")),
        ("/c/big", file(&"chunk ".repeat(2000))),
        ("/c/link", link("file")),
    ])
}

fn ino_of(client: &Client, path: &str) -> Ino {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.fold(Ino::ROOT, |ino, name| client.lookup(ino, name.as_bytes()).unwrap().ino)
}

#[test]
fn an_open_file_keeps_its_content_and_its_attributes() {
    let mut site = Site::new();
    let mut tree = sample();
    site.publish(&tree);
    let client = site.client();
    let paths = ["/c/file", "/c/big", "/a/b/deep"];
    let open: Vec<_> =
        paths.iter().map(|path| ino_of(&client, path)).map(|ino| (ino, client.open(ino, 0).unwrap().fh)).collect();
    let before: Vec<_> = open.iter().map(|(ino, _)| client.getattr(*ino).unwrap()).collect();

    put(&mut tree, "/c/file", file("two and more"));
    put(&mut tree, "/c/big", file("small"));
    take(&mut tree, "/a/b");
    for round in 0..12 {
        // More revisions than are kept.
        put(&mut tree, "/c/round", file(&round.to_string()));
        client.switch(&site.publish(&tree)).unwrap();
    }
    for ((path, (ino, fh)), before) in paths.iter().zip(&open).zip(before) {
        assert_eq!(client.getattr(*ino).unwrap(), before, "{path}");
        let content = read_all(&client, *fh);
        let Kind::File(old) = &sample()[*path].kind else { unreachable!() };
        assert_eq!(&content, old, "{path}");
        client.release(*fh);
        assert!(matches!(client.getattr(*ino), Err(FsError::Refused(Refusal::Stale))), "{path}");
    }
    assert_eq!(client.getattr(ino_of(&client, "/c/file")).unwrap().size_bytes, 12);
}

#[test]
fn what_stays_the_same_keeps_its_number_and_is_not_named() {
    let mut site = Site::new();
    let mut tree = sample();
    site.publish(&tree);
    let client = site.client();
    let mut kernel = Kernel::default();
    let before = kernel.walk(&client, &everywhere);
    put(&mut tree, "/c/file", file("other"));
    put(&mut tree, "/c/new", file("new"));
    let changes = client.switch(&site.publish(&tree)).unwrap();
    kernel.forget(&changes);
    let after = kernel.walk(&client, &everywhere);
    for path in ["", "/a", "/a/same", "/a/b", "/a/b/deep", "/c", "/c/big", "/c/link"] {
        assert_eq!(after[path].ino, before[path].ino, "{path}");
    }
    assert_ne!(after["/c/file"].ino, before["/c/file"].ino);
    let c = before["/c"].ino;
    let mut names = changes.names;
    names.sort_unstable();
    assert_eq!(names, [(Some(c), b"file".to_vec()), (Some(c), b"new".to_vec())]);
    assert!(changes.entries.contains(&Some(c)) && changes.entries.len() <= 3, "{:?}", changes.entries);
}

#[test]
fn a_listing_that_began_before_a_switch_ends_as_it_began() {
    let mut site = Site::new();
    let mut tree = sample();
    for number in 0..50 {
        put(&mut tree, &format!("/a/entry-{number:02}"), file("x"));
    }
    site.publish(&tree);
    let client = site.client();
    let a = ino_of(&client, "/a");
    let mut names = Vec::new();
    let mut at = 0;
    for turn in 0..100 {
        let (mut room, from) = (7, at);
        let mut keep = |entry: &nearfs_core::client::ListedEntry<'_>| {
            names.push(entry.name.to_vec());
            at = entry.next;
            room -= 1;
            if room == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        client.list(a, from, &mut keep).unwrap();
        if room > 0 {
            break;
        }
        if turn < 4 {
            take(&mut tree, &format!("/a/entry-{turn:02}"));
            put(&mut tree, &format!("/a/before-{turn:02}"), file("y"));
            client.switch(&site.publish(&tree)).unwrap();
        }
    }
    names.retain(|name| name.starts_with(b"entry") || name.starts_with(b"before"));
    let whole: Vec<_> = (0..50).map(|number| format!("entry-{number:02}").into_bytes()).collect();
    assert_eq!(names, whole);
}

#[test]
fn a_revision_whose_catalogs_are_missing_is_not_shown() {
    let mut site = Site::new();
    let mut tree = sample();
    let first = site.publish(&tree);
    let client = site.client();
    let deep = ino_of(&client, "/a/b/deep");
    put(&mut tree, "/a/b/more", file("more"));
    let second = site.publish(&tree);
    let catalogs = common::read_revision(&site.store, &second.root_hash);
    let hash: ContentHash = catalogs["/a/b"].hash.parse().unwrap();
    let id = nearfs_format::object::ObjectId::new(hash, nearfs_format::object::ObjectKind::Catalog);
    let (path, aside) = (site.store.path_of(&id), site.home.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    client.switch(&second).unwrap_err();
    assert_eq!(client.tree().root().catalog.hash, first.root_hash);
    assert_eq!(ino_of(&client, "/a/b/deep"), deep);
    std::fs::rename(&aside, &path).unwrap();
    client.switch(&second).unwrap();
    assert_eq!(ino_of(&client, "/a/b/deep"), deep);
    ino_of(&client, "/a/b/more");
}

#[test]
fn readers_never_see_a_mixture_while_revisions_come_and_go() {
    let mut site = Site::new();
    let both = |text: &str| {
        let mut tree = sample();
        put(&mut tree, "/a/b/one", file(text));
        put(&mut tree, "/a/b/two", file(text));
        tree
    };
    site.publish(&both("0"));
    let client = site.client();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let b = ino_of(&client, "/a/b");
                    for name in [b"one", b"two"] {
                        let attr = client.lookup(b, name).unwrap();
                        let opened = client.open(attr.ino, 0).unwrap();
                        let first = read_all(&client, opened.fh);
                        assert_eq!(read_all(&client, opened.fh), first);
                        assert_eq!(first.len() as u64, attr.size_bytes);
                        client.release(opened.fh);
                    }
                }
            });
        }
        for round in 1..40 {
            client.switch(&site.publish(&both(&"x".repeat(round)))).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(client.tree().generation(), 39);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// A kernel that forgets what it is told to forget, and nothing else, sees each revision as a new client does.
    #[test]
    fn whatever_a_kernel_keeps_is_true(
        first in any_edits(25),
        steps in prop::collection::vec((any_edits(10), any::<usize>()), 1..5),
        entered in any::<usize>(),
    ) {
        let mut site = Site::new();
        let mut tree = Tree::new();
        apply(&mut tree, &first);
        site.publish(&tree);
        let client = site.client();
        let mut kernel = Kernel::default();
        // Not everything was entered.
        let mut numbers = kernel.walk(&client, &|path| (path.len() * 7 + entered % 3) % 3 > 0);
        for (edits, choice) in &steps {
            apply(&mut tree, edits);
            let changes = client.switch(&site.publish(&tree)).unwrap();
            kernel.forget(&changes);
            let shown = kernel.walk(&client, &|path| (path.len() * 5 + choice % 4) % 4 > 0 || choice % 2 == 0);
            let fresh = without_numbers(&Kernel::default().walk(&site.client(), &everywhere));
            for (path, seen) in without_numbers(&shown) {
                prop_assert_eq!(Some(&seen), fresh.get(&path), "{}", path);
            }
            for (path, seen) in &shown {
                if let Some(old) = numbers.get(path) {
                    let is_same = (old.file_type, &old.bytes) == (seen.file_type, &seen.bytes);
                    prop_assert_eq!(is_same, old.ino == seen.ino, "{}", path);
                }
            }
            numbers = shown;
        }
    }
}
