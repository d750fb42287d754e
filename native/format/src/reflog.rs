//! Kinds of references in the reference log `.cvmfsreflog`.
//!
//! Owns the numbers of its `type` column, not the table. Source: format.md 7.1.

use crate::error::{FormatError, Result};
use crate::object::ObjectKind;

/// Exact value of the `schema` property; other values make the reference reader stop.
pub const SCHEMA: &str = "1.0";
/// Exact value of the `schema_revision` property.
pub const SCHEMA_REVISION: &str = "0";

/// What a reference leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefKind {
    /// A root catalog; nested catalogs are not listed.
    Catalog,
    /// A certificate.
    Certificate,
    /// A history.
    History,
    /// Repository meta-information.
    Metainfo,
}

impl RefKind {
    /// All kinds, in the order of their ids.
    pub const ALL: [Self; 4] = [Self::Catalog, Self::Certificate, Self::History, Self::Metainfo];

    /// Returns the number of the `type` column.
    pub const fn id(self) -> i64 {
        self as i64
    }

    /// Reads the `type` column.
    pub fn from_id(id: i64) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.id() == id)
            .ok_or_else(|| FormatError::malformed("reflog", format!("reference type {id}")))
    }

    /// Returns the kind of the object.
    pub const fn object_kind(self) -> ObjectKind {
        match self {
            Self::Catalog => ObjectKind::Catalog,
            Self::Certificate => ObjectKind::Certificate,
            Self::History => ObjectKind::History,
            Self::Metainfo => ObjectKind::Metainfo,
        }
    }

    /// Returns the reference kind for an object kind, `None` for kinds that the log does not list.
    pub fn from_object_kind(kind: ObjectKind) -> Option<Self> {
        Self::ALL.into_iter().find(|candidate| candidate.object_kind() == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_section_7_1() {
        let ids = [(0, "C"), (1, "X"), (2, "H"), (3, "M")];
        for (id, suffix) in ids {
            let kind = RefKind::from_id(id).unwrap();
            assert_eq!((kind.id(), kind.object_kind().suffix()), (id, suffix));
            assert_eq!(RefKind::from_object_kind(kind.object_kind()), Some(kind));
        }
        assert!(RefKind::from_id(4).is_err() && RefKind::from_id(-1).is_err());
        assert_eq!(RefKind::from_object_kind(ObjectKind::Chunk), None);
    }
}
