//! Garbage collection against model repositories: what is left is exactly what kept revisions reach.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    BaseRevision, Committed, NewRepository, PublishSettings, Source, create_repository, publish,
};
use nearfs_core::replica::PathRules;
use nearfs_core::replica::check::{CheckSettings, check};
use nearfs_core::replica::sweep::{self, Head, Removal, Retention, SweepSettings, Swept};
use nearfs_core::repo::history::HistoryDb;
use nearfs_core::repo::reflog::{REFLOG_NAME, Reference, Reflog};
use nearfs_core::store::{LocalStore, ObjectList as _, ObjectRead, ObjectRemove, ObjectWrite, ObjectWriter, Stored};
use nearfs_core::{Error, ErrorKind, Result};
use nearfs_format::chunker::ChunkSizes;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::history::Tag;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;
use nearfs_format::reflog::RefKind;

use common::edits::noise;
use common::{Kind, MARKER, Model, Tree, file, put, show, take};

const FQRN: &str = "test.example.org";
const FIRST_S: i64 = 1000;
const STEP_S: i64 = 100;

/// A local store that fails at a deletion, as a kill would end it there.
#[derive(Debug)]
struct Dying<'a> {
    inner: &'a LocalStore,
    left: AtomicI64,
}

impl ObjectRead for Dying<'_> {
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

impl ObjectWrite for Dying<'_> {
    fn put(&self, id: &ObjectId, bytes: &[u8]) -> Result<Stored> {
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

impl ObjectRemove for Dying<'_> {
    fn remove(&self, id: &ObjectId) -> Result<bool> {
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(Error::new(ErrorKind::LocalIo, "remove", "killed"));
        }
        self.inner.remove(id)
    }
}

/// A repository whose revisions are published one after the other.
struct Repository {
    directory: tempfile::TempDir,
    store: LocalStore,
    tree: Tree,
    revisions: Vec<Committed>,
    history: Option<ContentHash>,
    checksum: ContentHash,
}

