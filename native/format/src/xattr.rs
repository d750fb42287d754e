//! Stored extended attributes: the blob of the `xattr` column. Source: format.md 4.10.

/// A list of attributes, sorted by key bytewise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct XattrList(pub(crate) Vec<(Vec<u8>, Vec<u8>)>);
