//! What somebody needs: an object, what is known about it beforehand, and where it is asked for.
//!
//! Pure. Source: format.md 1.5 (external data), 2.6 (alternative paths).

use std::sync::Arc;

use nearfs_format::codec::stored_size_limit;
use nearfs_format::dirent::Compression;
use nearfs_format::object::ObjectId;

use crate::error::{Error, ErrorKind, Result};
use crate::transport::{ByteRange, Interrupt, Request};

/// Content up to this size is guessed whatever it is stored in.
const WHOLE_GUESS_BYTES: u64 = 256 << 10;

/// Where an object is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Place {
    /// Below `data/`.
    #[default]
    Data,
    /// Under `.cvmfsalt-` in the repository root (format.md 2.6).
    Alternative,
    /// At a host for external data, under the path of its file (format.md 1.5).
    External {
        /// Path of the file, without a leading slash.
        path: Arc<[u8]>,
        /// Where in the file it begins, if it is a part of it.
        offset: Option<u64>,
    },
}

impl Place {
    /// Returns the place of an object of the repository: under `.cvmfsalt-` where the manifest says so.
    pub fn in_repository(has_alternative_paths: bool) -> Self {
        if has_alternative_paths { Self::Alternative } else { Self::Data }
    }
}

/// An object that somebody needs, and what its catalog or manifest says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Which object.
    pub id: ObjectId,
    /// How it is stored.
    pub compression: Compression,
    /// Size of its content in bytes, where it is known.
    pub size_bytes: Option<u64>,
    /// Content may not be larger than this.
    pub limit_bytes: u64,
    /// Where it is asked for.
    pub place: Place,
    /// What it is for, in the listing of the cache: a path; empty where nobody said.
    pub label: Arc<str>,
    /// So many stored bytes are worth it where it is guessed; all of them where nothing is said.
    pub worth_bytes: Option<u64>,
}

impl Want {
    /// Builds the want of a zlib object of known size: what it is most of the time.
    pub fn sized(id: ObjectId, compression: Compression, size_bytes: u64) -> Self {
        Self { compression, size_bytes: Some(size_bytes), ..Self::bounded(id, size_bytes) }
    }

    /// Builds the want of a zlib object of which only a limit is known, such as a certificate.
    pub fn bounded(id: ObjectId, limit_bytes: u64) -> Self {
        let label = Arc::default();
        let place = Place::default();
        Self { id, compression: Compression::Zlib, size_bytes: None, limit_bytes, place, label, worth_bytes: None }
    }

    /// Says what it is for.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = label.into();
        self
    }

    /// Refuses a size that the caller's own limit forbids, before anything is asked for.
    pub(super) fn check_size(&self) -> Result<()> {
        match self.size_bytes {
            Some(size) if size > self.limit_bytes => {
                let subject = format!("{}: its stated size of {size} bytes is over {}", self.id, self.limit_bytes);
                Err(Error::new(ErrorKind::Corrupt, "fetch", subject))
            }
            _ => Ok(()),
        }
    }

    /// Returns how large the content can be.
    pub fn content_limit(&self) -> u64 {
        self.size_bytes.unwrap_or(self.limit_bytes)
    }

    /// Returns how many stored bytes larger content takes where it deflates at all well; nothing for small content, which is
    /// guessed whatever it takes, and for what is not deflated.
    pub fn modest_bytes(&self) -> Option<u64> {
        let size = self.size_bytes.filter(|size| *size > WHOLE_GUESS_BYTES)?;
        (self.compression == Compression::Zlib).then_some(size / 8 * 5)
    }

    /// Returns about how many bytes come for it, where its size is known.
    pub fn typical_bytes(&self) -> Option<u64> {
        // Most content is stored in half its size or less.
        let size = self.size_bytes?;
        Some(if self.compression == Compression::Zlib { size / 5 * 2 } else { size })
    }

    /// Returns what a host is asked.
    pub(super) fn request(&self, interrupt: &Interrupt) -> Request {
        let key = match &self.place {
            Place::Data => self.id.key().into_bytes(),
            Place::Alternative => self.id.alternative_key().into_bytes(),
            Place::External { path, .. } => path.to_vec(),
        };
        let range = match (&self.place, self.size_bytes) {
            (Place::External { offset: Some(offset), .. }, Some(length)) => Some(ByteRange { offset: *offset, length }),
            _ => None,
        };
        let (max_bytes, expected_length) = match self.compression {
            Compression::Zlib => (stored_size_limit(self.content_limit()), None),
            Compression::None => (self.content_limit(), self.size_bytes),
        };
        // What is asked for beyond the end costs an empty answer.
        let typical_length = self.typical_bytes();
        let (interrupt, subject) = (interrupt.clone(), Arc::clone(&self.label));
        Request { range, expected_length, typical_length, subject, interrupt, ..Request::new(key, max_bytes) }
    }
}