impl Repository {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::create_skeleton(directory.path().join("storage")).unwrap();
        let new = NewRepository {
            fqrn: FQRN.into(),
            hash_algorithm: HashAlgorithm::Shake128,
            uid: 0,
            gid: 0,
            volatile: false,
            voms_authz: None,
            now: FIRST_S,
        };
        let first = create_repository(&store, &new).unwrap();
        let mut reflog = Reflog::create(&store.scratch_dir(), FQRN).unwrap();
        reflog.add(&Reference { hash: first.root_hash, kind: RefKind::Catalog, timestamp: FIRST_S }).unwrap();
        let checksum = reflog.save(&store, HashAlgorithm::Shake128).unwrap();
        Self { directory, store, tree: Tree::new(), revisions: vec![first], history: None, checksum }
    }

    fn head(&self) -> Head {
        let root_hash = self.revisions.last().unwrap().root_hash;
        Head { root_hash, history: self.history, certificate: None, metainfo: None }
    }

    fn note(&mut self, hash: ContentHash, kind: RefKind, timestamp: i64) {
        let mut reflog = Reflog::load(&self.store, &self.store.scratch_dir(), FQRN, &self.checksum).unwrap();
        reflog.add(&Reference { hash, kind, timestamp }).unwrap();
        self.checksum = reflog.save(&self.store, HashAlgorithm::Shake128).unwrap();
    }

    fn publish(&mut self, edit: impl Fn(&mut Tree)) -> ContentHash {
        edit(&mut self.tree);
        let number = self.revisions.len() as i64;
        let path = self.directory.path().join(format!("tree-{number}"));
        show(&self.tree, &path);
        let now = FIRST_S + number * STEP_S;
        let mut settings = PublishSettings::new(now);
        settings.hash_algorithm = HashAlgorithm::Shake128;
        settings.chunk_sizes = Some(ChunkSizes::new(1 << 10, 2 << 10, 4 << 10).unwrap());
        let base = BaseRevision { root_hash: self.head().root_hash };
        let done = publish(&self.store, &base, &Source::Directory { path }, &settings, &Progress::new()).unwrap();
        let hash = done.root_hash;
        self.revisions.push(done);
        self.note(hash, RefKind::Catalog, now);
        hash
    }

    fn tag(&mut self, name: &str, index: usize) {
        let scratch = self.store.scratch_dir();
        let mut history = match self.history {
            Some(hash) => HistoryDb::load(&self.store, &scratch, FQRN, hash).unwrap(),
            None => HistoryDb::create(&scratch, FQRN).unwrap(),
        };
        let revision = &self.revisions[index];
        let tag = Tag {
            name: name.into(),
            root_hash: revision.root_hash,
            revision: revision.revision,
            timestamp: FIRST_S,
            channel: 0,
            description: String::new(),
            size_bytes: revision.root_size_bytes,
            branch: String::new(),
        };
        history.insert(&tag).unwrap();
        if let Some(previous) = self.history {
            history.set_previous_revision(previous).unwrap();
        }
        let hash = history.save(&self.store, HashAlgorithm::Shake128).unwrap().hash;
        self.history = Some(hash);
        self.note(hash, RefKind::History, FIRST_S + index as i64 * STEP_S);
    }

    fn settings(&self, retention: Retention) -> SweepSettings {
        let mut settings = SweepSettings::new(FQRN, self.head(), retention, self.checksum);
        // So small that every set goes to disk.
        settings.in_memory_max = 5;
        settings
    }

    fn collect(&mut self, retention: Retention) -> Swept {
        let plan = sweep::plan(&self.store, &self.settings(retention), &Progress::new()).unwrap();
        let swept = plan.execute(&self.store, &Removal::default(), &Progress::new()).unwrap();
        if let Some(reflog) = &swept.reflog {
            self.store.put_named(REFLOG_NAME, reflog).unwrap();
            self.checksum = HashAlgorithm::Shake128.hash(reflog);
        }
        swept
    }

    fn stored(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut visit = |id: ObjectId, _| {
            found.insert(id.to_string());
            Ok(())
        };
        self.store.list(&mut visit).unwrap();
        found
    }

    /// What revisions need, by a reader that shares no code with the sweep.
    fn needed(&self, revisions: &[usize]) -> BTreeSet<String> {
        let mut found: BTreeSet<String> =
            self.history.iter().map(|hash| ObjectId::new(*hash, ObjectKind::History).to_string()).collect();
        for index in revisions {
            needs(&self.store, self.revisions[*index].root_hash, &mut found);
        }
        found
    }

    fn assert_sound(&self, revisions: &[usize]) {
        for index in revisions {
            let revision = &self.revisions[*index];
            let settings = CheckSettings {
                fqrn: FQRN.into(),
                root_hash: revision.root_hash,
                expected_size_bytes: revision.root_size_bytes,
                check_chunks: true,
                verify_content: true,
                subtree: RepoPath::root(),
                paths: PathRules::default(),
            };
            let report = check(self.store.root(), &settings, &AtomicBool::default()).unwrap();
            assert_eq!(report.findings, [], "revision {index}");
        }
    }
}

fn needs(store: &LocalStore, catalog: ContentHash, found: &mut BTreeSet<String>) {
    found.insert(ObjectId::new(catalog, ObjectKind::Catalog).to_string());
    let stored = store.read(&ObjectId::new(catalog, ObjectKind::Catalog), 1 << 30).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), nearfs_format::codec::inflate_bounded(&stored, 1 << 30).unwrap()).unwrap();
    let sql = rusqlite::Connection::open(file.path()).unwrap();
    for (query, kind) in [
        ("SELECT hash FROM catalog WHERE hash NOTNULL", ObjectKind::File),
        ("SELECT hash FROM chunks", ObjectKind::Chunk),
    ] {
        let mut statement = sql.prepare(query).unwrap();
        for digest in statement.query_map([], |row| row.get::<_, [u8; 20]>(0)).unwrap() {
            found.insert(ObjectId::new(ContentHash::new(HashAlgorithm::Shake128, digest.unwrap()), kind).to_string());
        }
    }
    let mut statement = sql.prepare("SELECT sha1 FROM nested_catalogs").unwrap();
    for text in statement.query_map([], |row| row.get::<_, String>(0)).unwrap() {
        needs(store, text.unwrap().parse().unwrap(), found);
    }
}

fn large(seed: u64) -> Model {
    Model { kind: Kind::File(noise(9000, seed)), ..file("") }
}

