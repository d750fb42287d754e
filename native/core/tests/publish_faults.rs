//! What a publish leaves behind when something goes wrong in the middle.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use common::{Kind, MARKER, Model, Tree, dir, expect, file, put, show, take, tree};
use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    BaseRevision, NewRepository, PublishSettings, Source, create_repository, execute, plan, publish,
};
use nearfs_core::store::{LocalStore, ObjectRead, ObjectWrite, ObjectWriter, Stored};
use nearfs_core::{Error, ErrorKind, Result};
use nearfs_format::chunker::ChunkSizes;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::ObjectId;

/// A store whose disk is full after some writes.
#[derive(Debug)]
struct Filling<'s> {
    inner: &'s LocalStore,
    writes_left: AtomicI64,
}

impl Filling<'_> {
    fn write(&self) -> Result<()> {
        if self.writes_left.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(Error::io("store", "object", io::Error::from(io::ErrorKind::StorageFull)))
    }
}

impl ObjectRead for Filling<'_> {
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

impl ObjectWrite for Filling<'_> {
    fn put(&self, id: &ObjectId, bytes: &[u8]) -> Result<Stored> {
        self.write()?;
        self.inner.put(id, bytes)
    }

    fn begin(&self) -> Result<Box<dyn ObjectWriter + '_>> {
        self.write()?;
        let inner = self.inner.begin()?;
        Ok(Box::new(FillingWriter { store: self, inner }))
    }

    fn put_named(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write()?;
        self.inner.put_named(name, bytes)
    }

    fn sync(&self) -> Result<()> {
        self.write()
    }

    fn scratch_dir(&self) -> PathBuf {
        self.inner.scratch_dir()
    }

    fn clear_leftovers(&self) -> Result<u64> {
        self.inner.clear_leftovers()
    }
}

struct FillingWriter<'s> {
    store: &'s Filling<'s>,
    inner: Box<dyn ObjectWriter + 's>,
}

impl Write for FillingWriter<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.inner.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl ObjectWriter for FillingWriter<'_> {
    fn commit(self: Box<Self>, id: &ObjectId) -> Result<Stored> {
        self.store.write()?;
        self.inner.commit(id)
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    store: LocalStore,
    base: BaseRevision,
    tree: Tree,
    settings: PublishSettings,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::create_skeleton(directory.path().join("storage")).unwrap();
    let new = NewRepository {
        fqrn: "fault.example.org".into(),
        hash_algorithm: HashAlgorithm::Sha1,
        uid: 0,
        gid: 0,
        volatile: false,
        voms_authz: None,
        now: 1,
    };
    let head = create_repository(&store, &new).unwrap();
    let tree = tree(&[("/d", dir()), ("/d/f", file("one")), ("/n", dir()), (&format!("/n/{MARKER}"), file(""))]);
    let path = directory.path().join("first");
    show(&tree, &path);
    let settings = PublishSettings {
        chunk_sizes: Some(ChunkSizes::new(512, 1024, 2048).unwrap()),
        workers: 3,
        ..PublishSettings::new(2)
    };
    let base = BaseRevision { root_hash: head.root_hash };
    let done = publish(&store, &base, &Source::Directory { path }, &settings, &Progress::new()).unwrap();
    Fixture { directory, store, base: BaseRevision { root_hash: done.root_hash }, tree, settings }
}

impl Fixture {
    fn source(&self, name: &str, edit: impl FnOnce(&mut Tree)) -> (Source, Tree) {
        let mut after = self.tree.clone();
        edit(&mut after);
        let path = self.directory.path().join(name);
        show(&after, &path);
        (Source::Directory { path }, after)
    }
}

fn large() -> Model {
    Model { kind: Kind::File((0..20_000_u32).flat_map(u32::to_le_bytes).collect()), ..file("") }
}

#[test]
fn a_failure_at_any_write_leaves_the_old_revision_whole_and_the_next_publish_working() {
    let fixture = fixture();
    let (source, after) = fixture.source("second", |t| {
        put(t, "/large", large());
        put(t, "/n/x", file("x"));
        take(t, "/d/f");
    });
    let run = |store: &dyn nearfs_core::store::Store| -> Result<ContentHash> {
        publish(store, &fixture.base, &source, &fixture.settings, &Progress::new()).map(|done| done.root_hash)
    };
    let mut failures = 0;
    for writes in 0.. {
        let filling = Filling { inner: &fixture.store, writes_left: AtomicI64::new(writes) };
        match run(&filling) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}"),
            Ok(root_hash) => {
                expect(&fixture.store, &root_hash, &after);
                break;
            }
        }
        failures += 1;
        expect(&fixture.store, &fixture.base.root_hash, &fixture.tree);
        assert_eq!(fs::read_dir(fixture.store.scratch_dir()).unwrap().count(), 0, "nothing temporary stays");
    }
    assert!(failures > 40, "chunks, files, catalogs and the flush failed once each: {failures}");
    expect(&fixture.store, &run(&fixture.store).unwrap(), &after);
}

#[test]
fn half_an_object_of_an_earlier_crash_is_replaced() {
    let fixture = fixture();
    let (source, after) = fixture.source("second", |t| put(t, "/new", file("new content")));
    let id = ObjectId::new(
        HashAlgorithm::Sha1.hash(&nearfs_format::codec::deflate(b"new content")),
        nearfs_format::object::ObjectKind::File,
    );
    fs::write(fixture.store.path_of(&id), b"").unwrap();
    let done = publish(&fixture.store, &fixture.base, &source, &fixture.settings, &Progress::new()).unwrap();
    expect(&fixture.store, &done.root_hash, &after);
}

type Change = fn(&std::path::Path);

#[test]
fn files_that_change_under_the_publish_stop_it() {
    let fixture = fixture();
    let changes: [(&str, Change); 5] = [
        ("grown", |path| fs::write(path, "longer than before").unwrap()),
        ("same-size", |path| fs::write(path, "twO").unwrap()),
        ("vanished", |path| fs::remove_file(path).unwrap()),
        ("fifo", |path| {
            fs::remove_file(path).unwrap();
            let mode = rustix::fs::Mode::from(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }),
        ("directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (name, change) in changes {
        let (source, _) = fixture.source(name, |t| put(t, "/x", file("two")));
        let plan = plan(&fixture.store, &fixture.base, &source, &fixture.settings).unwrap();
        change(&fixture.directory.path().join(name).join("x"));
        let done = execute(&fixture.store, &fixture.base, plan, &fixture.settings, &Progress::new());
        let error = done.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{name}: {error}");
        assert!(error.to_string().contains("/x"), "{error}");
    }
}

#[test]
fn a_catalog_that_lost_most_of_its_rows_is_compacted() {
    let fixture = fixture();
    let run = |base: &BaseRevision, name: &str, edit: &dyn Fn(&mut Tree)| {
        let (source, after) = fixture.source(name, edit);
        let done = publish(&fixture.store, base, &source, &fixture.settings, &Progress::new()).unwrap();
        let catalogs = expect(&fixture.store, &done.root_hash, &after);
        (BaseRevision { root_hash: done.root_hash }, catalogs[""].size)
    };
    let many = |t: &mut Tree| {
        put(t, "/large", large());
        (0..800).for_each(|number| put(t, &format!("/m/file{number}"), file("many")));
    };
    let (base, full) = run(&fixture.base, "many", &many);
    let few = |t: &mut Tree| {
        many(t);
        (100..800).for_each(|number| take(t, &format!("/m/file{number}")));
    };
    let (_, compact) = run(&base, "few", &few);
    assert!(compact < full / 3, "{compact} of {full} bytes");
}
