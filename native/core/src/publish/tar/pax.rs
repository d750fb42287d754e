//! Extended headers of POSIX archives: `length key=value` records that overrule a header's fields.
//!
//! Owns the syntax and which keys mean something. Keys that nothing here knows are passed over, as POSIX asks.

use std::collections::BTreeMap;

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// A value that makes no sense for its key.
#[derive(Debug)]
pub(super) struct Bad;

/// Records by key. Repeated keys are kept in `regions` alone: only sparse maps repeat keys.
#[derive(Debug, Default, Clone)]
pub(super) struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The offsets and lengths of a sparse map of version 0.0, in their order.
    pub(super) regions: Vec<i64>,
}

impl Records {
    /// Adds the records of one extended header; an empty value takes a key back. `None` for bad syntax.
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let blank = bytes.iter().position(|byte| *byte == b' ')?;
            let (length, _) = bytes.split_at(blank);
            let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
            let (record, rest) = bytes.split_at_checked(length)?;
            let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                self.regions.push(decimal(value)?);
            } else if value.is_empty() {
                self.values.remove(key);
            } else {
                self.values.insert(key.to_vec(), value.to_vec());
            }
            bytes = rest;
        }
        Some(())
    }

    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice)
    }

    /// Returns a number, if there is one.
    pub(super) fn number(&self, key: &str) -> Result<Option<i64>, Bad> {
        self.get(key).map(|value| decimal(value).ok_or(Bad)).transpose()
    }

    /// Returns the modification time as seconds and nanoseconds, if there is one.
    pub(super) fn mtime(&self) -> Result<Option<(i64, u32)>, Bad> {
        self.get("mtime").map(|value| moment(value).ok_or(Bad)).transpose()
    }

    pub(super) fn xattrs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let found = self.values.range(XATTR_PREFIX.to_vec()..);
        found.map_while(|(key, value)| Some((key.strip_prefix(XATTR_PREFIX)?, value.as_slice())))
    }
}

pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `-12.5` is 13 seconds before the epoch and half a second after that.
fn moment(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}
