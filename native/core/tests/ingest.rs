//! An archive that is ingested shows the tree that it unpacks to, and a bad one changes nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::archives::{Archive as Tar, BLOCK};
use common::{Catalogs, RawRow, content, entries, read_revision};
use nearfs_core::progress::Progress;
use nearfs_core::publish::{
    Archive, BaseRevision, ChangeCounts, Committed, IngestSettings, NewRepository, PublishSettings, create_repository,
    ingest, plan_ingest,
};
use nearfs_core::store::LocalStore;
use nearfs_core::{Error, ErrorKind, Result};
use nearfs_format::chunker::ChunkSizes;
use nearfs_format::hash::HashAlgorithm;
use nearfs_format::path::RepoPath;
use tempfile::TempDir;

struct Repository {
    directory: TempDir,
    store: LocalStore,
    head: Committed,
    settings: PublishSettings,
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
        Self { directory, store, head, settings: PublishSettings::new(600) }
    }

    fn archive(&self, bytes: &[u8]) -> Archive {
        let path = self.directory.path().join("archive.tar");
        std::fs::write(&path, bytes).unwrap();
        Archive::File(path)
    }

    fn attempt(&self, bytes: &[u8], wanted: &IngestSettings) -> Result<Committed> {
        let base = BaseRevision { root_hash: self.head.root_hash };
        let archive = self.archive(bytes);
        ingest(&self.store, &base, Some(&archive), wanted, &self.settings, &Progress::new())
    }

    fn refused(&self, bytes: &[u8]) -> Error {
        self.attempt(bytes, &at("/sw")).unwrap_err()
    }

    fn ingest(&mut self, tar: &Tar, wanted: &IngestSettings) -> Catalogs {
        self.head = self.attempt(&tar.end(), wanted).unwrap();
        read_revision(&self.store, &self.head.root_hash)
    }

    fn delete(&mut self, paths: &[&str]) -> Catalogs {
        let wanted = IngestSettings { deletions: paths.iter().map(|p| path(p)).collect(), ..at("") };
        let base = BaseRevision { root_hash: self.head.root_hash };
        self.head = ingest(&self.store, &base, None, &wanted, &self.settings, &Progress::new()).unwrap();
        read_revision(&self.store, &self.head.root_hash)
    }

    fn text(&self, catalogs: &Catalogs, path: &str) -> String {
        String::from_utf8(content(&self.store, catalogs, path)).unwrap()
    }
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).unwrap()
}

fn at(base: &str) -> IngestSettings {
    IngestSettings { base: path(base), ..IngestSettings::default() }
}

fn names(rows: &BTreeMap<String, RawRow>) -> Vec<&str> {
    rows.keys().map(String::as_str).collect()
}

fn tar(build: impl FnOnce(&mut Tar)) -> Tar {
    let mut tar = Tar::default();
    build(&mut tar);
    tar
}

#[test]
fn entries_come_in_any_order_and_the_later_one_counts() {
    let mut repository = Repository::new();
    let archive = tar(|t| {
        t.file("a/b/child", b"1")
            .dir("./a")
            .file("/abs//./x", b"first")
            .file("gone/below", b"")
            .file("abs/x", b"second");
        t.link("gone", b'2', "a/b").dir("a/b/").link("a/same", b'1', "a/b/child").file("a/b/child", b"replaced");
    });
    let catalogs = repository.ingest(&archive, &at("/sw/1"));
    let rows = entries(&catalogs);
    let all = ["/sw", "/sw/1", "/sw/1/a", "/sw/1/a/b", "/sw/1/a/b/child", "/sw/1/a/same", "/sw/1/abs", "/sw/1/abs/x"];
    assert_eq!(names(&rows), [&all[..], &["/sw/1/gone"]].concat());
    assert_eq!(repository.text(&catalogs, "/sw/1/abs/x"), "second");
    assert_eq!(repository.text(&catalogs, "/sw/1/a/b/child"), "replaced");
    assert_eq!(repository.text(&catalogs, "/sw/1/a/same"), "1", "a hardlink keeps what it was made of");
    assert_eq!(rows["/sw/1/a/same"].hardlinks, 1);
    assert_eq!(rows["/sw/1/gone"].symlink, b"a/b");
    // Nobody described these: format.md 10.4.
    for implied in ["/sw", "/sw/1", "/sw/1/abs"] {
        let row = &rows[implied];
        assert_eq!((row.mode, row.size, row.mtime), (0o40_755, 4096, 600), "{implied}");
        assert_eq!((row.uid, row.gid), (4_294_967_295, 4_294_967_295), "{implied}");
    }
    let given = &rows["/sw/1/a"];
    assert_eq!((given.mode, given.mtime, given.uid, given.gid), (0o40_750, 1_000_000, 15, 16));
    assert_eq!(given.hardlinks, 3, "one directory in it");
}