/// Six revisions over nested catalogs, with files that come, go, come back and are shared; 2 has a tag.
fn repository() -> Repository {
    let mut repository = Repository::new();
    repository.publish(|tree| {
        put(tree, "/a/deep/shared", large(1));
        put(tree, "/a/deep/only-1", file("one"));
        put(tree, &format!("/a/{MARKER}"), file(""));
        put(tree, &format!("/a/deep/{MARKER}"), file(""));
        put(tree, "/b/file", file("b"));
    });
    repository.publish(|tree| {
        take(tree, "/a/deep/only-1");
        put(tree, "/a/deep/large-2", large(2));
    });
    repository.publish(|tree| put(tree, "/b/only-3", large(3)));
    repository.publish(|tree| {
        take(tree, "/b/only-3");
        take(tree, "/a/deep");
        put(tree, "/c/back", file("one"));
    });
    repository.publish(|tree| put(tree, "/a/shared-again", large(1)));
    repository.tag("keep", 2);
    repository
}

#[test]
fn what_stays_is_what_kept_revisions_reach() {
    for (retention, kept) in [
        (Retention::Revisions(0), vec![2, 5]),
        (Retention::Revisions(1), vec![2, 4, 5]),
        (Retention::Revisions(100), vec![0, 1, 2, 3, 4, 5]),
        // The boundary revision, which is older, stays.
        (Retention::Since(FIRST_S + 5 * STEP_S), vec![2, 4, 5]),
        (Retention::Since(FIRST_S + 5 * STEP_S + 1), vec![2, 5]),
        (Retention::Since(0), vec![0, 1, 2, 3, 4, 5]),
    ] {
        let mut repository = repository();
        let needed = repository.needed(&kept);
        let (before, condemned) = (repository.stored(), 6 - kept.len() as u64);
        let swept = repository.collect(retention);
        assert_eq!(swept.warnings, Vec::<String>::new());
        assert_eq!(repository.stored(), needed, "{retention:?}");
        assert_eq!(swept.revisions, condemned);
        assert_eq!(swept.objects + swept.catalogs + swept.auxiliary, (before.len() - needed.len()) as u64);
        repository.assert_sound(&kept);
        let again = repository.collect(retention);
        assert_eq!((again.revisions, again.reflog), (0, None), "nothing is left to do");
    }
}

#[test]
fn a_dry_run_names_what_a_real_one_deletes_and_deletes_nothing() {
    let mut repository = repository();
    let before = repository.stored();
    let listing = repository.directory.path().join("listing");
    let removal = Removal { is_dry_run: true, measure: true, listing: Some(listing.clone()) };
    let plan = sweep::plan(&repository.store, &repository.settings(Retention::Revisions(0)), &Progress::new()).unwrap();
    let dry = plan.execute(&repository.store, &removal, &Progress::new()).unwrap();
    assert_eq!(repository.stored(), before);
    assert!(dry.bytes > 0 && dry.reflog.is_none());
    let swept = repository.collect(Retention::Revisions(0));
    let gone: BTreeSet<String> = before.difference(&repository.stored()).cloned().collect();
    let named = std::fs::read_to_string(listing).unwrap();
    assert_eq!(named.lines().count(), gone.len(), "each once");
    let (objects, catalogs) = (swept.objects, swept.catalogs);
    assert_eq!((dry.objects, dry.catalogs, dry.revisions), (objects, catalogs, swept.revisions));
    for line in named.lines() {
        assert!(gone.iter().any(|id| id.contains(line)), "{line} of {gone:?}");
    }
}

#[test]
fn a_collection_that_dies_anywhere_is_finished_by_the_next() {
    let mut survived = false;
    for deletions in 0..200 {
        let mut repository = repository();
        let needed = repository.needed(&[2, 5]);
        let dying = Dying { inner: &repository.store, left: AtomicI64::new(deletions) };
        let plan = sweep::plan(&dying, &repository.settings(Retention::Revisions(0)), &Progress::new()).unwrap();
        let outcome = plan.execute(&dying, &Removal::default(), &Progress::new());
        repository.assert_sound(&[2, 5]);
        if outcome.is_ok() {
            survived = true;
            break;
        }
        // Even one that keeps more: what is half gone is passed over, and protects nothing but itself.
        if deletions % 7 == 3 {
            repository.collect(Retention::Revisions(1));
            repository.assert_sound(&[2, 5]);
        }
        repository.collect(Retention::Revisions(0));
        assert_eq!(repository.stored(), needed, "after {deletions} deletions");
    }
    assert!(survived);
}

