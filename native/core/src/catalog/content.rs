//! What a regular file's content consists of: no object, one, or chunks; in the repository or outside of it.
//!
//! Pure: reads a decoded catalog, fetches nothing.

use std::sync::Arc;

use nearfs_format::chunk::ChunkList;
use nearfs_format::dirent::{Compression, EntryFlags};
use nearfs_format::object::{ObjectId, ObjectKind};

use crate::cache::{Place, Want};
use crate::error::{Error, ErrorKind, Result};

use super::index::RowId;
use super::tree::View;

/// What a regular file consists of.
#[derive(Debug)]
pub enum Content {
    /// Nothing: asking for it would cost a round trip.
    Empty,
    /// One object.
    Whole(Want),
    /// Parts, each an object.
    Chunked(Chunks),
}

/// The parts of a chunked file.
#[derive(Debug)]
pub struct Chunks {
    /// Where each part lies.
    pub list: ChunkList,
    compression: Compression,
    /// Path without a leading slash, where the content lies outside the repository.
    external: Option<Arc<[u8]>>,
}

impl Chunks {
    /// Returns the object that holds a part; `None` if there are not that many.
    pub fn want(&self, number: usize) -> Option<Want> {
        let chunk = self.list.as_slice().get(number)?;
        let id = ObjectId::new(chunk.hash, ObjectKind::Chunk);
        let mut want = Want::sized(id, self.compression, chunk.size);
        if let Some(path) = &self.external {
            want.place = Place::External { path: Arc::clone(path), offset: Some(chunk.offset) };
        }
        Some(want)
    }
}

/// Returns what the regular file in `row` consists of.
pub fn of(view: &View, row: RowId) -> Result<Content> {
    let entry = view.index.row(row);
    let path = || view.path(row);
    let below_root = |path: &[u8]| Arc::from(path.strip_prefix(b"/").unwrap_or(path));
    let external = entry.flags.has(EntryFlags::EXTERNAL).then(|| below_root(path().as_bytes()));
    if let Some(list) = view.index.chunks(row)? {
        return Ok(Content::Chunked(Chunks { list, compression: entry.compression, external }));
    }
    if entry.size == 0 {
        return Ok(Content::Empty);
    }
    let no_hash = || Error::new(ErrorKind::Corrupt, "open", format!("{}: its catalog row has no content hash", path()));
    let id = ObjectId::new(entry.hash.ok_or_else(no_hash)?, ObjectKind::File);
    let mut want = Want::sized(id, entry.compression, entry.size);
    if let Some(path) = external {
        want.place = Place::External { path, offset: None };
    }
    Ok(Content::Whole(want))
}
