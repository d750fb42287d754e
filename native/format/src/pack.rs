//! Packs: many small objects in one file, for one request instead of many (docs/format-packs.md).
//!
//! Owns the layout: stored objects back to back, an index, a trailer. A pack says where bytes lie, never that they are
//! right: [`Pack::get`] hands out what has the hash that was asked for, and nothing else. Which objects belong together
//! is the publisher's choice ([`crate::pack_table`] says where to find them).

use std::collections::HashSet;

use crate::error::{FormatError, Result};
use crate::hash::{ContentHash, DIGEST_BYTES, HashAlgorithm};

/// Largest pack, in bytes. Part of the format: readers refuse more.
pub const PACK_MAX_BYTES: usize = 4 << 20;
/// Largest member as it is stored, in bytes. Part of the format.
pub const MEMBER_MAX_BYTES: usize = 64 << 10;

/// Last bytes but for the fields of the trailer.
const MAGIC: &[u8; 8] = b"NFSpack\n";
const VERSION: u32 = 1;
/// Digest, algorithm, offset, length.
const RECORD_BYTES: usize = DIGEST_BYTES + 4 + 4 + 4;
/// Magic, version, number of members, offset of the index, four zeros.
const TRAILER_BYTES: usize = 8 + 4 + 4 + 4 + 4;
const SUBJECT: &str = "pack";

/// Where a member lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    hash: ContentHash,
    offset: u32,
    length: u32,
}

/// A pack under construction.
#[derive(Debug, Default)]
pub struct PackWriter {
    objects: Vec<u8>,
    members: Vec<Member>,
    hashes: HashSet<ContentHash>,
}

impl PackWriter {
    /// Begins an empty pack.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the size that the pack has if it is finished now, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.objects.len() + self.members.len() * RECORD_BYTES + TRAILER_BYTES
    }

    /// Says whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns how many objects are in it.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Adds an object as it is stored; says whether it is a member now. One that is empty, too large for a member or for
    /// what is left of the pack is not, nor one that is a member already.
    pub fn add(&mut self, hash: ContentHash, stored: &[u8]) -> bool {
        let fits = self.size_bytes() + stored.len() + RECORD_BYTES <= PACK_MAX_BYTES;
        if stored.is_empty() || stored.len() > MEMBER_MAX_BYTES || !fits || !self.hashes.insert(hash) {
            return false;
        }
        // Both fit: a pack is never larger than four MiB.
        self.members.push(Member { hash, offset: self.objects.len() as u32, length: stored.len() as u32 });
        self.objects.extend_from_slice(stored);
        true
    }

    /// Returns the bytes of the pack.
    pub fn finish(self) -> Vec<u8> {
        let Self { objects: mut bytes, mut members, .. } = self;
        let index_offset = bytes.len() as u32;
        members.sort_unstable_by_key(|member| member.hash);
        for Member { hash, offset, length } in &members {
            push_hash(&mut bytes, hash);
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes.extend_from_slice(MAGIC);
        for number in [VERSION, members.len() as u32, index_offset, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// A pack whose index was checked. Its members were not: that happens when one is asked for.
#[derive(Debug, Clone)]
pub struct Pack<'a> {
    objects: &'a [u8],
    /// In the order of hashes.
    members: Vec<Member>,
}

impl<'a> Pack<'a> {
    /// Reads the index. What comes of it names each hash once, and the members cover everything before the index without
    /// gap or overlap, so that looking at all of them is looking at the file once.
    ///
    /// # Errors
    ///
    /// `TooLarge` for more bytes than a pack has, `Unsupported` for another version, `Malformed` for everything else.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > PACK_MAX_BYTES {
            return Err(FormatError::TooLarge { subject: SUBJECT, limit_bytes: PACK_MAX_BYTES as u64 });
        }
        let (front, trailer) = bytes
            .split_last_chunk::<TRAILER_BYTES>()
            .ok_or_else(|| malformed(format!("{} bytes are less than its trailer", bytes.len())))?;
        let [count, index_offset, reserved] = trailer_numbers(trailer)?;
        if reserved != 0 {
            return Err(malformed("reserved bytes of the trailer are not zero"));
        }
        let (objects, index) = front
            .split_at_checked(index_offset as usize)
            .ok_or_else(|| malformed(format!("index at {index_offset} of {} bytes", bytes.len())))?;
        let records = index.chunks_exact(RECORD_BYTES);
        if !records.remainder().is_empty() || records.len() != count as usize {
            return Err(malformed(format!("{} bytes of index for {count} members", index.len())));
        }
        let members: Vec<Member> = records.map(member).collect::<Result<_>>()?;
        check_order(&members)?;
        check_cover(&members, objects.len())?;
        Ok(Self { objects, members })
    }

    /// Returns how many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the hashes that the index names, in their order, with the stored size of each in bytes.
    pub fn hashes(&self) -> impl Iterator<Item = (ContentHash, usize)> + '_ {
        self.members.iter().map(|member| (member.hash, member.length as usize))
    }

    /// Returns a member as it is stored, `None` if there is none of that hash.
    ///
    /// # Errors
    ///
    /// `HashMismatch` if the bytes that the index leads to are others.
    pub fn get(&self, hash: &ContentHash) -> Result<Option<&'a [u8]>> {
        let Ok(at) = self.members.binary_search_by_key(hash, |member| member.hash) else { return Ok(None) };
        let member = self.members[at];
        let end = member.offset as usize + member.length as usize;
        // Always there: the members cover the objects.
        let stored = self.objects.get(member.offset as usize..end).unwrap_or_default();
        let actual = hash.algorithm().hash(stored);
        if actual != *hash {
            let (expected, actual) = (hash.to_string(), actual.to_string());
            return Err(FormatError::HashMismatch { subject: "member of a pack", expected, actual });
        }
        Ok(Some(stored))
    }
}

