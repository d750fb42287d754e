//! From a stream of members to objects in the store, on all cores.
//!
//! Owns the hand-over: one thread reads the archive and cuts large files, the others deflate, hash and store. Memory is
//! bounded by the batches that wait and those in work, whatever the archive holds. Large files are cut into chunks as a
//! publish does it: any client reads them, a changed file shares its other chunks, and readers of a part fetch a part.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use nearfs_format::chunker::{ChunkSizes, Chunker};
use nearfs_format::codec::Deflater;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::{ContentHash, Hasher};
use nearfs_format::object::{ObjectId, ObjectKind};
use parking_lot::Mutex;

use super::super::pipeline::Tally;
use super::super::types::PublishSettings;
use super::contents::{StoredPiece, Ticket};
use super::members::Members;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::store::Store;

/// Files that are not cut are stored in one go up to this size, larger ones piece by piece by the reader itself.
const WHOLE_LIMIT_BYTES: u64 = 16 << 20;
/// Small files travel together, so that threads do not meet for each of them.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_FILES: usize = 256;
const BLOCK_BYTES: usize = 256 << 10;
const WAITING_BATCHES: usize = 2;
/// Pieces that are held until somebody keeps them elsewhere.
const STORED_PIECES: usize = 4096;

/// One file, or one chunk of a file at an offset.
struct Piece {
    ticket: Ticket,
    offset: Option<u64>,
    bytes: Vec<u8>,
}

/// What all threads see.
struct Shared<'s> {
    store: &'s dyn Store,
    settings: &'s PublishSettings,
    progress: &'s Progress,
    tally: &'s Tally,
    is_stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
    stored: Mutex<Vec<StoredPiece>>,
}

impl Shared<'_> {
    fn stop(&self, error: Error) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.failure.lock().get_or_insert(error);
    }

    fn check(&self) -> Result<()> {
        self.progress.check("publish files")?;
        match self.is_stopped.load(Ordering::Relaxed).then(|| self.failure.lock().take()).flatten() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn work(&self, receiver: &Receiver<Vec<Piece>>) {
        let (mut deflater, mut buffer, mut done) =
            (Deflater::with_effort(self.settings.effort), Vec::new(), Vec::new());
        for batch in receiver {
            for piece in batch {
                // What waits is taken in any case: the reader must not wait for ever.
                if self.is_stopped.load(Ordering::Relaxed) {
                    continue;
                }
                let kind = if piece.offset.is_some() { ObjectKind::Chunk } else { ObjectKind::File };
                match self.put(&piece.bytes, kind, &mut deflater, &mut buffer) {
                    Ok(hash) => {
                        let place = piece.offset.map(|offset| (offset, piece.bytes.len() as u64));
                        done.push(StoredPiece { ticket: piece.ticket, place, hash });
                    }
                    Err(error) => self.stop(error),
                }
            }
            self.stored.lock().append(&mut done);
        }
    }

    fn put(
        &self,
        bytes: &[u8],
        kind: ObjectKind,
        deflater: &mut Deflater,
        buffer: &mut Vec<u8>,
    ) -> Result<ContentHash> {
        let stored = match self.settings.compression {
            Compression::None => bytes,
            Compression::Zlib => {
                buffer.clear();
                deflater.whole(bytes, buffer);
                buffer.as_slice()
            }
        };
        let hash = self.settings.hash_algorithm.hash(stored);
        let outcome = self.store.put(&ObjectId::new(hash, kind), stored)?;
        self.tally.count(outcome, stored.len() as u64);
        Ok(hash)
    }
}

/// The reader's end: takes contents out of the archive and hands them over.
pub(super) struct Intake<'i, 's> {
    shared: &'i Shared<'s>,
    sender: Sender<Vec<Piece>>,
    batch: Vec<Piece>,
    batch_bytes: usize,
}

