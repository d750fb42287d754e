//! Promises of `cache::quota`: the limit holds whoever fills the directory, pinned objects stay, and nothing that
//! dies, or damages the books, changes that for long.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearfs_core::cache::{DiskCache, ObjectCache, Quota, Sharing, Want};
use nearfs_core::transport::http::HttpOptions;
use nearfs_core::transport::{Origin, OriginOptions};
use nearfs_format::codec::deflate;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::HashAlgorithm;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_testkit::host::{Reply, ScriptedHost};
use proptest::prelude::*;
use tokio::runtime::Runtime;

const LONG: Duration = Duration::from_secs(20);

/// Objects that a host serves, all different.
struct Site {
    host: ScriptedHost,
    wants: Vec<Want>,
    contents: Vec<Vec<u8>>,
    runtime: Runtime,
    dir: tempfile::TempDir,
}

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..size).map(|_| next()).collect()
}

impl Site {
    fn new(sizes: &[usize]) -> Self {
        let contents: Vec<_> = sizes.iter().enumerate().map(|(n, size)| noise(n as u64 + 1, *size)).collect();
        let mut files = HashMap::new();
        let wants = contents.iter().map(|content| {
            let stored = deflate(content);
            let id = ObjectId::new(HashAlgorithm::Sha1.hash(&stored), ObjectKind::File);
            files.insert(format!("/{}", id.key()), stored);
            Want::sized(id, Compression::Zlib, content.len() as u64)
        });
        let wants = wants.collect();
        let host = ScriptedHost::start(move |asked| {
            files.get(&asked.target).map_or(Reply::Status(404), |bytes| Reply::Body(bytes.clone()))
        });
        let runtime = nearfs_core::transport::runtime().unwrap();
        Self { host: host.unwrap(), wants, contents, runtime, dir: tempfile::tempdir().unwrap() }
    }

    /// One more client of the directory: what another mount process would open.
    fn client(&self, limit_bytes: u64) -> ObjectCache {
        let options =
            OriginOptions { http: HttpOptions { timeout: LONG, ..HttpOptions::default() }, ..OriginOptions::default() };
        let origin = Origin::open(&self.host.url(), options, self.runtime.handle().clone()).unwrap();
        let disk = DiskCache::new(self.dir.path(), Sharing::Shared).unwrap();
        ObjectCache::new(disk, Arc::new(origin)).with_quota(Quota::start(self.dir.path(), limit_bytes).unwrap())
    }

    fn read(&self, client: &ObjectCache, number: usize) {
        assert_eq!(client.read_small(&self.wants[number]).unwrap(), self.contents[number], "object {number}");
    }

    fn has(&self, number: usize) -> bool {
        self.dir.path().join(self.wants[number].id.cache_key()).exists()
    }

    fn disk_bytes(&self) -> u64 {
        disk_bytes(self.dir.path())
    }
}

/// Returns what all objects take.
fn disk_bytes(dir: &Path) -> u64 {
    objects(dir).values().sum()
}

/// Returns what took room at one moment: objects that were there before it and after it. A plain sum takes time, and
/// counts what comes and goes meanwhile.
fn held_bytes(dir: &Path) -> u64 {
    let (before, after) = (objects(dir), objects(dir));
    before.iter().filter(|(file, _)| after.contains_key(*file)).map(|(_, size)| size).sum()
}

