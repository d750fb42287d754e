//! The reference log: which root catalogs, certificates, histories and metainfo objects were ever published.
//!
//! Owns the database and its checksum. The file lies in the repository's root, uncompressed and mutable, so its
//! authenticity rests on a checksum that is kept elsewhere (local file, manifest `Y`). Belongs to one thread at a time.
//! Source: format.md 7.1 and 7.2.

use std::path::Path;

use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::reflog::{RefKind, SCHEMA, SCHEMA_REVISION};

use crate::catalog::schema::PAGE_BYTES;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ObjectRead, Store};

/// Name of the file in the repository's root.
pub const REFLOG_NAME: &str = ".cvmfsreflog";
/// Largest reference log that is accepted: room for several million references.
const REFLOG_LIMIT_BYTES: u64 = 512 << 20;

const CREATE: [&str; 2] = [
    "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));",
    "CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER, CONSTRAINT pk_refs PRIMARY KEY (hash));",
];

/// One reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Hash of the object.
    pub hash: ContentHash,
    /// What it is.
    pub kind: RefKind,
    /// When it was added last, Unix seconds.
    pub timestamp: i64,
}

/// A reference log being read or changed.
#[derive(Debug)]
pub struct Reflog {
    database: Database,
}

impl Reflog {
    /// Creates an empty reference log. Its temporary file lies in `scratch`.
    pub fn create(scratch: &Path, fqrn: &str) -> Result<Self> {
        let database = Database::create(scratch, format!("reference log of {fqrn}"), PAGE_BYTES, &CREATE)?;
        database.set_property("schema", SCHEMA)?;
        database.set_property("schema_revision", SCHEMA_REVISION)?;
        database.set_property("fqrn", fqrn)?;
        Ok(Self { database })
    }

    /// Opens the bytes of a reference log whose hash has to be `checksum`. `Corrupt` if it is not, or if it is no
    /// sound log of this repository.
    pub fn open(scratch: &Path, fqrn: &str, bytes: &[u8], checksum: &ContentHash) -> Result<Self> {
        let subject = format!("reference log of {fqrn}");
        let actual = checksum.algorithm().hash(bytes);
        if actual != *checksum {
            let subject = format!("{subject}: it has hash {actual} instead of {checksum}");
            return Err(Error::new(ErrorKind::Corrupt, "verify", subject));
        }
        let database = Database::from_bytes(scratch, subject, bytes)?;
        let number = |text: &str| text.trim().parse::<f64>().ok();
        for (key, wanted) in [("schema", SCHEMA), ("schema_revision", SCHEMA_REVISION)] {
            let value = database.property(key)?.unwrap_or_default();
            if number(&value) != number(wanted) {
                let subject = format!("{}: {key} `{}` is not {wanted}", database.subject(), value.escape_debug());
                return Err(Error::new(ErrorKind::Unsupported, "open", subject));
            }
        }
        match database.property("fqrn")? {
            Some(name) if name == fqrn => Ok(Self { database }),
            name => Err(database.corrupt(format!("it belongs to `{}`", name.unwrap_or_default().escape_debug()))),
        }
    }

    /// Reads the reference log from the repository's root and opens it; `NotFound` if there is none.
    pub fn load<S: ObjectRead + ?Sized>(store: &S, scratch: &Path, fqrn: &str, checksum: &ContentHash) -> Result<Self> {
        let bytes = store.read_named(REFLOG_NAME, REFLOG_LIMIT_BYTES)?;
        Self::open(scratch, fqrn, &bytes, checksum)
    }

    /// Adds a reference, or refreshes the time of one that is there.
    pub fn add(&mut self, reference: &Reference) -> Result<()> {
        let Reference { hash, kind, timestamp } = reference;
        let sql = "INSERT OR REPLACE INTO refs (hash, type, timestamp) VALUES (?1, ?2, ?3)";
        self.database.execute(sql, &[&hash.to_string(), &kind.id(), timestamp]).map(drop)
    }

    /// Removes a reference; says whether there was one.
    pub fn remove(&mut self, hash: &ContentHash) -> Result<bool> {
        Ok(self.database.execute("DELETE FROM refs WHERE hash = ?1", &[&hash.to_string()])? > 0)
    }

