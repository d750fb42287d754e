//! Stored extended attributes: the blob of the `xattr` column.
//!
//! Owns the blob's form and its limits. Whether a malformed blob counts as "no attributes" (as the reference client
//! reads it) is the caller's decision. Source: format.md 4.10.

use crate::error::{FormatError, Result};

const VERSION: u8 = 1;
/// Most attributes of one entry: the count is one byte.
pub const MAX_ATTRIBUTES: usize = 255;
/// Longest key or value in bytes: the lengths are one byte each.
pub const MAX_FIELD_BYTES: usize = 255;

const SUBJECT: &str = "extended attributes";

/// A list of attributes, sorted by key bytewise, every key once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct XattrList(Vec<(Vec<u8>, Vec<u8>)>);

impl XattrList {
    /// Parses a blob. Bytes behind the last attribute are ignored; where a key repeats, the last value counts.
    pub fn parse(blob: &[u8]) -> Result<Self> {
        let [version, count, rest @ ..] = blob else {
            return Err(FormatError::malformed(SUBJECT, "truncated header"));
        };
        if *version != VERSION {
            return Err(FormatError::malformed(SUBJECT, format!("version {version} instead of {VERSION}")));
        }
        let mut rest = rest;
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(usize::from(*count));
        for _ in 0..*count {
            let (key, value, tail) = split_entry(rest)?;
            check_key(key)?;
            match pairs.iter_mut().find(|(known, _)| known == key) {
                Some((_, known)) => *known = value.to_vec(),
                None => pairs.push((key.to_vec(), value.to_vec())),
            }
            rest = tail;
        }
        pairs.sort_unstable();
        Ok(Self(pairs))
    }

    /// Returns the blob, `None` for an empty list (the column is NULL then).
    pub fn encode(&self) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        let bytes: usize = self.0.iter().map(|(key, value)| 2 + key.len() + value.len()).sum();
        let mut blob = Vec::with_capacity(2 + bytes);
        // The lengths fit their bytes: both constructors refuse longer ones.
        blob.extend_from_slice(&[VERSION, self.0.len() as u8]);
        for (key, value) in &self.0 {
            blob.extend_from_slice(&[key.len() as u8, value.len() as u8]);
            blob.extend_from_slice(key);
            blob.extend_from_slice(value);
        }
        Some(blob)
    }

    /// Builds a list from pairs in any order; refuses what the blob cannot hold, and repeated keys.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self> {
        let mut list = Vec::new();
        for (key, value) in pairs {
            check_key(&key)?;
            if key.len() > MAX_FIELD_BYTES || value.len() > MAX_FIELD_BYTES {
                let name = key.escape_ascii();
                let reason = format!("`{name}`: key or value longer than {MAX_FIELD_BYTES} bytes cannot be stored");
                return Err(FormatError::malformed(SUBJECT, reason));
            }
            if list.len() == MAX_ATTRIBUTES {
                return Err(FormatError::malformed(SUBJECT, format!("more than {MAX_ATTRIBUTES} attributes")));
            }
            list.push((key, value));
        }
        list.sort_unstable();
        if let Some(twice) = list.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(FormatError::malformed(SUBJECT, format!("`{}` occurs twice", twice[0].0.escape_ascii())));
        }
        Ok(Self(list))
    }

    /// Returns the value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let index = self.0.binary_search_by(|(known, _)| known.as_slice().cmp(key)).ok()?;
        self.0.get(index).map(|(_, value)| value.as_slice())
    }

    /// Returns the keys in bytewise order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(key, _)| key.as_slice())
    }

    /// Returns keys and values in bytewise order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// Returns the number of attributes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether there are no attributes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn split_entry(bytes: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let truncated = || FormatError::malformed(SUBJECT, "truncated attribute");
    let [key_bytes, value_bytes, rest @ ..] = bytes else { return Err(truncated()) };
    let (key, rest) = rest.split_at_checked(usize::from(*key_bytes)).ok_or_else(truncated)?;
    let (value, rest) = rest.split_at_checked(usize::from(*value_bytes)).ok_or_else(truncated)?;
    Ok((key, value, rest))
}

