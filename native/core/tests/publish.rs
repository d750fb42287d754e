//! A published tree reads back as it was, revision after revision.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use common::edits::{any_edits, apply, noise};
use common::{Catalogs, Kind, MARKER, Model, Tree, dir, expect, file, link, put, show, show_upper, take, tree};
use nearfs_core::ErrorKind;
use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    BaseRevision, Committed, NewRepository, PublishSettings, Source, Warning, create_repository, plan, publish,
};
use nearfs_core::store::{LocalStore, ObjectList as _, ObjectWrite as _};
use nearfs_format::chunker::ChunkSizes;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::HashAlgorithm;
use nearfs_format::object::ObjectKind;
use proptest::prelude::*;
use tempfile::TempDir;

/// A repository on disk and what its head should show.
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
            uid: 3,
            gid: 4,
            volatile: false,
            voms_authz: None,
            now: 500,
        };
        let head = create_repository(&store, &new).unwrap();
        Self { directory, store, head, tree: Tree::new(), settings: PublishSettings::new(600), sources: 0 }
    }

    fn source_directory(&mut self) -> PathBuf {
        self.sources += 1;
        self.directory.path().join(format!("source{}", self.sources))
    }

    fn base(&self) -> BaseRevision {
        BaseRevision { root_hash: self.head.root_hash }
    }

    fn try_publish(&self, source: &Source) -> nearfs_core::Result<Committed> {
        publish(&self.store, &self.base(), source, &self.settings, &Progress::new())
    }

    fn publish(&mut self, source: &Source) {
        self.head = self.try_publish(source).unwrap();
    }

    fn publish_directory(&mut self, tree: Tree) -> Catalogs {
        let path = self.source_directory();
        show(&tree, &path);
        self.publish(&Source::Directory { path });
        self.tree = tree;
        expect(&self.store, &self.head.root_hash, &self.tree)
    }

    fn publish_overlay(&mut self, tree: Tree, is_opaque: impl Fn(&str) -> bool) -> Catalogs {
        let upper = self.source_directory();
        show_upper(&self.tree, &tree, &upper, is_opaque);
        self.publish(&Source::Overlay { upper });
        self.tree = tree;
        expect(&self.store, &self.head.root_hash, &self.tree)
    }

    /// Changes the tree and publishes that as an overlay.
    fn edit(&mut self, change: impl FnOnce(&mut Tree)) -> Catalogs {
        let mut tree = self.tree.clone();
        change(&mut tree);
        self.publish_overlay(tree, |_| false)
    }

    fn objects(&self) -> u64 {
        let mut count = 0;
        let mut visit = |_, _| {
            count += 1;
            Ok(())
        };
        self.store.list(&mut visit).unwrap();
        count
    }
}

fn sample() -> Tree {
    tree(&[
        ("/a", dir()),
        ("/a/b", dir()),
        ("/a/b/f", file("one")),
        ("/a/empty", file("")),
        ("/link", link("$(X:-a)/b")),
        ("/n", dir()),
        (&format!("/n/{MARKER}"), file("")),
        ("/n/f", file("two")),
        ("/n/sub", dir()),
        ("/n/sub/deep", dir()),
        (&format!("/n/sub/deep/{MARKER}"), file("")),
        ("/n/sub/deep/f", file("three")),
        ("/other", dir()),
        (&format!("/other/{MARKER}"), file("")),
        ("/pipe", Model { kind: Kind::Fifo, mode: 0o600, mtime: 3 }),
    ])
}

#[test]
fn a_new_repository_is_an_empty_directory() {
    let repository = Repository::new();
    assert_eq!((repository.head.revision, repository.head.ttl_s), (0, 240));
    let catalogs = expect(&repository.store, &repository.head.root_hash, &Tree::new());
    let (root, properties) = (&catalogs[""].rows[""], &catalogs[""].properties);
    assert_eq!((root.mode, root.size, root.mtime, root.uid, root.gid), (0o040_755, 4096, 500, 3, 4));
    assert_eq!((root.parent, root.flags, root.hardlinks, root.mtimens), ((0, 0), 1, 2, None));
    assert_eq!(properties["schema"], "2.5");
    assert_eq!(properties["schema_revision"], "7");
    assert_eq!((properties["revision"].as_str(), properties["last_modified"].as_str()), ("0", "500"));
    assert!(!properties.contains_key("previous_revision") && !properties.contains_key("TTL"));
    assert_eq!(catalogs[""].counters["self_dir"], 1);
    assert_eq!(catalogs[""].size, repository.head.root_size_bytes);
}

