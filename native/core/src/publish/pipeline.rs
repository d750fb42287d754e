//! From files on disk to objects in the store, on all cores.
//!
//! Owns reading, cutting, deflating, hashing and storing. A worker takes the next file; whoever meets a file that is
//! cut reads it alone and shares its chunks with workers that are free. Memory is bounded: one file or chunk for each
//! worker, and as many chunks waiting. Hand-over never blocks: if nobody is free, the reader does the chunk itself.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use nearfs_format::chunk::Chunk;
use nearfs_format::chunker::{ChunkSizes, Chunker};
use nearfs_format::codec::Deflater;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::{ContentHash, Hasher};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;
use parking_lot::Mutex;

use super::conveyor::{Stop, Ticket};
use super::plan::Found;
use super::reading::SourceFile;
use super::types::{PublishSettings, StoredCounts};
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
    data: Kind,
    catalogs: Kind,
    /// Changes between the scan and the commit, and the most there have been.
    in_flight: AtomicUsize,
    peak_in_flight: AtomicUsize,
}

/// Objects of one kind.
#[derive(Debug, Default)]
struct Kind {
    new: AtomicU64,
    reused: AtomicU64,
    bytes: AtomicU64,
}

impl Kind {
    fn count(&self, stored: Stored, size_bytes: u64) {
        if stored.was_new {
            self.new.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(size_bytes, Ordering::Relaxed);
        } else {
            self.reused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Tally {
    /// Counts a file or chunk.
    pub(super) fn count(&self, stored: Stored, size_bytes: u64) {
        self.data.count(stored, size_bytes);
    }

    pub(super) fn count_catalog(&self, stored: Stored, size_bytes: u64) {
        self.catalogs.count(stored, size_bytes);
    }

    pub(super) fn counts(&self) -> StoredCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (catalogs_new, catalogs_reused) = (read(&self.catalogs.new), read(&self.catalogs.reused));
        let catalog_bytes_new = read(&self.catalogs.bytes);
        StoredCounts {
            objects_new: read(&self.data.new) + catalogs_new,
            bytes_new: read(&self.data.bytes) + catalog_bytes_new,
            objects_reused: read(&self.data.reused) + catalogs_reused,
            catalogs_new,
            catalog_bytes_new,
            catalogs_reused,
        }
    }

    pub(super) fn enter(&self) {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak_in_flight.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn peak_in_flight(&self) -> usize {
        self.peak_in_flight.load(Ordering::Relaxed)
    }
}

/// What all workers see.
pub(super) struct Shared<'p> {
    pub(super) store: &'p dyn Store,
    /// The directory on disk that stands for `target`.
    pub(super) source: &'p Path,
    pub(super) target: &'p RepoPath,
    pub(super) settings: &'p PublishSettings,
    pub(super) progress: &'p Progress,
    pub(super) tally: &'p Tally,
    pub(super) stop: Stop,
}

impl Shared<'_> {
    /// Returns how to cut a file, `None` if it stays whole.
    fn sizes_for(&self, found: &Found) -> Option<ChunkSizes> {
        self.settings.chunk_sizes.filter(|sizes| found.size > sizes.min())
    }
}

/// A file in several chunks, which come back in any order.
pub(super) struct CutFile {
    ticket: Mutex<Option<Ticket>>,
    chunks: Mutex<Vec<Chunk>>,
    /// Chunks that are not stored yet, and one for the reader.
    left: AtomicUsize,
}

impl CutFile {
    fn new(ticket: Ticket) -> Self {
        Self { ticket: Mutex::new(Some(ticket)), chunks: Mutex::new(Vec::new()), left: AtomicUsize::new(1) }
    }

    /// One part is done; the last one completes the file.
    fn release(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(ticket) = self.ticket.lock().take()
        {
            let mut chunks = std::mem::take(&mut *self.chunks.lock());
            chunks.sort_unstable_by_key(|chunk| chunk.offset);
            ticket.done(Some(Content { hash: None, chunks }));
        }
    }
}

/// One chunk on its way to whoever is free.
pub(super) struct Piece {
    file: Arc<CutFile>,
    offset: u64,
    bytes: Vec<u8>,
}

/// What a file turned out to be.
enum Outcome {
    Whole(ContentHash, Ticket),
    Cut(Arc<CutFile>),
}

/// One thread's tools.
pub(super) struct Worker<'s, 'p> {
    shared: &'s Shared<'p>,
    deflater: Deflater,
    read: Vec<u8>,
    stored: Vec<u8>,
}

impl<'s, 'p> Worker<'s, 'p> {
    pub(super) fn new(shared: &'s Shared<'p>) -> Self {
        let deflater = Deflater::with_effort(shared.settings.effort);
        Self { shared, deflater, read: Vec::new(), stored: Vec::new() }
    }

