//! Objects on their way from the source into the store, many requests at a time.
//!
//! Owns the bound of requests in flight, and that nothing gets a name in the store whose hash was not checked. Each
//! request is a task of the network runtime; the thread that asks waits while the bound is reached. The first failure
//! stops all others.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use nearfs_format::hash::{ContentHash, Hasher};
use nearfs_format::object::{ObjectId, ObjectKind};
use parking_lot::Mutex;
use tempfile::NamedTempFile;
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::store::local::temporary_prefix;
use crate::store::{ObjectWriter, Store};
use crate::transport::{Interrupt, Origin, Request, Sink};

/// Objects up to this stored size pass through memory, larger ones through a file.
const MAX_IN_MEMORY_BYTES: usize = 1 << 20;
/// No object is larger. Nothing is reserved on a host's word: this ends what never ends.
const OBJECT_LIMIT_BYTES: u64 = 1 << 40;
const OPERATION: &str = "replicate";
/// How often somebody who waits looks whether he shall give up.
const PATIENCE: Duration = Duration::from_millis(200);

/// A catalog that came, as it is stored, or why it did not.
pub(super) struct Arrived {
    /// What the asker knows it by.
    pub(super) node: usize,
    pub(super) file: Result<NamedTempFile>,
}

/// What all tasks see.
struct Shared {
    origin: Arc<Origin>,
    store: Arc<dyn Store>,
    progress: Arc<Progress>,
    interrupt: Interrupt,
    is_stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
    counts: Arc<Counts>,
}

/// What came into the store.
#[derive(Default)]
struct Counts {
    objects: AtomicU64,
    bytes: AtomicU64,
}

/// The way of objects into the store.
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    turns: Arc<Semaphore>,
    in_flight: u32,
    arrivals: (Sender<Arrived>, Receiver<Arrived>),
}

impl Drop for Fetcher {
    /// Tasks that are left end by themselves; nobody waits for what they would bring.
    fn drop(&mut self) {
        self.shared.interrupt.cancel();
    }
}

impl Fetcher {
    pub(super) fn new(origin: Arc<Origin>, store: Arc<dyn Store>, progress: Arc<Progress>, in_flight: u32) -> Self {
        Self::with_counts(origin, store, progress, in_flight.max(1), Arc::default())
    }

    /// Returns another one of the same bound and counts, without anything under way: this one has failed.
    pub(super) fn anew(&self) -> Self {
        let Shared { origin, store, progress, counts, .. } = self.shared.as_ref();
        let (origin, store) = (Arc::clone(origin), Arc::clone(store));
        Self::with_counts(origin, store, Arc::clone(progress), self.in_flight, Arc::clone(counts))
    }

    fn with_counts(
        origin: Arc<Origin>,
        store: Arc<dyn Store>,
        progress: Arc<Progress>,
        in_flight: u32,
        counts: Arc<Counts>,
    ) -> Self {
        let (interrupt, is_stopped, failure) = (Interrupt::new(), AtomicBool::new(false), Mutex::new(None));
        let shared = Arc::new(Shared { origin, store, progress, interrupt, is_stopped, failure, counts });
        Self { shared, turns: Arc::new(Semaphore::new(in_flight as usize)), in_flight, arrivals: unbounded() }
    }

