//! How a mount is asked for: the reference client's mount options as fields.
//!
//! Owns the words and flags that they become; mounts nothing. Values only.

use std::path::PathBuf;

use rustix::mount::MountFlags;

/// How a repository is mounted. Field by field what the reference client's options say (client.md 2.1 to 2.4).
#[derive(Debug, Clone)]
pub struct MountSettings {
    /// Where; `/dev/fd/N` takes a `/dev/fuse` descriptor that somebody else has mounted (and takes it over).
    pub mount_point: PathBuf,
    /// First column of the mount table (`fsname=`).
    pub source: String,
    /// Makes the type `fuse.SUBTYPE`.
    pub subtype: Option<String>,
    /// `rw` instead of `ro` (`CVMFS_MOUNT_RW`); writes still fail.
    pub writable: bool,
    /// Set-id bits count (`CVMFS_SUID`); only root may ask for it.
    pub suid: bool,
    /// Other users than the one who mounts may enter.
    pub allow_other: bool,
    /// The kernel checks permission bits (`CVMFS_CHECK_PERMISSIONS`).
    pub default_permissions: bool,
    /// The kernel enforces stored POSIX ACLs (`CVMFS_ENFORCE_ACLS`). Costs attribute requests on every access check.
    pub enforce_acls: bool,
    /// Other `-o` words; [`Self::apply_option`] sorts them. The kernel refuses what it does not know.
    pub options: Vec<String>,
    /// Worker threads; `None` for [`default_workers`](crate::session::default_workers).
    pub workers: Option<usize>,
    /// Each worker gets a device descriptor of its own. No gain was measured.
    pub clone_fd: bool,
    /// Attributes come with every listing. Otherwise the kernel guesses, and a first walk costs a look-up an entry.
    pub always_readdirplus: bool,
    /// The kernel opens directories without asking, and a warm walk costs no request.
    pub stateless_directories: bool,
    /// Read-ahead of the kernel in bytes; only root may raise it beyond 128 KiB, for others it stays.
    pub read_ahead_bytes: u32,
}

impl MountSettings {
    /// Source name of the reference client's system mounts; its tools find mounts by it.
    pub const DEFAULT_SOURCE: &str = "cvmfs2";
    /// Four requests of the longest kind under way: sequential reads then wait for the engine only.
    pub const DEFAULT_READ_AHEAD_BYTES: u32 = 4 << 20;

    /// Returns the defaults for a mount point: read-only, for the caller alone.
    pub fn at(mount_point: impl Into<PathBuf>) -> Self {
        Self {
            mount_point: mount_point.into(),
            source: Self::DEFAULT_SOURCE.to_owned(),
            subtype: None,
            writable: false,
            suid: false,
            allow_other: false,
            default_permissions: false,
            enforce_acls: false,
            options: Vec::new(),
            workers: None,
            clone_fd: false,
            always_readdirplus: true,
            stateless_directories: true,
            read_ahead_bytes: Self::DEFAULT_READ_AHEAD_BYTES,
        }
    }

    /// Applies one word of `-o`, as the command line has it: to the field that it means, else to `options`.
    pub fn apply_option(&mut self, word: &str) {
        match word.split_once('=') {
            Some(("fsname", source)) => source.clone_into(&mut self.source),
            Some(("subtype", subtype)) => self.subtype = Some(subtype.to_owned()),
            _ => match word {
                "ro" => self.writable = false,
                "rw" => self.writable = true,
                "suid" => self.suid = true,
                "nosuid" => self.suid = false,
                "allow_other" => self.allow_other = true,
                "default_permissions" => self.default_permissions = true,
                _ => self.options.push(word.to_owned()),
            },
        }
    }

    /// Returns the mount flags, and the words that are no flags.
    pub(crate) fn flags(&self) -> (MountFlags, Vec<&str>) {
        let mut flags = MountFlags::NODEV;
        flags.set(MountFlags::NOSUID, !self.suid);
        flags.set(MountFlags::RDONLY, !self.writable);
        let mut words = Vec::new();
        for option in &self.options {
            match option.as_str() {
                "noexec" => flags |= MountFlags::NOEXEC,
                "noatime" => flags |= MountFlags::NOATIME,
                "nodiratime" => flags |= MountFlags::NODIRATIME,
                "relatime" => flags |= MountFlags::RELATIME,
                "sync" => flags |= MountFlags::SYNCHRONOUS,
                "dirsync" => flags |= MountFlags::DIRSYNC,
                // Said by the settings, or the default anyway.
                ""
                | "ro"
                | "rw"
                | "nodev"
                | "suid"
                | "nosuid"
                | "exec"
                | "async"
                | "atime"
                | "allow_other"
                | "default_permissions" => {}
                word => words.push(word),
            }
        }
        if self.default_permissions {
            words.push("default_permissions");
        }
        if self.allow_other {
            words.push("allow_other");
        }
        (flags, words)
    }

    /// Returns the options as `fusermount3` wants them: one list of words.
    pub(crate) fn words(&self) -> String {
        let (flags, mut words) = self.flags();
        let named = [
            (MountFlags::NOEXEC, "noexec"),
            (MountFlags::NOATIME, "noatime"),
            (MountFlags::SYNCHRONOUS, "sync"),
            (MountFlags::DIRSYNC, "dirsync"),
        ];
        words.extend(named.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, word)| word));
        words.extend(["nodev", if self.writable { "rw" } else { "ro" }, if self.suid { "suid" } else { "nosuid" }]);
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words.push(format!("fsname={}", self.source));
        words.extend(self.subtype.as_ref().map(|subtype| format!("subtype={subtype}")));
        words.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_flags_or_words() {
        let mut settings = MountSettings::at("/x");
        for word in ["noexec", "rw", "suid", "ro", "nosuid", "max_read=65536", "allow_other", "subtype=nearfs"] {
            settings.apply_option(word);
        }
        let (flags, words) = settings.flags();
        assert_eq!(flags, MountFlags::NODEV | MountFlags::NOSUID | MountFlags::RDONLY | MountFlags::NOEXEC);
        assert_eq!(words, ["max_read=65536", "allow_other"]);
        let text = settings.words();
        assert_eq!(text, "max_read=65536,allow_other,noexec,nodev,ro,nosuid,fsname=cvmfs2,subtype=nearfs");
    }
}
