//! Open files: whole objects and chunk lists, and reading from them at any offset.
//!
//! An object that turns out to be damaged while it is read is fetched again, and the read begins anew: its caller sees
//! nothing of it.
//!
//! Threading: an [`OpenFile`] is shared by all readers of a handle. The locks around an object are held to copy a
//! reference, never while one is fetched.

use std::sync::Arc;

use nearfs_format::object::{ObjectId, ObjectKind};
use parking_lot::Mutex;

use super::namespace::Revisions;
use super::types::{Attr, Ino};
use crate::cache::Want;
use crate::cache::cached::CachedObject;
use crate::cache::fill::ObjectCache;
use crate::catalog::content::Chunks;
use crate::error::{Error, ErrorKind, Result};
use crate::prefetch::Prefetcher;
use crate::prefetch::readahead::Sequence;
use crate::prefetch::traces::{Noted, Traces};

/// What a read may need beside the file.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) cache: &'a ObjectCache,
    pub(super) ahead: &'a Prefetcher,
    pub(super) traces: &'a Traces,
    pub(super) revisions: &'a Revisions,
}

/// Where an open file's bytes are.
#[derive(Debug)]
pub(super) enum OpenFile {
    /// Nothing to read.
    Empty,
    /// One object, in the cache.
    Whole { want: Want, object: Mutex<CachedObject> },
    /// Chunks, each fetched when it is first read.
    Chunked {
        /// Path, for errors.
        path: String,
        chunks: Chunks,
        /// Somebody may execute it, or map it as a library.
        is_program: bool,
        /// Whose open it was, for what is learned.
        noted: Noted,
        /// The chunk read last: sequential readers stay in it.
        last: Mutex<Option<(usize, CachedObject)>>,
        /// The reads so far, and the first chunk that was not fetched ahead.
        ahead: Mutex<(Sequence, usize)>,
    },
}

impl OpenFile {
    /// Opens a chunked file, of which nothing is fetched yet.
    pub(super) fn chunked(path: String, chunks: Chunks, is_program: bool, noted: Noted) -> Self {
        Self::Chunked { path, chunks, is_program, noted, last: Mutex::default(), ahead: Mutex::default() }
    }

    /// Says whether a range can be read without the network.
    pub(super) fn is_nearby(&self, cache: &ObjectCache, offset: u64, size: usize) -> bool {
        let Self::Chunked { chunks, last, .. } = self else { return true };
        let open = last.lock().as_ref().map(|(number, _)| *number);
        let end = offset.saturating_add(size as u64);
        let first = chunks.list.index_at(offset).unwrap_or(usize::MAX);
        let touched = chunks.list.iter().enumerate().skip(first).take_while(|(_, chunk)| chunk.offset < end);
        touched
            .filter(|(number, _)| open != Some(*number))
            .all(|(_, chunk)| cache.is_cached(&ObjectId::new(chunk.hash, ObjectKind::Chunk)))
    }

