//! Promises of `cache`: the directory's layout, one fetch per object, and what becomes of objects that are damaged on
//! the way or on the disk.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

use nearfs_core::cache::{Breadcrumb, DiskCache, ObjectCache, Place, Sharing, Want};
use nearfs_core::transport::http::HttpOptions;
use nearfs_core::transport::retry::RetryPolicy;
use nearfs_core::transport::{Interrupt, Origin, OriginOptions};
use nearfs_core::{Error, ErrorKind};
use nearfs_format::codec::deflate;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_testkit::host::{Asked, Reply, ScriptedHost};
use tokio::runtime::Runtime;

/// Struck only by a test that fails.
const LONG: Duration = Duration::from_secs(30);

/// An object as it is published.
#[derive(Debug, Clone)]
struct Published {
    want: Want,
    content: Vec<u8>,
    stored: Vec<u8>,
}

fn published(content: Vec<u8>, compression: Compression, algorithm: HashAlgorithm) -> Published {
    let stored = match compression {
        Compression::Zlib => deflate(&content),
        Compression::None => content.clone(),
    };
    let id = ObjectId::new(algorithm.hash(&stored), ObjectKind::File);
    Published { want: Want::sized(id, compression, content.len() as u64), content, stored }
}

fn small() -> Published {
    published(b"hello world\n".to_vec(), Compression::Zlib, HashAlgorithm::Sha1)
}

/// Content over the size that passes through memory, which zlib cannot make much smaller.
fn large(compression: Compression) -> Published {
    let mut state = 1u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    published((0..3_000_001).map(next).collect(), compression, HashAlgorithm::Shake128)
}

/// A cache in a directory of its own in front of a scripted host.
struct Scene {
    cache: ObjectCache,
    host: ScriptedHost,
    dir: tempfile::TempDir,
    _runtime: Runtime,
}

