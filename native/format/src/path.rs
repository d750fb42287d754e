//! Paths and names inside a repository: bytes, never assumed to be UTF-8.
//!
//! Owns validity and the MD5 path hash that keys catalog rows. The root is the empty path; every other path is `/`
//! plus its names joined by `/`. Source: format.md 4.4.

use std::fmt;

use md5::Digest as _;

use crate::error::{FormatError, Result};

/// Longest name that Linux passes through (`NAME_MAX`), in bytes.
pub const NAME_MAX_BYTES: usize = 255;
/// Longest path that we accept, in bytes: `PATH_MAX` without its terminator.
pub const PATH_MAX_BYTES: usize = 4095;

/// Checks that `name` can be a directory entry: not empty, not `.` or `..`, no `/`, no NUL, at most 255 bytes.
pub fn check_name(name: &[u8]) -> Result<()> {
    let reason = if name.is_empty() {
        "an empty name"
    } else if name == b"." || name == b".." {
        "a name that means another directory"
    } else if name.contains(&b'/') {
        "a name with a slash"
    } else if name.contains(&0) {
        "a name with a NUL byte"
    } else if name.len() > NAME_MAX_BYTES {
        "a name longer than 255 bytes"
    } else {
        return Ok(());
    };
    Err(FormatError::malformed("name", format!("{reason}: `{}`", name.escape_ascii())))
}

/// An absolute path inside a repository; the root is the empty path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// Returns the root.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Parses `""` or `/a/b`; every name is checked.
    pub fn parse(path: &[u8]) -> Result<Self> {
        if path.is_empty() {
            return Ok(Self::root());
        }
        let Some(names) = path.strip_prefix(b"/") else {
            return Err(FormatError::malformed(
                "path",
                format!("`{}` does not begin with a slash", path.escape_ascii()),
            ));
        };
        if path.len() > PATH_MAX_BYTES {
            return Err(FormatError::TooLarge { subject: "path", limit_bytes: PATH_MAX_BYTES as u64 });
        }
        names.split(|b| *b == b'/').try_for_each(check_name)?;
        Ok(Self(path.to_vec()))
    }

    /// Returns the bytes, empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Says whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns this path with one more name, which is checked.
    pub fn join(&self, name: &[u8]) -> Result<Self> {
        check_name(name)?;
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        path.push(b'/');
        path.extend_from_slice(name);
        Ok(Self(path))
    }

    /// Returns the parent, `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..slash].to_vec()))
    }

    /// Returns the last name, empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// Returns the names from the root down.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').skip(1)
    }

    /// Says whether this path is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.0.strip_prefix(ancestor.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Returns the path hash.
    pub fn hash(&self) -> PathHash {
        PathHash::of(&self.0)
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { write!(f, "{}", self.0.escape_ascii()) }
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoPath({self})")
    }
}

/// MD5 of a path as the two signed little-endian integers that key a catalog row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathHash {
    /// Digest bytes 0 to 7 (`md5path_1`).
    pub first: i64,
    /// Digest bytes 8 to 15 (`md5path_2`).
    pub second: i64,
}

impl fmt::Display for PathHash {
    /// Writes the digest as 32 lower-case hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.first.swap_bytes(), self.second.swap_bytes())
    }
}

impl PathHash {
    /// The parent hash of the repository's root row: the null hash, not the hash of anything.
    pub const NULL: Self = Self { first: 0, second: 0 };

    /// Hashes the bytes of a path.
    pub fn of(path: &[u8]) -> Self {
        Self::from_digest(md5::Md5::digest(path).into())
    }

    /// Hashes `parent` + `/` + `name` without joining them in memory.
    pub fn of_child(parent: &[u8], name: &[u8]) -> Self {
        let mut hasher = md5::Md5::new();
        hasher.update(parent);
        hasher.update(b"/");
        hasher.update(name);
        Self::from_digest(hasher.finalize().into())
    }

    /// Parses 32 hex digits, the form of the manifest's `R` line.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = (text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())).then_some(text)?;
        Some(Self::from_digest(u128::from_str_radix(digits, 16).ok()?.to_be_bytes()))
    }

    fn from_digest(digest: [u8; 16]) -> Self {
        let (mut first, mut second) = ([0; 8], [0; 8]);
        first.copy_from_slice(&digest[..8]);
        second.copy_from_slice(&digest[8..]);
        Self { first: i64::from_le_bytes(first), second: i64::from_le_bytes(second) }
    }

    /// Returns the digest bytes as lower-case hex, the form of the manifest's `R` line.
    pub fn hex(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(32);
        for byte in self.first.to_le_bytes().into_iter().chain(self.second.to_le_bytes()) {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_hashes_of_section_14() {
        for (path, hex, first, second) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e", 338_333_539_836_370_388, 9_098_107_892_288_553_193),
            ("/foo", "1effb2475fcfba4f9e8b8a1dbc8f3caf", 5_745_132_282_796_244_766, -5_819_618_580_357_280_866),
            ("/foo/bar", "1df481b1ec67d4d8bec721f521d4937d", -2_822_516_800_166_431_715, 9_048_809_318_629_099_454),
            (
                "/needs_migration",
                "9f4a315293b07121ef58e3b4eaac0c27",
                2_409_901_422_405_569_183,
                2_813_813_991_256_840_431,
            ),
        ] {
            let path = RepoPath::parse(path.as_bytes()).unwrap();
            assert_eq!(path.hash(), PathHash { first, second });
            assert_eq!(path.hash().hex(), hex);
            assert_eq!(PathHash::from_hex(hex), Some(path.hash()));
            if let Some(parent) = path.parent() {
                assert_eq!(PathHash::of_child(parent.as_bytes(), path.name()), path.hash());
            }
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in [&b"a"[..], b"...", b"\xff\n", b"a b", &[b'x'; 255]] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn paths_know_their_family() {
        let path = RepoPath::parse(b"/a/bc/d").unwrap();
        assert_eq!(path.parent().unwrap().as_bytes(), b"/a/bc");
        assert_eq!(path.name(), b"d");
        assert_eq!(path.names().collect::<Vec<_>>(), [&b"a"[..], b"bc", b"d"]);
        assert!(path.starts_with(&RepoPath::parse(b"/a/bc").unwrap()));
        assert!(path.starts_with(&RepoPath::root()));
        assert!(!path.starts_with(&RepoPath::parse(b"/a/b").unwrap()));
        assert_eq!(RepoPath::root().names().count(), 0);
        assert!(RepoPath::parse(b"a/b").is_err());
        assert!(RepoPath::parse(b"/a//b").is_err());
        assert!(RepoPath::parse(b"/a/").is_err());
    }
}