/// Returns the sizes of all objects by their names and inodes.
fn objects(dir: &Path) -> HashMap<(OsString, u64), u64> {
    let sizes = (0..=0xffu8).flat_map(|head| {
        let entries = fs::read_dir(dir.join(format!("{head:02x}"))).into_iter().flatten();
        // Objects and directories may come and go while they are looked at.
        entries.flatten().filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some(((entry.file_name(), metadata.ino()), metadata.len()))
        })
    });
    sizes.collect()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_clean_up_leaves_half_of_the_limit_and_what_was_used_last() {
    let site = Site::new(&[10_000; 40]);
    let client = site.client(200_000);
    for number in 0..12 {
        site.read(&client, number);
    }
    // The first is used again and again, so it is never among the oldest.
    for number in 12..40 {
        site.read(&client, number);
        site.read(&client, 0);
    }
    let quota = client.quota().unwrap();
    wait_until("a clean-up", || quota.counters().evicted_objects > 0);
    assert!(site.has(0) && !site.has(1));
    // What came while the clean-up went on may not have been kept.
    wait_until("kept", || {
        site.read(&client, 39);
        site.has(39)
    });
    assert!(quota.cleanup(100_000).unwrap());
    let counters = quota.counters();
    assert!((10_000..=100_000).contains(&counters.cached_bytes), "{counters:?}");
    assert_eq!((site.disk_bytes(), quota.size().unwrap()), (counters.cached_bytes, (counters.cached_bytes, 0)));
    assert!(site.has(0) && site.has(39));
    assert_eq!(quota.cleanups_within(Duration::from_secs(3600)).unwrap(), counters.cleanups);
    assert!(quota.cleanup(0).unwrap());
    assert_eq!(site.disk_bytes(), 0);
    site.read(&client, 5);
    assert!(site.has(5));
}

#[test]
fn the_limit_holds_at_every_moment_while_many_clients_fill_the_directory() {
    const LIMIT: u64 = 3_000_000;
    let sizes: Vec<usize> = (0..300).map(|n| 1000 + (n * 7919) % 90_000).collect();
    let site = Site::new(&sizes);
    let (peak, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                peak.fetch_max(held_bytes(site.dir.path()), Ordering::Relaxed);
            }
        });
        let readers: Vec<_> = (0..4usize)
            .map(|reader| {
                let site = &site;
                scope.spawn(move || {
                    let client = site.client(LIMIT);
                    for step in 0..400 {
                        site.read(&client, (step * (2 * reader + 3) + reader * 31) % 300);
                    }
                    client.counters().fetches
                })
            })
            .collect();
        let fetches: Vec<_> = readers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        let fetches: u64 = fetches.into_iter().map(Result::unwrap).sum();
        assert!(fetches > 300, "the working set is larger than the limit");
    });
    let peak = peak.into_inner();
    // While a ledger is renewed, totals are too low by what was added in the same moment.
    assert!(peak <= LIMIT / 100 * 105, "{peak} bytes at the most, {LIMIT} allowed");
    assert!(peak > LIMIT / 2, "the cache was used: {peak}");
    let client = site.client(LIMIT);
    assert_eq!(client.quota().unwrap().size().unwrap().0, site.disk_bytes(), "the books are right at the end");
}

#[test]
fn pinned_objects_stay_whatever_is_cleaned_and_go_with_their_process() {
    let site = Site::new(&[10_000; 30]);
    let (here, there) = (site.client(200_000), site.client(200_000));
    for number in [0, 1] {
        site.read(&here, number);
        assert!(here.pin(&site.wants[number].id).unwrap());
    }
    for number in 2..30 {
        site.read(&there, number);
    }
    assert!(!there.quota().unwrap().cleanup(0).unwrap(), "pinned objects are left");
    assert!(site.has(0) && site.has(1));
    assert_eq!(there.quota().unwrap().size().unwrap(), (20_000, 20_000));
    here.unpin(&site.wants[1].id);
    there.quota().unwrap().cleanup(0).unwrap();
    assert!(site.has(0) && !site.has(1));
    let mut pinned = Vec::new();
    let mut listed = |object: &nearfs_core::cache::ListedObject| pinned.push((object.hash, object.is_pinned));
    there.quota().unwrap().list(&mut listed).unwrap();
    assert_eq!(pinned, [(site.wants[0].id.hash, true)]);
    drop(here);
    assert!(there.quota().unwrap().cleanup(0).unwrap());
    assert_eq!(site.disk_bytes(), 0);
    assert!(!there.pin(&site.wants[0].id).unwrap(), "what is not there cannot be pinned");
}