impl Scene {
    fn new(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let host = ScriptedHost::start(script).unwrap();
        let runtime = nearfs_core::transport::runtime().unwrap();
        let options = OriginOptions {
            http: HttpOptions { timeout: LONG, ..HttpOptions::default() },
            retry: RetryPolicy { backoff_init: Duration::from_millis(1), ..RetryPolicy::default() },
            ..OriginOptions::default()
        };
        let origin = Arc::new(Origin::open(&host.url(), options, runtime.handle().clone()).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let disk = DiskCache::new(dir.path().join("cache"), Sharing::Exclusive).unwrap();
        Self { cache: ObjectCache::new(disk, origin), host, dir, _runtime: runtime }
    }

    fn serving(objects: &[&Published]) -> Self {
        let files: HashMap<String, Vec<u8>> =
            objects.iter().map(|object| (format!("/{}", object.want.id.key()), object.stored.clone())).collect();
        Self::new(move |asked| files.get(&asked.target).map_or(Reply::Status(404), |bytes| Reply::Body(bytes.clone())))
    }

    fn path(&self, id: &ObjectId) -> PathBuf {
        self.dir.path().join("cache").join(id.cache_key())
    }

    fn content(&self, want: &Want) -> Vec<u8> {
        self.cache.read_small(want).unwrap()
    }

    /// Fails to open `want` and checks that nothing of it is left.
    fn refused(&self, want: &Want) -> Error {
        let error = self.cache.open(want).unwrap_err();
        assert!(!self.cache.is_cached(&want.id) && !self.path(&want.id).exists());
        assert_eq!(files_in(&self.dir.path().join("cache/txn")), 0, "temporary files were left behind");
        error
    }
}

fn files_in(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn every_kind_of_object_is_fetched_once_and_then_read_from_the_disk() {
    let zlib = Compression::Zlib;
    let objects = [
        small(),
        published(Vec::new(), zlib, HashAlgorithm::Rmd160),
        published(b"plain".to_vec(), Compression::None, HashAlgorithm::Sha1),
        published(Vec::new(), Compression::None, HashAlgorithm::Sha1),
        published(vec![0; 900_000], zlib, HashAlgorithm::Sha1),
        published(vec![0; 5_000_000], zlib, HashAlgorithm::Sha1),
        large(zlib),
        large(Compression::None),
    ];
    let scene = Scene::serving(&objects.each_ref());
    for object in &objects {
        assert!(!scene.cache.is_cached(&object.want.id));
        assert_eq!(scene.content(&object.want), object.content);
        assert!(scene.cache.is_cached(&object.want.id));
        assert_eq!(scene.content(&object.want), object.content);
        assert_eq!(fs::read(scene.path(&object.want.id)).unwrap(), object.content);
        assert_eq!(mode(&scene.path(&object.want.id)), 0o600);
    }
    assert_eq!(scene.host.asked().len(), objects.len());
    let counters = scene.cache.counters();
    assert_eq!((counters.fetches, counters.hits, counters.failures), (8, 8, 0));
    assert_eq!(counters.bytes, objects.iter().map(|object| object.content.len() as u64).sum::<u64>());
}

#[test]
fn content_of_unknown_size_is_bounded() {
    for object in [small(), large(Compression::Zlib)] {
        let scene = Scene::serving(&[&object]);
        let size = object.content.len() as u64;
        let bounded = |limit| Want { compression: object.want.compression, ..Want::bounded(object.want.id, limit) };
        assert_eq!(scene.refused(&bounded(size - 1)).kind(), ErrorKind::Corrupt);
        assert_eq!(scene.content(&bounded(size)), object.content);
    }
}

#[test]
fn a_size_over_the_limit_is_refused_unasked() {
    let object = small();
    let scene = Scene::serving(&[&object]);
    let want = Want { size_bytes: Some(u64::MAX), limit_bytes: 1 << 30, ..object.want };
    assert_eq!(scene.refused(&want).kind(), ErrorKind::Corrupt);
    assert!(scene.host.asked().is_empty());
}

#[test]
fn a_size_that_only_the_catalog_believes_in_is_corrupt() {
    for object in [small(), large(Compression::Zlib), large(Compression::None)] {
        let scene = Scene::serving(&[&object]);
        for wrong in [object.content.len() as u64 - 1, object.content.len() as u64 + 1] {
            let want = Want::sized(object.want.id, object.want.compression, wrong);
            assert_eq!(scene.refused(&want).kind(), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn the_alternative_path_is_asked_for_where_wanted() {
    let object = small();
    let stored = object.stored.clone();
    let scene = Scene::new(move |_| Reply::Body(stored.clone()));
    scene.content(&Want { place: Place::Alternative, ..object.want.clone() });
    assert_eq!(scene.host.asked()[0].target, format!("/.cvmfsalt-{}", object.want.id.hash));
}

/// Bytes as a broken cache on the way would send them: the right length, one bit wrong.
fn damaged(object: &Published) -> Vec<u8> {
    let mut bytes = object.stored.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

#[test]
fn a_corrupt_object_is_refetched_once_past_caches() {
    for object in [small(), large(Compression::Zlib), large(Compression::None)] {
        let (right, wrong) = (object.stored.clone(), damaged(&object));
        let scene = Scene::new(move |asked| Reply::Body(if asked.before == 0 { wrong.clone() } else { right.clone() }));
        assert_eq!(scene.content(&object.want), object.content);
        let asked = scene.host.asked();
        assert_eq!((asked.len(), asked[0].header("pragma"), asked[1].header("pragma")), (2, None, Some("no-cache")));
    }
}

#[test]
fn an_object_that_stays_corrupt_is_never_cached() {
    for object in [small(), large(Compression::Zlib), large(Compression::None)] {
        let wrong = damaged(&object);
        let scene = Scene::new(move |_| Reply::Body(wrong.clone()));
        let error = scene.refused(&object.want);
        assert_eq!((error.kind(), scene.host.asked().len()), (ErrorKind::Corrupt, 2));
        let text = error.to_string();
        assert!(text.contains(&object.want.id.hash.to_string()) && text.contains(&scene.host.url()), "{text}");
    }
}

#[test]
fn failures_are_told_apart_and_not_remembered() {
    for object in [small(), large(Compression::Zlib)] {
        let (stored, half) = (object.stored.clone(), object.stored[..object.stored.len() / 2].to_vec());
        let (length, replies) = (stored.len() as u64, AtomicUsize::new(0));
        let scene = Scene::new(move |_| match replies.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Status(404),
            1 => Reply::Status(500),
            2 | 3 => Reply::Announce(length, half.clone()),
            _ => Reply::Body(stored.clone()),
        });
        let kinds = [ErrorKind::NotFound, ErrorKind::Unreachable, ErrorKind::Unreachable];
        for kind in kinds {
            assert_eq!(scene.refused(&object.want).kind(), kind);
        }
        assert_eq!(scene.content(&object.want), object.content);
        assert_eq!(scene.cache.counters().failures, 3);
    }
}

#[test]
fn many_threads_that_ask_for_one_object_make_one_request() {
    for object in [small(), large(Compression::Zlib)] {
        let stored = object.stored.clone();
        let scene = Scene::new(move |_| Reply::After(Duration::from_millis(50), Box::new(Reply::Body(stored.clone()))));
        let start = Barrier::new(32);
        std::thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    start.wait();
                    assert_eq!(scene.content(&object.want), object.content);
                });
            }
        });
        assert_eq!(scene.host.asked().len(), 1);
        let counters = scene.cache.counters();
        assert_eq!((counters.fetches, counters.hits + counters.shared), (1, 31));
    }
}

#[test]
fn a_failed_fetch_fails_all_who_wait_for_it() {
    let object = small();
    let scene = Scene::new(|_| Reply::After(Duration::from_millis(500), Box::new(Reply::Status(404))));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = scene.cache.open(&object.want).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert!(error.to_string().contains("404"), "{error}");
            });
        }
    });
    // However late a thread was, it made a request or waited for one.
    let counters = scene.cache.counters();
    assert_eq!(counters.fetches, scene.host.asked().len() as u64);
    assert_eq!(counters.fetches + counters.shared, 8);
}

