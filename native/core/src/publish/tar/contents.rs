//! What was stored of an archive, until the walk over its tree asks for it.
//!
//! Owns which objects make up a content. Kept in a database beside the objects, so that memory does not depend on the
//! archive. Belongs to one thread.

use std::path::Path;

use nearfs_format::chunk::Chunk;
use nearfs_format::hash::{ContentHash, HashAlgorithm};

use super::super::pipeline::Content;
use crate::database::Database;
use crate::error::Result;

/// Number of a stored content; hardlinks share one.
pub(super) type Ticket = u32;

const SCHEMA: &str = "CREATE TABLE pieces (ticket INTEGER, offset INTEGER, size INTEGER, hash BLOB NOT NULL, \
                      PRIMARY KEY (ticket, offset)) WITHOUT ROWID;";
const PAGE_BYTES: u32 = 4096;
const MEMORY: &str = "PRAGMA cache_size=-16384;";
/// The offset of an object that is the whole file.
const WHOLE: i64 = -1;

/// A file or a chunk that is in the store.
#[derive(Debug)]
pub(super) struct StoredPiece {
    pub(super) ticket: Ticket,
    /// Offset and size of a chunk.
    pub(super) place: Option<(u64, u64)>,
    pub(super) hash: ContentHash,
}

/// The contents by ticket.
#[derive(Debug)]
pub(super) struct Contents {
    database: Database,
    algorithm: HashAlgorithm,
}

impl Contents {
    /// Returns a list of nothing; its database lies in `scratch`. All hashes are of one algorithm.
    pub(super) fn create(scratch: &Path, algorithm: HashAlgorithm) -> Result<Self> {
        let database = Database::create(scratch, "the list of an archive's contents".into(), PAGE_BYTES, &[SCHEMA])?;
        database.run(MEMORY)?;
        Ok(Self { database, algorithm })
    }

    /// Notes what was stored.
    pub(super) fn keep(&self, pieces: &[StoredPiece]) -> Result<()> {
        pieces.iter().try_for_each(|piece| {
            // Sizes of files fit: the archive's own numbers are signed.
            let (offset, size) = piece.place.map_or((WHOLE, 0), |(offset, size)| (offset as i64, size as i64));
            self.insert(piece.ticket, offset, size, &piece.hash)
        })
    }

    /// Notes a content that was there before.
    pub(super) fn keep_content(&self, ticket: Ticket, content: &Content) -> Result<()> {
        if let Some(hash) = &content.hash {
            self.insert(ticket, WHOLE, 0, hash)?;
        }
        let mut chunks = content.chunks.iter();
        chunks.try_for_each(|chunk| self.insert(ticket, chunk.offset as i64, chunk.size as i64, &chunk.hash))
    }

    fn insert(&self, ticket: Ticket, offset: i64, size: i64, hash: &ContentHash) -> Result<()> {
        let sql = "INSERT INTO pieces (ticket, offset, size, hash) VALUES (?1, ?2, ?3, ?4)";
        self.database.execute(sql, &[&ticket, &offset, &size, &hash.digest().as_slice()]).map(drop)
    }

    /// Returns a content; an empty one for a ticket of which nothing was stored.
    pub(super) fn get(&self, ticket: Ticket) -> Result<Content> {
        let mut content = Content::default();
        let sql = "SELECT offset, size, hash FROM pieces WHERE ticket = ?1 ORDER BY offset";
        self.database.rows(sql, &[&ticket], |row| {
            let hash = ContentHash::from_digest(self.algorithm, &self.database.bytes(row, 2)?);
            let hash = hash.map_err(|e| self.database.corrupt(e))?;
            match self.database.integer(row, 0)? {
                WHOLE => content.hash = Some(hash),
                offset => {
                    let size = self.database.unsigned(row, 1)?;
                    content.chunks.push(Chunk { offset: offset as u64, size, hash });
                }
            }
            Ok(())
        })?;
        Ok(content)
    }
}
