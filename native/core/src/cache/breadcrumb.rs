//! The note of the last known root, `cvmfschecksum.<fqrn>`: what a client mounts when no host can be reached.
//!
//! Pure; [`super::DiskCache`] reads and writes the file. Form: `<root hash>T<publish time>R<revision>`, one line
//! without a newline, the `R` part missing in old caches. Source: client.md 4.1, format.md 1.7.

use std::fmt;
use std::str::FromStr;

use nearfs_format::FormatError;
use nearfs_format::hash::ContentHash;

/// The last known root catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breadcrumb {
    /// Hash of the root catalog.
    pub root_hash: ContentHash,
    /// Publish time, Unix seconds.
    pub published_s: u64,
    /// Revision; none in old caches.
    pub revision: Option<u64>,
}

impl fmt::Display for Breadcrumb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{}", self.root_hash, self.published_s)?;
        self.revision.map_or(Ok(()), |revision| write!(f, "R{revision}"))
    }
}

impl FromStr for Breadcrumb {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let malformed = || FormatError::malformed("breadcrumb", format!("`{}`", text.escape_debug()));
        // Parsing alone would let a plus sign pass.
        let number = |text: &str| {
            let digits = Some(text).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or_else(malformed)
        };
        let (hash, rest) = text.trim_end_matches('\n').split_once('T').ok_or_else(malformed)?;
        let (published, revision) = rest.split_once('R').map_or((rest, None), |(p, r)| (p, Some(r)));
        Ok(Self {
            root_hash: hash.parse()?,
            published_s: number(published)?,
            revision: revision.map(number).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2902d5c8f6a9bbd4cf4c6bd1c6b7e7a7d3d2910f";

    #[test]
    fn text_and_value_are_each_others_inverse() {
        for text in [
            format!("{HASH}T1795380986R6"),
            format!("{HASH}T1795380986"),
            format!("{HASH}-shake128T0R18446744073709551615"),
        ] {
            assert_eq!(text.parse::<Breadcrumb>().unwrap().to_string(), text);
        }
        let old: Breadcrumb = format!("{HASH}T5").parse().unwrap();
        assert_eq!((old.published_s, old.revision), (5, None));
    }

    #[test]
    fn anything_else_is_malformed() {
        for tail in ["", "T", "TR", "T1R", "TxR1", "T-1R1", "T1R1R1", "T1 R1", "T99999999999999999999"] {
            assert!(format!("{HASH}{tail}").parse::<Breadcrumb>().is_err(), "{tail}");
        }
        assert!("T1R1".parse::<Breadcrumb>().is_err());
    }
}
