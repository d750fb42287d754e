//! Directory entries as catalog rows hold them: flags, hardlink groups, types.
//!
//! Owns the meaning of the numbers, not the table they lie in. Source: format.md 4.5 to 4.7.

use crate::error::{FormatError, Result};
use crate::hash::{ContentHash, HashAlgorithm};
use crate::xattr::XattrList;

/// How an object's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// One zlib stream; the default.
    #[default]
    Zlib,
    /// The bytes as they are.
    None,
}

impl Compression {
    /// Returns the name that `user.compression` and configuration files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::None => "none",
        }
    }

    /// Returns the algorithm for a configuration value; `default` means zlib.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "default" | "zlib" => Some(Self::Zlib),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// The `flags` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EntryFlags(pub u32);

impl EntryFlags {
    /// A directory.
    pub const DIRECTORY: u32 = 0x1;
    /// A directory row in the parent catalog where a nested catalog starts.
    pub const NESTED_MOUNTPOINT: u32 = 0x2;
    /// Everything that is not a directory.
    pub const FILE: u32 = 0x4;
    /// A symbolic link.
    pub const SYMLINK: u32 = 0x8;
    /// A fifo, socket or device.
    pub const SPECIAL: u32 = 0x10;
    /// The root row of a nested catalog.
    pub const NESTED_ROOT: u32 = 0x20;
    /// A regular file split in chunks.
    pub const CHUNKED: u32 = 0x40;
    /// A regular file whose content lies outside the repository.
    pub const EXTERNAL: u32 = 0x80;
    /// A directory that leads to another root catalog.
    pub const BIND_MOUNTPOINT: u32 = 0x4000;
    /// Not listed, but found by name.
    pub const HIDDEN: u32 = 0x8000;
    /// Opened with direct I/O.
    pub const DIRECT_IO: u32 = 0x1_0000;
    /// A regular file with a bundle specification beside it ([`crate::bundle`]); CernVM-FS knows it from 2.14 on.
    pub const BUNDLE_TRIGGER: u32 = 0x2_0000;
    const HASH_SHIFT: u32 = 8;
    const COMPRESSION_SHIFT: u32 = 11;
    const THREE_BITS: u32 = 0x7;

    /// Says whether all bits of `mask` are set.
    pub const fn has(self, mask: u32) -> bool {
        self.0 & mask == mask
    }

    /// Returns these flags with the bits of `mask` set or cleared.
    pub const fn with(self, mask: u32, set: bool) -> Self {
        Self(if set { self.0 | mask } else { self.0 & !mask })
    }

    /// Returns the algorithm of the row's hash and of its chunks' hashes.
    pub fn hash_algorithm(self) -> Result<HashAlgorithm> {
        let id = self.0 >> Self::HASH_SHIFT & Self::THREE_BITS;
        HashAlgorithm::from_flag_id(id)
            .ok_or_else(|| FormatError::malformed("catalog flags", format!("hash algorithm id {id}")))
    }

    /// Returns how the row's objects are stored.
    pub fn compression(self) -> Result<Compression> {
        match self.0 >> Self::COMPRESSION_SHIFT & Self::THREE_BITS {
            0 => Ok(Compression::Zlib),
            1 => Ok(Compression::None),
            id => Err(FormatError::malformed("catalog flags", format!("compression id {id}"))),
        }
    }

    /// Returns these flags with the algorithm bits set.
    pub const fn with_hash_algorithm(self, algorithm: HashAlgorithm) -> Self {
        Self(self.0 & !(Self::THREE_BITS << Self::HASH_SHIFT) | algorithm.flag_id() << Self::HASH_SHIFT)
    }

    /// Returns these flags with the compression bits set.
    pub const fn with_compression(self, compression: Compression) -> Self {
        let id = match compression {
            Compression::Zlib => 0,
            Compression::None => 1,
        };
        Self(self.0 & !(Self::THREE_BITS << Self::COMPRESSION_SHIFT) | id << Self::COMPRESSION_SHIFT)
    }
}

