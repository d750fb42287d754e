//! Mounting as an ordinary user: the set-uid program `fusermount3`.
//!
//! Owns its command line and how the device file comes back (over a socket that is the child's standard input, so that
//! no descriptor leaks into other children). Every wait is bounded. Stateless.

use std::io::{self, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nearfs_core::{Error, ErrorKind, Result};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

const PROGRAM: &str = "fusermount3";
/// Where it tells which descriptor the socket is.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";
const DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// Longest complaint that is worth repeating.
const COMPLAINT_LIMIT_BYTES: u64 = 4096;

/// Mounts and returns the device file.
pub(crate) fn mount(path: &Path, options: &str) -> Result<OwnedFd> {
    let failed = |source: io::Error| Error::io("mount with fusermount3 on", path.display().to_string(), source);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_read_timeout(Some(DEADLINE)).map_err(failed)?;
    let mut command = Command::new(PROGRAM);
    command.args(["-o", options, "--"]).arg(path).env(SOCKET_VARIABLE, "0").stdin(OwnedFd::from(theirs));
    let child = start(&mut command, path)?;
    // The command keeps the child's end of the socket: with it open there would be no end of file to read.
    drop(command);
    let device_file = receive(&ours);
    finish(child, path, "mount with fusermount3 on")?;
    device_file.map_err(failed)
}

/// Unmounts.
pub(crate) fn unmount(path: &Path, lazy: bool) -> Result<()> {
    let mut command = Command::new(PROGRAM);
    command.args(if lazy { &["-u", "-z", "--"][..] } else { &["-u", "--"][..] });
    command.arg(path).stdin(Stdio::null());
    finish(start(&mut command, path)?, path, "unmount with fusermount3")
}

fn start(command: &mut Command, path: &Path) -> Result<Child> {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            let subject = format!("{}: only root may without `{PROGRAM}` (package fuse3)", path.display());
            Error::new(ErrorKind::PermissionDenied, "mount or unmount", subject)
        }
        _ => Error::io("start fusermount3 for", path.display().to_string(), source),
    })
}

fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)
    })?;
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    descriptors.flatten().next().ok_or_else(|| io::Error::other("it sent no device file"))
}

/// Waits for the program's end; its complaint becomes the error.
fn finish(mut child: Child, path: &Path, operation: &'static str) -> Result<()> {
    let subject = || path.display().to_string();
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        match child.try_wait().map_err(|source| Error::io(operation, subject(), source))? {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(POLL),
            None => {
                // It may be set-uid root and not ours to kill; the error says what to look for.
                let _ = child.kill();
                let subject = format!("{}: {PROGRAM} did not end within {} s", subject(), DEADLINE.as_secs());
                return Err(Error::new(ErrorKind::Unreachable, operation, subject));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(COMPLAINT_LIMIT_BYTES).read_to_string(&mut complaint);
    }
    // Its text is the only thing that tells; the quiet mode would be silent about a busy mount point, too.
    let kind = if complaint.contains("busy") { ErrorKind::Busy } else { ErrorKind::PermissionDenied };
    Err(Error::new(kind, operation, format!("{}: {}", subject(), complaint.trim())))
}
