//! From stored bytes to checked content: hash while streaming, inflate, write.
//!
//! Two ways. [`StoredSink`] collects a small object in memory, so that it can be inflated in one call and written
//! once. [`StreamSink`] hashes, inflates and writes while bytes stream, so that memory stays constant whatever the
//! size. Both run on the thread that fetches.

use nearfs_format::FormatError;
use nearfs_format::codec::Inflater;
use nearfs_format::dirent::Compression;
use nearfs_format::hash::Hasher;
use nearfs_format::object::ObjectId;

use super::disk::DiskCache;
use super::pending::PendingObject;
use super::want::Want;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::Sink;

/// Memory reserved at most on the word of a host.
const MAX_RESERVED_BYTES: u64 = 1 << 20;

/// Collects stored bytes; after `finish` they have the hash that names them.
#[derive(Debug)]
pub(super) struct StoredSink {
    id: ObjectId,
    hasher: Hasher,
    bytes: Vec<u8>,
}

impl StoredSink {
    pub(super) fn new(id: ObjectId) -> Self {
        Self { id, hasher: Hasher::new(id.hash.algorithm()), bytes: Vec::new() }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Sink for StoredSink {
    fn begin(&mut self, content_length: Option<u64>) -> Result<()> {
        self.bytes.reserve(content_length.unwrap_or(0).min(MAX_RESERVED_BYTES) as usize);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        check_hash(&self.id, &mut self.hasher)
    }

    fn restart(&mut self) -> Result<()> {
        *self = Self::new(self.id);
        Ok(())
    }
}

/// Writes content into the cache while stored bytes arrive; after `finish` it only has to be committed.
#[derive(Debug)]
pub(super) struct StreamSink<'a> {
    disk: &'a DiskCache,
    want: Want,
    hasher: Hasher,
    inflater: Option<Inflater>,
    pending: Option<PendingObject>,
}

impl<'a> StreamSink<'a> {
    pub(super) fn new(disk: &'a DiskCache, want: &Want) -> Self {
        let hasher = Hasher::new(want.id.hash.algorithm());
        Self { disk, want: want.clone(), hasher, inflater: None, pending: None }
    }

    pub(super) fn into_pending(self) -> Result<PendingObject> {
        self.pending.ok_or_else(|| out_of_order(&self.want.id))
    }

    fn check_size(&self) -> Result<()> {
        let size = self.pending.as_ref().map_or(0, PendingObject::size_bytes);
        match self.want.size_bytes {
            Some(expected) if expected != size => Err(wrong_size(&self.want.id, size, expected)),
            _ => Ok(()),
        }
    }
}

impl Sink for StreamSink<'_> {
    fn begin(&mut self, _content_length: Option<u64>) -> Result<()> {
        self.inflater = match self.want.compression {
            Compression::Zlib => Some(Inflater::new(self.want.content_limit())),
            Compression::None => None,
        };
        self.pending = Some(self.disk.begin(&self.want.id, self.want.content_limit())?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let id = self.want.id;
        let pending = self.pending.as_mut().ok_or_else(|| out_of_order(&id))?;
        self.hasher.update(bytes);
        let Some(inflater) = &mut self.inflater else {
            // The request's own limit bounds what is stored, which here is the content.
            return pending.write(bytes);
        };
        inflater.push(bytes, &mut |piece: &[u8]| pending.write(piece).map_err(Stop::Write)).map_err(|stop| match stop {
            Stop::Write(error) => error,
            Stop::Inflate(error) => damaged(&id, error),
        })
    }

    fn finish(&mut self) -> Result<()> {
        check_hash(&self.want.id, &mut self.hasher)?;
        if let Some(inflater) = self.inflater.take() {
            inflater.finish().map_err(|error| damaged(&self.want.id, error))?;
        }
        self.check_size()
    }

    fn restart(&mut self) -> Result<()> {
        self.hasher = Hasher::new(self.want.id.hash.algorithm());
        self.inflater = None;
        self.pending = None;
        Ok(())
    }
}

/// Why inflating stopped: two errors of which one is the disk's.
enum Stop {
    Inflate(FormatError),
    Write(Error),
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Self::Inflate(error)
    }
}

fn check_hash(id: &ObjectId, hasher: &mut Hasher) -> Result<()> {
    let hasher = std::mem::replace(hasher, Hasher::new(id.hash.algorithm()));
    let actual = hasher.finish();
    if actual == id.hash {
        return Ok(());
    }
    let subject = id.kind.noun();
    let (expected, actual) = (id.hash.to_string(), actual.to_string());
    Err(Error::format("verify", id.to_string(), FormatError::HashMismatch { subject, expected, actual }))
}

/// Builds the error of stored bytes that do not inflate to what they should.
pub(super) fn damaged(id: &ObjectId, error: FormatError) -> Error {
    Error::format("inflate", id.to_string(), error)
}

/// Builds the error of content of another size than its catalog says.
pub(super) fn wrong_size(id: &ObjectId, size: u64, expected: u64) -> Error {
    Error::new(ErrorKind::Corrupt, "verify", format!("{id}: it has {size} bytes, its catalog says {expected}"))
}

fn out_of_order(id: &ObjectId) -> Error {
    Error::new(ErrorKind::Internal, "fetch", format!("{id}: the transport did not begin the answer"))
}
