//! Statistics counters of a catalog: 12 for its own rows, 12 for everything nested below.
//!
//! Owns names and sums. Sums saturate: the numbers come from other people's catalogs. Source: format.md 4.9.

use std::ops::{Add, AddAssign, Sub, SubAssign};

use crate::error::{FormatError, Result};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// The 12 counters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: i64,)+
        }

        impl Counters {
            /// The names without prefix, in bytewise order.
            pub const NAMES: [&str; 12] = [$(stringify!($name)),+];

            const SELF_ROWS: [&str; 12] = [$(concat!("self_", stringify!($name))),+];
            const SUBTREE_ROWS: [&str; 12] = [$(concat!("subtree_", stringify!($name))),+];

            /// Returns the counter of that name.
            pub fn get(&self, name: &str) -> Option<i64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)+
                    _ => None,
                }
            }

            fn get_mut(&mut self, name: &str) -> Option<&mut i64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)+
                    _ => None,
                }
            }

            fn values(&self) -> [i64; 12] {
                [$(self.$name),+]
            }

            fn zip(self, other: Self, operation: impl Fn(i64, i64) -> i64) -> Self {
                Self { $($name: operation(self.$name, other.$name)),+ }
            }
        }
    };
}

// In bytewise order of the names: that is the order in which they are listed.
counters! {
    /// Chunked regular files.
    chunked,
    /// Sum of the sizes of chunked files, in bytes.
    chunked_size,
    /// Rows of the chunks table.
    chunks,
    /// Directories, with the catalog's own root row and the mountpoint rows of nested catalogs.
    dir,
    /// External files.
    external,
    /// Sum of the sizes of external files, in bytes.
    external_file_size,
    /// Sum of the sizes of regular files, in bytes.
    file_size,
    /// Nested catalogs.
    nested,
    /// Regular files; every hardlink member counts.
    regular,
    /// Fifos, sockets and devices.
    special,
    /// Symbolic links.
    symlink,
    /// Entries with extended attributes.
    xattr,
}

impl Counters {
    /// Returns names (without prefix) and values in bytewise order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, i64)> {
        Self::NAMES.into_iter().zip(self.values())
    }

    /// Returns the number of directory entries: files, symlinks, specials and directories.
    pub fn entries(&self) -> i64 {
        [self.regular, self.symlink, self.special, self.dir].into_iter().fold(0, i64::saturating_add)
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, i64::saturating_add)
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.zip(other, i64::saturating_sub)
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Counters {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

/// All 24 counters of a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CatalogCounters {
    /// Rows of this catalog (`self_*`).
    pub own: Counters,
    /// Own and subtree counters of all directly nested catalogs (`subtree_*`).
    pub subtree: Counters,
}

impl CatalogCounters {
    /// Returns the sums of own rows and subtree.
    pub fn total(&self) -> Counters {
        self.own + self.subtree
    }

    /// Returns the 24 rows of the `statistics` table.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let own = Counters::SELF_ROWS.into_iter().zip(self.own.values());
        own.chain(Counters::SUBTREE_ROWS.into_iter().zip(self.subtree.values()))
    }

    /// Returns the value of a row name such as `self_dir`.
    pub fn get(&self, row: &str) -> Option<i64> {
        match row.split_once('_')? {
            ("self", name) => self.own.get(name),
            ("subtree", name) => self.subtree.get(name),
            _ => None,
        }
    }

    /// Sets the counter of a row name; says whether there is such a row.
    pub fn set(&mut self, row: &str, value: i64) -> bool {
        let counter = match row.split_once('_') {
            Some(("self", name)) => self.own.get_mut(name),
            Some(("subtree", name)) => self.subtree.get_mut(name),
            _ => None,
        };
        counter.map(|counter| *counter = value).is_some()
    }

    /// Reads the `statistics` table of a catalog with schema 2.5 and that revision. Rows of other names are ignored;
    /// a row may only be missing where the revision is older than the counter (format.md 4.2).
    pub fn from_rows<N: AsRef<str>>(rows: impl IntoIterator<Item = (N, i64)>, schema_revision: i64) -> Result<Self> {
        let mut counters = Self::default();
        let mut missing: Vec<&str> = counters.rows().map(|(row, _)| row).collect();
        for (row, value) in rows {
            if counters.set(row.as_ref(), value) {
                missing.retain(|name| *name != row.as_ref());
            }
        }
        match missing.iter().find(|row| introduced_in(row) <= schema_revision) {
            None => Ok(counters),
            Some(row) => Err(FormatError::malformed("catalog statistics", format!("counter `{row}` is missing"))),
        }
    }
}

fn introduced_in(row: &str) -> i64 {
    match row.split_once('_') {
        Some((_, "xattr")) => 2,
        Some((_, "external" | "external_file_size")) => 3,
        Some((_, "special")) => 5,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_section_4_9_in_order() {
        let mut sorted = [
            "regular",
            "symlink",
            "special",
            "dir",
            "nested",
            "chunked",
            "chunks",
            "file_size",
            "chunked_size",
            "xattr",
            "external",
            "external_file_size",
        ];
        sorted.sort_unstable();
        assert_eq!(Counters::NAMES, sorted);
        assert!(Counters::default().iter().map(|(name, _)| name).eq(sorted));
    }

    #[test]
    fn rows_round_trip_and_sum() {
        let mut counters = CatalogCounters::default();
        let names: Vec<&str> = counters.rows().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 24);
        for (value, name) in names.iter().enumerate() {
            assert!(counters.set(name, value as i64));
            assert_eq!(counters.get(name), Some(value as i64));
        }
        assert_eq!(CatalogCounters::from_rows(counters.rows(), 7).unwrap(), counters);
        assert_eq!(counters.own.dir, 3);
        assert_eq!(counters.subtree.dir, 15);
        assert_eq!(counters.total().dir, 18);
        assert!(!counters.set("self_other", 1) && !counters.set("dir", 1) && counters.get("own_dir").is_none());
    }

    #[test]
    fn only_counters_newer_than_the_schema_may_be_missing() {
        let full = CatalogCounters::default();
        for (row, revision) in
            [("self_xattr", 2), ("subtree_external", 3), ("self_external_file_size", 3), ("subtree_special", 5)]
        {
            let rows = || full.rows().filter(|(name, _)| *name != row);
            assert!(CatalogCounters::from_rows(rows(), revision - 1).is_ok(), "{row}");
            assert!(CatalogCounters::from_rows(rows(), revision).is_err(), "{row}");
        }
        let rows = full.rows().filter(|(name, _)| *name != "self_dir");
        assert!(CatalogCounters::from_rows(rows, 0).is_err());
    }

    proptest! {
        #[test]
        fn sums_never_overflow(a: i64, b: i64) {
            let (left, right) = (Counters { dir: a, ..Default::default() }, Counters { dir: b, ..Default::default() });
            prop_assert_eq!((left + right).dir, a.saturating_add(b));
            prop_assert_eq!((left - right).dir, a.saturating_sub(b));
            let mut sum = left;
            sum += right;
            prop_assert_eq!(sum, left + right);
            sum -= right;
            prop_assert_eq!(sum, left + right - right);
        }
    }
}