#[test]
fn thousands_of_members_in_any_order_are_the_same_tree() {
    let mut repository = Repository::new();
    // Names around the slash: a directory's contents directly follow it, whatever sorts between.
    let directories = ["a", "a!", "a-b", "a/deep", "a/deep/er", "a0", "z"];
    let mut members: Vec<String> =
        directories.iter().flat_map(|directory| (0..300).map(move |file| format!("{directory}/f{file}"))).collect();
    let all = |members: &[String]| {
        tar(|t| {
            for directory in directories {
                t.dir(directory);
            }
            for name in members {
                t.file(name, name.as_bytes());
            }
        })
    };
    members.reverse();
    members.sort_by_key(|name| HashAlgorithm::Sha1.hash(name.as_bytes()).hex());
    let rows = entries(&repository.ingest(&all(&members), &at("/sw")));
    assert_eq!(rows.len(), members.len() + directories.len() + 1);
    let catalogs = read_revision(&repository.store, &repository.head.root_hash);
    for name in &members {
        assert_eq!(repository.text(&catalogs, &format!("/sw/{name}")), *name);
    }
    members.sort();
    repository.ingest(&all(&members), &at("/sw"));
    assert_eq!(repository.head.changes, ChangeCounts::default(), "the same tree in another order");

    let rows = entries(&repository.ingest(&tar(|t| _ = t.file("a", b"was a directory")), &at("/sw")));
    assert_eq!(rows.len(), 4 * 301 + 2, "what was in it is gone, and nothing else");
    assert_eq!(repository.head.changes.files_removed, 900);
}

#[test]
fn an_ingest_merges_replaces_deletes_and_knows_what_is_the_same() {
    let mut repository = Repository::new();
    let first = tar(|t| {
        t.dir("d")
            .file("d/keep", b"keep")
            .file("d/change", b"old")
            .file("d/.cvmfscatalog", b"")
            .dir("e")
            .file("e/f", b"f");
        t.file("e/deep/g", b"g").file("to_dir", b"x");
    });
    let owner = IngestSettings { owner: Some((7, 8)), ..at("/sw") };
    let catalogs = repository.ingest(&first, &owner);
    assert_eq!(catalogs.keys().collect::<Vec<_>>(), ["", "/sw/d"]);
    assert!(entries(&catalogs).values().all(|row| (row.uid, row.gid) == (7, 8)));

    let again = repository.attempt(&first.end(), &owner).unwrap();
    assert_eq!(again.changes, ChangeCounts::default(), "the same archive changes nothing");
    assert_eq!(again.catalogs_new, 1, "only the root catalog, whose revision is new");

    let second = tar(|t| {
        t.file("d/change", b"NEW").dir("to_dir").file("to_dir/in", b"").file("e", b"now a file");
        t.link("d/linked", b'1', "d/keep");
    });
    let catalogs =
        repository.ingest(&second, &IngestSettings { deletions: vec![path("/sw/e/deep"), path("/no")], ..owner });
    let rows = entries(&catalogs);
    let expected = "/sw /sw/d /sw/d/.cvmfscatalog /sw/d/change /sw/d/keep /sw/d/linked /sw/e /sw/to_dir /sw/to_dir/in";
    assert_eq!(names(&rows).join(" "), expected);
    assert_eq!(repository.text(&catalogs, "/sw/d/change"), "NEW");
    assert_eq!(repository.text(&catalogs, "/sw/d/linked"), "keep", "a target of the base revision");
    assert_eq!(
        repository.head.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["/no: there was nothing to delete"]
    );

    let catalogs = repository.delete(&["/sw/d", "/sw/to_dir/in"]);
    assert_eq!(names(&entries(&catalogs)), ["/sw", "/sw/e", "/sw/to_dir"]);
    assert_eq!(catalogs.len(), 1);
    let marked = tar(|t| _ = t.file("d/x", b""));
    let wanted = IngestSettings { makes_catalog: true, mirrors: true, deletions: vec![path("/sw")], ..at("/sw") };
    let catalogs = repository.ingest(&marked, &wanted);
    assert_eq!(names(&entries(&catalogs)), ["/sw", "/sw/.cvmfscatalog", "/sw/d", "/sw/d/x"]);
    assert_eq!(catalogs.keys().collect::<Vec<_>>(), ["", "/sw"]);
}