#[test]
fn pins_take_at_most_half_of_the_limit() {
    let site = Site::new(&[10_000; 30]);
    let (here, there) = (site.client(100_000), site.client(100_000));
    // Behind the count of the new directory, during which pins may count twice.
    for client in [&here, &there] {
        assert_eq!(client.quota().unwrap().size().unwrap(), (0, 0));
    }
    let pins = |client: &ObjectCache| {
        let is_pinned = |number: &usize| {
            site.read(client, *number);
            client.pin(&site.wants[*number].id).unwrap()
        };
        (0..9).filter(is_pinned).count()
    };
    assert_eq!(pins(&here), 5);
    assert_eq!(pins(&there), 0);
    drop(here);
    assert_eq!(pins(&there), 5);
}

#[test]
fn a_directory_without_books_is_counted_and_keeps_the_order_of_use() {
    let site = Site::new(&[10_000; 20]);
    {
        let client = site.client(1_000_000);
        (0..20).for_each(|number| site.read(&client, number));
        site.read(&client, 0);
        client.quota().unwrap().size().unwrap();
    }
    fs::remove_file(site.dir.path().join("cachedb.ledger")).unwrap();
    // What a power failure leaves of an object.
    let empty = site.dir.path().join("00/00000000000000000000000000000000000000");
    fs::write(&empty, "").unwrap();
    fs::write(site.dir.path().join("01/not an object"), "xxx").unwrap();
    let client = site.client(110_000);
    wait_until("clean-up", || site.disk_bytes() <= 55_003);
    assert!(!empty.exists() && site.has(0) && !site.has(1));
    assert_eq!(client.quota().unwrap().size().unwrap().0, site.disk_bytes() - 3);
}

#[test]
fn a_listing_says_what_objects_are_for() {
    let site = Site::new(&[10_000; 3]);
    let client = site.client(1_000_000);
    let long = format!("/{}/é", "directory/".repeat(20));
    client.open(&site.wants[0].clone().labelled("/a/b")).unwrap();
    client.open_for(&site.wants[1], || long.clone()).unwrap();
    client.open_for(&site.wants[1], || unreachable!("it is cached")).unwrap();
    site.read(&client, 2);
    for _ in 0..2 {
        let mut listed = Vec::new();
        let quota = client.quota().unwrap();
        quota.list(&mut |object| listed.push((object.hash, object.description.clone()))).unwrap();
        listed.sort();
        let mut expected = [(0, "/a/b"), (1, &*long), (2, &*site.wants[2].id.hash.to_string())]
            .map(|(number, text)| (site.wants[number].id.hash, text.to_owned()));
        expected.sort();
        assert_eq!(listed, expected);
        // Counted anew, the labels stay.
        fs::remove_file(site.dir.path().join("cachedb.ledger")).unwrap();
        drop(site.client(1_000_000));
    }
}

#[test]
fn damaged_books_are_made_again() {
    for (damaged, bytes) in [("cachedb", &b"rubbish that is no database at all"[..]), ("cachedb.ledger", &[0; 320])] {
        let site = Site::new(&[10_000; 20]);
        let client = site.client(1_000_000);
        (0..20).for_each(|number| site.read(&client, number));
        assert_eq!(client.quota().unwrap().size().unwrap(), (200_000, 0));
        drop(client);
        fs::write(site.dir.path().join(damaged), bytes).unwrap();
        let client = site.client(1_000_000);
        assert_eq!(client.quota().unwrap().size().unwrap(), (200_000, 0), "{damaged}");
        site.read(&client, 3);
        assert!(client.quota().unwrap().cleanup(100_000).unwrap());
        assert_eq!(site.disk_bytes(), 100_000);
    }
}