#[test]
fn external_objects_and_bind_mountpoints_are_not_followed() {
    let mut repository = repository();
    // The untagged revision 3 is bound into the head's catalog, and the head's files are made external in revision 4.
    let bound = repository.revisions[3].root_hash;
    let rewrite = |repository: &Repository, index: usize, sql: &str| {
        let id = ObjectId::new(repository.revisions[index].root_hash, ObjectKind::Catalog);
        let stored = repository.store.read(&id, 1 << 30).unwrap();
        let path = repository.directory.path().join("rewritten");
        std::fs::write(&path, nearfs_format::codec::inflate_bounded(&stored, 1 << 30).unwrap()).unwrap();
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let stored = nearfs_format::codec::deflate(&std::fs::read(&path).unwrap());
        let hash = HashAlgorithm::Shake128.hash(&stored);
        repository.store.put(&ObjectId::new(hash, ObjectKind::Catalog), &stored).unwrap();
        hash
    };
    let head = rewrite(
        &repository,
        5,
        &format!("INSERT INTO bind_mountpoints (path, sha1, size) VALUES ('/c', '{bound}', 0);"),
    );
    repository.revisions[5].root_hash = head;
    repository.note(head, RefKind::Catalog, 2000);
    // A revision to be collected that names, as external, an object that nothing else needs.
    let lone = b"lone";
    let id = ObjectId::new(HashAlgorithm::Shake128.hash(lone), ObjectKind::File);
    repository.store.put(&id, lone).unwrap();
    let sql = format!("UPDATE catalog SET hash = x'{}', flags = flags | 128 WHERE name = 'back';", id.hash.hex());
    let external = rewrite(&repository, 4, &sql);
    repository.note(external, RefKind::Catalog, 2000);
    repository.collect(Retention::Revisions(0));
    assert_eq!(repository.store.size(&id).unwrap(), Some(4), "external data is not ours to delete");
    assert_eq!(repository.store.size(&ObjectId::new(bound, ObjectKind::Catalog)).unwrap(), None);
    repository.assert_sound(&[2]);
}

fn damage(repository: &Repository, root: usize, bytes: Option<&[u8]>) {
    let id = ObjectId::new(repository.revisions[root].root_hash, ObjectKind::Catalog);
    let path: &Path = &repository.store.path_of(&id);
    match bytes {
        Some(bytes) => std::fs::write(path, bytes).unwrap(),
        None => std::fs::remove_file(path).unwrap(),
    }
}

#[test]
fn where_needs_are_unknown_nothing_is_deleted() {
    for (root, bytes, kind, word) in [
        (5, None, ErrorKind::NotFound, "the newest revision"),
        (2, None, ErrorKind::NotFound, "tag 'keep'"),
        (2, Some(&b"noise"[..]), ErrorKind::Corrupt, "tag 'keep'"),
        (4, Some(&b"noise"[..]), ErrorKind::Corrupt, "hash"),
    ] {
        let repository = repository();
        damage(&repository, root, bytes);
        let before = repository.stored();
        let settings = repository.settings(Retention::Revisions(1));
        let error = sweep::plan(&repository.store, &settings, &Progress::new()).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(repository.stored(), before);
    }
}

#[test]
fn a_damaged_condemned_catalog_stays_known() {
    let mut repository = repository();
    damage(&repository, 3, Some(b"noise"));
    let swept = repository.collect(Retention::Revisions(0));
    assert_eq!((swept.revisions, swept.warnings.len()), (3, 1));
    let reflog = Reflog::load(&repository.store, &repository.store.scratch_dir(), FQRN, &repository.checksum).unwrap();
    assert!(reflog.contains(&repository.revisions[3].root_hash, RefKind::Catalog).unwrap());
    repository.assert_sound(&[2, 5]);
}

#[test]
fn a_log_is_rebuilt_from_what_leads_to_the_present() {
    let repository = repository();
    let known = Reflog::load(&repository.store, &repository.store.scratch_dir(), FQRN, &repository.checksum).unwrap();
    let rebuilt = sweep::rebuild(&repository.store, FQRN, &repository.head(), None, 7, &Progress::new()).unwrap();
    let hashes = |list: Vec<Reference>| list.into_iter().map(|r| (r.hash.to_string(), r.kind)).collect::<BTreeSet<_>>();
    assert_eq!(hashes(rebuilt.added), hashes(known.list().unwrap()));
    let checksum = Some(&repository.checksum);
    let kept = sweep::rebuild(&repository.store, FQRN, &repository.head(), checksum, 7, &Progress::new()).unwrap();
    assert_eq!(kept.added, [], "a whole log lacks nothing");
}
