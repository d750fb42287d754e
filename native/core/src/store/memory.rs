//! A store in memory, for tests and dry runs.
//!
//! Owns nothing outside the process and is as durable as the process. Shared between threads under one lock.

use std::collections::HashMap;
use std::io::{self, Cursor, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use nearfs_format::object::ObjectId;
use parking_lot::Mutex;

use super::{ObjectList, ObjectRead, ObjectRemove, ObjectWrite, ObjectWriter, Stored};
use crate::error::{Error, ErrorKind, Result};

/// Objects and named files in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<HashMap<ObjectId, Arc<[u8]>>>,
    named: Mutex<HashMap<String, Arc<[u8]>>>,
}

fn bounded(bytes: Option<Arc<[u8]>>, what: String, limit_bytes: u64) -> Result<Vec<u8>> {
    let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::NotFound, "read", what.clone()))?;
    if bytes.len() as u64 > limit_bytes {
        return Err(Error::new(ErrorKind::Corrupt, "read", format!("{what}: more than {limit_bytes} bytes")));
    }
    Ok(bytes.to_vec())
}

impl MemoryStore {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl ObjectRead for MemoryStore {
    fn read(&self, id: &ObjectId, limit_bytes: u64) -> Result<Vec<u8>> {
        bounded(self.objects.lock().get(id).cloned(), id.to_string(), limit_bytes)
    }

    fn open(&self, id: &ObjectId) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.read(id, u64::MAX)?)))
    }

    fn size(&self, id: &ObjectId) -> Result<Option<u64>> {
        Ok(self.objects.lock().get(id).map(|bytes| bytes.len() as u64))
    }

    fn read_named(&self, name: &str, limit_bytes: u64) -> Result<Vec<u8>> {
        bounded(self.named.lock().get(name).cloned(), name.to_owned(), limit_bytes)
    }
}

impl ObjectWrite for MemoryStore {
    fn put(&self, id: &ObjectId, bytes: &[u8]) -> Result<Stored> {
        let before = self.objects.lock().insert(*id, bytes.into());
        Ok(Stored { was_new: before.is_none() })
    }

    fn begin(&self) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(MemoryWriter { store: self, bytes: Vec::new() }))
    }

    fn put_named(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.named.lock().insert(name.to_owned(), bytes.into());
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn scratch_dir(&self) -> PathBuf {
        std::env::temp_dir()
    }

    fn clear_leftovers(&self) -> Result<u64> {
        Ok(0)
    }
}

impl ObjectRemove for MemoryStore {
    fn remove(&self, id: &ObjectId) -> Result<bool> {
        Ok(self.objects.lock().remove(id).is_some())
    }
}

impl ObjectList for MemoryStore {
    fn list(&self, visit: &mut dyn FnMut(ObjectId, u64) -> Result<()>) -> Result<()> {
        let listing: Vec<_> = self.objects.lock().iter().map(|(id, bytes)| (*id, bytes.len() as u64)).collect();
        listing.into_iter().try_for_each(|(id, size_bytes)| visit(id, size_bytes))
    }
}

struct MemoryWriter<'s> {
    store: &'s MemoryStore,
    bytes: Vec<u8>,
}

impl Write for MemoryWriter<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.bytes.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for MemoryWriter<'_> {
    fn commit(self: Box<Self>, id: &ObjectId) -> Result<Stored> {
        self.store.put(id, &self.bytes)
    }
}
