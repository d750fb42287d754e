//! The manifest `.cvmfspublished`: the mutable text that names the current root catalog.
//!
//! Owns its fields in both directions and the two states of trust. An [`UnverifiedManifest`] has a right hash line and
//! nothing more; a [`Manifest`] exists only after [`crate::trust::verify_manifest`]. Source: format.md 2.

use std::fmt::Write as _;
use std::ops::Deref;
use std::str::FromStr;

use crate::envelope::SignedText;
use crate::error::{FormatError, Result};
use crate::hash::ContentHash;
use crate::path::PathHash;

/// Largest manifest that is looked at, in bytes; real ones stay below 4096.
pub const SIZE_LIMIT_BYTES: u64 = 65_536;
/// Time to live of a repository that does not say, in seconds.
pub const DEFAULT_TTL_S: u64 = 240;

const SUBJECT: &str = "manifest";
const SEPARATOR_LINE: &[u8] = b"--";

/// The field lines of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFields {
    /// `C`: the root catalog. Its algorithm is the repository's.
    pub root_hash: ContentHash,
    /// `B`: size of the uncompressed root catalog in bytes, 0 for unknown.
    pub root_size_bytes: u64,
    /// `R`: hash of the root path; clients accept only that of the empty path.
    pub root_path: PathHash,
    /// `D`: time to live in seconds; informational, clients go by the root catalog.
    pub ttl_s: u64,
    /// `S`: revision of the repository.
    pub revision: u64,
    /// `G`: whether garbage collection is allowed.
    pub is_collectable: bool,
    /// `A`: whether the bootstrap objects have alternative names in the repository root.
    pub has_alternative_paths: bool,
    /// `L`: reserved for micro catalogs.
    pub micro_catalog: Option<ContentHash>,
    /// `N`: fully qualified repository name.
    pub fqrn: Option<String>,
    /// `X`: the certificate whose key signed.
    pub certificate: Option<ContentHash>,
    /// `H`: the history database.
    pub history: Option<ContentHash>,
    /// `T`: when it was signed, Unix seconds.
    pub timestamp: Option<u64>,
    /// `M`: repository meta-information.
    pub metainfo: Option<ContentHash>,
    /// `Y`: hash of the reference log when it was signed; may be stale.
    pub reflog: Option<ContentHash>,
}

impl ManifestFields {
    /// Returns the fields of a repository with that root catalog, everything else at its default.
    pub fn new(root_hash: ContentHash, root_size_bytes: u64, revision: u64) -> Self {
        Self {
            root_hash,
            root_size_bytes,
            root_path: PathHash::of(b""),
            ttl_s: DEFAULT_TTL_S,
            revision,
            is_collectable: false,
            has_alternative_paths: false,
            micro_catalog: None,
            fqrn: None,
            certificate: None,
            history: None,
            timestamp: None,
            metainfo: None,
            reflog: None,
        }
    }

    /// Parses field lines up to a line `--` or the end. The last line of a letter wins, unknown letters are ignored;
    /// `C`, `R`, `D` and `S` are mandatory.
    pub fn parse_body(body: &[u8]) -> Result<Self> {
        if body.len() as u64 > SIZE_LIMIT_BYTES {
            return Err(FormatError::TooLarge { subject: SUBJECT, limit_bytes: SIZE_LIMIT_BYTES });
        }
        let lines = Lines::split(body);
        Ok(Self {
            root_hash: lines.hash(b'C')?.ok_or_else(|| missing('C'))?,
            root_size_bytes: lines.number(b'B')?.unwrap_or(0),
            root_path: lines.root_path()?,
            ttl_s: lines.number(b'D')?.ok_or_else(|| missing('D'))?,
            revision: lines.number(b'S')?.ok_or_else(|| missing('S'))?,
            is_collectable: lines.is_yes(b'G'),
            has_alternative_paths: lines.is_yes(b'A'),
            micro_catalog: lines.hash(b'L')?,
            fqrn: lines.text(b'N')?.filter(|name| !name.is_empty()).map(str::to_owned),
            certificate: lines.hash(b'X')?,
            history: lines.hash(b'H')?,
            timestamp: lines.number(b'T')?.filter(|unix_s| *unix_s > 0),
            metainfo: lines.hash(b'M')?,
            reflog: lines.hash(b'Y')?,
        })
    }