#[test]
fn a_caller_that_gives_up_leaves_the_object_to_the_others() {
    let object = small();
    let stored = object.stored.clone();
    let scene = Scene::new(move |asked| if asked.before == 0 { Reply::Hang } else { Reply::Body(stored.clone()) });
    let interrupt = Interrupt::new();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| scene.cache.open_interruptible(&object.want, &interrupt).unwrap_err().kind());
        while scene.host.asked().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let second = scope.spawn(|| scene.content(&object.want));
        std::thread::sleep(Duration::from_millis(20));
        interrupt.cancel();
        assert_eq!(first.join().unwrap(), ErrorKind::Cancelled);
        assert_eq!(second.join().unwrap(), object.content);
    });
    // One who only waits may give up as well.
    let hanging = Scene::new(|_| Reply::Hang);
    let (first, second) = (Interrupt::new(), Interrupt::new());
    second.cancel();
    std::thread::scope(|scope| {
        let pilot = scope.spawn(|| hanging.cache.open_interruptible(&object.want, &first));
        while hanging.host.asked().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let error = hanging.cache.open_interruptible(&object.want, &second).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        first.cancel();
        assert!(pilot.join().unwrap().is_err());
    });
}

#[test]
fn a_cached_object_of_the_wrong_size_is_quarantined_and_fetched_again() {
    let object = small();
    let scene = Scene::serving(&[&object]);
    scene.content(&object.want);
    let path = scene.path(&object.want.id);
    fs::write(&path, b"cut").unwrap();
    assert_eq!(scene.content(&object.want), object.content);
    assert_eq!(fs::read(&path).unwrap(), object.content);
    let kept = scene.dir.path().join("cache/quarantaine").join(object.want.id.cache_key().replace('/', ""));
    assert_eq!(fs::read(kept).unwrap(), b"cut");
    assert_eq!(scene.host.asked().len(), 2);
    // What is no file at all is moved away too.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::remove_file(scene.dir.path().join("cache/quarantaine").join(path_name(&object.want.id))).unwrap();
    assert_eq!(scene.content(&object.want), object.content);
}

fn path_name(id: &ObjectId) -> String {
    id.cache_key().replace('/', "")
}