fn malformed(reason: impl Into<String>) -> FormatError {
    FormatError::malformed(SUBJECT, reason)
}

/// Returns the numbers behind the version, which is known.
fn trailer_numbers(trailer: &[u8; TRAILER_BYTES]) -> Result<[u32; 3]> {
    let (magic, numbers) = trailer.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(malformed("it does not end like a pack"));
    }
    match number_at(numbers, 0) {
        VERSION => Ok([number_at(numbers, 4), number_at(numbers, 8), number_at(numbers, 12)]),
        version => Err(FormatError::Unsupported { subject: SUBJECT, reason: format!("version {version}") }),
    }
}

/// Returns the number at `at`; the caller knows that it is there.
pub(crate) fn number_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// Writes a hash as its digest and four bytes that are the number of its algorithm.
pub(crate) fn push_hash(bytes: &mut Vec<u8>, hash: &ContentHash) {
    bytes.extend_from_slice(hash.digest());
    bytes.extend_from_slice(&hash.algorithm().flag_id().to_le_bytes());
}

/// Reads what [`push_hash`] wrote at the beginning of `record`; returns what comes after it too.
pub(crate) fn split_hash<'r>(subject: &'static str, record: &'r [u8]) -> Result<(ContentHash, &'r [u8])> {
    let short = || FormatError::malformed(subject, "a record without a hash");
    let (digest, rest) = record.split_at_checked(DIGEST_BYTES).ok_or_else(short)?;
    let algorithm = HashAlgorithm::from_flag_id(number_at(rest, 0))
        .ok_or_else(|| FormatError::malformed(subject, format!("hash algorithm {}", number_at(rest, 0))))?;
    Ok((ContentHash::from_digest(algorithm, digest)?, rest.get(4..).ok_or_else(short)?))
}

fn member(record: &[u8]) -> Result<Member> {
    let (hash, rest) = split_hash(SUBJECT, record)?;
    let (offset, length) = (number_at(rest, 0), number_at(rest, 4));
    if length == 0 || length as usize > MEMBER_MAX_BYTES {
        return Err(malformed(format!("member {hash} of {length} bytes")));
    }
    Ok(Member { hash, offset, length })
}

fn check_order(members: &[Member]) -> Result<()> {
    match members.iter().zip(members.iter().skip(1)).find(|(one, next)| one.hash >= next.hash) {
        Some((_, next)) => Err(malformed(format!("member {} is out of order, or there twice", next.hash))),
        None => Ok(()),
    }
}

fn check_cover(members: &[Member], objects_bytes: usize) -> Result<()> {
    let mut places: Vec<(u32, u32)> = members.iter().map(|member| (member.offset, member.length)).collect();
    places.sort_unstable();
    let mut end = 0;
    for (offset, length) in places {
        if u64::from(offset) != end {
            return Err(malformed(format!("a member at {offset}, expected at {end}")));
        }
        end += u64::from(length);
    }
    if end != objects_bytes as u64 {
        return Err(malformed(format!("members end at {end}, the index begins at {objects_bytes}")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
