//! The whitelist `.cvmfswhitelist`: which certificates may sign for a repository, and until when.
//!
//! Owns its lines in both directions and its expiry. A [`Whitelist`] exists only after
//! [`crate::trust::verify_whitelist`]. Source: format.md 3.1.

use crate::envelope::SignedText;
use crate::error::{FormatError, Result};
use crate::fingerprint;
use crate::hash::ContentHash;
use crate::time::CalendarTime;

/// Largest whitelist that is looked at, in bytes: room for some thousand fingerprints.
pub const SIZE_LIMIT_BYTES: u64 = 262_144;

const SUBJECT: &str = "whitelist";

/// The lines of a whitelist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhitelistFields {
    /// When it was issued; no reader acts on it, so an unreadable date is `None`.
    pub issued: Option<CalendarTime>,
    /// When it expires.
    pub expires: CalendarTime,
    /// Repository that it is for.
    pub fqrn: String,
    /// Fingerprints of the certificates that may sign.
    pub fingerprints: Vec<ContentHash>,
    /// Whether it asks to be verified as PKCS#7 (`Vpkcs7`).
    pub is_pkcs7: bool,
    /// Whether it asks to verify the certificate against a CA store too (`Wcachain`).
    pub needs_ca_chain: bool,
}

impl WhitelistFields {
    /// Parses the signed lines.
    pub fn parse_body(body: &[u8]) -> Result<Self> {
        if body.len() as u64 > SIZE_LIMIT_BYTES {
            return Err(FormatError::TooLarge { subject: SUBJECT, limit_bytes: SIZE_LIMIT_BYTES });
        }
        let malformed = |reason: &str| FormatError::malformed(SUBJECT, reason);
        let mut lines = body.split(|b| *b == b'\n').take_while(|line| *line != b"--").peekable();
        let issued =
            lines.next().filter(|line| line.len() == 14).ok_or_else(|| malformed("line 1 is no issue time"))?;
        let expires = lines
            .next()
            .and_then(|line| CalendarTime::parse_compact(line.strip_prefix(b"E")?).ok())
            .ok_or_else(|| malformed("line 2 is no expiry time EYYYYMMDDhhmmss"))?;
        let fqrn = lines
            .next()
            .and_then(|line| std::str::from_utf8(line.strip_prefix(b"N")?).ok())
            .filter(|name| !name.is_empty() && !name.contains(char::is_control))
            .ok_or_else(|| malformed("line 3 names no repository"))?;
        let is_pkcs7 = lines.next_if(|line| *line == b"Vpkcs7").is_some();
        let needs_ca_chain = lines.next_if(|line| *line == b"Wcachain").is_some();
        Ok(Self {
            issued: CalendarTime::parse_compact(issued).ok(),
            expires,
            fqrn: fqrn.to_owned(),
            fingerprints: lines.filter_map(fingerprint::parse_line).collect(),
            is_pkcs7,
            needs_ca_chain,
        })
    }

    /// Returns the lines to be signed, without separator. An unknown issue time is written as 1970.
    pub fn encode(&self) -> Vec<u8> {
        let issued = self.issued.unwrap_or(CalendarTime::from_unix(0)).compact();
        let mut body = format!("{issued}\nE{}\nN{}\n", self.expires.compact(), self.fqrn);
        for (flag, line) in [(self.is_pkcs7, "Vpkcs7\n"), (self.needs_ca_chain, "Wcachain\n")] {
            body.push_str(if flag { line } else { "" });
        }
        for fingerprint in &self.fingerprints {
            body.push_str(&fingerprint::to_text(fingerprint));
            body.push('\n');
        }
        body.into_bytes()
    }

    /// Says whether the list has expired at `now_unix_s`: at hour granularity, and already in the hour of its expiry.
    pub fn is_expired(&self, now_unix_s: i64) -> bool {
        CalendarTime::from_unix(now_unix_s).hour_key() >= self.expires.hour_key()
    }
}

/// A whitelist as it was downloaded: well formed, its hash line right, its signature not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedWhitelist {
    text: SignedText,
    fields: WhitelistFields,
}

impl UnverifiedWhitelist {
    /// Parses envelope and lines. A PKCS#7 whitelist without RSA part is [`FormatError::Unsupported`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = SignedText::parse(bytes, SUBJECT, SIZE_LIMIT_BYTES).map_err(|error| {
            // A PKCS#7 whitelist may come without hash line: say what it is instead of what it lacks.
            let is_pkcs7 = WhitelistFields::parse_body(bytes).is_ok_and(|fields| fields.is_pkcs7);
            if is_pkcs7 { unsupported_pkcs7() } else { error }
        })?;
        let fields = WhitelistFields::parse_body(text.body())?;
        Ok(Self { text, fields })
    }

    /// Returns the lines; nobody vouches for them yet.
    pub const fn fields(&self) -> &WhitelistFields {
        &self.fields
    }

    /// Returns the signed text.
    pub const fn text(&self) -> &SignedText {
        &self.text
    }

    /// Returns the bytes as they were downloaded.
    pub fn raw(&self) -> &[u8] {
        self.text.raw()
    }
}