#[test]
fn a_tree_with_nested_catalogs_reads_back() {
    let mut repository = Repository::new();
    let empty = repository.head.root_hash;
    let catalogs = repository.publish_directory(sample());
    assert_eq!(catalogs.len(), 4);
    let root = &catalogs[""].properties;
    assert_eq!((root["revision"].as_str(), root["TTL"].as_str()), ("1", "240"));
    assert_eq!(root["previous_revision"], empty.to_string());
    assert_eq!(root["last_modified"], "600");
    let nested = &catalogs["/n/sub/deep"].properties;
    assert_eq!((nested["revision"].as_str(), nested["previous_revision"].as_str()), ("1", "0".repeat(40).as_str()));
    assert!(!nested.contains_key("TTL"));
    let rows = common::entries(&catalogs);
    for (path, flags) in [("/a/empty", 4), ("/link", 0xC), ("/pipe", 0x14), ("/n", 3), ("/a", 1)] {
        assert_eq!(rows[path].flags, flags, "{path}");
    }
    assert_eq!(rows["/a/empty"].hash.as_ref().unwrap()[..2], [0xe8, 0xec], "the empty file of section 1.4");
    assert!(rows.values().all(|row| row.mtimens.is_none()));
    assert_eq!(repository.head.changes.files_added, 9);
    assert_eq!(repository.head.changes.directories_added, 6);
    assert_eq!(repository.head.catalogs_new, 4);
    assert_eq!(repository.head.stored.objects_new, 4 + 4, "four contents and four catalogs");
}

#[test]
fn one_changed_file_renews_only_the_catalogs_on_its_path() {
    let mut repository = Repository::new();
    let before = repository.publish_directory(sample());
    let objects = repository.objects();
    let after = repository.edit(|tree| put(tree, "/n/f", file("changed")));
    assert_eq!(repository.head.revision, 2);
    assert_eq!(repository.head.catalogs_new, 2);
    assert_eq!(repository.head.stored.objects_new, 3);
    assert_eq!(repository.objects(), objects + 3);
    for (path, is_kept) in [("", false), ("/n", false), ("/n/sub/deep", true), ("/other", true)] {
        assert_eq!(before[path].hash == after[path].hash, is_kept, "{path}");
    }
    assert_eq!(after["/n"].properties["previous_revision"], before["/n"].hash);
    assert_eq!(after["/n"].properties["revision"], "2");
    assert_eq!(after[""].properties["previous_revision"], before[""].hash);
}

/// More catalogs than stay open at a time: they are finished and closed on the way, each of them once.
#[test]
fn many_catalogs_are_finished_on_the_way() {
    let tops: Vec<String> = (0..30).map(|number| format!("/t{number:02}")).collect();
    let mut tree = sample();
    for top in tops.iter().flat_map(|top| [top.clone(), format!("{top}/in")]) {
        put(&mut tree, &top, dir());
        put(&mut tree, &format!("{top}/{MARKER}"), file(""));
        put(&mut tree, &format!("{top}/f"), file(&top));
    }
    let mut repository = Repository::new();
    let before = repository.publish_directory(tree);
    assert_eq!(before.len(), 64);
    assert_eq!(repository.head.catalogs_new, 64, "none is stored twice");
    let after = repository.edit(|tree| {
        for top in &tops {
            put(tree, &format!("{top}/in/f"), file("changed"));
            put(tree, &format!("{top}-beside"), dir());
            put(tree, &format!("{top}/plain"), dir());
        }
    });
    assert_eq!(repository.head.catalogs_new, 61);
    assert!(tops.iter().all(|top| after[top].properties["revision"] == "2"));
    assert_eq!(std::fs::read_dir(repository.store.scratch_dir()).unwrap().count(), 0, "no temporary file stays");
}

#[test]
fn nothing_changed_is_a_new_revision_of_the_root_alone() {
    let mut repository = Repository::new();
    let before = repository.publish_directory(sample());
    let same = repository.tree.clone();
    let after = repository.publish_overlay(same.clone(), |_| false);
    assert_eq!((repository.head.revision, repository.head.catalogs_new), (2, 1));
    assert_eq!(before["/n"].hash, after["/n"].hash);
    // The same tree as a whole directory: nothing is even read.
    repository.publish_directory(same);
    assert_eq!(repository.head.changes, nearfs_core::publish::ChangeCounts::default());
    assert_eq!(repository.head.stored.objects_new, 1);
}

