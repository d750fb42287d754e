//! Blacklists: certificates and revisions that are refused although they are signed.
//!
//! Owns the text and the questions asked of it; the trust chain asks. Source: format.md 3.6.

use std::collections::{BTreeMap, BTreeSet};

use crate::fingerprint;
use crate::hash::ContentHash;

/// Refused certificates and revisions; of several files, merged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blacklist {
    fingerprints: BTreeSet<ContentHash>,
    minimum_revisions: BTreeMap<String, u64>,
    unread_lines: Vec<usize>,
}

impl Blacklist {
    /// Parses a file. Lines that are neither a fingerprint nor `<fqrn N` do not count, as in the reference; those
    /// that are not comments either are listed by [`Self::unread_lines`], so that a typing error can be reported.
    pub fn parse(text: &str) -> Self {
        let mut blacklist = Self::default();
        for (index, line) in text.lines().enumerate() {
            if let Some(rule) = line.strip_prefix('<') {
                match parse_rule(rule) {
                    Some((fqrn, revision)) => blacklist.refuse_before(fqrn, revision),
                    None => blacklist.unread_lines.push(index + 1),
                }
            } else if let Some(hash) = fingerprint::parse_line(line.as_bytes()) {
                blacklist.fingerprints.insert(hash);
            } else if !line.trim_start().is_empty() && !line.trim_start().starts_with('#') {
                blacklist.unread_lines.push(index + 1);
            }
        }
        blacklist
    }

    /// Adds everything that another file refuses; its unread lines are its own.
    pub fn merge(&mut self, other: &Self) {
        self.fingerprints.extend(&other.fingerprints);
        for (fqrn, revision) in &other.minimum_revisions {
            self.refuse_before(fqrn, *revision);
        }
    }

    /// Says whether a certificate with this fingerprint is refused.
    pub fn has_fingerprint(&self, fingerprint: &ContentHash) -> bool {
        self.fingerprints.contains(fingerprint)
    }

    /// Returns the lowest revision of a repository that is not refused; 0 where all are accepted.
    pub fn minimum_revision(&self, fqrn: &str) -> u64 {
        self.minimum_revisions.get(fqrn).copied().unwrap_or(0)
    }

    /// Returns the numbers (from 1) of lines that are neither a rule nor a comment.
    pub fn unread_lines(&self) -> &[usize] {
        &self.unread_lines
    }

    /// Says whether nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.fingerprints.is_empty() && self.minimum_revisions.is_empty()
    }

    fn refuse_before(&mut self, fqrn: &str, revision: u64) {
        let minimum = self.minimum_revisions.entry(fqrn.to_owned()).or_default();
        *minimum = revision.max(*minimum);
    }
}

fn parse_rule(rule: &str) -> Option<(&str, u64)> {
    let mut words = rule.split_ascii_whitespace();
    let (fqrn, number) = (words.next()?, words.next()?);
    let is_decimal = number.bytes().all(|b| b.is_ascii_digit());
    let starts_at_once = rule.starts_with(fqrn);
    (words.next().is_none() && is_decimal && starts_at_once).then(|| Some((fqrn, number.parse().ok()?)))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashAlgorithm;
    use proptest::prelude::*;

    #[test]
    fn rules_of_section_3_6() {
        let hash = HashAlgorithm::Shake128.hash(b"stolen");
        let text = format!(
            "# stolen key\n\n{} # 2020\n<a.example.org 10\n<a.example.org\t7\n<b.example.org 5 5\n<c.example.org x\n< d 5\nAA:BB\n",
            fingerprint::to_text(&hash)
        );
        let blacklist = Blacklist::parse(&text);
        assert!(blacklist.has_fingerprint(&hash));
        assert!(!blacklist.has_fingerprint(&HashAlgorithm::Sha1.hash(b"stolen")));
        assert_eq!(blacklist.minimum_revision("a.example.org"), 10, "the strictest rule counts");
        assert_eq!(blacklist.minimum_revision("b.example.org"), 0);
        assert_eq!(blacklist.unread_lines(), [6, 7, 8, 9]);
    }

    #[test]
    fn merging_keeps_the_strictest_rule() {
        let mut first = Blacklist::parse("<a 3\n<b 9");
        first.merge(&Blacklist::parse("<a 5\n<b 2\n<c 1"));
        assert_eq!(["a", "b", "c"].map(|fqrn| first.minimum_revision(fqrn)), [5, 9, 1]);
        assert!(Blacklist::default().is_empty() && !first.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_parses(text: String) {
            let _ = Blacklist::parse(&text);
        }
    }
}
