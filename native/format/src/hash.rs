//! Content hashes: what every object is named by.
//!
//! Owns the three content algorithms, their text form and an incremental hasher. MD5 is not here: it only names paths
//! (see [`crate::path`]). A [`ContentHash`] is small, constant in size and `Copy`; equality ignores nothing, the
//! object kind is no part of it. Source: format.md 1.3.

use std::fmt;
use std::str::FromStr;

use sha1::Digest as _;
use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};

use crate::error::{FormatError, Result};

/// Bytes of every content digest; SHAKE-128 is squeezed to the same length.
pub const DIGEST_BYTES: usize = 20;
const HEX_CHARS: usize = DIGEST_BYTES * 2;

/// The algorithm behind a content hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum HashAlgorithm {
    /// SHA-1, the default; its text form carries no tag.
    #[default]
    Sha1,
    /// RIPEMD-160, tag `-rmd160`.
    Rmd160,
    /// SHAKE-128 squeezed to 160 bits, tag `-shake128`.
    Shake128,
}

impl HashAlgorithm {
    /// All algorithms, in the order of their ids in catalog flags.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Rmd160, Self::Shake128];

    /// Returns the tag that follows the hex digits in text form, empty for SHA-1.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Sha1 => "",
            Self::Rmd160 => "-rmd160",
            Self::Shake128 => "-shake128",
        }
    }

    /// Returns the name used by configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Rmd160 => "rmd160",
            Self::Shake128 => "shake128",
        }
    }

    /// Returns the algorithm with that configuration name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Returns the three-bit id of catalog flags (enum id minus one, format.md 4.5).
    pub const fn flag_id(self) -> u32 {
        self as u32
    }

    /// Returns the algorithm with that three-bit id, if there is one.
    pub fn from_flag_id(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// Hashes `bytes` in one call.
    pub fn hash(self, bytes: &[u8]) -> ContentHash {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// The hash of an object's stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash {
    algorithm: HashAlgorithm,
    digest: [u8; DIGEST_BYTES],
}

impl ContentHash {
    /// Builds a hash from its parts.
    pub const fn new(algorithm: HashAlgorithm, digest: [u8; DIGEST_BYTES]) -> Self {
        Self { algorithm, digest }
    }

    /// Builds a hash from a digest of unknown length, as it lies in a catalog column.
    pub fn from_digest(algorithm: HashAlgorithm, digest: &[u8]) -> Result<Self> {
        let digest = digest.try_into().map_err(|_| {
            FormatError::malformed(
                "content hash",
                format!("digest of {} bytes instead of {DIGEST_BYTES}", digest.len()),
            )
        })?;
        Ok(Self { algorithm, digest })
    }

    /// Returns the null hash: all digest bytes zero, the format's "none".
    pub const fn null(algorithm: HashAlgorithm) -> Self {
        Self::new(algorithm, [0; DIGEST_BYTES])
    }

    /// Says whether all digest bytes are zero.
    pub fn is_null(&self) -> bool {
        self.digest == [0; DIGEST_BYTES]
    }

    /// Returns the algorithm.
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Returns the raw digest.
    pub const fn digest(&self) -> &[u8; DIGEST_BYTES] {
        &self.digest
    }

    /// Returns the lower-case hex digits without the algorithm tag.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(HEX_CHARS + 9);
        push_hex(&mut text, &self.digest);
        text
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.hex();
        text.push_str(self.algorithm.tag());
        f.pad(&text)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

impl FromStr for ContentHash {
    type Err = FormatError;

    /// Parses the text form. The tag has to be one of ours: unlike the reference reader, which goes by length alone,
    /// a wrong tag is an error, and so is an MD5 hash. Upper-case digits are accepted, as fingerprints use them.
    fn from_str(text: &str) -> Result<Self> {
        let malformed = || FormatError::malformed("content hash", format!("`{}`", text.escape_debug()));
        let (hex, tag) = text.split_at_checked(HEX_CHARS).ok_or_else(malformed)?;
        let algorithm =
            HashAlgorithm::ALL.into_iter().find(|a| a.tag().eq_ignore_ascii_case(tag)).ok_or_else(malformed)?;
        let mut digest = [0; DIGEST_BYTES];
        for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16).ok_or_else(malformed)?;
            let low = (pair[1] as char).to_digit(16).ok_or_else(malformed)?;
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self { algorithm, digest })
    }
}

/// An incremental hasher, for checking while bytes stream.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha1(sha1::Sha1),
    Rmd160(ripemd::Ripemd160),
    Shake128(Box<sha3::Shake128>),
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm().name())
    }
}

impl Hasher {
    /// Starts a hash.
    pub fn new(algorithm: HashAlgorithm) -> Self {
        Self(match algorithm {
            HashAlgorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            HashAlgorithm::Rmd160 => State::Rmd160(ripemd::Ripemd160::new()),
            HashAlgorithm::Shake128 => State::Shake128(Box::default()),
        })
    }

    /// Returns the algorithm it was started with.
    pub fn algorithm(&self) -> HashAlgorithm {
        match self.0 {
            State::Sha1(_) => HashAlgorithm::Sha1,
            State::Rmd160(_) => HashAlgorithm::Rmd160,
            State::Shake128(_) => HashAlgorithm::Shake128,
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha1(h) => sha1::Digest::update(h, bytes),
            State::Rmd160(h) => ripemd::Digest::update(h, bytes),
            State::Shake128(h) => h.update(bytes),
        }
    }

    /// Ends the hash.
    pub fn finish(self) -> ContentHash {
        let algorithm = self.algorithm();
        let digest = match self.0 {
            State::Sha1(h) => h.finalize().into(),
            State::Rmd160(h) => h.finalize().into(),
            State::Shake128(h) => {
                let mut digest = [0; DIGEST_BYTES];
                h.finalize_xof().read(&mut digest);
                digest
            }
        };
        ContentHash { algorithm, digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_ZLIB: &[u8] = &[0x78, 0x9c, 0x03, 0, 0, 0, 0, 1];

    #[test]
    fn vectors_of_section_14() {
        let cases: [(&[u8], HashAlgorithm, &str); 4] = [
            (EMPTY_ZLIB, HashAlgorithm::Sha1, "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78"),
            (EMPTY_ZLIB, HashAlgorithm::Rmd160, "fcdb20b894f31f1306d56294c049ca7293dde0fc-rmd160"),
            (EMPTY_ZLIB, HashAlgorithm::Shake128, "28d94b83b7229b331fc601362b8e272e02665122-shake128"),
            (b"hello world\n", HashAlgorithm::Sha1, "22596363b3de40b06f981fb85d82312e8c0ed511"),
        ];
        for (bytes, algorithm, text) in cases {
            assert_eq!(algorithm.hash(bytes).to_string(), text);
            assert_eq!(text.parse::<ContentHash>().unwrap(), algorithm.hash(bytes));
        }
    }

    #[test]
    fn text_that_is_no_content_hash_is_refused() {
        for text in [
            "",
            "d41d8cd98f00b204e9800998ecf8427e",
            "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b7",
            "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78x",
            "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78-sha256",
            "g8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78",
            "ä8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b7",
        ] {
            assert!(text.parse::<ContentHash>().is_err(), "{text}");
        }
    }

    #[test]
    fn hashing_in_pieces_equals_hashing_at_once() {
        for algorithm in HashAlgorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"hello ");
            hasher.update(b"world\n");
            assert_eq!(hasher.finish(), algorithm.hash(b"hello world\n"));
        }
    }
}
