//! Mounting and unmounting: by the kernel where we may, by `fusermount3` where we may not.
//!
//! Owns the two ways in and out. The FUSE library's own mounting is not used: it unmounts
//! whatever lies at the path when a session ends, also a successor's mount. Here every unmount is preceded by a look at
//! whose file system it is. Stateless; the calls may wait for the kernel, `fusermount3` for a bounded time.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nearfs_core::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::fusermount;
use crate::mount_table::{self, DeviceNumber};
use crate::settings::MountSettings;

const DEVICE: &str = "/dev/fuse";
/// Pause between attempts on a busy mount point.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A connection to the kernel, and the mount that it belongs to.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) device_file: OwnedFd,
    pub(crate) place: Place,
}

/// Where a file system is mounted, and which one it is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) device: DeviceNumber,
}

/// Mounts; the kernel's first request then waits in the device file.
pub(crate) fn mount(settings: &MountSettings) -> Result<Mounted> {
    let path = checked_mount_point(&settings.mount_point)?;
    let device_file = match by_kernel(&path, settings) {
        Err(Errno::PERM | Errno::ACCESS) => fusermount::mount(&path, &settings.words())?,
        Err(Errno::NOENT | Errno::NODEV) => {
            let subject = format!("{DEVICE} for {}: FUSE is not loaded; `modprobe fuse`", path.display());
            return Err(Error::new(ErrorKind::Unsupported, "open", subject));
        }
        Err(errno) => {
            let subject = format!("{} with options {}", path.display(), settings.words());
            return Err(Error::io("mount on", subject, errno.into()));
        }
        Ok(device_file) => device_file,
    };
    match mount_table::mounted_at(&path) {
        Ok(Some(entry)) => Ok(Mounted { device_file, place: Place { path, device: entry.device } }),
        // Closing the device file ends the connection; a mount that nobody can find must not be left behind.
        outcome => {
            drop(device_file);
            detach(&path)?;
            let error = Error::new(ErrorKind::LocalIo, "find in the mount table", path.display().to_string());
            Err(match outcome {
                Err(source) => error.with_source(source),
                Ok(_) => error,
            })
        }
    }
}

fn checked_mount_point(path: &Path) -> Result<PathBuf> {
    let refuse = |source: std::io::Error| {
        // ENOTCONN: a crashed client's mount; everything else is told as it is.
        if source.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) {
            let subject = format!("on {}: a dead mount lies there; unmount it first (umount -l)", path.display());
            return Error::new(ErrorKind::Busy, "mount", subject);
        }
        Error::io("mount on", path.display().to_string(), source)
    };
    let canonical = path.canonicalize().map_err(refuse)?;
    if !canonical.metadata().map_err(refuse)?.is_dir() {
        let subject = format!("on {}: not a directory", path.display());
        return Err(Error::new(ErrorKind::InvalidInput, "mount", subject));
    }
    Ok(canonical)
}

fn by_kernel(path: &Path, settings: &MountSettings) -> rustix::io::Result<OwnedFd> {
    let device_file = rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let (flags, words) = settings.flags();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut text = format!("fd={},rootmode=40000,user_id={uid},group_id={gid}", device_file.as_raw_fd());
    for word in words {
        text.push(',');
        text.push_str(word);
    }
    let text = CString::new(text).map_err(|_| Errno::INVAL)?;
    let file_system = settings.subtype.as_ref().map_or_else(|| "fuse".to_owned(), |subtype| format!("fuse.{subtype}"));
    rustix::mount::mount(settings.source.as_str(), path, file_system.as_str(), flags, text.as_c_str())?;
    Ok(device_file)
}

/// How an unmount went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Gone, with nobody inside.
    Clean,
    /// Gone from the mount table; lives on for those who are still inside.
    Lazy,
    /// Was not there any more.
    AlreadyGone,
}

/// A mount that was made here, with the connection to tell it from a later one that got the same device number.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) device_file: OwnedFd,
    pub(crate) place: Place,
}

impl Connection {
    /// Says whether the topmost mount at the place is ours.
    pub(crate) fn is_mounted(&self) -> Result<bool> {
        let (path, device) = (&self.place.path, self.place.device);
        let failed = |source| Error::io("read the mount table for", path.display().to_string(), source);
        // While the connection lives, nobody else can have its device number.
        if !self.is_alive() {
            return Ok(false);
        }
        let at_path = mount_table::mounts().map_err(failed)?.into_iter().filter(|entry| entry.mount_point == *path);
        let devices: Vec<DeviceNumber> = at_path.map(|entry| entry.device).collect();
        match devices.last() {
            Some(top) if *top == device => Ok(true),
            _ if devices.contains(&device) => {
                let subject = format!("{}: another file system is mounted over it", path.display());
                Err(Error::new(ErrorKind::Busy, "unmount", subject))
            }
            _ => Ok(false),
        }
    }

