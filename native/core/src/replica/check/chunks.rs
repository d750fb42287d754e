//! Chunked files: every one has its chunks, without gap or overlap; and what objects the files consist of.
//!
//! Source: format.md 5.1, 12.8 and 12.12.

use nearfs_format::chunk::{Chunk, ChunkList};
use nearfs_format::dirent::{Compression, EntryFlags};
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::PathHash;

use super::findings::Findings;
use super::objects::ObjectUse;
use super::table::Table;
use crate::catalog::reader::CatalogReader;

/// Checks the chunks of all files; adds the objects that have to be in the storage to `uses`. Returns the number of
/// chunk rows, `None` where they cannot all be read.
pub(super) fn check(
    table: &Table,
    reader: &CatalogReader,
    mut uses: Option<&mut Vec<ObjectUse>>,
    findings: &mut Findings,
) -> Option<i64> {
    let mut files = Files { table, has_chunks: vec![false; table.rows.len()], uses: uses.as_deref_mut(), findings };
    let mut key = None;
    let mut chunks = Vec::new();
    let mut count = 0;
    let read = reader.chunks(|row| {
        if key != Some(row.path_hash) {
            files.file(key, std::mem::take(&mut chunks));
            key = Some(row.path_hash);
        }
        count += 1;
        // The algorithm is the file row's; it is set once the file is known.
        let hash = ContentHash::new(HashAlgorithm::Sha1, row.digest);
        chunks.push(Chunk { offset: row.offset, size: row.size, hash });
        Ok(())
    });
    match &read {
        Ok(()) => {
            files.file(key, chunks);
            files.report_missing();
        }
        // The last file may have more chunks than were read.
        Err(e) => files.findings.of_catalog(format_args!("file chunks cannot be read: {e}")),
    }
    if let Some(uses) = uses {
        add_whole_files(table, uses);
    }
    read.is_ok().then_some(count)
}

struct Files<'a> {
    table: &'a Table,
    has_chunks: Vec<bool>,
    uses: Option<&'a mut Vec<ObjectUse>>,
    findings: &'a mut Findings,
}

impl Files<'_> {
    /// Takes all chunks of one file, by offset.
    fn file(&mut self, key: Option<PathHash>, mut chunks: Vec<Chunk>) {
        let Some(key) = key else { return };
        let Some(at) = self.table.position(key) else {
            if self.table.is_complete {
                let problem = format_args!("{} chunks belong to no entry (path hash {})", chunks.len(), key.hex());
                self.findings.of_catalog(problem);
            }
            return;
        };
        self.has_chunks[at as usize] = true;
        let row = self.table.row(at);
        if !(row.is_regular() && row.flags.has(EntryFlags::CHUNKED)) {
            self.findings.at(&self.table.path(at), "entry has chunks, but is no chunked file");
            return;
        }
        let algorithm = row.flags.hash_algorithm().unwrap_or_default();
        for chunk in &mut chunks {
            chunk.hash = ContentHash::new(algorithm, *chunk.hash.digest());
        }
        for chunk in chunks.iter().filter(|chunk| chunk.hash.is_null()) {
            self.findings.at(&self.table.path(at), format_args!("chunk at {} with zero hash", chunk.offset));
        }
        self.add_uses(at, &chunks);
        if let Err(e) = ChunkList::new(chunks, row.size) {
            self.findings.at(&self.table.path(at), format_args!("misaligned file chunks: {e}"));
        }
    }

    fn add_uses(&mut self, at: u32, chunks: &[Chunk]) {
        let row = self.table.row(at);
        let Some(uses) = &mut self.uses else { return };
        if row.flags.has(EntryFlags::EXTERNAL) {
            return;
        }
        uses.extend(chunks.iter().filter(|chunk| !chunk.hash.is_null()).map(|chunk| ObjectUse {
            id: ObjectId::new(chunk.hash, ObjectKind::Chunk),
            is_deflated: row.compression() == Compression::Zlib,
            size_bytes: chunk.size,
            at,
        }));
    }

    fn report_missing(&mut self) {
        for (at, row) in self.table.placed() {
            if row.is_regular() && row.flags.has(EntryFlags::CHUNKED) && !self.has_chunks[at as usize] {
                self.findings.at(&self.table.path(at), "chunked file without chunks");
            }
        }
    }
}

/// Adds whole-file objects: of files stored whole, and of chunked files that are stored whole besides.
fn add_whole_files(table: &Table, uses: &mut Vec<ObjectUse>) {
    for (at, row) in table.placed() {
        if let Some(hash) = row.hash
            && row.is_regular()
            && !row.flags.has(EntryFlags::EXTERNAL)
        {
            let is_deflated = row.compression() == Compression::Zlib;
            uses.push(ObjectUse { id: ObjectId::new(hash, ObjectKind::File), is_deflated, size_bytes: row.size, at });
        }
    }
}
