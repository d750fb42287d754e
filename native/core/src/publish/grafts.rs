//! Graft descriptors: files whose content somebody else stored, described by `.cvmfsgraft-NAME` beside NAME.
//!
//! Owns the descriptor's syntax and which entry of a directory it belongs to. Trusts nothing in it: sizes are bounded,
//! and chunks have to cover the file. Whether the objects exist is not looked at, as in the reference. Source:
//! format.md 10.7, server.md 4.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nearfs_format::chunk::{Chunk, ChunkList};
use nearfs_format::dirent::{Compression, Entry, FileType};
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::path::{RepoPath, check_name};
use nearfs_format::xattr::XattrList;

use super::plan::{Found, GivenContent};
use super::scan::{Listed, Scan, refused};
use super::types::PublishSettings;
use crate::error::{Error, Result};

/// How the name of a descriptor begins.
pub(super) const GRAFT_PREFIX: &[u8] = b".cvmfsgraft-";
/// Descriptors of a million chunks are shorter.
const LIMIT_BYTES: u64 = 64 << 20;

/// A descriptor that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Graft {
    size: u64,
    content: GivenContent,
    /// Attributes of the descriptor itself, for a file that has no placeholder.
    stat: Attributes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attributes {
    permissions: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    mtime_ns: u32,
}

impl Graft {
    /// Turns the placeholder into the file. Grafted files have no extended attributes (10.5).
    pub(super) fn apply(self, path: &RepoPath, found: &mut Found) -> Result<()> {
        if found.file_type != FileType::Regular {
            return Err(invalid(path, "it is not a regular file"));
        }
        found.size = self.size;
        found.xattrs = XattrList::default();
        found.given = Some(Box::new(self.content));
        Ok(())
    }

    /// Returns the file that has no placeholder on disk: it has the attributes of the entry that the base revision
    /// shows there, or those of the descriptor.
    pub(super) fn alone(self, base: Option<&Entry>) -> Found {
        let mut stat = self.stat;
        if let Some(entry) = base {
            let permissions = entry.mode & !FileType::MASK;
            let mtime_ns = entry.mtime_ns.unwrap_or(0);
            stat = Attributes { permissions, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, mtime_ns };
        }
        Found {
            file_type: FileType::Regular,
            mode: FileType::Regular.mode_bits() | stat.permissions,
            uid: stat.uid,
            gid: stat.gid,
            size: self.size,
            mtime: stat.mtime,
            mtime_ns: stat.mtime_ns,
            symlink: Vec::new(),
            xattrs: XattrList::default(),
            given: Some(Box::new(self.content)),
        }
    }
}

impl Scan<'_, '_> {
    /// Takes the descriptors out of a directory's listing; returns them by the name that they describe.
    pub(super) fn take_grafts(
        &self,
        directory: &RepoPath,
        listed: &mut Vec<Listed>,
    ) -> Result<BTreeMap<Vec<u8>, Graft>> {
        let mut grafts = BTreeMap::new();
        // A whiteout of a descriptor says nothing: no descriptor was ever published.
        let is_graft = |entry: &Listed| entry.name.starts_with(GRAFT_PREFIX) && !entry.is_whiteout_device();
        let (descriptors, others) = std::mem::take(listed).into_iter().partition(is_graft);
        let descriptors: Vec<Listed> = descriptors;
        *listed = others;
        for entry in descriptors {
            let name = &entry.name[GRAFT_PREFIX.len()..];
            let path = directory.join(&entry.name).map_err(|e| refused(directory, e))?;
            check_name(name).map_err(|_| invalid(&path, "it names no file"))?;
            let subject = directory.join(name).map_err(|e| refused(directory, e))?;
            grafts.insert(name.to_vec(), read(&self.host(&path), &subject, &entry.stat, self.settings)?);
        }
        Ok(grafts)
    }
}

fn read(host: &Path, subject: &RepoPath, stat: &fs::Metadata, settings: &PublishSettings) -> Result<Graft> {
    if !stat.is_file() || stat.len() > LIMIT_BYTES {
        return Err(invalid(subject, "the descriptor is no regular file of a sensible size"));
    }
    let failed = |e| Error::io("read", host.display().to_string(), e);
    let mut text = String::new();
    let count = File::open(host).map_err(failed)?.take(LIMIT_BYTES + 1).read_to_string(&mut text);
    match count {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Err(invalid(subject, "the descriptor is not a text")),
        Err(e) => Err(failed(e)),
        Ok(_) => {
            let (size, content) = parse(&text).map_err(|reason| invalid(subject, &reason))?;
            let permissions = stat.mode() & !FileType::MASK;
            let (mtime, mtime_ns) = (stat.mtime(), stat.mtime_nsec() as u32);
            let (uid, gid) = (settings.users.of(stat.uid()), settings.groups.of(stat.gid()));
            let stat = Attributes { permissions, uid, gid, mtime, mtime_ns };
            Ok(Graft { size, content, stat })
        }
    }
}