    /// Returns the field lines in the order of the reference writer, without separator and signature.
    pub fn encode(&self) -> Vec<u8> {
        let yes_no = |value| if value { "yes" } else { "no" };
        let mut body = format!(
            "C{}\nB{}\nR{}\nD{}\nS{}\nG{}\nA{}\n",
            self.root_hash,
            self.root_size_bytes,
            self.root_path.hex(),
            self.ttl_s,
            self.revision,
            yes_no(self.is_collectable),
            yes_no(self.has_alternative_paths),
        );
        let hash_text = |hash: Option<ContentHash>| hash.filter(|h| !h.is_null()).map(|h| h.to_string());
        let optional = [
            ('L', hash_text(self.micro_catalog)),
            ('N', self.fqrn.clone().filter(|name| !name.is_empty())),
            ('X', hash_text(self.certificate)),
            ('H', hash_text(self.history)),
            ('T', self.timestamp.filter(|unix_s| *unix_s > 0).map(|unix_s| unix_s.to_string())),
            ('M', hash_text(self.metainfo)),
            ('Y', hash_text(self.reflog)),
        ];
        for (letter, value) in optional {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = writeln!(body, "{letter}{value}");
            }
        }
        body.into_bytes()
    }
}

/// The last value of every letter.
struct Lines<'a>([Option<&'a [u8]>; 256]);

impl<'a> Lines<'a> {
    fn split(body: &'a [u8]) -> Self {
        let mut values = [None; 256];
        for line in body.split(|b| *b == b'\n').take_while(|line| *line != SEPARATOR_LINE) {
            if let [letter, value @ ..] = line {
                values[usize::from(*letter)] = Some(value);
            }
        }
        Self(values)
    }

    fn text(&self, letter: u8) -> Result<Option<&'a str>> {
        let Some(value) = self.0[usize::from(letter)] else { return Ok(None) };
        match std::str::from_utf8(value) {
            Ok(text) if !text.contains(char::is_control) => Ok(Some(text)),
            _ => Err(unreadable(letter, value)),
        }
    }

    fn hash(&self, letter: u8) -> Result<Option<ContentHash>> {
        let Some(text) = self.text(letter)? else { return Ok(None) };
        let hash = ContentHash::from_str(text).map_err(|_| unreadable(letter, text.as_bytes()))?;
        Ok(Some(hash).filter(|hash| !hash.is_null()))
    }

    // Bounded by i64: these numbers also live in catalogs, whose columns are signed.
    fn number(&self, letter: u8) -> Result<Option<u64>> {
        let Some(text) = self.text(letter)? else { return Ok(None) };
        let is_decimal = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<i64>().ok().filter(|_| is_decimal).and_then(|n| u64::try_from(n).ok());
        number.map(Some).ok_or_else(|| unreadable(letter, text.as_bytes()))
    }

    fn root_path(&self) -> Result<PathHash> {
        let text = self.text(b'R')?.ok_or_else(|| missing('R'))?;
        PathHash::from_hex(text).ok_or_else(|| unreadable(b'R', text.as_bytes()))
    }

    fn is_yes(&self, letter: u8) -> bool {
        self.0[usize::from(letter)] == Some(b"yes")
    }
}

fn missing(letter: char) -> FormatError {
    FormatError::malformed(SUBJECT, format!("no field `{letter}`"))
}

fn unreadable(letter: u8, value: &[u8]) -> FormatError {
    let shown = value[..value.len().min(80)].escape_ascii();
    FormatError::malformed(SUBJECT, format!("field `{}` holds `{shown}`", letter as char))
}

/// A manifest as it was downloaded: well formed, its hash line right, its signature not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedManifest {
    text: SignedText,
    fields: ManifestFields,
}

impl UnverifiedManifest {
    /// Parses envelope and fields.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = SignedText::parse(bytes, SUBJECT, SIZE_LIMIT_BYTES)?;
        let fields = ManifestFields::parse_body(text.body())?;
        Ok(Self { text, fields })
    }

    /// Returns the fields. Nobody vouches for them yet: use them to find the certificate, not to act on.
    pub const fn fields(&self) -> &ManifestFields {
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

/// A manifest that is signed by a listed certificate, for the repository that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest(UnverifiedManifest);

impl Manifest {
    /// For [`crate::trust`] alone: whoever calls this has checked the chain.
    pub(crate) const fn proven(manifest: UnverifiedManifest) -> Self {
        Self(manifest)
    }

    /// Returns the fields.
    pub const fn fields(&self) -> &ManifestFields {
        &self.0.fields
    }

    /// Returns the bytes as they were downloaded; a replica passes them on unchanged.
    pub fn raw(&self) -> &[u8] {
        self.0.raw()
    }
}

impl Deref for Manifest {
    type Target = ManifestFields;

    fn deref(&self) -> &ManifestFields {
        &self.0.fields
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
