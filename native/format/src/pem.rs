//! PEM blocks inside text files: the form of keys and certificates.
//!
//! Owns finding and decoding one block; text around it (as `openssl x509 -text` writes) is ignored.

use x509_cert::der::pem;

use crate::error::{FormatError, Result};

/// Largest file that is looked at, in bytes.
pub(crate) const SIZE_LIMIT_BYTES: u64 = 65_536;

/// One decoded block.
pub(crate) struct Block {
    /// The block with its boundary lines and a final newline.
    pub(crate) text: String,
    /// What it encodes.
    pub(crate) der: Vec<u8>,
}

/// Decodes the first block with that label.
pub(crate) fn decode(file: &[u8], label: &str, subject: &'static str) -> Result<Block> {
    if file.len() as u64 > SIZE_LIMIT_BYTES {
        return Err(FormatError::TooLarge { subject, limit_bytes: SIZE_LIMIT_BYTES });
    }
    let text = cut_block(file, label)
        .ok_or_else(|| FormatError::malformed(subject, format!("no PEM block `{label}` in it")))?;
    let (_, der) = pem::decode_vec(text.as_bytes())
        .map_err(|error| FormatError::malformed(subject, format!("PEM block `{label}`: {error}")))?;
    Ok(Block { text, der })
}

// Blanks at line ends and carriage returns are dropped: base64 decoders disagree about them, OpenSSL accepts them.
fn cut_block(file: &[u8], label: &str) -> Option<String> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut block = String::new();
    for line in file.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end) {
        if block.is_empty() && line != begin.as_bytes() {
            continue;
        }
        block.push_str(std::str::from_utf8(line).ok()?);
        block.push('\n');
        if line == end.as_bytes() {
            return Some(block);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: &str = "-----BEGIN THING-----\naGVsbG8=\n-----END THING-----\n";

    #[test]
    fn a_block_is_found_between_other_text() {
        for file in [BLOCK.to_owned(), format!("Text:\n  {}\n{BLOCK}more\n{BLOCK}", "x"), BLOCK.replace('\n', " \r\n")]
        {
            let block = decode(file.as_bytes(), "THING", "certificate").ok().unwrap();
            assert_eq!((block.text.as_str(), block.der.as_slice()), (BLOCK, &b"hello"[..]));
        }
    }

    #[test]
    fn other_files_are_refused() {
        let cut = &BLOCK[..30];
        let broken = BLOCK.replace("aGVs", "a*Vs");
        for file in ["", "hello", cut, &broken, &BLOCK.replace("THING", "OTHER"), &"x".repeat(65_537)] {
            assert!(decode(file.as_bytes(), "THING", "certificate").is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(body: Vec<u8>) {
            let file = [b"-----BEGIN THING-----\n", body.as_slice(), b"\n-----END THING-----\n"].concat();
            let _ = decode(&file, "THING", "certificate");
            let _ = decode(&body, "THING", "certificate");
        }
    }
}
