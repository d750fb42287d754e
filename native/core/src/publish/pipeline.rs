//! From files on disk to objects in the store, on all cores.
//!
//! Owns reading, cutting, deflating, hashing and storing. A worker takes the next file; whoever meets a file that is
//! cut reads it alone and shares its chunks with workers that are free. Memory is bounded: one file or chunk for each
//! worker, and as many chunks waiting. Hand-over never blocks: if nobody is free, the reader does the chunk itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use nearfs_format::chunk::Chunk;
use nearfs_format::chunker::{ChunkSizes, Chunker};
use nearfs_format::codec::Deflater;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::{ContentHash, Hasher};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;
use parking_lot::Mutex;

use super::plan::{Found, Plan};
use super::scan::host_path;
use super::types::PublishSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::store::{Store, Stored};

/// Files that are not cut are read in one go up to this size, larger ones piece by piece.
const WHOLE_LIMIT_BYTES: u64 = 32 << 20;
const BLOCK_BYTES: usize = 256 << 10;
/// Buffers grow with the largest file; beyond this they are given back after use.
const KEEP_BUFFER_BYTES: usize = 16 << 20;

/// Where a file's content went.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// The whole-file object, `None` for a file in chunks.
    pub(super) hash: Option<ContentHash>,
    /// The chunks, in order; empty for a whole file.
    pub(super) chunks: Vec<Chunk>,
}

/// New objects, counted by every thread that stores.
#[derive(Debug, Default)]
pub(super) struct Tally {
    objects: AtomicU64,
    reused: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    pub(super) fn count(&self, stored: Stored, size_bytes: u64) {
        if stored.was_new {
            self.objects.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(size_bytes, Ordering::Relaxed);
        } else {
            self.reused.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    pub(super) fn reused(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Stores the content of every regular file that the plan adds. Returns one content for each change, `None` for
/// changes without content. The first failure stops all workers.
pub(super) fn store_contents(
    store: &dyn Store,
    plan: &Plan,
    settings: &PublishSettings,
    progress: &Progress,
    tally: &Tally,
) -> Result<Vec<Option<Content>>> {
    let files: Vec<_> = plan.contents().collect();
    progress.expect(files.len() as u64, files.iter().map(|(_, _, found)| found.size).sum());
    let workers = settings.worker_count().clamp(1, files.len().max(1));
    let (sender, receiver) = crossbeam_channel::bounded(settings.worker_count());
    let shared = Shared {
        store,
        plan,
        settings,
        progress,
        tally,
        files: &files,
        next: AtomicUsize::new(0),
        is_stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
        cut: Mutex::new(Vec::new()),
    };
    // A large file needs helpers even if it is the only one.
    let helpers = if files.iter().any(|(_, _, found)| shared.sizes_for(found).is_some()) {
        settings.worker_count()
    } else {
        workers
    };
    let wholes: Vec<(usize, Content)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..helpers)
            .map(|_| {
                let (sender, receiver, shared) = (sender.clone(), receiver.clone(), &shared);
                scope.spawn(move || Worker::new(shared).run(sender, &receiver))
            })
            .collect();
        drop(sender);
        threads.into_iter().flat_map(|thread| join(thread, &shared)).collect()
    });
    if let Some(failure) = shared.failure.lock().take() {
        return Err(failure);
    }
    let mut contents = vec![None; plan.changes.len()];
    let cut = std::mem::take(&mut *shared.cut.lock());
    let chunked = cut.into_iter().map(|file| {
        let mut chunks = std::mem::take(&mut *file.chunks.lock());
        chunks.sort_unstable_by_key(|chunk| chunk.offset);
        (file.change, Content { hash: None, chunks })
    });
    for (index, content) in wholes.into_iter().chain(chunked) {
        if let Some(slot) = contents.get_mut(index) {
            *slot = Some(content);
        }
    }
    Ok(contents)
}

fn join(
    thread: std::thread::ScopedJoinHandle<'_, Vec<(usize, Content)>>,
    shared: &Shared<'_>,
) -> Vec<(usize, Content)> {
    thread.join().unwrap_or_else(|_| {
        shared.stop(Error::new(ErrorKind::Internal, "publish", "files: a worker thread died"));
        Vec::new()
    })
}

/// What all workers see.
struct Shared<'p> {
    store: &'p dyn Store,
    plan: &'p Plan,
    settings: &'p PublishSettings,
    progress: &'p Progress,
    tally: &'p Tally,
    files: &'p [(usize, &'p RepoPath, &'p Found)],
    next: AtomicUsize,
    is_stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
    cut: Mutex<Vec<Arc<CutFile>>>,
}

