//! What the store has already, and whether its names are believed.
//!
//! Owns looking for objects before they are asked for. Where a machine went down in the middle, a name may stand for
//! other bytes of any length: such an object is removed, since a store keeps what it has. Belongs to one thread.

use std::io::Read as _;

use nearfs_format::hash::Hasher;
use nearfs_format::object::ObjectId;

use crate::error::{Error, ErrorKind, Result};
use crate::store::ReplicaStore;

const BLOCK_BYTES: usize = 256 << 10;

/// A store as a pull finds it.
#[derive(Clone, Copy)]
pub(super) struct Present<'p> {
    pub(super) store: &'p dyn ReplicaStore,
    /// The storage may hold what a power cut left: objects are read and hashed instead of believed.
    pub(super) verifies: bool,
}

impl Present<'_> {
    /// Says whether the store has an object that can stay; what cannot is gone afterwards.
    pub(super) fn has(&self, id: &ObjectId) -> Result<bool> {
        if !self.verifies {
            return Ok(self.store.size(id)?.is_some());
        }
        let is_sound = self.is_sound(id)?;
        if !is_sound {
            self.store.remove(id)?;
        }
        Ok(is_sound)
    }

    /// Makes room for an object that came: what is damaged in its place goes.
    pub(super) fn clear(&self, id: &ObjectId) -> Result<()> {
        if self.verifies { self.has(id).map(drop) } else { Ok(()) }
    }

    fn is_sound(&self, id: &ObjectId) -> Result<bool> {
        let mut stored = match self.store.open(id) {
            Ok(stored) => stored,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let (mut hasher, mut block) = (Hasher::new(id.hash.algorithm()), vec![0; BLOCK_BYTES]);
        loop {
            match stored.read(&mut block).map_err(|e| Error::io("read", id.to_string(), e))? {
                0 => return Ok(hasher.finish() == id.hash),
                count => hasher.update(&block[..count]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nearfs_format::hash::HashAlgorithm;
    use nearfs_format::object::ObjectKind;

    use super::*;
    use crate::store::{LocalStore, ObjectRead as _, ObjectWrite as _};

    #[test]
    fn damage_of_the_same_length_goes_and_the_object_can_come_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::create_skeleton(directory.path().join("repository")).unwrap();
        for kind in [ObjectKind::File, ObjectKind::Chunk, ObjectKind::Catalog, ObjectKind::History] {
            let id = ObjectId::new(HashAlgorithm::Sha1.hash(b"whole"), kind);
            std::fs::write(store.path_of(&id), b"whale").unwrap();
            assert!(Present { store: &store, verifies: false }.has(&id).unwrap());
            let present = Present { store: &store, verifies: true };
            assert!(!present.has(&id).unwrap());
            assert!(store.put(&id, b"whole").unwrap().was_new);
            assert!(present.has(&id).unwrap());
            assert_eq!(store.read(&id, 5).unwrap(), b"whole");
        }
    }
}
