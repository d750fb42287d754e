//! The table of a catalog's packs: which pack holds the small files of a directory, or of a trigger.
//!
//! Owns the layout, the keys, and the names below `/.nearfs` (docs/format-packs.md). A table is a hint: what it says
//! wrong costs a request, since packs and their members are named by their own hashes.

use std::collections::HashSet;

use crate::error::{FormatError, Result};
use crate::hash::{ContentHash, DIGEST_BYTES};
use crate::pack::{PACK_MAX_BYTES, number_at, push_hash, split_hash};
use crate::path::{PathHash, RepoPath};

/// The directory of packs and tables, hidden from listings.
pub const PACKS_DIRECTORY: &[u8] = b"/.nearfs";
/// Largest table, in bytes. Part of the format: readers refuse more.
pub const TABLE_MAX_BYTES: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"NFSptab\n";
const VERSION: u32 = 1;
/// Magic, version, number of packs, number of keys, four zeros.
const HEADER_BYTES: usize = 8 + 4 + 4 + 4 + 4;
/// Digest, algorithm, size, number of members.
const PACK_BYTES: usize = DIGEST_BYTES + 4 + 4 + 4;
/// Key and number of a pack.
const KEY_BYTES: usize = 8 + 4;
const SUBJECT: &str = "table of packs";

/// What a pack is looked up by: the first eight bytes of an MD5, so that two things may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackKey([u8; 8]);

impl PackKey {
    /// Returns the key of the small files of one kind ([`kind_of`]) in a directory.
    pub fn of_directory(directory: &RepoPath, kind: &[u8]) -> Self {
        Self::of(&[directory.as_bytes(), b"\0", kind])
    }

    /// Returns the key of what is read once the file at `path` was opened.
    pub fn of_trigger(path: &RepoPath) -> Self {
        // No path has a NUL byte: this is never the key of a directory's files.
        Self::of(&[path.as_bytes()])
    }

    fn of(parts: &[&[u8]]) -> Self {
        Self(PathHash::of(&parts.concat()).first.to_le_bytes())
    }
}

/// Returns the kind of a file: its name's ending with its dot, and the tag before it if there is one, such as
/// `.cpython-311.pyc`; nothing for a version number and the like.
pub fn kind_of(name: &[u8]) -> &[u8] {
    let before = |end: usize| name[..end].iter().rposition(|byte| *byte == b'.');
    let begins_as_word = |at: usize| name.get(at + 1).is_some_and(u8::is_ascii_alphabetic);
    let Some(ending) = before(name.len()).filter(|at| begins_as_word(*at)) else { return b"" };
    let is_tag = |at: &usize| {
        begins_as_word(*at) && name[*at..ending].iter().any(|byte| !byte.is_ascii_alphabetic() && *byte != b'.')
    };
    &name[before(ending).filter(is_tag).unwrap_or(ending)..]
}

/// Returns the name in [`PACKS_DIRECTORY`] of the table of the catalog at `mountpoint`.
pub fn table_name(mountpoint: &RepoPath) -> String {
    format!("t{}", mountpoint.hash())
}

/// Returns the name in [`PACKS_DIRECTORY`] of the directory with the packs of the catalog at `mountpoint`.
pub fn packs_name(mountpoint: &RepoPath) -> String {
    format!("p{}", mountpoint.hash())
}

/// A pack, as a table names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackReference {
    /// Hash of the pack, which is stored as it is.
    pub hash: ContentHash,
    /// Its size in bytes.
    pub size_bytes: u32,
    /// How many members it has.
    pub members: u32,
}

/// The packs of one catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackTable {
    packs: Vec<PackReference>,
    /// Sorted, none twice; a key may lead to several packs.
    keys: Vec<(PackKey, u32)>,
}

impl PackTable {
    /// Adds a pack that the keys lead to, behind those they lead to already; says whether there was room for it.
    pub fn add(&mut self, pack: PackReference, keys: &HashSet<PackKey>) -> bool {
        if self.size_bytes() + PACK_BYTES + keys.len() * KEY_BYTES > TABLE_MAX_BYTES {
            return false;
        }
        // There is room: the number is small.
        let number = self.packs.len() as u32;
        self.packs.push(pack);
        self.keys.extend(keys.iter().map(|key| (*key, number)));
        true
    }

    fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.packs.len() * PACK_BYTES + self.keys.len() * KEY_BYTES
    }

    /// Says whether it names no pack.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Returns all packs, in the order of their numbers.
    pub fn packs(&self) -> &[PackReference] {
        &self.packs
    }

    /// Returns the packs that a key leads to, in the order of their numbers. Only of a table that was read: while one is
    /// built, keys are in no order.
    pub fn find(&self, key: PackKey) -> impl Iterator<Item = &PackReference> + '_ {
        let first = self.keys.partition_point(|(other, _)| *other < key);
        let same = self.keys.iter().skip(first).take_while(move |(other, _)| *other == key);
        same.filter_map(|(_, number)| self.packs.get(*number as usize))
    }

    /// Returns the bytes of the table.
    pub fn encode(&self) -> Vec<u8> {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        let mut bytes = Vec::with_capacity(self.size_bytes());
        bytes.extend_from_slice(MAGIC);
        for number in [VERSION, self.packs.len() as u32, keys.len() as u32, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for PackReference { hash, size_bytes, members } in &self.packs {
            push_hash(&mut bytes, hash);
            bytes.extend_from_slice(&size_bytes.to_le_bytes());
            bytes.extend_from_slice(&members.to_le_bytes());
        }
        for (PackKey(key), number) in keys {
            bytes.extend_from_slice(&key);
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads a table.
    ///
    /// # Errors
    ///
    /// `TooLarge` for more bytes than a table has, `Unsupported` for another version, `Malformed` for everything else.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > TABLE_MAX_BYTES {
            return Err(FormatError::TooLarge { subject: SUBJECT, limit_bytes: TABLE_MAX_BYTES as u64 });
        }
        let rest = bytes.strip_prefix(MAGIC).filter(|_| bytes.len() >= HEADER_BYTES);
        let rest = rest.ok_or_else(|| malformed("it does not begin like one"))?;
        let (numbers, rest) = rest.split_at(HEADER_BYTES - MAGIC.len());
        if number_at(numbers, 0) != VERSION {
            let reason = format!("version {}", number_at(numbers, 0));
            return Err(FormatError::Unsupported { subject: SUBJECT, reason });
        }
        let (packs, keys) = (number_at(numbers, 4) as usize, number_at(numbers, 8) as usize);
        // Counts have 32 bits, sizes 64.
        let expected = packs as u64 * PACK_BYTES as u64 + keys as u64 * KEY_BYTES as u64;
        if number_at(numbers, 12) != 0 || expected != rest.len() as u64 {
            return Err(malformed(format!("{} bytes for {packs} packs and {keys} keys", rest.len())));
        }
        let (pack_records, key_records) = rest.split_at(packs * PACK_BYTES);
        let packs: Vec<_> = pack_records.chunks_exact(PACK_BYTES).map(pack).collect::<Result<_>>()?;
        let keys: Vec<_> = key_records.chunks_exact(KEY_BYTES).map(key).collect();
        if keys.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(malformed("keys are out of order"));
        }
        if keys.iter().any(|(_, number)| *number as usize >= packs.len()) {
            return Err(malformed("a key leads to a pack that is not there"));
        }
        Ok(Self { packs, keys })
    }
}

fn malformed(reason: impl Into<String>) -> FormatError {
    FormatError::malformed(SUBJECT, reason)
}

fn pack(record: &[u8]) -> Result<PackReference> {
    let (hash, rest) = split_hash(SUBJECT, record)?;
    let (size_bytes, members) = (number_at(rest, 0), number_at(rest, 4));
    if size_bytes as usize > PACK_MAX_BYTES {
        return Err(malformed(format!("pack {hash} of {size_bytes} bytes")));
    }
    Ok(PackReference { hash, size_bytes, members })
}

fn key(record: &[u8]) -> (PackKey, u32) {
    (PackKey(record.first_chunk().copied().unwrap_or_default()), number_at(record, 8))
}

#[cfg(test)]
#[path = "pack_table_tests.rs"]
mod tests;
