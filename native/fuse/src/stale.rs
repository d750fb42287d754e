//! Mounts that a crashed client left behind: every access fails with "transport endpoint is not connected".
//!
//! Owns the decision that a mount is dead; removes nothing else. Every wait is bounded: a mount may also hang.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nearfs_core::{Error, ErrorKind, Result};
use rustix::io::Errno;

use crate::{mount_table, mounting};

/// How long a living client may take to say so.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Removes a dead FUSE mount of this source (see [`MountSettings::source`](crate::MountSettings)) at a path.
///
/// Returns whether one was removed; living and foreign mounts are left alone. A mount that neither answers nor fails
/// is [`ErrorKind::Busy`].
pub fn clear_stale_mount(path: &Path, source: &str) -> Result<bool> {
    let failed = |error| Error::io("look for a stale mount at", path.display().to_string(), error);
    let path = &mount_table::located(path).map_err(failed)?;
    let mut removed = false;
    // Several may lie on top of each other, after several crashes.
    while let Some(entry) = mount_table::mounted_at(path).map_err(failed)? {
        if !entry.is_fuse_from(source) || !is_dead(path)? {
            break;
        }
        mounting::detach(path)?;
        tracing::warn!(path = %path.display(), "removed the mount of a client that has crashed");
        removed = true;
    }
    Ok(removed)
}

fn is_dead(path: &Path) -> Result<bool> {
    let (answer, answered) = mpsc::channel();
    let asked = path.to_owned();
    // A thread of its own, because nothing bounds statfs on a mount whose client hangs; then the thread waits on, until
    // that client ends.
    std::thread::Builder::new()
        .name("nearfs-stale".to_owned())
        .spawn(move || answer.send(rustix::fs::statfs(&asked).map(|_| ())))
        .map_err(|source| Error::io("start a thread for", path.display().to_string(), source))?;
    let outcome = answered.recv_timeout(ANSWER_DEADLINE).map_err(|_| {
        let seconds = ANSWER_DEADLINE.as_secs();
        let subject = format!("{}: its client does not answer within {seconds} s", path.display());
        Error::new(ErrorKind::Busy, "look at the mount on", subject)
    })?;
    Ok(matches!(outcome, Err(Errno::NOTCONN | Errno::CONNABORTED)))
}