/// Runs `read` with an intake and workers behind it; returns the pieces that [`Intake::take`] did not return.
pub(super) fn store_members(
    store: &dyn Store,
    settings: &PublishSettings,
    progress: &Progress,
    tally: &Tally,
    read: impl FnOnce(&mut Intake<'_, '_>) -> Result<()>,
) -> Result<Vec<StoredPiece>> {
    let shared = Shared {
        store,
        settings,
        progress,
        tally,
        is_stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
        stored: Mutex::new(Vec::new()),
    };
    let outcome = std::thread::scope(|scope| {
        let (sender, receiver) = bounded(WAITING_BATCHES);
        let threads: Vec<_> = (0..settings.worker_count().max(1))
            .map(|_| {
                let (receiver, shared) = (receiver.clone(), &shared);
                scope.spawn(move || shared.work(&receiver))
            })
            .collect();
        let mut intake = Intake { shared: &shared, sender, batch: Vec::new(), batch_bytes: 0 };
        let outcome = read(&mut intake).and_then(|()| intake.flush());
        // Workers end when no more batches can come.
        drop(intake);
        for thread in threads {
            if thread.join().is_err() {
                shared.stop(Error::new(ErrorKind::Internal, "publish", "files: a worker thread died"));
            }
        }
        outcome
    });
    if let Some(failure) = shared.failure.lock().take() {
        return Err(failure);
    }
    outcome?;
    Ok(shared.stored.into_inner())
}

impl Intake<'_, '_> {
    /// Reads and stores the content of the present member. Now and then returns the pieces that were stored lately.
    pub(super) fn take(&mut self, ticket: Ticket, size: u64, members: &mut Members<'_>) -> Result<Vec<StoredPiece>> {
        self.shared.check()?;
        match self.shared.settings.chunk_sizes.filter(|sizes| size > sizes.min()) {
            Some(sizes) => self.cut(ticket, sizes, members)?,
            None if size > WHOLE_LIMIT_BYTES => self.stream(ticket, members)?,
            None => {
                let mut bytes = vec![0; size as usize];
                let mut filled = 0;
                while filled < bytes.len() {
                    filled += members.read(&mut bytes[filled..])?;
                }
                self.shared.progress.add_bytes(size);
                self.hand_over(Piece { ticket, offset: None, bytes })?;
            }
        }
        self.shared.progress.add_file();
        let mut stored = self.shared.stored.lock();
        Ok(if stored.len() >= STORED_PIECES { std::mem::take(&mut *stored) } else { Vec::new() })
    }

    fn cut(&mut self, ticket: Ticket, sizes: ChunkSizes, members: &mut Members<'_>) -> Result<()> {
        let mut chunker = Chunker::new(sizes);
        let (mut offset, mut bytes) = (0, Vec::new());
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let count = members.read(&mut block)?;
            if count == 0 {
                break;
            }
            self.shared.check()?;
            self.shared.progress.add_bytes(count as u64);
            let mut rest = &block[..count];
            while let Some(length) = chunker.next_cut(rest) {
                bytes.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
                self.hand_over(Piece { ticket, offset: Some(offset), bytes: std::mem::take(&mut bytes) })?;
                offset = chunker.chunk_start();
            }
            bytes.extend_from_slice(rest);
        }
        // A file without a cut mark is stored whole (5.1).
        self.hand_over(Piece { ticket, offset: (offset > 0).then_some(offset), bytes })
    }

    /// A file that stays whole and does not fit in memory.
    fn stream(&mut self, ticket: Ticket, members: &mut Members<'_>) -> Result<()> {
        let settings = self.shared.settings;
        let (mut deflater, mut hasher) = (Deflater::with_effort(settings.effort), Hasher::new(settings.hash_algorithm));
        let mut writer = self.shared.store.begin()?;
        let (mut block, mut stored, mut written_bytes) = (vec![0; BLOCK_BYTES], Vec::new(), 0);
        loop {
            self.shared.check()?;
            let count = members.read(&mut block)?;
            stored.clear();
            match (settings.compression, count) {
                (Compression::None, _) => stored.extend_from_slice(&block[..count]),
                (Compression::Zlib, 0) => deflater.finish(&mut stored),
                (Compression::Zlib, _) => deflater.push(&block[..count], &mut stored),
            }
            hasher.update(&stored);
            writer.write_all(&stored).map_err(|e| Error::io("store", "a file of the archive", e))?;
            written_bytes += stored.len() as u64;
            self.shared.progress.add_bytes(count as u64);
            if count == 0 {
                break;
            }
        }
        let hash = hasher.finish();
        let outcome = writer.commit(&ObjectId::new(hash, ObjectKind::File))?;
        self.shared.tally.count(outcome, written_bytes);
        self.shared.stored.lock().push(StoredPiece { ticket, place: None, hash });
        Ok(())
    }

    fn hand_over(&mut self, piece: Piece) -> Result<()> {
        self.batch_bytes += piece.bytes.len();
        self.batch.push(piece);
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_FILES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let died = |_| Error::new(ErrorKind::Internal, "publish", "files: all worker threads died");
        self.sender.send(batch).map_err(died)
    }
}