// A NUL would end the name early in what listxattr(2) returns.
fn check_key(key: &[u8]) -> Result<()> {
    if key.is_empty() {
        return Err(FormatError::malformed(SUBJECT, "an empty key"));
    }
    if key.contains(&0) {
        return Err(FormatError::malformed(SUBJECT, format!("key `{}` holds a NUL byte", key.escape_ascii())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (key.to_vec(), value.to_vec())
    }

    #[test]
    fn blob_of_section_14() {
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let list = XattrList::from_pairs([pair(b"user.a", b"b"), pair(b"security.capability", capability)]).unwrap();
        let mut blob = b"\x01\x02\x13\x14security.capability".to_vec();
        blob.extend_from_slice(capability);
        blob.extend_from_slice(b"\x06\x01user.ab");
        assert_eq!(list.encode().unwrap(), blob);
        assert_eq!(XattrList::parse(&blob).unwrap(), list);
        assert_eq!(list.get(b"user.a"), Some(&b"b"[..]));
        assert_eq!(list.get(b"user.b"), None);
        assert_eq!(list.keys().collect::<Vec<_>>(), [&b"security.capability"[..], b"user.a"]);
    }

    #[test]
    fn blob_of_section_4_10_and_trailing_bytes() {
        let list = XattrList::parse(b"\x01\x02\x08\x00user.aaa\x08\x03user.foobarTRAILING").unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), [(&b"user.aaa"[..], &b""[..]), (b"user.foo", b"bar")]);
    }

    #[test]
    fn what_a_reader_refuses() {
        for blob in [
            &b""[..],
            b"\x01",
            b"\x02\x01\x01\x01ab",
            b"\x01\x01",
            b"\x01\x01\x05\x00abc",
            b"\x01\x01\x01\x02ab",
            b"\x01\x01\x00\x00",
            b"\x01\x01\x00\x01a",
            b"\x01\x01\x03\x00a\0b",
        ] {
            assert!(XattrList::parse(blob).is_err(), "{blob:?}");
        }
        assert!(XattrList::parse(b"\x01\x00").unwrap().is_empty());
    }

    #[test]
    fn what_a_writer_refuses() {
        assert!(XattrList::from_pairs([pair(&[b'k'; 256], b"")]).is_err());
        assert!(XattrList::from_pairs([pair(b"k", &[b'v'; 256])]).is_err());
        assert!(XattrList::from_pairs([pair(b"", b"v")]).is_err());
        assert!(XattrList::from_pairs([pair(b"k", b"1"), pair(b"k", b"2")]).is_err());
        assert!(XattrList::from_pairs((0..256).map(|n| pair(format!("k{n}").as_bytes(), b""))).is_err());
        let most = XattrList::from_pairs((0..255).map(|n| pair(format!("k{n}").as_bytes(), b""))).unwrap();
        assert_eq!(XattrList::parse(&most.encode().unwrap()).unwrap().len(), 255);
        assert_eq!(XattrList::default().encode(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail_and_what_parsed_survives_encoding(blob: Vec<u8>) {
            if let Ok(list) = XattrList::parse(&blob) {
                let again = list.encode().map_or_else(XattrList::default, |b| XattrList::parse(&b).unwrap());
                prop_assert_eq!(again, list);
            }
        }

        #[test]
        fn bytes_after_a_good_header_never_panic(count: u8, tail: Vec<u8>) {
            let mut blob = vec![1, count];
            blob.extend(tail);
            let _ = XattrList::parse(&blob);
        }

        #[test]
        fn any_valid_pairs_survive(pairs in prop::collection::btree_map(
            prop::collection::vec(1u8.., 1..=255), prop::collection::vec(any::<u8>(), 0..=255), 1..20)) {
            let list = XattrList::from_pairs(pairs.clone()).unwrap();
            prop_assert_eq!(XattrList::parse(&list.encode().unwrap()).unwrap(), list.clone());
            for (key, value) in &pairs {
                prop_assert_eq!(list.get(key), Some(value.as_slice()));
            }
        }
    }
}
