//! A file system in memory: what the mounted tree is compared with. Immutable once built, but for its counters.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nearfs_core::client::{Attr, Fh, FileSystem, FsResult, Ino, ListedEntry, Opened, Refusal, Statfs};
use nearfs_core::{Error, ErrorKind};
use nearfs_format::dirent::FileType;

#[derive(Debug, Clone)]
pub enum Content {
    Directory(Vec<(Vec<u8>, Ino)>),
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
    /// Opening fails in this way.
    Broken(ErrorKind),
    /// Opening panics.
    Bug,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub attr: Attr,
    pub parent: Ino,
    pub content: Content,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug)]
pub struct Model {
    pub nodes: Vec<Node>,
    pub timeout: Duration,
    pub opened: AtomicU64,
    pub released: AtomicU64,
    /// Reads wait this long, as if the network were slow.
    pub read_delay: Duration,
}

impl Model {
    /// An empty root directory.
    pub fn new() -> Self {
        let mut model = Self {
            nodes: Vec::new(),
            timeout: Duration::from_secs(60),
            opened: AtomicU64::new(0),
            released: AtomicU64::new(0),
            read_delay: Duration::ZERO,
        };
        model.push(Ino::ROOT, Content::Directory(Vec::new()));
        model
    }

    fn push(&mut self, parent: Ino, content: Content) -> Ino {
        let ino = Ino(self.nodes.len() as u64 + 1);
        let (file_type, size_bytes, permissions) = match &content {
            Content::Directory(_) => (FileType::Directory, 4096, 0o755),
            Content::File(bytes) => (FileType::Regular, bytes.len() as u64, 0o644),
            Content::Symlink(target) => (FileType::Symlink, target.len() as u64, 0o777),
            Content::Fifo => (FileType::Fifo, 0, 0o600),
            Content::Broken(_) | Content::Bug => (FileType::Regular, 10, 0o644),
        };
        let attr = Attr {
            ino,
            file_type,
            permissions,
            size_bytes,
            nlink: 1,
            uid: 1234,
            gid: 5678,
            rdev: 0,
            mtime_s: 1_600_000_000 + ino.0 as i64,
            mtime_ns: 123_456_789,
        };
        self.nodes.push(Node { attr, parent, content, xattrs: BTreeMap::new() });
        ino
    }

    pub fn add(&mut self, parent: Ino, name: &[u8], content: Content) -> Ino {
        let ino = self.push(parent, content);
        match &mut self.nodes[parent.0 as usize - 1].content {
            Content::Directory(entries) => entries.push((name.to_vec(), ino)),
            other => panic!("{other:?} has no children"),
        }
        ino
    }

    pub fn directory(&mut self, parent: Ino, name: &[u8]) -> Ino {
        self.add(parent, name, Content::Directory(Vec::new()))
    }

    pub fn node_mut(&mut self, ino: Ino) -> &mut Node {
        &mut self.nodes[ino.0 as usize - 1]
    }

    pub fn node(&self, ino: Ino) -> Result<&Node, Refusal> {
        (ino.0 as usize).checked_sub(1).and_then(|i| self.nodes.get(i)).ok_or(Refusal::NoEntry)
    }

    fn children(&self, ino: Ino) -> Result<&[(Vec<u8>, Ino)], Refusal> {
        match &self.node(ino)?.content {
            Content::Directory(entries) => Ok(entries),
            _ => Err(Refusal::NotADirectory),
        }
    }

    /// All paths below the root, relative, with their inodes.
    pub fn paths(&self) -> Vec<(Vec<u8>, Ino)> {
        let mut found = Vec::new();
        let mut open = vec![(Vec::new(), Ino::ROOT)];
        while let Some((path, ino)) = open.pop() {
            for (name, child) in self.children(ino).unwrap_or_default() {
                let path = if path.is_empty() { name.clone() } else { [&path[..], name].join(&b'/') };
                open.push((path.clone(), *child));
                found.push((path, *child));
            }
        }
        found
    }
}

impl FileSystem for Model {
    fn lookup(&self, parent: Ino, name: &[u8]) -> FsResult<Attr> {
        let found = self.children(parent)?.iter().find(|(child, _)| child == name);
        let (_, ino) = found.ok_or(Refusal::NoEntry)?;
        self.getattr(*ino)
    }

    fn getattr(&self, ino: Ino) -> FsResult<Attr> {
        Ok(self.node(ino)?.attr)
    }

    fn readlink(&self, ino: Ino) -> FsResult<Vec<u8>> {
        match &self.node(ino)?.content {
            Content::Symlink(target) => Ok(target.clone()),
            _ => Err(Refusal::NotASymlink.into()),
        }
    }