/// The `hardlinks` column: a group (0 for none) and a link count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hardlinks {
    /// Catalog-wide group id; 0 means that the entry belongs to no group.
    pub group: u32,
    /// Link count: members of the group, or 2 plus sub-directories for a directory.
    pub linkcount: u32,
}

impl Hardlinks {
    /// A file with one name.
    pub const SINGLE: Self = Self { group: 0, linkcount: 1 };

    /// Reads the column. The reference stores a 64-bit pattern in a signed column, so negative values are bit patterns.
    pub const fn from_column(value: i64) -> Self {
        let bits = value as u64;
        Self { group: (bits >> 32) as u32, linkcount: bits as u32 }
    }

    /// Returns the column.
    pub const fn to_column(self) -> i64 {
        ((self.group as u64) << 32 | self.linkcount as u64) as i64
    }
}

/// File types of `st_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileType {
    /// The type bits of `st_mode`.
    pub const MASK: u32 = 0o170_000;

    /// Returns the type that the bits of `mode` say, if they say one.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & Self::MASK {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            _ => return None,
        })
    }

    /// Returns the type bits.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
        }
    }

    /// Says whether this is a fifo, socket or device.
    pub const fn is_special(self) -> bool {
        matches!(self, Self::Fifo | Self::Socket | Self::CharDevice | Self::BlockDevice)
    }

    /// Says whether this is a device, whose `size` column holds the device number.
    pub const fn is_device(self) -> bool {
        matches!(self, Self::CharDevice | Self::BlockDevice)
    }
}

/// One directory entry, as the writer of a catalog sees it. Names and paths are kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Size in bytes; device number for devices; target length for symlinks.
    pub size: u64,
    /// Modification time, Unix seconds.
    pub mtime: i64,
    /// Nanoseconds of the modification time; `None` is "unknown".
    pub mtime_ns: Option<u32>,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Hardlink group and link count.
    pub hardlinks: Hardlinks,
    /// The flags column.
    pub flags: EntryFlags,
    /// Hash of the whole-file object, if there is one.
    pub hash: Option<ContentHash>,
    /// Symlink target, empty for everything else.
    pub symlink: Vec<u8>,
    /// Stored extended attributes, empty for none.
    pub xattrs: XattrList,
}

impl Entry {
    /// Returns the file type, if the mode says a valid one.
    pub const fn file_type(&self) -> Option<FileType> {
        FileType::from_mode(self.mode)
    }

    /// Says whether this is a directory.
    pub const fn is_directory(&self) -> bool {
        matches!(self.file_type(), Some(FileType::Directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardlink_vectors_of_section_14() {
        for (group, linkcount, column) in [(1, 2, 4_294_967_298), (3, 2, 12_884_901_890), (0, 5, 5), (0, 1, 1)] {
            let links = Hardlinks { group, linkcount };
            assert_eq!(links.to_column(), column);
            assert_eq!(Hardlinks::from_column(column), links);
        }
        let top = Hardlinks { group: u32::MAX, linkcount: 2 };
        assert_eq!(Hardlinks::from_column(top.to_column()), top);
    }

    #[test]
    fn flags_of_section_4_5_compose() {
        let file = EntryFlags(EntryFlags::FILE);
        assert_eq!(file.with_compression(Compression::None).0, 0x804);
        assert_eq!(file.with_hash_algorithm(HashAlgorithm::Rmd160).0, 0x104);
        assert_eq!(file.with_hash_algorithm(HashAlgorithm::Shake128).0, 0x204);
        let external =
            file.with(EntryFlags::EXTERNAL | EntryFlags::DIRECT_IO, true).with_compression(Compression::None);
        assert_eq!(external.0, 0x1_0884);
        assert_eq!(external.compression().unwrap(), Compression::None);
        assert!(EntryFlags(0x304).hash_algorithm().is_err());
        assert!(EntryFlags(0x1004).compression().is_err());
        assert!(external.has(EntryFlags::EXTERNAL) && !external.has(EntryFlags::CHUNKED));
    }
}