impl Shared<'_> {
    fn stop(&self, error: Error) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.failure.lock().get_or_insert(error);
    }

    /// Returns how to cut a file, `None` if it stays whole.
    fn sizes_for(&self, found: &Found) -> Option<ChunkSizes> {
        self.settings.chunk_sizes.filter(|sizes| found.size > sizes.min())
    }
}

/// A file in several chunks, which come back in any order.
struct CutFile {
    change: usize,
    chunks: Mutex<Vec<Chunk>>,
}

/// One chunk on its way to whoever is free.
struct Piece {
    file: Arc<CutFile>,
    offset: u64,
    bytes: Vec<u8>,
}

/// One thread's tools.
struct Worker<'s, 'p> {
    shared: &'s Shared<'p>,
    deflater: Deflater,
    read: Vec<u8>,
    stored: Vec<u8>,
    wholes: Vec<(usize, Content)>,
}

impl<'s, 'p> Worker<'s, 'p> {
    fn new(shared: &'s Shared<'p>) -> Self {
        Self { shared, deflater: Deflater::new(), read: Vec::new(), stored: Vec::new(), wholes: Vec::new() }
    }

    fn run(mut self, sender: Sender<Piece>, receiver: &Receiver<Piece>) -> Vec<(usize, Content)> {
        let files = self.shared.files;
        while let Some((change, path, found)) = files.get(self.shared.next.fetch_add(1, Ordering::Relaxed)) {
            while let Ok(piece) = receiver.try_recv() {
                self.attempt(|worker| worker.piece(piece));
            }
            self.attempt(|worker| worker.file(*change, path, found, &sender));
        }
        // When the last reader has dropped its sender, no more pieces can come.
        drop(sender);
        for piece in receiver {
            self.attempt(|worker| worker.piece(piece));
        }
        self.wholes
    }

    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) {
        if self.shared.is_stopped.load(Ordering::Relaxed) {
            return;
        }
        let result = self.shared.progress.check("publish files").and_then(|()| work(self));
        if let Err(error) = result {
            self.deflater.reset();
            self.shared.stop(error);
        }
        self.read.shrink_to(KEEP_BUFFER_BYTES);
        self.stored.shrink_to(KEEP_BUFFER_BYTES);
    }

    fn file(&mut self, change: usize, path: &RepoPath, found: &Found, sender: &Sender<Piece>) -> Result<()> {
        let mut source = SourceFile::open(&self.shared.plan.source, &self.shared.plan.target, path, found)?;
        if let Some(sizes) = self.shared.sizes_for(found) {
            self.cut(change, &mut source, sizes, sender)?;
        } else {
            let hash =
                if found.size > WHOLE_LIMIT_BYTES { self.stream(&mut source)? } else { self.whole(&mut source)? };
            self.wholes.push((change, Content { hash: Some(hash), chunks: Vec::new() }));
        }
        source.check_unchanged()?;
        self.shared.progress.add_file();
        Ok(())
    }

    /// A file that fits in memory.
    fn whole(&mut self, source: &mut SourceFile<'_>) -> Result<ContentHash> {
        let mut bytes = std::mem::take(&mut self.read);
        bytes.clear();
        source.read_all(&mut bytes)?;
        self.shared.progress.add_bytes(bytes.len() as u64);
        let result = self.store(&bytes, ObjectKind::File);
        self.read = bytes;
        result
    }

    /// A file that stays whole and does not fit in memory.
    fn stream(&mut self, source: &mut SourceFile<'_>) -> Result<ContentHash> {
        let algorithm = self.shared.settings.hash_algorithm;
        let is_plain = self.shared.settings.compression == Compression::None;
        let mut writer = self.shared.store.begin()?;
        let (mut hasher, mut written_bytes) = (Hasher::new(algorithm), 0);
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            self.shared.progress.check("publish files")?;
            let count = source.read(&mut block)?;
            self.stored.clear();
            match (is_plain, count) {
                (true, _) => self.stored.extend_from_slice(&block[..count]),
                (false, 0) => self.deflater.finish(&mut self.stored),
                (false, _) => self.deflater.push(&block[..count], &mut self.stored),
            }
            hasher.update(&self.stored);
            writer.write_all(&self.stored).map_err(|e| Error::io("store", source.path.to_string(), e))?;
            written_bytes += self.stored.len() as u64;
            self.shared.progress.add_bytes(count as u64);
            if count == 0 {
                break;
            }
        }
        let hash = hasher.finish();
        let stored = writer.commit(&ObjectId::new(hash, ObjectKind::File))?;
        self.shared.tally.count(stored, written_bytes);
        Ok(hash)
    }

    /// A file that may be cut. One without a cut mark is stored whole (5.1).
    fn cut(
        &mut self,
        change: usize,
        source: &mut SourceFile<'_>,
        sizes: ChunkSizes,
        sender: &Sender<Piece>,
    ) -> Result<()> {
        let file = Arc::new(CutFile { change, chunks: Mutex::new(Vec::new()) });
        let mut chunker = Chunker::new(sizes);
        let (mut offset, mut bytes) = (0, Vec::new());
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let count = source.read(&mut block)?;
            if count == 0 {
                break;
            }
            self.shared.progress.check("publish files")?;
            self.shared.progress.add_bytes(count as u64);
            let mut rest = &block[..count];
            while let Some(length) = chunker.next_cut(rest) {
                bytes.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
                let piece = Piece { file: Arc::clone(&file), offset, bytes: std::mem::take(&mut bytes) };
                offset = chunker.chunk_start();
                self.hand_over(piece, sender)?;
            }
            bytes.extend_from_slice(rest);
        }
        if offset == 0 {
            let hash = self.store(&bytes, ObjectKind::File)?;
            self.wholes.push((change, Content { hash: Some(hash), chunks: Vec::new() }));
            return Ok(());
        }
        self.shared.cut.lock().push(Arc::clone(&file));
        self.piece(Piece { file, offset, bytes })
    }

    fn hand_over(&mut self, piece: Piece, sender: &Sender<Piece>) -> Result<()> {
        match sender.try_send(piece) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(piece) | TrySendError::Disconnected(piece)) => self.piece(piece),
        }
    }

    fn piece(&mut self, piece: Piece) -> Result<()> {
        let hash = self.store(&piece.bytes, ObjectKind::Chunk)?;
        let size = piece.bytes.len() as u64;
        piece.file.chunks.lock().push(Chunk { offset: piece.offset, size, hash });
        Ok(())
    }

    fn store(&mut self, bytes: &[u8], kind: ObjectKind) -> Result<ContentHash> {
        let Shared { store, settings, tally, .. } = self.shared;
        let stored = match settings.compression {
            Compression::None => bytes,
            Compression::Zlib => {
                self.stored.clear();
                self.deflater.push(bytes, &mut self.stored);
                self.deflater.finish(&mut self.stored);
                self.stored.as_slice()
            }
        };
        let hash = settings.hash_algorithm.hash(stored);
        let outcome = store.put(&ObjectId::new(hash, kind), stored)?;
        tally.count(outcome, stored.len() as u64);
        Ok(hash)
    }
}