#[test]
fn a_discarded_object_is_fetched_again() {
    let object = small();
    let scene = Scene::serving(&[&object]);
    scene.content(&object.want);
    scene.cache.discard(&object.want.id).unwrap();
    scene.cache.discard(&object.want.id).unwrap();
    assert_eq!(scene.content(&object.want), object.content);
    assert_eq!(scene.host.asked().len(), 2);
}

#[test]
fn an_open_object_outlives_its_eviction_and_is_read_anywhere() {
    let object = small();
    let scene = Scene::serving(&[&object]);
    let open = scene.cache.open(&object.want).unwrap();
    assert_eq!(fs::read(open.cache_path()).unwrap(), object.content);
    fs::remove_file(open.cache_path()).unwrap();
    let mut buffer = [0; 20];
    assert_eq!(open.read_at(&mut buffer, 6).unwrap(), 6);
    assert_eq!(&buffer[..6], b"world\n");
    assert_eq!(open.read_at(&mut buffer, 12).unwrap(), 0);
    assert_eq!(open.read_at(&mut buffer, u64::from(u32::MAX)).unwrap(), 0);
}

#[test]
fn directories_that_a_cleaner_removed_come_back() {
    let object = small();
    let scene = Scene::serving(&[&object]);
    fs::remove_dir(scene.path(&object.want.id).parent().unwrap()).unwrap();
    fs::remove_dir(scene.dir.path().join("cache/txn")).unwrap();
    assert_eq!(scene.content(&object.want), object.content);
}

#[test]
fn the_layout_is_the_reference_clients() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/b");
    for _ in 0..2 {
        DiskCache::new(&root, Sharing::Exclusive).unwrap();
    }
    for sub in ["", "00", "7f", "ff", "txn", "quarantaine"] {
        assert_eq!(mode(&root.join(sub)), 0o700, "{sub}");
    }
    assert_eq!(mode(&root.join(".cvmfscache")), 0o600);
    assert_eq!(files_in(&root), 256 + 3);
    fs::write(root.join("cvmfscatalog.cache"), "").unwrap();
    assert_eq!(DiskCache::new(&root, Sharing::Exclusive).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn the_breadcrumb_is_written_whole_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskCache::new(dir.path(), Sharing::Exclusive).unwrap();
    assert_eq!(disk.read_breadcrumb("x.org").unwrap(), None);
    let root_hash: ContentHash = HashAlgorithm::Sha1.hash(b"root");
    let breadcrumb = Breadcrumb { root_hash, published_s: 1_795_380_986, revision: Some(6) };
    disk.write_breadcrumb("x.org", &breadcrumb).unwrap();
    let text = fs::read_to_string(dir.path().join("cvmfschecksum.x.org")).unwrap();
    assert_eq!(text, format!("{root_hash}T1795380986R6"));
    assert_eq!(disk.read_breadcrumb("x.org").unwrap(), Some(breadcrumb));
    assert_eq!(files_in(&dir.path().join("txn")), 0);
    fs::write(dir.path().join("cvmfschecksum.x.org"), "rubbish").unwrap();
    assert_eq!(disk.read_breadcrumb("x.org").unwrap_err().kind(), ErrorKind::Corrupt);
    for fqrn in ["", "../x", "a/b", ".", ".."] {
        assert_eq!(disk.read_breadcrumb(fqrn).unwrap_err().kind(), ErrorKind::InvalidInput, "{fqrn}");
    }
}

#[test]
fn a_workspace_has_one_holder() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskCache::new(dir.path(), Sharing::Exclusive).unwrap();
    let lock = disk.lock("x.org").unwrap();
    let error = DiskCache::new(dir.path(), Sharing::Exclusive).unwrap().lock("x.org").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    disk.lock("y.org").unwrap();
    drop(lock);
    disk.lock("x.org").unwrap();
}

