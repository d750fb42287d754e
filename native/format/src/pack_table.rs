//! The table of a catalog's packs: which pack holds an object, and which packs hold what a trigger's readers need.
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
/// Magic, version, number of packs, of members, of keys.
const HEADER_BYTES: usize = 8 + 4 + 4 + 4 + 4;
/// Digest, algorithm, size, number of members.
const PACK_BYTES: usize = DIGEST_BYTES + 4 + 4 + 4;
/// First bytes of a digest and number of a pack.
const MEMBER_BYTES: usize = 4 + 4;
/// Key and number of a pack.
const KEY_BYTES: usize = 8 + 4;
const SUBJECT: &str = "table of packs";

/// What a trigger's packs are looked up by: the first eight bytes of an MD5, so that two triggers may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackKey([u8; 8]);

impl PackKey {
    /// Returns the key of what is read once the file at `path` was opened.
    pub fn of_trigger(path: &RepoPath) -> Self {
        Self(PathHash::of(path.as_bytes()).first.to_le_bytes())
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

/// What of a digest a table holds: enough to make a wrong pack rare. It costs a request, and no more.
type Prefix = [u8; 4];

/// The packs of one catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackTable {
    packs: Vec<PackReference>,
    /// Sorted once read, none twice; an object may lie in several packs.
    members: Vec<(Prefix, u32)>,
    /// Sorted once read, none twice; a key may lead to several packs.
    keys: Vec<(PackKey, u32)>,
}

impl PackTable {
    /// Adds a pack with the objects in it and the keys that lead to it; says whether there was room for it.
    pub fn add(&mut self, pack: PackReference, members: &[ContentHash], keys: &HashSet<PackKey>) -> bool {
        let added_bytes = PACK_BYTES + members.len() * MEMBER_BYTES + keys.len() * KEY_BYTES;
        if self.size_bytes() + added_bytes > TABLE_MAX_BYTES {
            return false;
        }
        // There is room: the number is small.
        let number = self.packs.len() as u32;
        self.packs.push(pack);
        self.members.extend(members.iter().map(|member| (prefix(member), number)));
        self.keys.extend(keys.iter().map(|key| (*key, number)));
        true
    }

    fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.packs.len() * PACK_BYTES + self.members.len() * MEMBER_BYTES + self.keys.len() * KEY_BYTES
    }

    /// Says whether it names no pack.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Returns all packs, in the order of their numbers.
    pub fn packs(&self) -> &[PackReference] {
        &self.packs
    }

    /// Returns the numbers of the packs that a trigger's key leads to, in their order. Only of a table that was read:
    /// while one is built, nothing is in order.
    pub fn of_trigger(&self, key: PackKey) -> impl Iterator<Item = usize> + '_ {
        numbers(&self.keys, key)
    }

    /// Returns the numbers of the packs that an object is thought to lie in. Only of a table that was read.
    pub fn of_object(&self, hash: &ContentHash) -> impl Iterator<Item = usize> + '_ {
        numbers(&self.members, prefix(hash))
    }

    /// Returns the bytes of the table.
    pub fn encode(&self) -> Vec<u8> {
        let (mut members, mut keys) = (self.members.clone(), self.keys.clone());
        members.sort_unstable();
        members.dedup();
        keys.sort_unstable();
        let mut bytes = Vec::with_capacity(self.size_bytes());
        bytes.extend_from_slice(MAGIC);
        for number in [VERSION, self.packs.len() as u32, members.len() as u32, keys.len() as u32] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for PackReference { hash, size_bytes, members } in &self.packs {
            push_hash(&mut bytes, hash);
            bytes.extend_from_slice(&size_bytes.to_le_bytes());
            bytes.extend_from_slice(&members.to_le_bytes());
        }
        for (prefix, number) in members {
            bytes.extend_from_slice(&prefix);
            bytes.extend_from_slice(&number.to_le_bytes());
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
        let [packs, members, keys] = [4, 8, 12].map(|at| number_at(numbers, at) as usize);
        // Counts have 32 bits, sizes 64.
        let sizes = [(packs, PACK_BYTES), (members, MEMBER_BYTES), (keys, KEY_BYTES)];
        let expected: u64 = sizes.iter().map(|(count, bytes)| *count as u64 * *bytes as u64).sum();
        if expected != rest.len() as u64 {
            let reason = format!("{} bytes for {packs} packs, {members} members and {keys} keys", rest.len());
            return Err(malformed(reason));
        }
        let (pack_records, rest) = rest.split_at(packs * PACK_BYTES);
        let (member_records, key_records) = rest.split_at(members * MEMBER_BYTES);
        let packs: Vec<_> = pack_records.chunks_exact(PACK_BYTES).map(pack).collect::<Result<_>>()?;
        let members: Vec<_> = member_records.chunks_exact(MEMBER_BYTES).map(member).collect();
        let keys: Vec<_> = key_records.chunks_exact(KEY_BYTES).map(key).collect();
        if members.windows(2).any(|pair| pair[0] >= pair[1]) || keys.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(malformed("members or keys are out of order"));
        }
        let mut numbers = members.iter().map(|(_, number)| number).chain(keys.iter().map(|(_, number)| number));
        if numbers.any(|number| *number as usize >= packs.len()) {
            return Err(malformed("it leads to a pack that is not there"));
        }
        Ok(Self { packs, members, keys })
    }
}

/// Returns the numbers behind a key in a sorted list.
fn numbers<K: Ord + Copy>(list: &[(K, u32)], key: K) -> impl Iterator<Item = usize> + '_ {
    let first = list.partition_point(|(other, _)| *other < key);
    let same = list.iter().skip(first).take_while(move |(other, _)| *other == key);
    same.map(|(_, number)| *number as usize)
}

fn prefix(hash: &ContentHash) -> Prefix {
    hash.digest().first_chunk().copied().unwrap_or_default()
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

fn member(record: &[u8]) -> (Prefix, u32) {
    (record.first_chunk().copied().unwrap_or_default(), number_at(record, 4))
}

fn key(record: &[u8]) -> (PackKey, u32) {
    (PackKey(record.first_chunk().copied().unwrap_or_default()), number_at(record, 8))
}

#[cfg(test)]
#[path = "pack_table_tests.rs"]
mod tests;