    /// Unmounts. A busy mount is tried again for `grace`, then taken out of the tree lazily. A mount whose loop has
    /// ended, or that is not ours, is left alone.
    pub(crate) fn unmount(&self, grace: Duration, has_ended: impl Fn() -> bool) -> Result<Unmounted> {
        let deadline = Instant::now() + grace;
        let path = &self.place.path;
        loop {
            if has_ended() || !self.is_mounted()? {
                return Ok(Unmounted::AlreadyGone);
            }
            match try_unmount(path) {
                Ok(()) => return Ok(Unmounted::Clean),
                Err(error) if error.kind() != ErrorKind::Busy => return Err(error),
                Err(_) if Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
                Err(_) => {
                    tracing::warn!(path = %path.display(), "still in use; unmounted lazily");
                    detach(path)?;
                    return Ok(Unmounted::Lazy);
                }
            }
        }
    }

    /// Ends a connection that nobody serves any more. Usually the kernel has ended it, and there is nothing to do;
    /// after a failed loop, programs would otherwise wait for ever for answers, because descriptors of the connection
    /// are open.
    pub(crate) fn give_up(&self) {
        match self.is_mounted() {
            Ok(false) => {}
            Ok(true) => {
                tracing::error!(path = %self.place.path.display(), "workers have ended; aborting the mount");
                if let Err(error) = force(&self.place.path) {
                    tracing::error!(%error, "the mount stays behind");
                }
            }
            Err(error) => tracing::error!(%error, "the mount stays behind"),
        }
    }

    fn is_alive(&self) -> bool {
        let mut polled = [PollFd::new(&self.device_file, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // What cannot be polled counts as alive: the mount table decides.
        let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&now)));
        !polled[0].revents().contains(PollFlags::ERR)
    }
}

/// Unmounts if nobody is inside.
pub(crate) fn try_unmount(path: &Path) -> Result<()> {
    by_kernel_or_fusermount(path, UnmountFlags::NOFOLLOW, false)
}

/// Takes a mount out of the tree, whoever is inside.
pub(crate) fn detach(path: &Path) -> Result<()> {
    by_kernel_or_fusermount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH, true)
}

/// Ends the connection, so that whoever waits inside gets an error, and detaches; needs root.
pub(crate) fn force(path: &Path) -> Result<()> {
    // The force only ends the connection; somebody inside still makes it "busy".
    let _ = rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::FORCE);
    detach(path)
}

fn by_kernel_or_fusermount(path: &Path, flags: UnmountFlags, lazy: bool) -> Result<()> {
    match rustix::mount::unmount(path, flags) {
        // EINVAL: no mount point any more; somebody else was faster.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(Errno::PERM) => fusermount::unmount(path, lazy),
        Err(errno) => Err(Error::io("unmount", path.display().to_string(), errno.into())),
    }
}

/// Raises the kernel's read-ahead for a mount. Quietly does nothing where we may not.
pub(crate) fn set_read_ahead(device: DeviceNumber, bytes: u32) {
    let knob = format!("/sys/class/bdi/{}:{}/read_ahead_kb", device.major, device.minor);
    if let Err(error) = std::fs::write(&knob, (bytes / 1024).to_string()) {
        tracing::debug!(knob, %error, "read-ahead stays at the kernel's default");
    }
}

/// Takes over descriptor `N` of `/dev/fd/N`, which must be a `/dev/fuse` that somebody has mounted.
pub(crate) fn adopt_descriptor(number: i32) -> Result<OwnedFd> {
    let name = format!("/dev/fd/{number}");
    let is_fuse = std::fs::read_link(format!("/proc/self/fd/{number}")).map(|target| target == Path::new(DEVICE));
    match is_fuse {
        Ok(true) => {}
        Ok(false) => {
            return Err(Error::new(ErrorKind::InvalidInput, "serve", format!("{name}: not a {DEVICE} descriptor")));
        }
        Err(source) => return Err(Error::io("serve", name, source)),
    }
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is open (checked above), and naming it as the mount point hands it over: whoever started
    // us with it passes it on by number and does not use it any more.
    let inherited = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) };
    // Children must not keep the connection alive.
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::CLOEXEC)
        .map_err(|errno| Error::io("serve", name, errno.into()))?;
    Ok(inherited)
}

/// Returns `N` of a mount point `/dev/fd/N`.
pub(crate) fn descriptor_number(mount_point: &Path) -> Option<i32> {
    mount_point.strip_prefix("/dev/fd").ok()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dev_fd_names_a_descriptor() {
        assert_eq!(descriptor_number(Path::new("/dev/fd/7")), Some(7));
        assert_eq!(descriptor_number(Path::new("/dev/fd/x")), None);
        assert_eq!(descriptor_number(Path::new("/cvmfs/7")), None);
    }

    #[test]
    fn a_descriptor_of_something_else_is_not_adopted() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = adopt_descriptor(file.as_raw_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