#[test]
fn leftovers_of_the_dead_are_removed_but_not_the_work_of_the_living() {
    for (sharing, survivors) in [(Sharing::Exclusive, 1), (Sharing::Shared, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let disk = DiskCache::new(dir.path(), sharing).unwrap();
        let txn = dir.path().join("txn");
        for name in ["fetchYoung1", "fetchOld123", "notours"] {
            fs::write(txn.join(name), "x").unwrap();
        }
        let two_hours_ago = SystemTime::now() - Duration::from_secs(7200);
        fs::File::options().write(true).open(txn.join("fetchOld123")).unwrap().set_modified(two_hours_ago).unwrap();
        let _lock = disk.lock("x.org").unwrap();
        assert_eq!(files_in(&txn), survivors, "{sharing:?}");
        assert!(txn.join("notours").exists() && !txn.join("fetchOld123").exists());
    }
}

#[test]
fn an_abandoned_object_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskCache::new(dir.path(), Sharing::Exclusive).unwrap();
    let hash = small().want.id.hash;
    // SQLite opens catalogs by their names; everything else is written without one.
    for (kind, names) in [(ObjectKind::File, 0), (ObjectKind::Catalog, 1)] {
        let id = ObjectId::new(hash, kind);
        let mut pending = disk.begin(&id, 100).unwrap();
        pending.write(b"half").unwrap();
        assert_eq!(files_in(&dir.path().join("txn")), names);
        drop(pending);
        assert_eq!(files_in(&dir.path().join("txn")), 0);
        assert!(disk.open(&id, None).unwrap().is_none());
    }
}

/// Mounts a tiny file system where the caller may; says whether it did.
fn mount_tiny(at: &Path) -> bool {
    let mount = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1500k", "none"]).arg(at).status();
    mount.is_ok_and(|status| status.success())
}

#[test]
fn a_full_disk_costs_the_caching_and_not_the_content() {
    // Where tiny file systems cannot be mounted, `cache::pending`'s own test has to do.
    let place = tempfile::tempdir().unwrap();
    if !mount_tiny(place.path()) {
        return;
    }
    let objects = [small(), large(Compression::Zlib), large(Compression::None)];
    let scene = Scene::serving(&objects.each_ref());
    let disk = DiskCache::new(place.path().join("c"), Sharing::Exclusive).unwrap();
    let cache = ObjectCache::new(disk, scene.cache.origin().clone());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for object in &objects {
            for _ in 0..2 {
                assert_eq!(cache.read_small(&object.want).unwrap(), object.content);
            }
        }
        assert_eq!(files_in(&place.path().join("c/txn")), 0);
        assert_eq!(scene.host.asked().len(), 1 + 2 + 2, "what fits is kept, what does not is fetched each time");
        let held = cache.open(&objects[1].want).unwrap();
        assert!(cache.disk().spilled_bytes() >= held.size_bytes());
        drop(held);
        assert_eq!(cache.disk().spilled_bytes(), 0);
    }));
    std::process::Command::new("umount").arg("-l").arg(place.path()).status().unwrap();
    outcome.unwrap();
}

#[test]
fn a_read_only_cache_is_used_and_what_it_lacks_is_not_kept() {
    let place = tempfile::tempdir().unwrap();
    if !mount_tiny(place.path()) {
        return;
    }
    let objects = [small(), published(vec![7; 10_000], Compression::Zlib, HashAlgorithm::Sha1)];
    let scene = Scene::serving(&objects.each_ref());
    let open =
        || ObjectCache::new(DiskCache::new(place.path(), Sharing::Shared).unwrap(), scene.cache.origin().clone());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        open().open(&objects[0].want).unwrap();
        let remount = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(place.path()).status();
        assert!(remount.unwrap().success());
        let cache = open();
        assert!(cache.disk().is_read_only());
        for _ in 0..2 {
            for object in &objects {
                assert_eq!(cache.read_small(&object.want).unwrap(), object.content);
            }
        }
        assert_eq!(scene.host.asked().len(), 1 + 2);
        let breadcrumb = Breadcrumb { root_hash: HashAlgorithm::Sha1.hash(b"root"), published_s: 1, revision: Some(1) };
        cache.disk().write_breadcrumb("x.org", &breadcrumb).unwrap();
        assert_eq!(cache.disk().read_breadcrumb("x.org").unwrap(), None);
    }));
    std::process::Command::new("umount").arg("-l").arg(place.path()).status().unwrap();
    outcome.unwrap();
}