    /// Says whether an object of that kind is referred to.
    pub fn contains(&self, hash: &ContentHash, kind: RefKind) -> Result<bool> {
        let sql = "SELECT count(*) FROM refs WHERE hash = ?1 AND type = ?2";
        let count = self.database.row(sql, &[&hash.to_string(), &kind.id()], |row| self.database.integer(row, 0))?;
        Ok(count == Some(1))
    }

    /// Returns all references, oldest first.
    pub fn list(&self) -> Result<Vec<Reference>> {
        let database = &self.database;
        database.rows("SELECT hash, type, timestamp FROM refs ORDER BY timestamp, hash", &[], |row| {
            Ok(Reference {
                hash: database.text(row, 0)?.parse().map_err(|e| database.corrupt(e))?,
                kind: RefKind::from_id(database.integer(row, 1)?).map_err(|e| database.corrupt(e))?,
                timestamp: database.integer(row, 2)?,
            })
        })
    }

    /// Gives back the room of removed references, once they are all removed.
    pub fn vacuum(&self) -> Result<()> {
        self.database.commit()?;
        self.database.run("VACUUM;")
    }

    /// Ends the work without storing it: for a caller that has to note the checksum before the file is replaced.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        self.database.into_bytes()
    }

    /// Ends the work: replaces the file in the repository's root. Returns its checksum, for manifest `Y` and the local
    /// record. Comes before the manifest that refers to the new objects.
    pub fn save(self, store: &dyn Store, algorithm: HashAlgorithm) -> Result<ContentHash> {
        let bytes = self.into_bytes()?;
        store.put_named(REFLOG_NAME, &bytes)?;
        Ok(algorithm.hash(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, ObjectWrite as _};

    fn reference(text: &str, kind: RefKind, timestamp: i64) -> Reference {
        Reference { hash: HashAlgorithm::Rmd160.hash(text.as_bytes()), kind, timestamp }
    }

    #[test]
    fn references_survive_storing_and_are_refreshed() {
        let (scratch, store) = (tempfile::tempdir().unwrap(), MemoryStore::new());
        let mut reflog = Reflog::create(scratch.path(), "a.example.org").unwrap();
        let root = reference("root", RefKind::Catalog, 5);
        let certificate = reference("certificate", RefKind::Certificate, 6);
        reflog.add(&root).unwrap();
        reflog.add(&certificate).unwrap();
        let checksum = reflog.save(&store, HashAlgorithm::Shake128).unwrap();

        let mut reflog = Reflog::load(&store, scratch.path(), "a.example.org", &checksum).unwrap();
        assert_eq!(reflog.list().unwrap(), [root, certificate]);
        assert!(reflog.contains(&root.hash, RefKind::Catalog).unwrap());
        assert!(!reflog.contains(&root.hash, RefKind::History).unwrap());
        reflog.add(&Reference { timestamp: 7, ..root }).unwrap();
        assert_eq!(reflog.list().unwrap(), [certificate, Reference { timestamp: 7, ..root }]);
        assert!(reflog.remove(&root.hash).unwrap() && !reflog.remove(&root.hash).unwrap());
    }

    #[test]
    fn another_checksum_or_repository_is_corrupt() {
        let (scratch, store) = (tempfile::tempdir().unwrap(), MemoryStore::new());
        let absent = Reflog::load(&store, scratch.path(), "a.org", &ContentHash::null(HashAlgorithm::Sha1));
        assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
        let checksum = Reflog::create(scratch.path(), "a.org").unwrap().save(&store, HashAlgorithm::Sha1).unwrap();
        let other = Reflog::load(&store, scratch.path(), "b.org", &checksum);
        assert_eq!(other.unwrap_err().kind(), ErrorKind::Corrupt);
        let mut bytes = store.read_named(REFLOG_NAME, 1 << 20).unwrap();
        bytes.push(0);
        store.put_named(REFLOG_NAME, &bytes).unwrap();
        let altered = Reflog::load(&store, scratch.path(), "a.org", &checksum);
        assert_eq!(altered.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
