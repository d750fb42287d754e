//! Promises of packs in a cache: members become what their own names say, and a pack that lies gives nothing wrong.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

use std::collections::HashMap;
use std::sync::Arc;

use nearfs_core::ErrorKind;
use nearfs_core::cache::{DiskCache, ObjectCache, Sharing, Want};
use nearfs_core::transport::{Interrupt, Origin, OriginOptions};
use nearfs_format::codec::deflate;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::pack::{PACK_MAX_BYTES, PackWriter};
use nearfs_testkit::host::ScriptedHost;
use tokio::runtime::Runtime;

/// A small file as it is published.
struct File {
    want: Want,
    content: Vec<u8>,
    stored: Vec<u8>,
}

fn file(number: usize) -> File {
    let content = format!("file {number}\n").repeat(number + 1).into_bytes();
    let stored = deflate(&content);
    let id = ObjectId::new(HashAlgorithm::Sha1.hash(&stored), ObjectKind::File);
    File { want: Want::sized(id, Compression::Zlib, content.len() as u64), content, stored }
}

fn files() -> Vec<File> {
    (0..20).map(file).collect()
}

fn pack_of<'f>(members: impl IntoIterator<Item = (ContentHash, &'f [u8])>) -> Vec<u8> {
    let mut writer = PackWriter::new();
    for (hash, stored) in members {
        assert!(writer.add(hash, stored));
    }
    writer.finish()
}

/// A cache in front of a host that has the files, and a pack of these bytes under its right name.
struct Scene {
    cache: ObjectCache,
    host: ScriptedHost,
    pack: Want,
    _dir: tempfile::TempDir,
    _runtime: Runtime,
}

impl Scene {
    fn new(files: &[File], pack: Vec<u8>) -> Self {
        let id = ObjectId::new(HashAlgorithm::Sha1.hash(&pack), ObjectKind::File);
        let want = Want::sized(id, Compression::None, pack.len() as u64);
        let mut stored: HashMap<String, Vec<u8>> =
            files.iter().map(|file| (file.want.id.key(), file.stored.clone())).collect();
        stored.insert(id.key(), pack);
        let host = ScriptedHost::serving(stored).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let runtime = nearfs_core::transport::runtime().unwrap();
        let origin = Origin::open(&host.url(), OriginOptions::default(), runtime.handle().clone()).unwrap();
        let disk = DiskCache::new(dir.path(), Sharing::Exclusive).unwrap();
        Self { cache: ObjectCache::new(disk, Arc::new(origin)), host, pack: want, _dir: dir, _runtime: runtime }
    }

    fn fetch(&self, files: &[File]) -> Result<usize, ErrorKind> {
        let wants: Vec<Want> = files.iter().map(|file| file.want.clone()).collect();
        let unpacked = self.cache.fetch_pack(&self.pack, &wants, &Interrupt::new());
        unpacked.map(|unpacked| unpacked.landed.len()).map_err(|error| error.kind())
    }

    /// Reads every file; returns how many requests were made in all.
    fn read_all(&self, files: &[File]) -> usize {
        for file in files {
            let object = self.cache.open(&file.want).unwrap();
            assert_eq!(object.read_all(1 << 20).unwrap(), file.content);
        }
        self.host.asked().len()
    }
}

#[test]
fn one_request_brings_what_is_wanted_of_a_pack() {
    let files = files();
    let scene = Scene::new(&files, pack_of(files.iter().map(|file| (file.want.id.hash, &file.stored[..]))));
    assert_eq!(scene.fetch(&files[..15]), Ok(15));
    assert!(!scene.cache.is_cached(&files[17].want.id), "nobody wanted it");
    assert_eq!(scene.read_all(&files), 1 + 5);
}

#[test]
fn members_under_the_names_of_others_are_left_out() {
    let files = files();
    // Each under the name of the next: the hash of the pack is right, those of its members are not.
    let shifted =
        files.iter().zip(files.iter().cycle().skip(1)).map(|(file, next)| (next.want.id.hash, &file.stored[..]));
    let scene = Scene::new(&files, pack_of(shifted));
    assert_eq!(scene.fetch(&files), Ok(0));
    assert_eq!(scene.read_all(&files), 1 + files.len());
}

#[test]
fn content_of_another_size_than_its_catalog_says_is_left_out() {
    let mut files = files();
    let scene = Scene::new(&files, pack_of(files.iter().map(|file| (file.want.id.hash, &file.stored[..]))));
    for file in files.iter_mut().step_by(2) {
        file.want.size_bytes = file.want.size_bytes.map(|size| size + 1);
    }
    assert_eq!(scene.fetch(&files), Ok(10));
    assert!(files.iter().step_by(2).all(|file| !scene.cache.is_cached(&file.want.id)));
}

#[test]
fn what_is_no_pack_brings_nothing_and_is_asked_for_once() {
    let files = files();
    let good = pack_of(files.iter().map(|file| (file.want.id.hash, &file.stored[..])));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        let at = bytes.len() - at;
        bytes[at] = byte;
        bytes
    };
    let cases = [
        ("nothing", Vec::new()),
        ("noise", vec![0x5a; 5000]),
        ("half of one", good[..good.len() / 2].to_vec()),
        ("another version", with(16, 9)),
        ("more members than there are", with(12, 200)),
        ("an index that begins elsewhere", with(8, 3)),
        ("a member that lies elsewhere", with(24 + 8, 0xff)),
        ("a member of no length", with(24 + 4, 0)),
    ];
    for (what, bytes) in cases {
        let scene = Scene::new(&files, bytes);
        assert_eq!(scene.fetch(&files), Err(ErrorKind::Corrupt).or_else(unsupported(what)), "{what}");
        assert_eq!(scene.read_all(&files), 1 + files.len(), "{what}");
    }
}

/// Another version is no damage.
fn unsupported(what: &str) -> impl Fn(ErrorKind) -> Result<usize, ErrorKind> + '_ {
    move |kind| Err(if what == "another version" { ErrorKind::Unsupported } else { kind })
}

#[test]
fn an_oversized_pack_is_refused_whatever_its_table_says() {
    let files = files();
    let scene = Scene::new(&files, vec![0x5a; PACK_MAX_BYTES + 1]);
    assert_eq!(scene.fetch(&files), Err(ErrorKind::Corrupt));
    let mut lying = Scene::new(&files, vec![0x5a; 100_000]);
    lying.pack.size_bytes = Some(1000);
    lying.pack.limit_bytes = 1000;
    assert_eq!(lying.fetch(&files), Err(ErrorKind::Corrupt), "more bytes than were announced");
    assert_eq!(lying.read_all(&files), 1 + files.len());
}