#[test]
fn a_directory_that_is_emptied_under_its_clients_is_filled_again() {
    let site = Site::new(&[10_000; 20]);
    let client = site.client(1_000_000);
    (0..20).for_each(|number| site.read(&client, number));
    // The clients go on meanwhile, and may write where something is being removed.
    wait_until("emptied", || fs::remove_dir_all(site.dir.path()).is_ok());
    fs::create_dir_all(site.dir.path()).unwrap();
    wait_until("kept again", || {
        (0..20).for_each(|number| site.read(&client, number));
        (0..20).all(|number| site.has(number))
    });
    wait_until("counted", || client.quota().unwrap().size().is_ok_and(|size| size.0 == 200_000));
}

#[test]
fn an_object_larger_than_the_limit_is_read_and_not_kept() {
    let site = Site::new(&[300_000, 2_000_000, 50_000]);
    let client = site.client(200_000);
    site.read(&client, 2);
    for number in [0, 1] {
        site.read(&client, number);
        assert!(!site.has(number));
    }
    assert!(client.quota().unwrap().counters().refused >= 2);
    site.read(&client, 2);
    assert!(site.disk_bytes() <= 50_000);
}

#[test]
fn an_evicted_object_leaves_the_books_right() {
    let site = Site::new(&[10_000; 3]);
    let client = site.client(1_000_000);
    (0..3).for_each(|number| site.read(&client, number));
    assert!(client.evict(&site.wants[1].id).unwrap());
    assert!(!client.evict(&site.wants[1].id).unwrap());
    assert_eq!(client.quota().unwrap().counters().cached_bytes, 20_000);
    assert!(client.pin(&site.wants[2].id).unwrap());
    assert!(!client.evict(&site.wants[2].id).unwrap());
    assert_eq!(client.quota().unwrap().size().unwrap().0, 20_000);
    site.read(&client, 1);
    assert_eq!(client.quota().unwrap().size().unwrap().0, 30_000);
}

#[derive(Debug, Clone)]
enum Step {
    Read(usize, usize),
    Pin(usize, usize),
    Unpin(usize, usize),
    Evict(usize),
    Cleanup(usize, u64),
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (client, object) = (0usize..2, 0usize..24);
    prop_oneof![
        12 => (client.clone(), object.clone()).prop_map(|(c, n)| Step::Read(c, n)),
        2 => (client.clone(), object.clone()).prop_map(|(c, n)| Step::Pin(c, n)),
        1 => (client.clone(), object.clone()).prop_map(|(c, n)| Step::Unpin(c, n)),
        1 => object.prop_map(Step::Evict),
        1 => (client.clone(), 0u64..200_000).prop_map(|(c, goal)| Step::Cleanup(c, goal)),
        1 => client.prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_the_limit_holds_pins_are_there_and_the_books_are_right(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        const LIMIT: u64 = 200_000;
        let site = Site::new(&(0..24).map(|n| 2_000 + n * 1_500).collect::<Vec<_>>());
        let mut clients = [site.client(LIMIT), site.client(LIMIT)];
        let mut pinned = [vec![], vec![]];
        for step in steps {
            match step {
                Step::Read(client, number) => site.read(&clients[client], number),
                Step::Pin(client, number) => {
                    if clients[client].pin(&site.wants[number].id).unwrap() {
                        pinned[client].push(number);
                    }
                }
                Step::Unpin(client, number) => {
                    clients[client].unpin(&site.wants[number].id);
                    pinned[client].retain(|n| *n != number);
                }
                Step::Evict(number) => {
                    clients[0].evict(&site.wants[number].id).unwrap();
                }
                Step::Cleanup(client, goal) => {
                    clients[client].quota().unwrap().cleanup(goal).unwrap();
                }
                Step::Restart(client) => {
                    clients[client] = site.client(LIMIT);
                    pinned[client].clear();
                }
            }
            prop_assert!(site.disk_bytes() <= LIMIT);
            prop_assert!(pinned.iter().flatten().all(|number| site.has(*number)), "{pinned:?}");
        }
        // A clean-up may still be under way in one of the threads.
        let quota = clients[0].quota().unwrap();
        wait_until("the books are right", || quota.size().unwrap().0 == site.disk_bytes());
    }
}
