//! What can be answered without the network: asked by a loop that has one thread for all requests.
//!
//! Owns guesses, not promises: what was nearby may be gone a moment later, and then the operation waits as any does. A
//! question that will be refused counts as nearby, because the refusal needs nobody. Takes read locks only; any thread.

use nearfs_format::dirent::FileType;
use nearfs_format::object::{ObjectId, ObjectKind};

use super::namespace::Place;
use super::ops::Client;
use super::types::{Fh, Ino};

impl Client {
    /// Says whether a directory's entries can be looked up and listed without loading a catalog.
    pub fn is_listing_nearby(&self, directory: Ino) -> bool {
        match self.entry(directory) {
            Ok(Place { tree, view, row }) => {
                let is_directory = view.index.row(row).file_type == FileType::Directory;
                !is_directory || tree.is_below_loaded(&view, row)
            }
            Err(_) => true,
        }
    }

    /// Says whether a file can be opened without fetching its content.
    pub fn is_content_nearby(&self, ino: Ino) -> bool {
        let Ok(Place { view, row, .. }) = self.entry(ino) else { return true };
        let entry = view.index.row(row);
        let is_one_object = entry.file_type == FileType::Regular && entry.size > 0;
        match (is_one_object, view.index.chunks(row), entry.hash) {
            (true, Ok(None), Some(hash)) => self.cache.is_cached(&ObjectId::new(hash, ObjectKind::File)),
            _ => true,
        }
    }

    /// Says whether a range of an open file can be read without fetching a chunk.
    pub fn is_range_nearby(&self, fh: Fh, offset: u64, size: u32) -> bool {
        self.files.get(fh.0).is_none_or(|file| file.content.is_nearby(&self.cache, offset, size as usize))
    }
}
