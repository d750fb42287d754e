//! Certificate fingerprints in their text form: upper-case hex pairs joined by `:`, then the algorithm tag.
//!
//! Owns the lines of whitelists and blacklists; computing one is [`crate::trust::Certificate::fingerprint`].
//! Source: format.md 3.1.

use crate::hash::ContentHash;

/// Parses the fingerprint of a line, up to the first blank or `#`; `None` for a line that holds none (a comment).
pub fn parse_line(line: &[u8]) -> Option<ContentHash> {
    // The longest fingerprint is 59 characters of pairs and a tag of 9; more cannot become a hash.
    const LIMIT_BYTES: usize = 80;
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t' | b'#')).unwrap_or(line.len());
    let word = &line[..end];
    if word.len() > LIMIT_BYTES || !word.is_ascii() {
        return None;
    }
    let digits: String = word.iter().filter(|b| **b != b':').map(|b| b.to_ascii_lowercase() as char).collect();
    digits.parse().ok()
}

/// Returns the text form.
pub fn to_text(fingerprint: &ContentHash) -> String {
    let pairs: Vec<String> = fingerprint.digest().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":") + &fingerprint.algorithm().tag().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashAlgorithm;
    use proptest::prelude::*;

    #[test]
    fn text_form_of_section_3_1() {
        for (algorithm, end) in
            [(HashAlgorithm::Sha1, ""), (HashAlgorithm::Rmd160, "-RMD160"), (HashAlgorithm::Shake128, "-SHAKE128")]
        {
            let hash = algorithm.hash(b"certificate");
            let text = to_text(&hash);
            assert_eq!(text.len(), 59 + end.len());
            assert!(text.ends_with(end));
            for line in [text.clone(), format!("{text} # alice"), format!("{text}\tbob"), format!("{text}#x")] {
                assert_eq!(parse_line(line.as_bytes()), Some(hash), "{line}");
            }
        }
    }

    #[test]
    fn other_lines_are_comments() {
        for line in ["", "# comment", "AA:BB", " AA", "d41d8cd98f00b204e9800998ecf8427e", "\u{e4}"] {
            assert_eq!(parse_line(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_judged(line: Vec<u8>) {
            let _ = parse_line(&line);
        }
    }
}
