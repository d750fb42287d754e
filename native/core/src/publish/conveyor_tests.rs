use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use nearfs_format::object::ObjectId;
use nearfs_format::xattr::XattrList;

use super::super::pipeline::Tally;
use super::super::types::PublishSettings;
use super::*;
use crate::progress::Progress;
use crate::store::{MemoryStore, ObjectRead, ObjectWrite, ObjectWriter, Stored};

/// A store that counts what it was asked to keep, and is full after some objects.
#[derive(Debug)]
struct Counting {
    inner: MemoryStore,
    puts: AtomicUsize,
    room: usize,
}

impl ObjectRead for Counting {
    fn read(&self, id: &ObjectId, limit_bytes: u64) -> Result<Vec<u8>> {
        self.inner.read(id, limit_bytes)
    }
    fn open(&self, id: &ObjectId) -> Result<Box<dyn Read + Send>> {
        self.inner.open(id)
    }
    fn size(&self, id: &ObjectId) -> Result<Option<u64>> {
        self.inner.size(id)
    }
    fn read_named(&self, name: &str, limit_bytes: u64) -> Result<Vec<u8>> {
        self.inner.read_named(name, limit_bytes)
    }
}

impl ObjectWrite for Counting {
    fn put(&self, id: &ObjectId, bytes: &[u8]) -> Result<Stored> {
        if self.puts.fetch_add(1, Ordering::Relaxed) >= self.room {
            return Err(Error::io("store", "object", io::Error::from(io::ErrorKind::StorageFull)));
        }
        self.inner.put(id, bytes)
    }
    fn begin(&self) -> Result<Box<dyn ObjectWriter + '_>> {
        self.inner.begin()
    }
    fn put_named(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.inner.put_named(name, bytes)
    }
    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }
    fn scratch_dir(&self) -> PathBuf {
        self.inner.scratch_dir()
    }
    fn clear_leftovers(&self) -> Result<u64> {
        self.inner.clear_leftovers()
    }
}

struct Fixture {
    source: tempfile::TempDir,
    store: Counting,
    settings: PublishSettings,
    progress: Progress,
    tally: Tally,
    target: RepoPath,
}

fn fixture(room: usize) -> Fixture {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), b"").unwrap();
    let store = Counting { inner: MemoryStore::new(), puts: AtomicUsize::new(0), room };
    let mut settings = PublishSettings::new(1);
    settings.workers = 4;
    let (progress, tally) = (Progress::new(), Tally::default());
    Fixture { source, store, settings, progress, tally, target: RepoPath::root() }
}

impl Fixture {
    fn shared(&self) -> Shared<'_> {
        let (store, source) = (&self.store, self.source.path());
        let (settings, progress, tally) = (&self.settings, &self.progress, &self.tally);
        Shared { store, source, target: &self.target, settings, progress, tally, stop: Stop::default() }
    }

    /// Adds one and the same file over and over.
    fn change(&self) -> Change {
        use std::os::unix::fs::MetadataExt as _;
        let stat = fs::metadata(self.source.path().join("file")).unwrap();
        let action = Action::Add(Found {
            file_type: FileType::Regular,
            mode: stat.mode(),
            uid: 0,
            gid: 0,
            size: stat.len(),
            mtime: stat.mtime(),
            mtime_ns: stat.mtime_nsec() as u32,
            symlink: Vec::new(),
            xattrs: XattrList::default(),
            given: None,
        });
        Change { path: RepoPath::parse(b"/file").unwrap(), action }
    }
}

#[test]
fn few_changes_are_under_way_and_all_arrive_in_order() {
    let mut fixture = fixture(usize::MAX);
    fixture.settings.workers = 3;
    let all = 5 * IN_FLIGHT;
    let (handed, mut applied) = (AtomicUsize::new(0), 0_usize);
    let scan = |sink: &mut dyn Changes| {
        for number in 0..all {
            let mut change = fixture.change();
            // A number to know it by: not compared with the file.
            if let Action::Add(found) = &mut change.action {
                found.uid = number as u32;
            }
            handed.fetch_add(1, Ordering::SeqCst);
            sink.change(change)?;
        }
        Ok(())
    };
    convey(&fixture.shared(), scan, |change, content| {
        let (Action::Add(found), Some(content)) = (&change.action, content) else { panic!("content is missing") };
        assert!(content.hash.is_some());
        assert_eq!(found.uid as usize, applied);
        applied += 1;
        if applied == 1 {
            // The slowest commit there is: everybody else comes to rest first.
            while fixture.tally.peak_in_flight() < IN_FLIGHT {
                std::thread::yield_now();
            }
        }
        assert!(handed.load(Ordering::SeqCst) - applied <= IN_FLIGHT + 2);
        Ok(())
    })
    .unwrap();
    assert_eq!(applied, all);
    assert!(fixture.tally.peak_in_flight() <= IN_FLIGHT + 2);
}

/// Runs an endless scan, which only a failure ends.
fn endless(fixture: &Fixture, mut apply: impl FnMut() -> Result<()>) -> Error {
    let scan = |sink: &mut dyn Changes| loop {
        sink.check()?;
        sink.change(fixture.change())?;
    };
    convey(&fixture.shared(), scan, |_, _| apply()).unwrap_err()
}

#[test]
fn a_full_store_stops_everybody() {
    let fixture = fixture(10);
    assert_eq!(endless(&fixture, || Ok(())).kind(), ErrorKind::NoSpace);
    // Those who were storing at that moment, and nobody after them.
    assert!(fixture.store.puts.load(Ordering::Relaxed) <= 10 + fixture.settings.workers);
}

#[test]
fn a_commit_that_fails_stops_everybody() {
    let fixture = fixture(usize::MAX);
    let failed = || Err(Error::new(ErrorKind::Corrupt, "test", "catalog"));
    assert_eq!(endless(&fixture, failed).kind(), ErrorKind::Corrupt);
}

#[test]
fn a_request_to_stop_is_heard() {
    let fixture = fixture(usize::MAX);
    let mut applied = 0;
    let error = endless(&fixture, || {
        applied += 1;
        if applied == 7 {
            fixture.progress.cancel();
        }
        Ok(())
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(applied <= 7 + IN_FLIGHT);
}

#[test]
fn a_file_that_vanished_is_an_error_and_no_wait() {
    let fixture = fixture(usize::MAX);
    let change = fixture.change();
    fs::remove_file(fixture.source.path().join("file")).unwrap();
    let scan = |sink: &mut dyn Changes| sink.change(change);
    let error = convey(&fixture.shared(), scan, |_, _| panic!("it was applied")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
}
