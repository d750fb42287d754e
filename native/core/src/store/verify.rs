//! A decorator that believes no storage: what is read is hashed before anybody sees it.
//!
//! Owns the comparison only. Whole reads are checked at once, streams at their end: a reader of a stream must not act
//! on its bytes before it has seen the end without an error.

use std::io::{self, Read};

use nearfs_format::hash::Hasher;
use nearfs_format::object::ObjectId;

use super::ObjectRead;
use crate::error::{Error, ErrorKind, Result};

/// Checks every object that comes out of `S`.
#[derive(Debug)]
pub struct Verified<S>(pub S);

fn mismatch(id: &ObjectId, actual: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, "verify", format!("{id}: the stored bytes have hash {actual}"))
}

impl<S: ObjectRead> ObjectRead for Verified<S> {
    fn read(&self, id: &ObjectId, limit_bytes: u64) -> Result<Vec<u8>> {
        read_verified(&self.0, id, limit_bytes)
    }

    fn open(&self, id: &ObjectId) -> Result<Box<dyn Read + Send>> {
        let inner = self.0.open(id)?;
        Ok(Box::new(CheckedStream { inner, hasher: Some(Hasher::new(id.hash.algorithm())), id: *id }))
    }

    fn size(&self, id: &ObjectId) -> Result<Option<u64>> {
        self.0.size(id)
    }

    fn read_named(&self, name: &str, limit_bytes: u64) -> Result<Vec<u8>> {
        self.0.read_named(name, limit_bytes)
    }
}

/// Reads one object and checks it; `Corrupt` if the bytes do not have the hash that names them.
pub fn read_verified<S: ObjectRead + ?Sized>(store: &S, id: &ObjectId, limit_bytes: u64) -> Result<Vec<u8>> {
    let bytes = store.read(id, limit_bytes)?;
    let actual = id.hash.algorithm().hash(&bytes);
    if actual == id.hash { Ok(bytes) } else { Err(mismatch(id, actual)) }
}

struct CheckedStream {
    inner: Box<dyn Read + Send>,
    /// `None` once the end was reached and checked.
    hasher: Option<Hasher>,
    id: ObjectId,
}

impl Read for CheckedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let actual = hasher.finish();
            if actual != self.id.hash {
                return Err(io::Error::new(io::ErrorKind::InvalidData, mismatch(&self.id, actual)));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use nearfs_format::hash::HashAlgorithm;
    use nearfs_format::object::ObjectKind;

    use super::*;
    use crate::store::{MemoryStore, ObjectWrite as _};

    #[test]
    fn altered_bytes_are_corrupt_however_they_are_read() {
        let store = MemoryStore::new();
        let good = ObjectId::new(HashAlgorithm::Sha1.hash(b"good"), ObjectKind::File);
        let bad = ObjectId::new(HashAlgorithm::Shake128.hash(b"good"), ObjectKind::Chunk);
        store.put(&good, b"good").unwrap();
        store.put(&bad, b"evil").unwrap();
        let store = Verified(store);
        assert_eq!(store.read(&good, 4).unwrap(), b"good");
        assert_eq!(store.read(&bad, 4).unwrap_err().kind(), ErrorKind::Corrupt);
        let mut text = Vec::new();
        store.open(&good).unwrap().read_to_end(&mut text).unwrap();
        assert_eq!(text, b"good");
        assert!(store.open(&bad).unwrap().read_to_end(&mut text).is_err());
    }
}
