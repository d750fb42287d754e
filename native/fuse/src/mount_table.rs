//! The mount table of this mount namespace, as `/proc` shows it.
//!
//! Owns the parsing of `mountinfo`; never touches a mount point itself, because a dead mount would make the caller
//! wait. Stateless.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The calling thread's namespace: a mount is made in that one, whatever the rest of the process sees.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// A file system's device number: tells a mount from its successor at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Major number, 0 for FUSE.
    pub major: u32,
    /// Minor number; also the name below `/sys/fs/fuse/connections`.
    pub minor: u32,
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Device number of the file system.
    pub device: DeviceNumber,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// File system type, `fuse` or `fuse.SUBTYPE` for ours.
    pub file_system: Vec<u8>,
    /// Source, `cvmfs2` for ours.
    pub source: Vec<u8>,
}

impl MountEntry {
    /// Says whether it is a FUSE mount whose source has this name.
    pub fn is_fuse_from(&self, source: &str) -> bool {
        let is_fuse = self.file_system == b"fuse" || self.file_system.starts_with(b"fuse.");
        is_fuse && self.source == source.as_bytes()
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = std::str::from_utf8(fields.nth(2)?).ok()?;
        let (major, minor) = device.split_once(':')?;
        let device = DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? };
        let mount_point = unescape(fields.nth(1)?);
        // After the options comes any number of optional fields, then a dash.
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let file_system = unescape(rest.next()?);
        let source = unescape(rest.next()?);
        let mount_point = PathBuf::from(std::ffi::OsString::from_vec(mount_point));
        Some(Self { device, mount_point, file_system, source })
    }
}

/// Returns a field with the kernel's `\ooo` escapes (blank, tab, newline, backslash, `#`) undone.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|d| *first == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    plain
}

fn parse_table(table: &[u8]) -> impl Iterator<Item = MountEntry> + '_ {
    table.split(|byte| *byte == b'\n').filter_map(MountEntry::parse)
}

/// Returns all mounts, in the order in which they were made.
pub fn mounts() -> io::Result<Vec<MountEntry>> {
    Ok(parse_table(&std::fs::read(MOUNTINFO)?).collect())
}

/// Returns the mount that a path names: the topmost of those whose mount point is exactly this (absolute) path.
pub fn mounted_at(path: &Path) -> io::Result<Option<MountEntry>> {
    let path = located(path)?;
    Ok(mounts()?.into_iter().rfind(|entry| entry.mount_point == path))
}

/// Says whether anything is mounted at a path.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    mounted_at(path).map(|entry| entry.is_some())
}

/// Returns the path as the mount table writes it: symlinks resolved in all components but the last, which is never
/// touched. A mount point that is itself a symlink must be resolved by the caller before it is mounted.
pub(crate) fn located(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    match (absolute.parent(), absolute.file_name().map(OsStr::as_bytes)) {
        (Some(parent), Some(name)) if name != b".." => Ok(parent.canonicalize()?.join(OsStr::from_bytes(name))),
        _ => absolute.canonicalize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        40 27 0:52 / /cvmfs/a\\040b\\134x ro,nosuid,nodev shared:5 master:1 - fuse cvmfs2 ro,user_id=0\n\
        broken\n\
        41 27 0:53 / /mnt/\\3 ro - fuse.sshfs host:/\\011 rw";

    #[test]
    fn escapes_and_optional_fields_are_understood_and_broken_lines_skipped() {
        let entries: Vec<_> = parse_table(TABLE).collect();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[1].mount_point, Path::new("/cvmfs/a b\\x"));
        assert_eq!(entries[1].device, DeviceNumber { major: 0, minor: 52 });
        assert!(entries[1].is_fuse_from("cvmfs2"));
        assert!(!entries[0].is_fuse_from("proc"));
        assert_eq!(entries[2].mount_point, Path::new("/mnt/\\3"));
        assert_eq!(entries[2].source, b"host:/\t");
        assert!(!entries[2].is_fuse_from("cvmfs2"));
    }

    #[test]
    fn the_root_and_proc_are_mounted_and_a_file_is_not() {
        assert!(is_mounted(Path::new("/")).unwrap());
        assert!(is_mounted(Path::new("/proc/")).unwrap());
        assert!(!is_mounted(Path::new("/proc/self")).unwrap());
    }
}