    fn open(&self, ino: Ino, _: i32) -> FsResult<Opened> {
        match &self.node(ino)?.content {
            Content::File(_) => {}
            Content::Broken(kind) => return Err(Error::new(*kind, "open", format!("inode {}", ino.0)).into()),
            Content::Bug => panic!("a bug in the engine"),
            _ => return Err(Refusal::NotAFile.into()),
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Opened { fh: Fh(ino.0), keep_cache: true, direct_io: false })
    }

    fn read(&self, fh: Fh, offset: u64, size: u32, into: &mut Vec<u8>) -> FsResult<()> {
        let Content::File(bytes) = &self.node(Ino(fh.0))?.content else { return Err(Refusal::BadHandle.into()) };
        std::thread::sleep(self.read_delay);
        let start = bytes.len().min(offset as usize);
        into.extend_from_slice(&bytes[start..bytes.len().min(start + size as usize)]);
        Ok(())
    }

    fn release(&self, _: Fh) {
        self.released.fetch_add(1, Ordering::Relaxed);
    }

    fn list(
        &self,
        directory: Ino,
        from: u64,
        sink: &mut dyn FnMut(&ListedEntry<'_>) -> ControlFlow<()>,
    ) -> FsResult<()> {
        let parent = self.node(directory)?.parent;
        let special = [(b".".to_vec(), directory), (b"..".to_vec(), parent)];
        let all = special.iter().chain(self.children(directory)?);
        for (position, (name, ino)) in all.enumerate().skip(from as usize) {
            let entry = ListedEntry { name, attr: self.getattr(*ino)?, next: position as u64 + 1 };
            if sink(&entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn getxattr(&self, ino: Ino, name: &[u8], _: u32) -> FsResult<Vec<u8>> {
        Ok(self.node(ino)?.xattrs.get(name).cloned().ok_or(Refusal::NoAttribute)?)
    }

    fn listxattr(&self, ino: Ino) -> FsResult<Vec<u8>> {
        Ok(self.node(ino)?.xattrs.keys().flat_map(|name| [name, &b"\0"[..]].concat()).collect())
    }

    fn statfs(&self) -> FsResult<Statfs> {
        Ok(Statfs { block_bytes: 512, blocks: 2000, blocks_free: 1000, files: self.nodes.len() as u64, files_free: 3 })
    }

    fn entry_timeout(&self) -> Duration {
        self.timeout
    }
}

/// Entries of the large directory of [`sample`].
pub const LARGE: usize = 5000;

/// A tree with one of everything.
pub fn sample() -> Model {
    let mut model = Model::new();
    let bin = model.directory(Ino::ROOT, b"bin");
    model.add(bin, b"tool", Content::File(b"#!/bin/sh\necho hello\n".to_vec()));
    model.add(bin, b"empty", Content::File(Vec::new()));
    let odd = model.directory(Ino::ROOT, b"odd \xff\xfe names\n");
    model.add(odd, b"caf\xe9", Content::File(b"latin1".to_vec()));
    model.add(odd, &[b'n'; 255], Content::File(b"long name".to_vec()));
    model.add(odd, b"link \\ back", Content::Symlink(b"../bin/tool".to_vec()));
    model.add(odd, b"dangling", Content::Symlink(b"\xff/nowhere".to_vec()));
    model.add(odd, b"pipe", Content::Fifo);
    let large = model.directory(Ino::ROOT, b"large");
    for i in 0..LARGE {
        model.add(large, format!("entry-{i:05}").as_bytes(), Content::File(vec![b'x'; i % 3000]));
    }
    let big: Vec<u8> = (0..5_000_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()).collect();
    model.add(Ino::ROOT, b"big", Content::File(big));
    let marked = model.add(Ino::ROOT, b"marked", Content::File(b"with attributes".to_vec()));
    let xattrs = &mut model.node_mut(marked).xattrs;
    xattrs.insert(b"user.fqrn".to_vec(), b"test.example.org".to_vec());
    xattrs.insert(b"user.long".to_vec(), vec![b'l'; 40_000]);
    xattrs.insert(b"user.empty".to_vec(), Vec::new());
    let old = model.add(Ino::ROOT, b"old", Content::File(b"1901".to_vec()));
    model.node_mut(old).attr.mtime_s = -2_000_000_000;
    let setid = model.add(Ino::ROOT, b"setid", Content::File(b"s".to_vec()));
    model.node_mut(setid).attr.permissions = 0o6755;
    model.add(Ino::ROOT, b"corrupt", Content::Broken(ErrorKind::Corrupt));
    model.add(Ino::ROOT, b"unreachable", Content::Broken(ErrorKind::Unreachable));
    model.add(Ino::ROOT, b"full", Content::Broken(ErrorKind::NoSpace));
    model.add(Ino::ROOT, b"bug", Content::Bug);
    model
}
