//! What must hold for every single entry: type, hash, size, target, flags, attributes.
//!
//! Also counts the entries, since it sees each of them once. Source: format.md 4.5 to 4.10, 12.8 and 12.11.

use nearfs_format::counters::Counters;
use nearfs_format::dirent::{EntryFlags, FileType};
use nearfs_format::xattr::XattrList;

use super::findings::Findings;
use super::table::{Row, Table};

/// Checks every entry; returns the counters of this catalog, without `nested` and `chunks`.
pub(super) fn check(table: &Table, findings: &mut Findings) -> Counters {
    let mut counters = Counters::default();
    for at in 0..table.rows.len() as u32 {
        count(&mut counters, table, at);
        if table.is_placed(at) {
            Rules { table, at, row: table.row(at), findings }.apply();
        }
    }
    counters
}

fn count(counters: &mut Counters, table: &Table, at: u32) {
    let row = table.row(at);
    let size = i64::try_from(row.size).unwrap_or(i64::MAX);
    let mut entry = Counters { xattr: i64::from(!table.xattr(at).is_empty()), ..Counters::default() };
    match row.file_type {
        Some(FileType::Directory) => entry.dir = 1,
        Some(FileType::Symlink) => entry.symlink = 1,
        Some(FileType::Regular) => {
            (entry.regular, entry.file_size) = (1, size);
            if row.flags.has(EntryFlags::CHUNKED) {
                (entry.chunked, entry.chunked_size) = (1, size);
            }
            if row.flags.has(EntryFlags::EXTERNAL) {
                (entry.external, entry.external_file_size) = (1, size);
            }
        }
        Some(_) => entry.special = 1,
        None => {}
    }
    *counters += entry;
}

/// The rules of one entry.
struct Rules<'a> {
    table: &'a Table,
    at: u32,
    row: &'a Row,
    findings: &'a mut Findings,
}

impl Rules<'_> {
    fn apply(&mut self) {
        self.check_flags();
        match self.row.file_type {
            None => self.found(format_args!("invalid type in mode {:o}", self.row.mode)),
            Some(FileType::Regular) => self.check_regular(),
            Some(FileType::Directory) => self.check_bare("directory"),
            Some(FileType::Symlink) => self.check_symlink(),
            Some(file_type) => self.check_special(file_type),
        }
        let xattr = self.table.xattr(self.at);
        if !xattr.is_empty()
            && let Err(e) = XattrList::parse(xattr)
        {
            self.found(format_args!("extended attributes cannot be read: {e}"));
        }
    }

    fn found(&mut self, problem: impl std::fmt::Display) {
        self.findings.at(&self.table.path(self.at), problem);
    }

    /// Readers go by the mode, but a publisher that merges catalogs goes by the flags.
    fn check_flags(&mut self) {
        let Some(file_type) = self.row.file_type else { return };
        let flags = self.row.flags;
        for (mask, noun, is_so) in [
            (EntryFlags::DIRECTORY, "directory", file_type == FileType::Directory),
            (EntryFlags::FILE, "file", file_type != FileType::Directory),
            (EntryFlags::SYMLINK, "symbolic link", file_type == FileType::Symlink),
        ] {
            if flags.has(mask) != is_so {
                self.found(format_args!("flags {:#x} and mode {:o} disagree: {noun}", flags.0, self.row.mode));
            }
        }
        if file_type != FileType::Regular {
            for (mask, noun) in [
                (EntryFlags::DIRECT_IO, "direct I/O"),
                (EntryFlags::EXTERNAL, "external"),
                (EntryFlags::CHUNKED, "chunked"),
                (EntryFlags::BUNDLE_TRIGGER, "bundle trigger"),
            ] {
                if flags.has(mask) {
                    self.found(format_args!("invalid {noun} flag: this is no regular file"));
                }
            }
        }
    }

    fn check_regular(&mut self) {
        if self.row.hash.is_none() && !self.row.flags.has(EntryFlags::CHUNKED) {
            self.found("regular file with zero hash");
        }
        self.check_no_target("regular file");
    }

    fn check_symlink(&mut self) {
        self.check_no_hash("symbolic link");
        let target_bytes = self.table.symlink(self.at).len() as u64;
        if target_bytes == 0 {
            self.found("symbolic link without target");
        }
        if self.row.size != target_bytes {
            let size = self.row.size;
            self.found(format_args!("wrong symbolic link size (expected: {target_bytes} / in catalog: {size})"));
        }
    }

    fn check_special(&mut self, file_type: FileType) {
        self.check_bare("special file");
        // A device's column holds its number; a client reports size 0.
        if !file_type.is_device() && self.row.size != 0 {
            self.found(format_args!("special file with size {}", self.row.size));
        }
    }

    fn check_bare(&mut self, noun: &str) {
        self.check_no_hash(noun);
        self.check_no_target(noun);
    }

    fn check_no_hash(&mut self, noun: &str) {
        if let Some(hash) = self.row.hash {
            self.found(format_args!("{noun} with a content hash ({hash})"));
        }
    }

    fn check_no_target(&mut self, noun: &str) {
        if !self.table.symlink(self.at).is_empty() {
            self.found(format_args!("{noun} with a symbolic link's target"));
        }
    }
}