#[test]
fn whiteouts_and_opaque_directories_hide_the_base_revision_only() {
    let mut repository = Repository::new();
    let base =
        tar(|t| _ = t.file("a/x", b"x").file("a/y", b"y").file("b/z", b"z").file("c/w/v", b"v").file("dev", b""));
    repository.ingest(&base, &at(""));
    let layer = tar(|t| {
        t.file("a/.wh.x", b"").file("a/.wh.none", b"").file("b/new", b"n").file("b/.wh..wh..opq", b"").raw(
            "dev",
            b'3',
            b"",
            |_| {},
        );
        t.file("a/y", b"Y")
            .file("a/.WH.y", b"")
            .pax(&[("SCHILY.xattr.trusted.overlay.opaque", "y")])
            .dir("c")
            .dir("c/w");
        t.file("c/.wh..wh.plnk", b"");
    });
    let catalogs = repository.ingest(&layer, &at(""));
    assert_eq!(names(&entries(&catalogs)), ["/a", "/a/y", "/b", "/b/new", "/c", "/c/w"]);
    assert_eq!(repository.text(&catalogs, "/a/y"), "Y", "what the layer itself brings stays");
    assert_eq!(repository.head.warnings.len(), 1);
}

#[test]
fn long_names_times_and_numbers_of_every_dialect() {
    let mut repository = Repository::new();
    repository.settings.mtime_ns = true;
    repository.settings.include_xattrs = true;
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(250));
    let archive = tar(|t| {
        t.raw("././@LongLink", b'L', format!("{long}\0").as_bytes(), |_| {}).file("cut", b"gnu");
        t.raw("././@LongLink", b'K', format!("{}\0", "t".repeat(300)).as_bytes(), |_| {}).link("k", b'2', "cut");
        t.pax(&[("path", "p\u{e4}x/n"), ("mtime", "-1.25"), ("uid", "4000000000"), ("SCHILY.xattr.user.a", "v")]);
        t.file("cut", b"pax");
        t.raw("name", b'0', b"prefixed", |header| header[345..351].copy_from_slice(b"before"));
        t.raw("base256", b'0', b"", |header| {
            header[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]);
            header[136..148].copy_from_slice(&[0xff; 12]);
        });
        t.raw("v7/", 0, b"", |header| header[257..265].fill(0));
        t.raw("odd", b'q', b"unknown types are files", |_| {}).raw("label", b'V', b"", |_| {});
        t.raw("chr", b'3', b"", |header| {
            header[329..336].copy_from_slice(b"0000005");
            header[337..344].copy_from_slice(b"0000001");
        });
        t.raw("fifo", b'6', b"", |_| {});
    });
    let catalogs = repository.ingest(&archive, &at(""));
    let rows = entries(&catalogs);
    assert_eq!(repository.text(&catalogs, &format!("/{long}")), "gnu");
    assert_eq!(rows["/k"].symlink, "t".repeat(300).as_bytes());
    let pax = &rows["/p\u{e4}x/n"];
    assert_eq!((pax.mtime, pax.mtimens, pax.uid), (-2, Some(750_000_000), 4_000_000_000));
    assert!(pax.xattr.is_some());
    assert_eq!(repository.text(&catalogs, "/before/name"), "prefixed");
    assert_eq!((rows["/base256"].uid, rows["/base256"].mtime), (4_294_967_294, -1));
    assert_eq!(rows["/v7"].mode, 0o40_640);
    assert_eq!(repository.text(&catalogs, "/odd"), "unknown types are files");
    assert_eq!((rows["/chr"].mode, rows["/chr"].size), (0o20_640, 0x501));
    assert_eq!(rows["/fifo"].mode, 0o10_640);
    assert!(!rows.contains_key("/label"));
}

