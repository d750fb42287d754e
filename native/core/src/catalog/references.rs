//! The objects that a catalog's files need, as a stream: for what marks and sweeps.
//!
//! Reads hashes and flags only, so that a row which readers would refuse for its name still protects its content.
//! One reader is used by one thread. Source: format.md 4.5 and 7.3.

use nearfs_format::dirent::EntryFlags;
use nearfs_format::hash::{ContentHash, DIGEST_BYTES, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};

use super::reader::{CatalogReader, broken, corrupt};
use crate::error::Result;

const WHOLE_FILES: &str = "SELECT flags, hash FROM catalog WHERE hash IS NOT NULL AND length(hash) > 0";
const CHUNKS: &str = "SELECT catalog.flags, chunks.hash FROM chunks JOIN catalog \
                      ON catalog.md5path_1 = chunks.md5path_1 AND catalog.md5path_2 = chunks.md5path_2";

impl CatalogReader {
    /// Passes every object that a row or a chunk of this catalog names to `sink`, except those of external files.
    pub fn references(&self, mut sink: impl FnMut(ObjectId) -> Result<()>) -> Result<()> {
        self.each_reference(WHOLE_FILES, ObjectKind::File, &mut sink)?;
        if self.schema().is_legacy() {
            return Ok(());
        }
        self.each_reference(CHUNKS, ObjectKind::Chunk, &mut sink)
    }

    fn each_reference(&self, sql: &str, kind: ObjectKind, sink: &mut impl FnMut(ObjectId) -> Result<()>) -> Result<()> {
        let failed = |e| broken(&self.subject, e);
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let flags = u32::try_from(row.get::<_, i64>(0).map_err(failed)?)
                .map_err(|_| corrupt(&self.subject, "flags out of range"))?;
            let flags = EntryFlags(flags);
            if flags.has(EntryFlags::EXTERNAL) {
                continue;
            }
            // Catalogs of the first schema know one algorithm; the bits were not defined then (4.11).
            let algorithm = if self.schema().is_legacy() {
                HashAlgorithm::Sha1
            } else {
                flags.hash_algorithm().map_err(|e| corrupt(&self.subject, e))?
            };
            let digest: [u8; DIGEST_BYTES] = row.get(1).map_err(failed)?;
            sink(ObjectId::new(ContentHash::new(algorithm, digest), kind))?;
        }
        Ok(())
    }
}
