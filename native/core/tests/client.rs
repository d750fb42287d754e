//! The file system as a client shows it, against the tree that was published, with no kernel in the loop.

#![allow(clippy::unwrap_used, clippy::panic, reason = "functions beside the tests stop at the first surprise too")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use nearfs_core::ErrorKind;
use nearfs_core::cache::disk::{DiskCache, Sharing};
use nearfs_core::cache::fill::ObjectCache;
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
use tempfile::TempDir;
use tokio::runtime::Runtime;

const CHUNKED_BYTES: usize = 40_000;

struct Site {
    home: TempDir,
    root_hash: ContentHash,
    runtime: Runtime,
}

impl Site {
    /// Publishes a tree with nested catalogs, chunks and links.
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let tree = home.path().join("tree");
        fs::create_dir_all(tree.join("a/inner/deep")).unwrap();
        fs::create_dir_all(tree.join("b")).unwrap();
        for directory in ["a", "a/inner", "b"] {
            fs::write(tree.join(directory).join(".cvmfscatalog"), b"").unwrap();
        }
        for number in 0..300 {
            fs::write(tree.join(format!("b/file-{number:03}")), format!("{number}\n").repeat(number % 9)).unwrap();
        }
        let noise: Vec<u8> = (0..CHUNKED_BYTES as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(tree.join("a/inner/deep/chunked"), noise).unwrap();
        fs::write(tree.join("empty"), b"").unwrap();
        symlink("$(FLAVOUR:-plain)/x", tree.join("link")).unwrap();
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
        let base = BaseRevision { root_hash: publish::create_repository(&store, &new).unwrap().root_hash };
        let settings = PublishSettings {
            chunk_sizes: Some(ChunkSizes::new(4096, 8192, 16384).unwrap()),
            mtime_ns: true,
            ..PublishSettings::new(1_700_000_001)
        };
        let source = Source::Directory { path: tree };
        let done = publish::publish(&store, &base, &source, &settings, &Progress::new()).unwrap();
        Self { home, root_hash: done.root_hash, runtime: transport::runtime().unwrap() }
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
            environment: [(b"FLAVOUR".to_vec(), b"spicy".to_vec())].into(),
            catalog_bytes: 1 << 20,
            prefetch: PrefetchSettings::default(),
            trace_directories: Vec::new(),
            kernel_cache: std::time::Duration::from_secs(60),
            xattr_visibility: XattrVisibility::RootOnly,
            xattr_guard: XattrGuard::default(),
            alternative_root: false,
            tag: String::new(),
            public_keys: String::new(),
        }
    }

    fn client_with(&self, options: ClientOptions) -> Client {
        let url = format!("file://{}", self.home.path().join("storage").display());
        let origin = Origin::open(&url, OriginOptions::default(), self.runtime.handle().clone()).unwrap();
        let disk = DiskCache::new(self.home.path().join("cache"), Sharing::Exclusive).unwrap();
        let cache = Arc::new(ObjectCache::new(disk, Arc::new(origin)));
        let snapshot = Snapshot {
            root_hash: self.root_hash,
            root_size_bytes: 0,
            manifest: None,
            is_fixed: true,
            is_offline: false,
        };
        Client::open(cache, &snapshot, options).unwrap()
    }

    fn client(&self) -> Client {
        self.client_with(Self::options())
    }
}

fn at(client: &Client, path: &str) -> Attr {
    let names = path.split('/').filter(|name| !name.is_empty());
    let root = client.getattr(Ino::ROOT).unwrap();
    names.fold(root, |attr, name| client.lookup(attr.ino, name.as_bytes()).unwrap())
}