    /// Returns how many objects came into the store, and their stored bytes.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.shared.counts.objects.load(Ordering::Relaxed), self.shared.counts.bytes.load(Ordering::Relaxed))
    }

    /// Has an object fetched and stored. Waits while too many are under way.
    pub(super) fn object(&self, id: ObjectId) -> Result<()> {
        let turn = loop {
            self.check()?;
            let turn = Arc::clone(&self.turns).acquire_owned();
            if let Ok(turn) =
                self.shared.origin.runtime().block_on(async { tokio::time::timeout(PATIENCE, turn).await })
            {
                break turn.map_err(|_| closed())?;
            }
        };
        self.shared.progress.expect(1, 0);
        let shared = Arc::clone(&self.shared);
        self.shared.origin.runtime().spawn(async move {
            if let Err(error) = shared.bring(id).await {
                shared.stop(error);
            }
            drop(turn);
        });
        Ok(())
    }

    /// Has a catalog fetched into a scratch file; it will come out of [`Fetcher::arrived`].
    pub(super) fn catalog(&self, node: usize, hash: ContentHash) {
        let (shared, arrivals) = (Arc::clone(&self.shared), self.arrivals.0.clone());
        self.shared.origin.runtime().spawn(async move {
            let file = shared.bring_catalog(hash).await;
            // Nobody listens any more only where the pull has ended.
            let _ = arrivals.send(Arrived { node, file });
        });
    }

    /// Returns the next catalog that came; waits for one.
    pub(super) fn arrived(&self) -> Result<Arrived> {
        loop {
            self.check()?;
            if let Ok(arrived) = self.arrivals.1.recv_timeout(PATIENCE) {
                if arrived.file.is_err() {
                    // A catalog may be given up because an object has failed: that is to be told.
                    self.check()?;
                }
                return Ok(arrived);
            }
        }
    }

    /// Waits until every object that was asked for is in the store.
    pub(super) fn drain(&self) -> Result<()> {
        loop {
            let all = self.turns.acquire_many(self.in_flight);
            let waited = self.shared.origin.runtime().block_on(async { tokio::time::timeout(PATIENCE, all).await });
            self.check()?;
            if let Ok(all) = waited {
                return all.map(drop).map_err(|_| closed());
            }
        }
    }

    /// Fails once anything has failed, or somebody asked to stop; and from then on, whoever asks.
    fn check(&self) -> Result<()> {
        self.shared.progress.check(OPERATION)?;
        if self.shared.is_stopped.load(Ordering::Acquire)
            && let Some(failure) = self.shared.failure.lock().as_ref()
        {
            return Err(failure.again());
        }
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Internal, OPERATION, "the queue of requests was closed")
}

impl Shared {
    fn stop(&self, error: Error) {
        // What others say after the first failure is that they were stopped.
        self.failure.lock().get_or_insert(error);
        self.is_stopped.store(true, Ordering::Release);
        self.interrupt.cancel();
    }

    async fn bring(&self, id: ObjectId) -> Result<()> {
        let mut sink = StoreSink::new(self.store.as_ref(), id);
        self.fetch(&id, &mut sink).await?;
        let length = sink.length;
        if sink.store()? {
            self.counts.objects.fetch_add(1, Ordering::Relaxed);
            self.counts.bytes.fetch_add(length, Ordering::Relaxed);
        }
        self.progress.add_file();
        self.progress.add_bytes(length);
        Ok(())
    }

    async fn bring_catalog(&self, hash: ContentHash) -> Result<NamedTempFile> {
        let id = ObjectId::new(hash, ObjectKind::Catalog);
        let scratch = self.store.scratch_dir();
        let file = tempfile::Builder::new().prefix(&temporary_prefix()).tempfile_in(&scratch);
        let file = file.map_err(|e| Error::io("create temporary file in", scratch.display().to_string(), e))?;
        let mut sink = FileSink { id, hasher: Hasher::new(hash.algorithm()), file };
        self.fetch(&id, &mut sink).await?;
        Ok(sink.file)
    }

    async fn fetch(&self, id: &ObjectId, sink: &mut (dyn Sink + Send)) -> Result<()> {
        let interrupt = self.interrupt.clone();
        let request = Request { interrupt, ..Request::new(id.key(), OBJECT_LIMIT_BYTES) };
        self.origin.fetch_async(&request, sink).await.map(drop)
    }
}

fn check_hash(id: &ObjectId, hasher: &mut Hasher) -> Result<()> {
    let actual = std::mem::replace(hasher, Hasher::new(id.hash.algorithm())).finish();
    if actual == id.hash {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, "verify", format!("{id}: what came has hash {actual}")))
}