#[test]
fn every_kind_of_change_arrives() {
    let mut repository = Repository::new();
    repository.publish_directory(sample());
    repository.edit(|t| take(t, "/a/b/f"));
    repository.edit(|t| put(t, "/a", file("a directory became a file")));
    repository.edit(|t| {
        put(t, "/a", dir());
        put(t, "/a/new/x", file("a file became a directory"));
    });
    repository.edit(|t| put(t, "/link", link("elsewhere")));
    repository.edit(|t| put(t, "/link", file("no link")));
    repository.edit(|t| t.get_mut("/n/sub").unwrap().mode = 0o700);
    repository.edit(|t| t.get_mut("/n").unwrap().mtime = 77);
    repository.edit(|t| put(t, "/n/sub/deep/d1/d2", dir()));
    // A rename, as the kernel shows it when redirects are off.
    repository.edit(|t| {
        let moved: Tree = t
            .iter()
            .filter(|(path, _)| path.starts_with("/n"))
            .map(|(path, model)| (path.replacen("/n", "/renamed", 1), model.clone()))
            .collect();
        take(t, "/n");
        t.extend(moved);
    });
    assert_eq!(repository.head.changes.directories_removed, 5);
    repository.edit(|t| take(t, "/renamed"));
    repository.edit(Tree::clear);
    assert_eq!(repository.head.revision, 12);
}

#[test]
fn markers_split_and_merge_catalogs() {
    let mut repository = Repository::new();
    repository.publish_directory(sample());
    let marker = |path: &str| format!("{path}/{MARKER}");
    // Between an existing pair: the grandchild moves along.
    let before = common::read_revision(&repository.store, &repository.head.root_hash);
    let after = repository.edit(|t| put(t, &marker("/n/sub"), file("")));
    assert_eq!(after["/n/sub"].nested.keys().collect::<Vec<_>>(), ["/n/sub/deep"]);
    assert_eq!(before["/n/sub/deep"].hash, after["/n/sub/deep"].hash);
    // The middle one goes again, then the outer one.
    repository.edit(|t| take(t, &marker("/n/sub")));
    let after = repository.edit(|t| take(t, &marker("/n")));
    assert_eq!(after[""].nested.keys().collect::<Vec<_>>(), ["/n/sub/deep", "/other"]);
    assert_eq!(before["/n/sub/deep"].hash, after["/n/sub/deep"].hash);
    // Several at once, one inside the other, in old and new directories.
    repository.edit(|t| {
        put(t, &marker("/a"), file(""));
        put(t, &marker("/a/b"), file(""));
        put(t, &marker("/a/b/new"), file(""));
        take(t, &marker("/other"));
    });
    repository.edit(|t| {
        take(t, &marker("/a"));
        take(t, &marker("/a/b"));
        put(t, "/a/b/new/x", file("x"));
    });
    // A removed tree takes its catalogs along.
    let after = repository.edit(|t| take(t, "/n"));
    assert_eq!(after.keys().collect::<Vec<_>>(), ["", "/a/b/new"]);
}

#[test]
fn opaque_directories_hide_what_was_there() {
    let mut repository = Repository::new();
    repository.publish_directory(sample());
    let mut tree = repository.tree.clone();
    take(&mut tree, "/n/sub");
    put(&mut tree, "/n/g", file("new"));
    repository.publish_overlay(tree, |path| path == "/n");
}

