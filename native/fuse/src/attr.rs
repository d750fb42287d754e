//! Attributes in the kernel's terms. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo};
use nearfs_core::client::Attr;
use nearfs_format::dirent::FileType;

const MAX_NS: u32 = 999_999_999;

/// Returns the kernel's attributes for an entry; access and change time are the modification time.
pub(crate) fn file_attr(attr: &Attr) -> FileAttr {
    let mtime = system_time(attr.mtime_s, attr.mtime_ns);
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size_bytes,
        blocks: attr.blocks(),
        atime: mtime,
        mtime,
        ctime: mtime,
        crtime: mtime,
        kind: kind(attr.file_type),
        perm: attr.permissions,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        // The lower half of glibc's encoding is the kernel's 32 bit one; larger numbers have no place in the protocol.
        rdev: attr.rdev as u32,
        blksize: Attr::BLOCK_BYTES,
        flags: 0,
    }
}

/// Returns attributes that say "no such entry" in an answer that the kernel may cache: inode 0.
pub(crate) fn no_entry() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: fuser::FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn kind(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
    }
}

/// Returns a point in time; what the platform cannot hold becomes the epoch, because a catalog may say anything.
fn system_time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let magnitude = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(magnitude) } else { UNIX_EPOCH.checked_add(magnitude) };
    let fraction = Duration::from_nanos(u64::from(nanoseconds.min(MAX_NS)));
    whole.and_then(|time| time.checked_add(fraction)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_and_beyond_all_bounds() {
        let before = system_time(-2, 500_000_000);
        assert_eq!(UNIX_EPOCH.duration_since(before).unwrap(), Duration::from_millis(1500));
        assert_eq!(system_time(1, u32::MAX), UNIX_EPOCH + Duration::new(1, MAX_NS));
        for seconds in [i64::MIN, i64::MAX] {
            let _ = system_time(seconds, u32::MAX);
        }
    }
}