/// Takes an object for the store: in memory, or in a file of the store once it is large.
struct StoreSink<'s> {
    store: &'s dyn Store,
    id: ObjectId,
    hasher: Hasher,
    bytes: Vec<u8>,
    writer: Option<Box<dyn ObjectWriter + 's>>,
    length: u64,
}

impl<'s> StoreSink<'s> {
    fn new(store: &'s dyn Store, id: ObjectId) -> Self {
        let hasher = Hasher::new(id.hash.algorithm());
        Self { store, id, hasher, bytes: Vec::new(), writer: None, length: 0 }
    }

    /// Gives the object its name, once it is whole; says whether it is new.
    fn store(self) -> Result<bool> {
        let stored = match self.writer {
            Some(writer) => writer.commit(&self.id)?,
            None => self.store.put(&self.id, &self.bytes)?,
        };
        Ok(stored.was_new)
    }
}

impl Sink for StoreSink<'_> {
    fn begin(&mut self, content_length: Option<u64>) -> Result<()> {
        self.bytes.reserve(content_length.unwrap_or(0).min(MAX_IN_MEMORY_BYTES as u64) as usize);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = |e| Error::io("store", self.id.to_string(), e);
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        if let Some(writer) = &mut self.writer {
            return writer.write_all(bytes).map_err(failed);
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > MAX_IN_MEMORY_BYTES {
            let mut writer = self.store.begin()?;
            writer.write_all(&std::mem::take(&mut self.bytes)).map_err(failed)?;
            self.writer = Some(writer);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        check_hash(&self.id, &mut self.hasher)
    }

    fn restart(&mut self) -> Result<()> {
        *self = Self::new(self.store, self.id);
        Ok(())
    }
}

/// Takes a catalog into a scratch file.
struct FileSink {
    id: ObjectId,
    hasher: Hasher,
    file: NamedTempFile,
}

impl Sink for FileSink {
    fn begin(&mut self, _content_length: Option<u64>) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|e| Error::io("write", self.id.to_string(), e))
    }

    fn finish(&mut self) -> Result<()> {
        check_hash(&self.id, &mut self.hasher)
    }

    fn restart(&mut self) -> Result<()> {
        use std::io::Seek as _;
        self.hasher = Hasher::new(self.id.hash.algorithm());
        let file = self.file.as_file_mut();
        file.set_len(0).and_then(|()| file.rewind()).map_err(|e| Error::io("write", self.id.to_string(), e))
    }
}

#[cfg(test)]
mod tests {
    use nearfs_format::hash::HashAlgorithm;
    use nearfs_testkit::host::{Reply, ScriptedHost};

    use super::*;
    use crate::store::MemoryStore;
    use crate::transport::{OriginOptions, runtime};

    #[test]
    fn who_asks_a_queue_that_failed_is_told_why_every_time() {
        let host = ScriptedHost::start(|_| Reply::Status(404)).unwrap();
        let runtime = runtime().unwrap();
        let origin = Origin::open(&host.url(), OriginOptions::default(), runtime.handle().clone()).unwrap();
        let fetcher = Fetcher::new(Arc::new(origin), Arc::new(MemoryStore::new()), Arc::default(), 2);
        let id = ObjectId::new(HashAlgorithm::Sha1.hash(b"missing"), ObjectKind::Metainfo);
        fetcher.object(id).unwrap();
        let first = fetcher.drain().unwrap_err();
        assert_eq!(first.kind(), ErrorKind::NotFound);
        assert!(first.to_string().contains(&id.key()), "{first}");
        for again in [fetcher.drain(), fetcher.arrived().map(drop), fetcher.object(id)] {
            let again = again.unwrap_err();
            assert_eq!((again.kind(), again.to_string()), (first.kind(), first.to_string()));
        }
        fetcher.anew().drain().unwrap();
    }
}