    /// Reads up to `size` bytes at `offset`; fewer only at the end of the file.
    pub(super) fn read(&self, around: &Around<'_>, offset: u64, size: usize, into: &mut Vec<u8>) -> Result<()> {
        let Around { cache, ahead: prefetcher, traces, revisions } = *around;
        match self {
            Self::Empty => Ok(()),
            Self::Whole { want, object } => {
                let kept = object.lock().clone();
                let (_, fresh) = append_intact(cache, want, &kept, offset, size, into)
                    .map_err(|error| lacking(&want.id.to_string(), error))?;
                if let Some(fresh) = fresh {
                    *object.lock() = fresh;
                }
                Ok(())
            }
            Self::Chunked { path, chunks, is_program, noted, last, ahead } => {
                let keep = ahead.lock().0.note(offset, size as u64);
                let (mut offset, mut left) = (offset, size);
                while left > 0 {
                    let at = chunks.list.index_at(offset).and_then(|number| Some((number, chunks.want(number)?)));
                    let Some((number, want)) = at else { break };
                    let chunk = chunks.list.as_slice()[number];
                    let kept = last.lock().clone().filter(|(n, _)| *n == number).map(|(_, object)| object);
                    let object = if let Some(object) = kept {
                        object
                    } else {
                        traces.chunk_read(*noted, chunk.offset);
                        let mut is_there = true;
                        let opened = cache.open_for(&want, || {
                            is_there = false;
                            if traces.waited(*noted, &revisions.current()) {
                                prefetcher.listed_asked(&want.id, false);
                            } else {
                                prefetcher.chunk_missed(chunks, number, *is_program, path);
                            }
                            path.clone()
                        });
                        if is_there {
                            prefetcher.listed_asked(&want.id, true);
                        }
                        let object = opened.map_err(|e| lacking(path, e))?;
                        *last.lock() = Some((number, object.clone()));
                        object
                    };
                    if keep > 0 {
                        let from = ahead.lock().1.max(number + 1);
                        ahead.lock().1 = prefetcher.read_ahead(chunks, from, offset.saturating_add(keep), path);
                    }
                    let inside = offset - chunk.offset;
                    let wanted = left.min(usize::try_from(chunk.size - inside).unwrap_or(usize::MAX));
                    let (count, fresh) = append_intact(cache, &want, &object, inside, wanted, into)
                        .map_err(|error| lacking(path, error))?;
                    if let Some(fresh) = fresh {
                        *last.lock() = Some((number, fresh));
                    }
                    if count < wanted {
                        let what = format!("{path}: chunk {} ends after {count} bytes of {wanted}", chunk.hash);
                        return Err(Error::new(ErrorKind::Corrupt, "read", what));
                    }
                    offset += count as u64;
                    left -= count;
                }
                Ok(())
            }
        }
    }
}

/// Says that an object is missing which a catalog names: a broken repository, and not that the file does not exist.
fn lacking(path: &str, error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    Error::new(ErrorKind::Unreachable, "read", path).with_source(error)
}

/// Like [`append`]; an object that is damaged is replaced by a fresh copy, which is returned too.
fn append_intact(
    cache: &ObjectCache,
    want: &Want,
    object: &CachedObject,
    offset: u64,
    size: usize,
    into: &mut Vec<u8>,
) -> Result<(usize, Option<CachedObject>)> {
    let start = into.len();
    match append(object, offset, size, into) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            into.truncate(start);
            let fresh = cache.reopen_damaged(want, &error)?;
            let count = append(&fresh, offset, size, into)?;
            Ok((count, Some(fresh)))
        }
        other => other.map(|count| (count, None)),
    }
}

/// Appends up to `size` bytes at `offset` of an object; returns how many there were.
fn append(object: &CachedObject, offset: u64, size: usize, into: &mut Vec<u8>) -> Result<usize> {
    let size = size.min(usize::try_from(object.size_bytes().saturating_sub(offset)).unwrap_or(usize::MAX));
    let start = into.len();
    into.resize(start + size, 0);
    let count = object.read_at(&mut into[start..], offset)?;
    into.truncate(start + count);
    Ok(count)
}

/// A handle: what it reads, and what it was opened as, which holds also when a later revision has it no more.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) content: OpenFile,
    pub(super) attr: Attr,
}

/// The files that are open, by handle.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    files: parking_lot::RwLock<std::collections::HashMap<u64, Arc<Handle>>>,
    next: std::sync::atomic::AtomicU64,
}

impl OpenFiles {
    pub(super) fn insert(&self, content: OpenFile, attr: Attr) -> u64 {
        let fh = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        self.files.write().insert(fh, Arc::new(Handle { content, attr }));
        fh
    }

    pub(super) fn get(&self, fh: u64) -> Option<Arc<Handle>> {
        self.files.read().get(&fh).cloned()
    }

    pub(super) fn remove(&self, fh: u64) {
        self.files.write().remove(&fh);
    }

    /// Returns the attributes with which an inode is open, if it is. Looks at every open file: for the rare question
    /// about an inode that no revision has any more.
    pub(super) fn attr(&self, ino: Ino) -> Option<Attr> {
        self.files.read().values().map(|file| file.attr).find(|attr| attr.ino == ino)
    }

    pub(super) fn len(&self) -> usize {
        self.files.read().len()
    }
}
