//! Signed text: the form that manifest and whitelist share.
//!
//! A body of lines, the separator `--`, the hash of the body, a signature over that hash. This module proves that the
//! hash line belongs to the body; who signed it is a question for [`crate::trust`]. Source: format.md 2.3 and 3.2.

use std::ops::Range;

use crate::error::{FormatError, Result};
use crate::hash::ContentHash;

const SEPARATOR: &[u8] = b"\n--\n";
/// `-shake128` is the longest tag.
const HASH_TEXT_LIMIT_BYTES: usize = 49;

/// A signed text whose hash line is right. Its signature is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText {
    bytes: Vec<u8>,
    body_bytes: usize,
    hash_text: Range<usize>,
}

impl SignedText {
    /// Splits `bytes` and compares the hash line with the hash of the body. `subject` names the text in errors;
    /// `limit_bytes` is the largest text that is looked at.
    pub fn parse(bytes: &[u8], subject: &'static str, limit_bytes: u64) -> Result<Self> {
        if bytes.len() as u64 > limit_bytes {
            return Err(FormatError::TooLarge { subject, limit_bytes });
        }
        let malformed = |reason: &str| FormatError::malformed(subject, reason);
        let body_bytes = 1 + bytes
            .windows(SEPARATOR.len())
            .position(|window| window == SEPARATOR)
            .ok_or_else(|| malformed("no separator line `--`: the text is cut off or not signed"))?;
        let start = body_bytes - 1 + SEPARATOR.len();
        let length = bytes[start..]
            .iter()
            .take(HASH_TEXT_LIMIT_BYTES + 1)
            .position(|b| *b == b'\n')
            .ok_or_else(|| malformed("no hash line behind the separator"))?;
        let text = Self { bytes: bytes.to_vec(), body_bytes, hash_text: start..start + length };
        text.check_hash(subject)?;
        if text.signature().is_empty() {
            return Err(malformed("no signature behind the hash line"));
        }
        Ok(text)
    }

    fn check_hash(&self, subject: &'static str) -> Result<()> {
        let stated = std::str::from_utf8(self.hash_text()).ok().and_then(|text| text.parse::<ContentHash>().ok());
        let stated = stated.ok_or_else(|| {
            let shown = self.hash_text().escape_ascii();
            FormatError::malformed(subject, format!("`{shown}` in the hash line is no content hash"))
        })?;
        let actual = stated.algorithm().hash(self.body());
        if actual.to_string().as_bytes() != self.hash_text() {
            let (expected, actual) = (stated.to_string(), actual.to_string());
            return Err(FormatError::HashMismatch { subject, expected, actual });
        }
        Ok(())
    }

    /// Returns the signed lines with their final newline.
    pub fn body(&self) -> &[u8] {
        &self.bytes[..self.body_bytes]
    }

    /// Returns the ASCII text of the hash: the message that is signed.
    pub fn hash_text(&self) -> &[u8] {
        &self.bytes[self.hash_text.clone()]
    }

    /// Returns the signature, never empty.
    pub fn signature(&self) -> &[u8] {
        &self.bytes[self.hash_text.end + 1..]
    }

    /// Returns the whole text as it was read.
    pub fn raw(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashAlgorithm;
    use proptest::prelude::*;

    fn signed(body: &[u8], algorithm: HashAlgorithm, signature: &[u8]) -> Vec<u8> {
        let hash = algorithm.hash(body).to_string();
        [body, b"--\n", hash.as_bytes(), b"\n", signature].concat()
    }

    fn parse(bytes: &[u8]) -> Result<SignedText> {
        SignedText::parse(bytes, "manifest", 1000)
    }

    #[test]
    fn parts_are_found_for_every_algorithm() {
        for algorithm in HashAlgorithm::ALL {
            let signature = b"\0sig\n--\n\xff";
            let text = parse(&signed(b"Cabc\nB1\n", algorithm, signature)).unwrap();
            assert_eq!(text.body(), b"Cabc\nB1\n");
            assert_eq!(text.hash_text(), algorithm.hash(b"Cabc\nB1\n").to_string().as_bytes());
            assert_eq!(text.signature(), signature);
        }
    }

    #[test]
    fn every_damage_has_its_own_error() {
        let good = signed(b"Cabc\n", HashAlgorithm::Sha1, b"sig");
        let mut changed = good.clone();
        changed[1] = b'x';
        assert!(matches!(parse(&changed), Err(FormatError::HashMismatch { .. })));
        assert!(parse(b"Cabc\n").unwrap_err().to_string().contains("no separator"));
        assert!(parse(b"Cabc\n--\nabc").unwrap_err().to_string().contains("no hash line"));
        assert!(parse(b"Cabc\n--\nabc\nsig").unwrap_err().to_string().contains("no content hash"));
        let unsigned = &good[..good.len() - 3];
        assert!(parse(unsigned).unwrap_err().to_string().contains("no signature"));
        assert!(matches!(
            SignedText::parse(&good, "manifest", good.len() as u64 - 1),
            Err(FormatError::TooLarge { .. })
        ));
        let upper = HashAlgorithm::Sha1.hash(b"Cabc\n").to_string().to_uppercase();
        let shouted = [b"Cabc\n--\n", upper.as_bytes(), b"\nsig"].concat();
        assert!(parse(&shouted).is_err(), "the signed message is lower case");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes: Vec<u8>, tail: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[b"C\n--\n", tail.as_slice()].concat());
        }

        #[test]
        fn no_flipped_bit_passes_unseen(at in 0usize..51, bit in 0u8..8) {
            let mut bytes = signed(b"Cabc\nB1\n", HashAlgorithm::Sha1, b"s");
            bytes[at] ^= 1 << bit;
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
