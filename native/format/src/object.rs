//! Object kinds and the keys that objects have below a repository root.
//!
//! Owns the naming only; stores and transports decide where a key leads. Source: format.md 1.1 and 1.2.

use std::fmt;

use crate::hash::ContentHash;

/// What an object holds; implied by whoever refers to it, never part of the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A whole regular file, no suffix.
    File,
    /// One chunk of a chunked file, suffix `P`.
    Chunk,
    /// A file catalog, suffix `C`.
    Catalog,
    /// A history (tag) database, suffix `H`.
    History,
    /// An X.509 certificate, suffix `X`.
    Certificate,
    /// Repository meta-information, suffix `M`.
    Metainfo,
}

impl ObjectKind {
    /// Returns the suffix letter, empty for whole files.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::File => "",
            Self::Chunk => "P",
            Self::Catalog => "C",
            Self::History => "H",
            Self::Certificate => "X",
            Self::Metainfo => "M",
        }
    }

    /// Returns the kind in words, for messages.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::File => "file object",
            Self::Chunk => "chunk",
            Self::Catalog => "catalog",
            Self::History => "history",
            Self::Certificate => "certificate",
            Self::Metainfo => "metainfo",
        }
    }
}

/// A hash together with the kind: everything needed to find an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Hash of the stored bytes.
    pub hash: ContentHash,
    /// What it holds.
    pub kind: ObjectKind,
}

impl ObjectId {
    /// Builds an id.
    pub const fn new(hash: ContentHash, kind: ObjectKind) -> Self {
        Self { hash, kind }
    }

    /// Returns the key below the repository root, `data/<2 hex>/<38 hex>[-algorithm][suffix]`.
    pub fn key(&self) -> String {
        let hex = self.hash.hex();
        let (head, rest) = hex.split_at(2);
        format!("data/{head}/{rest}{}{}", self.hash.algorithm().tag(), self.kind.suffix())
    }

    /// Returns the name of the alternative path in the repository root (format.md 2.6).
    pub fn alternative_key(&self) -> String {
        format!(".cvmfsalt-{}{}", self.hash, self.kind.suffix())
    }

    /// Returns the key in a client cache, `<2 hex>/<38 hex>[-algorithm]`: without the suffix (format.md 1.7).
    pub fn cache_key(&self) -> String {
        let hex = self.hash.hex();
        let (head, rest) = hex.split_at(2);
        format!("{head}/{rest}{}", self.hash.algorithm().tag())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.kind.noun(), self.hash, self.kind.suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_section_1_1() {
        let catalog: ContentHash = "6ed3d49a5c64f21f36936ab350d49aaf57585b9a".parse().unwrap();
        assert_eq!(
            ObjectId::new(catalog, ObjectKind::Catalog).key(),
            "data/6e/d3d49a5c64f21f36936ab350d49aaf57585b9aC"
        );
        let file: ContentHash = "fcdb20b894f31f1306d56294c049ca7293dde0fc-rmd160".parse().unwrap();
        let id = ObjectId::new(file, ObjectKind::File);
        assert_eq!(id.key(), "data/fc/db20b894f31f1306d56294c049ca7293dde0fc-rmd160");
        assert_eq!(id.cache_key(), "fc/db20b894f31f1306d56294c049ca7293dde0fc-rmd160");
    }
}