pub(crate) fn unsupported_pkcs7() -> FormatError {
    FormatError::Unsupported {
        subject: SUBJECT,
        reason: "it asks for PKCS#7 verification (`Vpkcs7`); ask the publisher for an RSA-signed whitelist".into(),
    }
}

/// A whitelist that a master key signed, for the repository that was asked for, and that had not expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whitelist(UnverifiedWhitelist);

impl Whitelist {
    /// For [`crate::trust`] alone: whoever calls this has checked signature, name and expiry.
    pub(crate) const fn proven(whitelist: UnverifiedWhitelist) -> Self {
        Self(whitelist)
    }

    /// Returns the lines.
    pub const fn fields(&self) -> &WhitelistFields {
        &self.0.fields
    }

    /// Returns the bytes as they were downloaded; a replica passes them on unchanged.
    pub fn raw(&self) -> &[u8] {
        self.0.raw()
    }

    /// Says whether it has expired since it was verified.
    pub fn is_expired(&self, now_unix_s: i64) -> bool {
        self.0.fields.is_expired(now_unix_s)
    }
}

impl std::ops::Deref for Whitelist {
    type Target = WhitelistFields;

    fn deref(&self) -> &WhitelistFields {
        &self.0.fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashAlgorithm;
    use proptest::prelude::*;

    fn fields() -> WhitelistFields {
        WhitelistFields {
            issued: Some(CalendarTime::from_unix(1_700_000_000)),
            expires: CalendarTime::parse_compact(b"20240229123456").unwrap(),
            fqrn: "golden.example.org".into(),
            fingerprints: HashAlgorithm::ALL.map(|algorithm| algorithm.hash(b"certificate")).to_vec(),
            is_pkcs7: false,
            needs_ca_chain: false,
        }
    }

    #[test]
    fn lines_of_section_3_1_survive() {
        for (is_pkcs7, needs_ca_chain) in [(false, false), (true, false), (false, true), (true, true)] {
            let fields = WhitelistFields { is_pkcs7, needs_ca_chain, ..fields() };
            assert_eq!(WhitelistFields::parse_body(&fields.encode()).unwrap(), fields);
        }
        assert!(fields().encode().starts_with(b"20231114221320\nE20240229123456\nNgolden.example.org\n"));
    }

    #[test]
    fn comments_count_for_nothing_and_the_separator_ends_the_list() {
        let body = [fields().encode().as_slice(), b"# bob\n\n--\n", &fields().encode()].concat();
        assert_eq!(WhitelistFields::parse_body(&body).unwrap().fingerprints, fields().fingerprints);
    }

    #[test]
    fn the_hour_of_expiry_is_already_too_late() {
        let hour_before = CalendarTime::parse_compact(b"20240229115959").unwrap().to_unix();
        assert!(!fields().is_expired(hour_before));
        assert!(fields().is_expired(hour_before + 1), "12:00:00, although the line says 12:34:56");
        assert!(!fields().is_expired(hour_before - 86_400));
        assert!(fields().is_expired(hour_before + 86_400), "1 March of a leap year");
    }

    #[test]
    fn expiry_crosses_month_and_year_ends() {
        for (expires, last_valid) in [
            ("20240301000000", "20240229235959"),
            ("20230301000000", "20230228235959"),
            ("20250101000000", "20241231235959"),
            ("21000301000000", "21000228235959"),
        ] {
            let expires = CalendarTime::parse_compact(expires.as_bytes()).unwrap();
            let last_valid = CalendarTime::parse_compact(last_valid.as_bytes()).unwrap().to_unix();
            let fields = WhitelistFields { expires, ..fields() };
            assert!(!fields.is_expired(last_valid) && fields.is_expired(last_valid + 1));
        }
    }

    #[test]
    fn damaged_lines_are_named() {
        let text = String::from_utf8(fields().encode()).unwrap();
        for (from, to, word) in [
            ("20231114221320\n", "2023\n", "line 1"),
            ("\nE2024", "\nX2024", "line 2"),
            ("\nE20240229", "\nE20230229", "line 2"),
            ("\nNgolden.example.org", "\nN", "line 3"),
            ("\nNgolden", "\ngolden", "line 3"),
        ] {
            let error = WhitelistFields::parse_body(text.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_pkcs7_whitelist_without_signature_says_so() {
        let body = WhitelistFields { is_pkcs7: true, ..fields() }.encode();
        assert!(matches!(UnverifiedWhitelist::parse(&body), Err(FormatError::Unsupported { .. })));
        assert!(matches!(UnverifiedWhitelist::parse(&fields().encode()), Err(FormatError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes: Vec<u8>, tail: Vec<u8>) {
            let _ = UnverifiedWhitelist::parse(&bytes);
            let _ = WhitelistFields::parse_body(&[b"20231114221320\nE20240229123456\nNa\n", tail.as_slice()].concat());
        }
    }
}