fn listing(client: &Client, directory: Ino, from: u64) -> Vec<(Vec<u8>, Attr, u64)> {
    let mut found = Vec::new();
    client
        .list(directory, from, &mut |entry| {
            found.push((entry.name.to_vec(), entry.attr, entry.next));
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn content(client: &Client, ino: Ino, step: u32) -> Vec<u8> {
    let opened = client.open(ino, 0).unwrap();
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        client.read(opened.fh, before as u64, step, &mut bytes).unwrap();
        if bytes.len() == before {
            break;
        }
    }
    client.release(opened.fh);
    bytes
}

/// Compares everything below a directory with the source; returns the inode numbers by path.
fn compare(client: &Client, directory: Ino, source: &Path, inodes: &mut BTreeMap<u64, String>) {
    let shown = listing(client, directory, 0);
    assert_eq!([shown[0].0.as_slice(), &shown[1].0], [&b"."[..], b".."]);
    assert_eq!(shown[0].1.ino, directory);
    let names: Vec<_> = shown[2..].iter().map(|(name, _, _)| String::from_utf8(name.clone()).unwrap()).collect();
    let mut expected: Vec<_> =
        fs::read_dir(source).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    expected.sort();
    assert_eq!(names, expected);
    for (name, (_, attr, _)) in names.iter().zip(&shown[2..]) {
        let path = source.join(name);
        let stat = fs::symlink_metadata(&path).unwrap();
        assert_eq!(client.lookup(directory, name.as_bytes()).unwrap(), *attr, "{name}");
        assert_eq!(client.getattr(attr.ino).unwrap(), *attr, "{name}");
        assert_eq!(inodes.insert(attr.ino.0, path.display().to_string()), None, "{name} has an inode of its own");
        assert_eq!(u32::from(attr.permissions) | attr.file_type.mode_bits(), stat.mode(), "{name}");
        assert_eq!((attr.mtime_s, i64::from(attr.mtime_ns)), (stat.mtime(), stat.mtime_nsec()), "{name}");
        match attr.file_type {
            FileType::Directory => {
                assert_eq!(client.lookup(attr.ino, b"..").unwrap().ino, directory);
                compare(client, attr.ino, &path, inodes);
            }
            FileType::Regular => assert_eq!(content(client, attr.ino, 1 << 20), fs::read(&path).unwrap(), "{name}"),
            _ => assert_eq!(client.readlink(attr.ino).unwrap(), b"spicy/x"),
        }
    }
}

#[test]
fn everything_is_shown_as_it_was_published() {
    let site = Site::new();
    let client = site.client();
    assert_eq!(client.tree().loaded_count(), 1, "nested catalogs wait until they are entered");
    let mut inodes = BTreeMap::from([(1, "/".to_owned())]);
    compare(&client, Ino::ROOT, &site.home.path().join("tree"), &mut inodes);
    assert_eq!(client.tree().loaded_count(), 4);
    assert_eq!(client.open_files(), 0);
    assert_eq!(client.statfs().unwrap().files_free, 0, "every catalog is loaded");
}

#[test]
fn a_listing_goes_on_behind_every_entry() {
    let site = Site::new();
    let client = site.client();
    let directory = at(&client, "/b").ino;
    let whole = listing(&client, directory, 0);
    assert_eq!(whole.len(), 303);
    for (kept, (_, _, next)) in whole.iter().enumerate() {
        let rest = listing(&client, directory, *next);
        assert_eq!(rest.len(), whole.len() - kept - 1);
        assert_eq!(rest.first().map(|e| &e.0), whole.get(kept + 1).map(|e| &e.0));
    }
    assert!(listing(&client, directory, u64::MAX).is_empty());
}

#[test]
fn chunked_files_read_alike_at_every_step() {
    let site = Site::new();
    let client = site.client();
    let file = at(&client, "/a/inner/deep/chunked");
    let expected = fs::read(site.home.path().join("tree/a/inner/deep/chunked")).unwrap();
    let chunks: usize =
        String::from_utf8(client.getxattr(file.ino, b"user.chunks", 0).unwrap()).unwrap().parse().unwrap();
    assert!(chunks > 2);
    for step in [1, 7, 4095, 4096, 16_385, 100_000] {
        assert_eq!(content(&client, file.ino, step), expected, "step {step}");
    }
}

#[test]
fn options_change_what_is_shown() {
    let site = Site::new();
    let owner = at(&site.client(), "/empty");
    let mapped = ClientOptions {
        uid_map: IdMap { exact: [(owner.uid, 77)].into(), default: None },
        gid_map: IdMap { default: Some(88), ..IdMap::default() },
        world_readable: true,
        raw_symlinks: true,
        ..Site::options()
    };
    let client = site.client_with(mapped);
    let file = at(&client, "/empty");
    assert_eq!((file.uid, file.gid), (77, 88));
    assert_eq!(file.permissions & 0o444, 0o444);
    let link = at(&client, "/link");
    assert_eq!(client.readlink(link.ino).unwrap(), b"$(FLAVOUR:-plain)/x");
    let access_list = |client: &Client| client.getxattr(file.ino, b"system.posix_acl_access", 0).unwrap_err();
    assert!(matches!(access_list(&client), FsError::Refused(Refusal::NoAttribute)));
    assert!(matches!(access_list(&site.client()), FsError::Refused(Refusal::NoSuchAttributes)));
    assert_eq!(link.size_bytes, 19);
    let claimed = ClientOptions { claimed_owner: Some((5, 6)), ..Site::options() };
    let file = at(&site.client_with(claimed), "/a/inner/deep/chunked");
    assert_eq!((file.uid, file.gid), (5, 6));
}

#[test]
fn what_cannot_be_answered_is_refused_by_its_own_name() {
    let site = Site::new();
    let client = site.client();
    let file = at(&client, "/empty").ino;
    let refusal = |outcome: Result<(), FsError>| match outcome {
        Err(FsError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(client.lookup(Ino::ROOT, b"nobody").map(drop)), Refusal::NoEntry);
    assert_eq!(refusal(client.lookup(file, b"x").map(drop)), Refusal::NotADirectory);
    assert_eq!(refusal(client.getattr(Ino(1 << 40)).map(drop)), Refusal::NoEntry);
    assert_eq!(refusal(client.open(Ino::ROOT, 0).map(drop)), Refusal::IsADirectory);
    assert_eq!(refusal(client.open(at(&client, "/link").ino, 0).map(drop)), Refusal::NotAFile);
    assert_eq!(refusal(client.readlink(file).map(drop)), Refusal::NotASymlink);
    assert_eq!(refusal(client.read(Fh(99), 0, 1, &mut Vec::new())), Refusal::BadHandle);
    assert_eq!(refusal(client.getxattr(file, b"user.none", 0).map(drop)), Refusal::NoAttribute);
    assert_eq!(refusal(client.getxattr(file, b"user.chunk_list~7", 0).map(drop)), Refusal::NoAttribute);
    assert_eq!(client.getxattr(file, b"user.chunk_list~?", 0).unwrap(), b"num_pages, 1");
}

#[test]
fn a_missing_object_is_no_missing_file() {
    let site = Site::new();
    let client = site.client();
    let directory = at(&client, "/b").ino;
    fs::remove_dir_all(site.home.path().join("storage/data")).unwrap();
    let nested = client.lookup(directory, b"file-001").unwrap_err();
    assert!(matches!(&nested, FsError::Engine(e) if e.kind() == ErrorKind::Unreachable), "{nested}");
    assert!(nested.to_string().contains("/b"), "{nested}");
    // Its content is known without asking anybody.
    assert!(content(&client, at(&client, "/empty").ino, 10).is_empty());
}

#[test]
fn two_threads_entering_one_catalog_agree() {
    let site = Site::new();
    let client = site.client();
    let directory = at(&client, "/a").ino;
    let inodes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| client.lookup(directory, b"inner").unwrap().ino)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(inodes.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(client.tree().loaded_count(), 2);
}