/// A file being read, which has to stay what the scan saw.
struct SourceFile<'p> {
    file: File,
    path: &'p RepoPath,
    found: &'p Found,
    read_bytes: u64,
}

impl<'p> SourceFile<'p> {
    fn open(source: &std::path::Path, target: &RepoPath, path: &'p RepoPath, found: &'p Found) -> Result<Self> {
        let host = host_path(source, target, path);
        // Not through a symlink, and not waiting for the writer of a fifo, if one took the file's place.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&host).map_err(|e| {
            if e.kind() == io::ErrorKind::NotFound {
                changed(path, "it vanished")
            } else {
                Error::io("read", host.display().to_string(), e)
            }
        })?;
        let source = Self { file, path, found, read_bytes: 0 };
        source.check_stat()?;
        Ok(source)
    }

    fn check_stat(&self) -> Result<()> {
        let stat = self.file.metadata().map_err(|e| Error::io("read", self.path.to_string(), e))?;
        let mtime = (stat.mtime(), stat.mtime_nsec());
        if !stat.is_file() || stat.len() != self.found.size || mtime != (self.found.mtime, self.found.mtime_ns.into()) {
            return Err(changed(self.path, "it changed"));
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read(buffer) {
                Ok(count) => {
                    self.read_bytes += count as u64;
                    return Ok(count);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", self.path.to_string(), e)),
            }
        }
    }

    fn read_all(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.reserve(self.found.size as usize + 1);
        // One byte more than announced shows that the file grew.
        let count = (&self.file)
            .take(self.found.size + 1)
            .read_to_end(bytes)
            .map_err(|e| Error::io("read", self.path.to_string(), e))?;
        self.read_bytes += count as u64;
        Ok(())
    }

    fn check_unchanged(&self) -> Result<()> {
        if self.read_bytes != self.found.size {
            return Err(changed(self.path, "it changed its size"));
        }
        self.check_stat()
    }
}

fn changed(path: &RepoPath, what: &str) -> Error {
    let subject = format!("{path}: {what} while it was being published; nothing was committed, publish again");
    Error::new(ErrorKind::Busy, "publish", subject)
}