/// Reads a descriptor: the file's size and content, or why there is none. Lines that are not understood are ignored.
fn parse(text: &str) -> std::result::Result<(u64, GivenContent), String> {
    let (mut size, mut hash, mut compression) = (None, None, Compression::Zlib);
    let (mut offsets, mut hashes): (Vec<u64>, Vec<ContentHash>) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        match key.trim() {
            "size" => size = Some(number(value)?),
            "checksum" => hash = Some(digest(value)?),
            "chunk_offsets" => offsets = list(value, number)?,
            "chunk_checksums" => hashes = list(value, digest)?,
            "compression" => {
                compression = Compression::from_name(value).ok_or_else(|| format!("unknown compression '{value}'"))?;
            }
            _ => {}
        }
    }
    let size = size.ok_or("size is missing")?;
    let hash: ContentHash = hash.ok_or("checksum is missing")?;
    let hash_algorithm = hash.algorithm();
    let chunks = chunks(size, &offsets, &hashes, hash_algorithm)?;
    Ok((size, GivenContent { hash: Some(hash), chunks, hash_algorithm, compression, is_external: None }))
}

fn number(text: &str) -> std::result::Result<u64, String> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal).ok_or_else(|| format!("'{text}' is not a number"))
}

fn digest(text: &str) -> std::result::Result<ContentHash, String> {
    text.parse().map_err(|_| format!("'{text}' is not a content hash"))
}

fn list<T>(text: &str, read: impl Fn(&str) -> std::result::Result<T, String>) -> std::result::Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(read).collect()
}

fn chunks(
    size: u64,
    offsets: &[u64],
    hashes: &[ContentHash],
    algorithm: HashAlgorithm,
) -> std::result::Result<Vec<Chunk>, String> {
    if offsets.len() != hashes.len() {
        return Err(format!("{} chunk_offsets, but {} chunk_checksums", offsets.len(), hashes.len()));
    }
    if offsets.is_empty() {
        return Ok(Vec::new());
    }
    // The row has one algorithm for its own hash and those of its chunks.
    if hashes.iter().any(|hash| hash.algorithm() != algorithm) {
        return Err("chunk_checksums and checksum are of different algorithms".into());
    }
    let ends = offsets.iter().skip(1).chain(std::iter::once(&size));
    let chunks = offsets.iter().zip(ends).zip(hashes);
    let chunks = chunks.map(|((&offset, &end), &hash)| Chunk { offset, size: end.saturating_sub(offset), hash });
    let list = ChunkList::new(chunks.collect(), size).map_err(|e| e.to_string())?;
    Ok(list.as_slice().to_vec())
}

fn invalid(path: &RepoPath, reason: &str) -> Error {
    let name = path.to_string();
    let sentence = format!(
        "Encountered a grafted file ({}) with invalid grafting information; check contents of .cvmfsgraft-* file.  \
         Aborting publish. ({reason})",
        name.trim_start_matches('/')
    );
    refused(path, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78";

    #[test]
    fn a_plain_descriptor_gives_size_and_hash() {
        let (size, content) = parse(&format!("# made by hand\n size = 12 \n\nchecksum={HASH}\nwhatever\n")).unwrap();
        assert_eq!((size, content.hash.unwrap().to_string().as_str()), (12, HASH));
        assert_eq!((content.compression, content.chunks.len()), (Compression::Zlib, 0));
    }

    #[test]
    fn chunks_have_to_cover_the_file() {
        let descriptor = |size: u64, offsets: &str, count: usize| {
            let hashes = vec![format!("{HASH}-rmd160"); count].join(",");
            let head = format!("size={size}\nchecksum={HASH}-rmd160\ncompression=none\n");
            parse(&format!("{head}chunk_offsets={offsets}\nchunk_checksums={hashes}\n"))
        };
        let (_, content) = descriptor(10, "0, 4", 2).unwrap();
        assert_eq!(content.chunks.iter().map(|c| (c.offset, c.size)).collect::<Vec<_>>(), [(0, 4), (4, 6)]);
        assert_eq!((content.hash_algorithm, content.compression), (HashAlgorithm::Rmd160, Compression::None));
        for (size, offsets, count) in
            [(10, "0,4", 1), (10, "1,4", 2), (10, "0,4,4", 3), (10, "0,10", 2), (10, "0,-4", 2)]
        {
            assert!(descriptor(size, offsets, count).is_err(), "{size} {offsets}");
        }
        assert!(parse(&format!("size=8\nchecksum={HASH}\nchunk_offsets=0\nchunk_checksums={HASH}-rmd160")).is_err());
    }

    #[test]
    fn what_is_missing_or_malformed_is_refused() {
        for text in ["", "size=3\n", &format!("checksum={HASH}\n"), &format!("size=-1\nchecksum={HASH}")] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("size=1\nchecksum={HASH}\ncompression=lz4")).is_err());
        assert!(parse("size=1\nchecksum=nonsense").is_err());
    }
}
