//! What our own publisher makes is sound, revision after revision.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    BaseRevision, Committed, NewRepository, PublishSettings, Source, create_repository, publish,
};
use nearfs_core::replica::PathRules;
use nearfs_core::replica::check::{CheckSettings, check};
use nearfs_core::store::LocalStore;
use nearfs_format::chunker::ChunkSizes;
use nearfs_format::hash::HashAlgorithm;
use nearfs_format::path::RepoPath;

use crate::common::{Kind, MARKER, Model, Tree, dir, file, link, put, show, take};

const FQRN: &str = "test.example.org";

type Edit<'a> = &'a dyn Fn(&mut Tree);

/// Asserts that a revision is sound; returns where its catalogs are mounted.
fn sound(storage: &Path, revision: &Committed) -> Vec<String> {
    let settings = CheckSettings {
        fqrn: FQRN.into(),
        root_hash: revision.root_hash,
        expected_size_bytes: revision.root_size_bytes,
        check_chunks: true,
        verify_content: true,
        subtree: RepoPath::root(),
        paths: PathRules::default(),
    };
    let report = check(storage, &settings, &AtomicBool::new(false)).unwrap();
    assert_eq!(report.findings, []);
    report.catalogs.into_iter().map(|(_, path)| path).collect()
}

fn new_repository(hash_algorithm: HashAlgorithm) -> NewRepository {
    NewRepository { fqrn: FQRN.into(), hash_algorithm, uid: 3, gid: 4, volatile: false, voms_authz: None, now: 500 }
}

#[test]
fn published_revisions_are_sound() {
    let directory = tempfile::tempdir().unwrap();
    let storage = directory.path().join("storage");
    let store = LocalStore::create_skeleton(storage.clone()).unwrap();
    let mut head = create_repository(&store, &new_repository(HashAlgorithm::Shake128)).unwrap();
    assert_eq!(sound(&storage, &head), ["/"]);

    let mut settings = PublishSettings::new(600);
    settings.chunk_sizes = Some(ChunkSizes::new(32 << 10, 64 << 10, 128 << 10).unwrap());
    let large: Vec<u8> = (0..400_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut tree = Tree::new();
    put(&mut tree, "/a/b/large", Model { kind: Kind::File(large), ..file("") });
    put(&mut tree, "/a/link", link("$(X:-b)/large"));
    put(&mut tree, "/a/pipe", Model { kind: Kind::Fifo, ..file("") });
    put(&mut tree, "/a/empty", dir());
    let marker = |directory: &str| format!("{directory}/{MARKER}");
    let edits: [(&str, Edit<'_>, &[&str]); 4] = [
        ("one catalog", &|_| {}, &["/"]),
        ("split", &|tree| put(tree, &marker("/a"), file("")), &["/", "/a"]),
        ("split below", &|tree| put(tree, &marker("/a/b"), file("")), &["/", "/a", "/a/b"]),
        ("merged", &|tree| take(tree, &marker("/a")), &["/", "/a/b"]),
    ];
    for (name, edit, catalogs) in edits {
        edit(&mut tree);
        let path = directory.path().join(name);
        show(&tree, &path);
        let base = BaseRevision { root_hash: head.root_hash };
        head = publish(&store, &base, &Source::Directory { path }, &settings, &Progress::new()).unwrap();
        assert_eq!(sound(&storage, &head), catalogs, "{name}");
    }
}

#[test]
fn nested_catalogs_may_have_paths_that_are_not_utf8() {
    let directory = tempfile::tempdir().unwrap();
    let storage = directory.path().join("storage");
    let store = LocalStore::create_skeleton(storage.clone()).unwrap();
    let base = create_repository(&store, &new_repository(HashAlgorithm::Sha1)).unwrap();
    let path = directory.path().join("source");
    let odd = path.join(OsStr::from_bytes(b"\xff dir"));
    std::fs::create_dir_all(&odd).unwrap();
    std::fs::write(odd.join(MARKER), "").unwrap();
    std::fs::write(odd.join(OsStr::from_bytes(b"\xfe")), "content").unwrap();
    let base = BaseRevision { root_hash: base.root_hash };
    let source = Source::Directory { path };
    let head = publish(&store, &base, &source, &PublishSettings::new(600), &Progress::new()).unwrap();
    assert_eq!(sound(&storage, &head), ["/", "/\\xff dir"]);
}