#[test]
fn the_kernels_whiteouts_are_understood() {
    use rustix::fs::{CWD, FileType, Mode};
    let mut repository = Repository::new();
    repository.publish_directory(sample());
    let upper = repository.source_directory();
    fs::create_dir(&upper).unwrap();
    rustix::fs::mknodat(CWD, upper.join("a"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    symlink("(overlay-whiteout)", upper.join("link")).unwrap();
    fs::write(upper.join(".WH.pipe"), b"").unwrap();
    fs::write(upper.join(".wh.never-was"), b"").unwrap();
    repository.publish(&Source::Overlay { upper });
    let mut tree = repository.tree.clone();
    for path in ["/a", "/link", "/pipe"] {
        take(&mut tree, path);
    }
    expect(&repository.store, &repository.head.root_hash, &tree);
    assert_eq!(repository.head.changes.files_removed, 4);
}

#[test]
fn the_layer_of_fuse_overlayfs_is_understood() {
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
    let mut repository = Repository::new();
    repository.settings.include_xattrs = true;
    let mut tree = sample();
    put(&mut tree, "/n/.opq", file("no sign of the union's"));
    repository.publish_directory(tree.clone());
    let upper = repository.source_directory();
    // As version 1.10 leaves a directory that was removed and made anew, with one file moved into it, and one removed.
    fs::create_dir_all(upper.join("n")).unwrap();
    mknodat(CWD, upper.join("n/.wh..opq"), FileType::CharacterDevice, Mode::RWXU, 0).unwrap();
    fs::write(upper.join("n/.wh..wh..opq"), b"").unwrap();
    setxattr(upper.join("n"), "user.fuseoverlayfs.opaque", b"y", XattrFlags::empty()).unwrap();
    mknodat(CWD, upper.join("a"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    fs::write(upper.join("n/moved"), b"from a").unwrap();
    setxattr(upper.join("n/moved"), "user.fuseoverlayfs.origin", b"a\0", XattrFlags::empty()).unwrap();
    repository.publish(&Source::Overlay { upper });
    let catalogs = common::read_revision(&repository.store, &repository.head.root_hash);
    let entries = common::entries(&catalogs);
    let below: Vec<&str> = entries.keys().map(String::as_str).filter(|path| path.starts_with("/n")).collect();
    assert_eq!(below, ["/n", "/n/moved"]);
    assert!(!entries.contains_key("/a"));
    assert!(entries.values().all(|row| row.xattr.is_none()));
    assert_eq!(repository.head.warnings, []);
}

#[test]
fn extended_attributes_are_stored_when_asked() {
    use rustix::fs::{XattrFlags, setxattr};
    let mut repository = Repository::new();
    repository.settings.include_xattrs = true;
    let upper = repository.source_directory();
    fs::create_dir_all(upper.join("d")).unwrap();
    for (name, value) in
        [("user.b", "2"), ("user.a", "1"), ("user.overlay.opaque", "y"), ("user.long", &"x".repeat(256))]
    {
        setxattr(upper.join("d"), name, value.as_bytes(), XattrFlags::empty()).unwrap();
    }
    repository.publish(&Source::Overlay { upper: upper.clone() });
    let catalogs = common::read_revision(&repository.store, &repository.head.root_hash);
    let blob = catalogs[""].rows["/d"].xattr.clone().unwrap();
    assert_eq!(blob, b"\x01\x02\x06\x01user.a1\x06\x01user.b2");
    assert_eq!(catalogs[""].counters["self_xattr"], 1);
    assert!(matches!(&repository.head.warnings[..], [Warning::XattrSkipped(path)] if path.as_bytes() == b"/d"));
    // Only the attributes change.
    setxattr(upper.join("d"), "user.b", b"3", XattrFlags::empty()).unwrap();
    rustix::fs::removexattr(upper.join("d"), "user.overlay.opaque").unwrap();
    repository.publish(&Source::Overlay { upper });
    let catalogs = common::read_revision(&repository.store, &repository.head.root_hash);
    assert_eq!(catalogs[""].rows["/d"].xattr.clone().unwrap(), b"\x01\x02\x06\x01user.a1\x06\x01user.b3");
    assert_eq!(repository.head.changes.directories_changed, 1);
}

#[test]
fn settings_show_in_the_rows() {
    let mut repository = Repository::new();
    repository.settings = PublishSettings {
        hash_algorithm: HashAlgorithm::Shake128,
        compression: Compression::None,
        mtime_ns: true,
        is_external: true,
        direct_io: true,
        ttl_s: 77,
        manual_revision: Some(9),
        volatile: true,
        ..repository.settings
    };
    let catalogs = repository.publish_directory(tree(&[("/f", file("plain"))]));
    let row = &catalogs[""].rows["/f"];
    assert_eq!((row.flags, row.mtimens), (0x10884 | 0x200, Some(7)));
    let properties = &catalogs[""].properties;
    assert_eq!((properties["TTL"].as_str(), properties["volatile"].as_str()), ("77", "1"));
    assert_eq!((repository.head.revision, repository.head.ttl_s), (9, 77));
    assert!(repository.head.root_hash.to_string().ends_with("-shake128"));
    let path = repository.source_directory();
    show(&Tree::new(), &path);
    let again = repository.try_publish(&Source::Directory { path });
    assert_eq!(again.unwrap_err().kind(), ErrorKind::InvalidInput, "revision 9 is not larger than 9");
}

#[test]
fn large_files_are_cut_and_read_back() {
    let mut repository = Repository::new();
    let sizes = ChunkSizes::new(32 << 10, 64 << 10, 128 << 10).unwrap();
    repository.settings.chunk_sizes = Some(sizes);
    let big = |seed| Model { kind: Kind::File(noise(3_000_000, seed)), ..file("") };
    let mut tree = Tree::new();
    put(&mut tree, "/big", big(1));
    put(&mut tree, "/d/big2", big(2));
    put(&mut tree, "/below-min", Model { kind: Kind::File(noise(32 << 10, 3)), ..file("") });
    let catalogs = repository.publish_directory(tree);
    let catalog = &catalogs[""];
    let cuts: Vec<u64> = catalog.chunks["/big"].iter().skip(1).map(|(offset, _, _)| *offset as u64).collect();
    assert_eq!(cuts, nearfs_format::chunker::cut_marks(&noise(3_000_000, 1), &sizes));
    assert_eq!((catalog.rows["/big"].hash.clone(), catalog.rows["/big"].flags), (None, 0x44));
    assert!(catalog.rows["/below-min"].hash.is_some());
    // Larger than min, but without a cut mark: one whole object.
    let mut tree = repository.tree.clone();
    put(&mut tree, "/one-piece", Model { kind: Kind::File(vec![0; 33 << 10]), ..file("") });
    let catalogs = repository.publish_overlay(tree, |_| false);
    assert_eq!(catalogs[""].rows["/one-piece"].flags, 4);
    assert!(catalogs[""].rows["/one-piece"].hash.is_some());
    // Removing a chunked file and moving one into a nested catalog takes the chunk rows along.
    repository.edit(|t| take(t, "/big"));
    let catalogs = repository.edit(|t| put(t, &format!("/d/{MARKER}"), file("")));
    assert!(catalogs["/d"].chunks.contains_key("/d/big2") && catalogs[""].chunks.is_empty());
    repository.edit(|t| take(t, &format!("/d/{MARKER}")));
}

#[test]
fn files_beyond_memory_stay_whole_without_chunking() {
    let mut repository = Repository::new();
    repository.settings.chunk_sizes = None;
    let mut content = noise(1 << 20, 1);
    content.resize(33 << 20, 7);
    let tree = tree(&[("/huge", Model { kind: Kind::File(content), ..file("") })]);
    let catalogs = repository.publish_directory(tree.clone());
    let whole = catalogs[""].rows["/huge"].hash.clone();
    let Kind::File(content) = &tree["/huge"].kind else { unreachable!() };
    let at_once = HashAlgorithm::Sha1.hash(&nearfs_format::codec::deflate(content));
    assert_eq!(whole.unwrap(), at_once.digest(), "streaming gives the same object as one go");
    repository.settings.compression = Compression::None;
    repository.edit(|t| t.get_mut("/huge").unwrap().mtime = 5);
}

#[test]
fn what_must_not_be_published_is_refused_and_changes_nothing() {
    let mut repository = Repository::new();
    repository.publish_directory(sample());
    let objects = repository.objects();
    for (path, is_directory, kind) in [
        (MARKER, false, ErrorKind::InvalidInput),
        ("x/.cvmfscatalog", true, ErrorKind::InvalidInput),
        (".cvmfs/x", true, ErrorKind::InvalidInput),
        ("x/.cvmfsgraft-f", false, ErrorKind::InvalidInput),
        ("x/.cvmfsbundles", false, ErrorKind::InvalidInput),
        (".cvmfsbundles", true, ErrorKind::InvalidInput),
    ] {
        let upper = repository.source_directory();
        let path = upper.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if is_directory {
            fs::create_dir(&path).unwrap();
        } else {
            fs::write(&path, b"").unwrap();
        }
        let error = repository.try_publish(&Source::Overlay { upper }).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(repository.objects(), objects);
}

#[test]
fn special_files_are_left_out_when_asked() {
    let mut repository = Repository::new();
    repository.settings.ignore_special = true;
    let path = repository.source_directory();
    show(&sample(), &path);
    fs::hard_link(path.join("a/b/f"), path.join("a/b/same")).unwrap();
    repository.publish(&Source::Directory { path });
    let catalogs = common::read_revision(&repository.store, &repository.head.root_hash);
    assert!(!catalogs[""].rows.contains_key("/pipe"));
    assert_eq!(catalogs[""].rows["/a/b/same"].hardlinks, (1 << 32) + 2);
    let warned: Vec<String> = repository.head.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned, ["'/pipe' is a special file, ignoring."]);
}

#[test]
fn names_and_targets_need_not_be_utf8() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut repository = Repository::new();
    let path = repository.source_directory();
    fs::create_dir(&path).unwrap();
    let name = |bytes: &'static [u8]| path.join(std::ffi::OsStr::from_bytes(bytes));
    fs::create_dir(name(b"\xff dir")).unwrap();
    fs::write(name(b"\xff dir/.cvmfscatalog"), b"").unwrap();
    fs::write(name(b"\xff dir/\xfe"), b"x").unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"\xfd"), name(b"link")).unwrap();
    let source = Source::Directory { path: path.clone() };
    repository.publish(&source);
    // The next publish has to find all of them again.
    fs::write(name(b"\xff dir/\xfe"), b"longer").unwrap();
    let listing: Vec<String> = plan(&repository.store, &repository.base(), &source, &repository.settings)
        .unwrap()
        .listing()
        .map(|line| line.to_string())
        .collect();
    assert_eq!(listing, ["[mod] /\\xff dir/\\xfe"]);
    repository.publish(&source);
    assert_eq!(repository.head.changes.files_changed, 1);
    assert_eq!(repository.head.catalogs_new, 2);
}

#[test]
fn a_plan_lists_changes_and_boundaries() {
    let mut repository = Repository::new();
    repository.publish_directory(sample());
    let mut tree = repository.tree.clone();
    put(&mut tree, "/a/b/f", file("changed"));
    put(&mut tree, &format!("/new/{MARKER}"), file(""));
    take(&mut tree, &format!("/other/{MARKER}"));
    let upper = repository.source_directory();
    show_upper(&repository.tree, &tree, &upper, |_| false);
    let source = Source::Overlay { upper };
    let plan = plan(&repository.store, &repository.base(), &source, &repository.settings).unwrap();
    let lines: Vec<String> = plan.listing().map(|line| line.to_string()).collect();
    assert_eq!(
        lines,
        [
            "[mod] /a/b/f",
            "[add] /new",
            "[add] /new/.cvmfscatalog",
            "[x-catalog-add] new",
            "[rem] /other/.cvmfscatalog",
            "[x-catalog-rem] other",
        ]
    );
    let done = nearfs_core::publish::execute(
        &repository.store,
        &repository.base(),
        plan,
        &repository.settings,
        &Progress::new(),
    );
    expect(&repository.store, &done.unwrap().root_hash, &tree);
}

#[test]
fn cancelled_and_damaged_publishes_say_so() {
    let mut repository = Repository::new();
    repository.publish_directory(sample());
    let upper = repository.source_directory();
    show(&tree(&[("/n", dir()), ("/n/x", file("x"))]), &upper);
    let source = Source::Overlay { upper };
    let progress = Progress::new();
    progress.cancel();
    let cancelled = publish(&repository.store, &repository.base(), &source, &repository.settings, &progress);
    assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Cancelled);
    // The nested catalog that the change needs: altered, cut off, missing.
    let nested = common::read_revision(&repository.store, &repository.head.root_hash)["/n"].hash.clone();
    let id = nearfs_format::object::ObjectId::new(nested.parse().unwrap(), ObjectKind::Catalog);
    let path = repository.store.path_of(&id);
    let sound = fs::read(&path).unwrap();
    let mut altered = sound.clone();
    altered[100] ^= 1;
    for bytes in [altered.as_slice(), &sound[..50], b""] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(repository.try_publish(&source).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(repository.try_publish(&source).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(repository.store.scratch_dir()).unwrap().count(), 0, "nothing temporary stays");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random trees, random edits, as upper directories and as whole directories: the revision equals the model.
    #[test]
    fn any_history_of_edits_equals_the_model(
        first in any_edits(25),
        steps in prop::collection::vec((any_edits(12), any::<u8>()), 1..5),
    ) {
        let mut repository = Repository::new();
        repository.settings.chunk_sizes = Some(ChunkSizes::new(512, 1024, 2048).unwrap());
        let mut tree = Tree::new();
        apply(&mut tree, &first);
        repository.publish_directory(tree.clone());
        for (edits, choice) in &steps {
            apply(&mut tree, edits);
            if choice % 4 == 0 {
                repository.publish_directory(tree.clone());
            } else {
                let opaque = *choice;
                repository.publish_overlay(tree.clone(), |path| path.len() % 7 == usize::from(opaque % 7));
            }
        }
    }
}