    /// Works until no more files can come and all chunks are stored. Never ends early: what cannot be done after a
    /// failure is taken and dropped, so that nobody waits for it.
    pub(super) fn run(mut self, jobs: &Receiver<Ticket>, sender: Sender<Piece>, pieces: &Receiver<Piece>) {
        loop {
            crossbeam_channel::select! {
                recv(pieces) -> piece => if let Ok(piece) = piece { self.attempt(|worker| worker.piece(piece)) },
                recv(jobs) -> ticket => match ticket {
                    Ok(ticket) => self.attempt(|worker| worker.file(ticket, &sender)),
                    Err(_) => break,
                },
            }
        }
        // When the last reader has dropped its sender, no more pieces can come.
        drop(sender);
        for piece in pieces {
            self.attempt(|worker| worker.piece(piece));
        }
    }

    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) {
        if self.shared.stop.is_set() {
            return;
        }
        let result = self.shared.progress.check("publish files").and_then(|()| work(self));
        if let Err(error) = result {
            self.deflater.reset();
            self.shared.stop.set(error);
        }
        self.read.shrink_to(KEEP_BUFFER_BYTES);
        self.stored.shrink_to(KEEP_BUFFER_BYTES);
    }

    fn file(&mut self, ticket: Ticket, sender: &Sender<Piece>) -> Result<()> {
        let job = Arc::clone(ticket.job());
        let Some(found) = job.found() else {
            ticket.done(None);
            return Ok(());
        };
        let mut source = SourceFile::open(self.shared.source, self.shared.target, job.path(), found)?;
        let outcome = if let Some(sizes) = self.shared.sizes_for(found) {
            self.cut(ticket, &mut source, sizes, sender)?
        } else if found.size > WHOLE_LIMIT_BYTES {
            Outcome::Whole(self.stream(&mut source)?, ticket)
        } else {
            Outcome::Whole(self.whole(&mut source)?, ticket)
        };
        source.check_unchanged()?;
        self.shared.progress.add_file();
        match outcome {
            Outcome::Whole(hash, ticket) => ticket.done(Some(Content { hash: Some(hash), chunks: Vec::new() })),
            Outcome::Cut(file) => file.release(),
        }
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
        ticket: Ticket,
        source: &mut SourceFile<'_>,
        sizes: ChunkSizes,
        sender: &Sender<Piece>,
    ) -> Result<Outcome> {
        let file = Arc::new(CutFile::new(ticket));
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
                file.left.fetch_add(1, Ordering::Relaxed);
                self.hand_over(piece, sender)?;
            }
            bytes.extend_from_slice(rest);
        }
        if offset == 0 {
            let hash = self.store(&bytes, ObjectKind::File)?;
            let lost =
                || Error::new(ErrorKind::Internal, "publish", format!("{}: it was completed twice", source.path));
            return Ok(Outcome::Whole(hash, file.ticket.lock().take().ok_or_else(lost)?));
        }
        file.left.fetch_add(1, Ordering::Relaxed);
        self.piece(Piece { file: Arc::clone(&file), offset, bytes })?;
        Ok(Outcome::Cut(file))
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
        piece.file.release();
        Ok(())
    }

    fn store(&mut self, bytes: &[u8], kind: ObjectKind) -> Result<ContentHash> {
        let Shared { store, settings, tally, .. } = self.shared;
        let stored = match settings.compression {
            Compression::None => bytes,
            Compression::Zlib => {
                self.stored.clear();
                self.deflater.whole(bytes, &mut self.stored);
                self.stored.as_slice()
            }
        };
        let hash = settings.hash_algorithm.hash(stored);
        let outcome = store.put(&ObjectId::new(hash, kind), stored)?;
        tally.count(outcome, stored.len() as u64);
        Ok(hash)
    }
}