#[test]
fn an_alien_cache_belongs_to_a_group_and_keeps_no_notes() {
    let place = tempfile::tempdir().unwrap();
    let (alien, notes) = (place.path().join("alien"), place.path().join("notes"));
    fs::create_dir(&notes).unwrap();
    let object = small();
    let scene = Scene::serving(&[&object]);
    let disk = DiskCache::with_notes(&alien, &notes, Sharing::Alien).unwrap();
    let cache = ObjectCache::new(disk, scene.cache.origin().clone());
    assert_eq!(cache.read_small(&object.want).unwrap(), object.content);
    for (path, expected) in
        [("00", 0o770), ("txn", 0o770), (&*object.want.id.cache_key(), 0o660), (".cvmfscache", 0o660)]
    {
        assert_eq!(mode(&alien.join(path)), expected, "{path}");
    }
    let breadcrumb = |n| Breadcrumb { root_hash: HashAlgorithm::Sha1.hash(b"root"), published_s: n, revision: None };
    // One that was put there together with the objects is used until the client has its own.
    fs::write(alien.join("cvmfschecksum.x.org"), breadcrumb(1).to_string()).unwrap();
    assert_eq!(cache.disk().read_breadcrumb("x.org").unwrap(), Some(breadcrumb(1)));
    cache.disk().write_breadcrumb("x.org", &breadcrumb(2)).unwrap();
    assert_eq!(cache.disk().read_breadcrumb("x.org").unwrap(), Some(breadcrumb(2)));
    assert_eq!(fs::read_to_string(alien.join("cvmfschecksum.x.org")).unwrap(), breadcrumb(1).to_string());
}

/// Changes one byte of an object in the cache, its size left as it is.
fn damage(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    // In place, so that the checksums stay with the file.
    fs::write(path, bytes).unwrap();
}

#[test]
fn content_that_the_disk_changed_is_found_when_it_is_read_and_fetched_once_more() {
    for object in [small(), large(Compression::Zlib)] {
        let scene = Scene::serving(&[&object]);
        scene.content(&object.want);
        damage(&scene.path(&object.want.id), object.content.len() - 1);
        assert_eq!(scene.content(&object.want), object.content);
        assert_eq!(scene.host.asked().len(), 2);
        assert_eq!(scene.cache.counters().damaged, 1);
        let kept_away = scene.dir.path().join("cache/quarantaine").join(object.want.id.cache_key().replace('/', ""));
        assert!(kept_away.exists());
        assert_eq!(scene.content(&object.want), object.content);
        assert_eq!(scene.host.asked().len(), 2);
    }
}

#[test]
fn an_open_object_that_is_damaged_or_cut_short_under_its_reader_says_so() {
    let object = large(Compression::None);
    let scene = Scene::serving(&[&object]);
    scene.content(&object.want);
    let path = scene.path(&object.want.id);
    let open = scene.cache.open(&object.want).unwrap();
    let mut buffer = [0; 4096];
    open.read_at(&mut buffer, 0).unwrap();
    damage(&path, 2_000_000);
    // Found by whoever reads near it, even if not the very byte; nobody else is troubled.
    open.read_at(&mut buffer, 1_000_000).unwrap();
    assert_eq!(open.read_at(&mut buffer, 2_000_100).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(open.check().unwrap_err().kind(), ErrorKind::Corrupt);
    fs::File::options().write(true).open(&path).unwrap().set_len(2_500_000).unwrap();
    assert_eq!(open.read_at(&mut buffer, 2_900_000).unwrap_err().kind(), ErrorKind::Corrupt);
    // A new open sees the size.
    assert_eq!(scene.content(&object.want), object.content);
}

#[test]
fn objects_of_another_client_have_no_checksums_and_are_used() {
    let object = small();
    let scene = Scene::serving(&[&object]);
    fs::write(scene.path(&object.want.id), &object.content).unwrap();
    assert_eq!(scene.content(&object.want), object.content);
    assert!(scene.host.asked().is_empty());
}