#[test]
fn holes_are_zeros_in_all_four_forms() {
    let mut repository = Repository::new();
    let padded = |text: &str| {
        let mut map = text.as_bytes().to_vec();
        map.resize(BLOCK, 0);
        [map, b"headtail".to_vec()].concat()
    };
    let archive = tar(|t| {
        let size = ("GNU.sparse.size", "5000");
        let old = |header: &mut [u8]| {
            header[257..265].copy_from_slice(b"ustar  \0");
            for (at, number) in [(386, 0), (398, 4), (410, 4096), (422, 4)] {
                header[at..at + 11].copy_from_slice(format!("{number:011o}").as_bytes());
            }
            header[483..494].copy_from_slice(format!("{:011o}", 5000).as_bytes());
        };
        t.raw("old", b'S', b"headtail", old);
        let (at, count) = ("GNU.sparse.offset", "GNU.sparse.numbytes");
        t.pax(&[size, (at, "0"), (count, "4"), (at, "4096"), (count, "4")]).file("pax00", b"headtail");
        t.pax(&[size, ("GNU.sparse.name", "pax01"), ("GNU.sparse.map", "0,4,4096,4")]).file("x", b"headtail");
        let one = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "pax10")];
        t.pax(&[&one[..], &[("GNU.sparse.realsize", "5000")]].concat()).file("x", &padded("2\n0\n4\n4096\n4\n"));
    });
    let catalogs = repository.ingest(&archive, &at(""));
    let mut expected = vec![0; 5000];
    expected[..4].copy_from_slice(b"head");
    expected[4096..4100].copy_from_slice(b"tail");
    for name in ["/old", "/pax00", "/pax01", "/pax10"] {
        assert_eq!(content(&repository.store, &catalogs, name), expected, "{name}");
    }
    for map in ["0,4,2,4", "0,4,4998,4", "0,4,4096,5", "0,4,4096", "-1,4,4096,4", "a,4"] {
        let bad = tar(|t| _ = t.pax(&[("GNU.sparse.size", "5000"), ("GNU.sparse.map", map)]).file("x", b"headtail"));
        assert_eq!(repository.refused(&bad.end()).kind(), ErrorKind::Corrupt, "{map}");
    }
    for lines in ["9999999999\n", "x\n", "2\n0\n4\n", "123456789012345678901234567890"] {
        let one = [("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "5000")];
        let bad = tar(|t| _ = t.pax(&one).file("x", &padded(lines)));
        assert_eq!(repository.refused(&bad.end()).kind(), ErrorKind::Corrupt, "{lines}");
    }
}

#[test]
fn large_files_are_cut_and_small_ones_travel_together() {
    let mut repository = Repository::new();
    repository.settings.chunk_sizes = Some(ChunkSizes::new(1 << 14, 1 << 15, 1 << 16).unwrap());
    let big: Vec<u8> = (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let small = |number: usize| format!("{number}").into_bytes();
    let archive = tar(|t| {
        t.file("big", &big);
        (0..600).for_each(|number| _ = t.file(&format!("s/{number}"), &small(number)));
        t.link("again", b'1', "big");
    });
    let catalogs = repository.ingest(&archive, &at(""));
    assert!(catalogs[""].chunks["/big"].len() > 3);
    for name in ["/big", "/again"] {
        assert_eq!(content(&repository.store, &catalogs, name), big);
    }
    assert!((0..600).all(|number| content(&repository.store, &catalogs, &format!("/s/{number}")) == small(number)));
    let again = repository.attempt(&archive.end(), &at("")).unwrap();
    assert_eq!(again.changes, ChangeCounts::default(), "chunks are compared too");
    repository.settings.chunk_sizes = None;
    let whole = vec![7; (16 << 20) + 5];
    let catalogs = repository.ingest(&tar(|t| _ = t.file("whole", &whole)), &at(""));
    assert!(catalogs[""].rows["/whole"].hash.is_some());
    assert!(content(&repository.store, &catalogs, "/whole") == whole);
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused() {
    let repository = Repository::new();
    let archive = tar(|t| {
        t.pax(&[("path", "long")]).file("x", &[1; 700]).dir("d").link("l", b'2', "t").file("d/y", b"y");
    });
    for length in (0..=archive.0.len()).step_by(BLOCK).chain([1, 511, 513, archive.0.len() - 1]) {
        let error = repository.refused(&archive.0[..length]);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}: {error}");
        assert!(error.to_string().contains(if length == 0 { "it is empty" } else { "cut off" }), "{error}");
    }
    // One block of zeros is an end.
    repository.attempt(&[&archive.0[..], &[0; BLOCK]].concat(), &at("/sw")).unwrap();
}

#[test]
fn garbage_is_refused_wherever_it_is() {
    let repository = Repository::new();
    let good = tar(|t| _ = t.file("x", &[1; 700]));
    assert!(repository.refused(&[b'#'; 2000]).to_string().contains("no tar archive"));
    assert!(repository.refused(&[&good.0[..], &[9; BLOCK]].concat()).to_string().contains("damaged"));
    for (from, to) in [(124, 136), (136, 148), (100, 108), (108, 116)] {
        let bad = tar(|t| _ = t.raw("x", b'0', b"", |header| header[from..to].fill(b'9')));
        assert_eq!(repository.refused(&bad.end()).kind(), ErrorKind::Corrupt, "{from}");
    }
    let huge = tar(|t| _ = t.raw("x", b'x', b"", |header| header[124..135].copy_from_slice(b"77777777777")));
    assert!(repository.refused(&huge.end()).to_string().contains("extended header of"));
    for records in ["9999 path=x\n", "x path=y\n", "9 pathxy\n", "-1 a=b\n", "3"] {
        let bad = tar(|t| _ = t.raw("p", b'x', records.as_bytes(), |_| {}).file("x", b""));
        assert_eq!(repository.refused(&bad.end()).kind(), ErrorKind::Corrupt, "{records}");
    }
    for (magic, program) in [(&b"BZh91AY"[..], "bzip2"), (b"\xfd7zXZ\0\0", "xz"), (b"\x28\xb5\x2f\xfd\0\0", "zstd")] {
        let error = repository.refused(magic);
        assert_eq!((error.kind(), error.to_string().contains(program)), (ErrorKind::Unsupported, true), "{error}");
    }
}

type Build<'b> = &'b dyn Fn(&mut Tar);

#[test]
fn members_that_lead_elsewhere_are_refused() {
    let repository = Repository::new();
    let long = "n".repeat(300);
    let bad: [(Build<'_>, &str); 9] = [
        (&|t| _ = t.file("../x", b""), "leads out of it"),
        (&|t| _ = t.file("a/../../x", b""), "leads out of it"),
        (&|t| _ = t.link("h", b'1', "../../x"), "leads out of it"),
        (&|t| _ = t.link("h", b'1', "later").file("later", b""), "does not exist"),
        (&|t| _ = t.dir("d").link("h", b'1', "d"), "is a directory"),
        (&|t| _ = t.link("d", b'2', "/etc").file("d/passwd", b""), "is no directory"),
        (&|t| _ = t.raw("x", b'L', long.as_bytes(), |_| {}).file("y", b""), "failed to publish /sw"),
        (&|t| _ = t.file(".", b""), "something else than a directory"),
        (&|t| _ = t.dir("d/.cvmfscatalog"), "marker"),
    ];
    for (build, reason) in bad {
        let error = repository.refused(&tar(build).end());
        assert_eq!((error.kind(), error.to_string().contains(reason)), (ErrorKind::InvalidInput, true), "{error}");
    }
    for base in ["/.cvmfs", "/.cvmfs/x"] {
        let error = repository.attempt(&tar(|t| _ = t.file("x", b"")).end(), &at(base)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_dry_run_stores_nothing_and_says_what_would_change() {
    let mut repository = Repository::new();
    repository.ingest(&tar(|t| _ = t.file("a/old", b"o").file("a/stays", b"s")), &at("/sw"));
    let count = || walk(&repository.directory.path().join("storage"));
    let before = count();
    let archive = repository.archive(&tar(|t| _ = t.file("a/stays", b"s").file("a/new", b"n")).end());
    let wanted = IngestSettings { mirrors: true, ..at("/sw") };
    let base = BaseRevision { root_hash: repository.head.root_hash };
    let plan = plan_ingest(&repository.store, &base, Some(&archive), &wanted, &repository.settings, &Progress::new());
    let lines: Vec<_> = plan.unwrap().listing().map(|line| line.to_string()).collect();
    assert_eq!(lines, ["[rem] /sw/a/old", "[add] /sw/a/new"]);
    assert_eq!(count(), before);
}

fn walk(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}
