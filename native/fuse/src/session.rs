//! The life of a mount: from the mount call to the last worker's end.
//!
//! Owns the workers (the FUSE library's loop, on threads of its own) and the mount point's way out. A session ends when
//! the kernel lets go of the file system: after [`Session::unmount`], after an `umount` from outside, or when the
//! connection is aborted; with files still open after a lazy unmount, when the last of them is closed.
//!
//! Threading: a `Session` may be shared; all its methods return within bounded time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fuser::{Config, SessionACL};
use nearfs_core::client::FileSystem;
use nearfs_core::client::updates::Kept;
use nearfs_core::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::adapter::{Adapter, Manners};
use crate::mounting::{self, Connection, Mounted, Place, Unmounted};
use crate::notify::{KernelCaches, Notifier};
use crate::questions::Questions;
use crate::settings::MountSettings;
use crate::upcalls::Upcalls;

/// How long the kernel may take for its first request.
const HANDSHAKE_DEADLINE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How long dropping a session waits for the workers.
const DROP_GRACE: Duration = Duration::from_secs(2);
/// Workers wait for the network most of their time; fewer than this and a handful of slow downloads stops look-ups.
const MIN_WORKERS: usize = 16;

/// Returns the number of workers for this machine.
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).max(MIN_WORKERS)
}

/// Whether the loop has ended, and how.
#[derive(Debug, Default)]
struct End {
    outcome: Mutex<Option<Result<(), String>>>,
    ended: Condvar,
    is_given_up: AtomicBool,
}

impl End {
    fn announce(&self, outcome: Result<(), String>) {
        *self.outcome.lock() = Some(outcome);
        self.ended.notify_all();
    }

    fn wait(&self, timeout: Duration) -> bool {
        let mut outcome = self.outcome.lock();
        self.ended.wait_while_for(&mut outcome, |outcome| outcome.is_none(), timeout);
        outcome.is_some()
    }

    fn wait_for_reason(&self, timeout: Duration) -> bool {
        let is_given_up = || self.is_given_up.load(Ordering::Relaxed);
        let mut outcome = self.outcome.lock();
        self.ended.wait_while_for(&mut outcome, |outcome| outcome.is_none() && !is_given_up(), timeout);
        outcome.is_some() || is_given_up()
    }

    fn give_up(&self) {
        let _lock = self.outcome.lock();
        self.is_given_up.store(true, Ordering::Relaxed);
        self.ended.notify_all();
    }
}

/// A mounted file system. Dropping it unmounts, lazily if it must.
#[derive(Debug)]
pub struct Session {
    /// `None` when somebody else has mounted the descriptor, and will unmount it.
    connection: Option<Arc<Connection>>,
    upcalls: Arc<Upcalls>,
    notifier: Notifier,
    end: Arc<End>,
}

impl Session {
    /// Mounts a file system and starts to serve it; when this returns, it answers.
    pub fn mount(fs: Arc<dyn FileSystem>, settings: &MountSettings) -> Result<Self> {
        if let Some(number) = mounting::descriptor_number(&settings.mount_point) {
            return Self::serve(fs, mounting::adopt_descriptor(number)?, None, settings);
        }
        let Mounted { device_file, place } = mounting::mount(settings)?;
        Self::serve(fs, device_file, Some(place.clone()), settings).inspect_err(|_| {
            // The connection is closed by now; what is left is a dead mount.
            if let Err(error) = mounting::detach(&place.path) {
                tracing::error!(%error, "a dead mount stays behind");
            }
        })
    }

    fn serve(
        fs: Arc<dyn FileSystem>,
        device_file: OwnedFd,
        place: Option<Place>,
        settings: &MountSettings,
    ) -> Result<Self> {
        let subject = || settings.mount_point.display().to_string();
        let workers = settings.workers.unwrap_or_else(default_workers).max(1);
        let manners = Manners {
            writable: settings.writable,
            always_readdirplus: settings.always_readdirplus,
            stateless_directories: settings.stateless_directories,
            enforce_acls: settings.enforce_acls,
            max_background: u16::try_from(2 * workers).unwrap_or(u16::MAX).max(16),
        };
        await_first_request(&device_file, subject)?;
        let questions = Questions::new(fs);
        let upcalls = Arc::clone(questions.upcalls());
        let adapter = Adapter::new(questions, manners);
        let mut config = Config::default();
        config.n_threads = Some(workers);
        config.clone_fd = settings.clone_fd;
        // The kernel checks who may enter, from the mount options; a second check would only know the first user.
        let session = fuser::Session::from_fd(adapter, device_file, SessionACL::All, config)
            .map_err(|source| Error::io("shake hands with the kernel for", subject(), source))?;
        if let Some(place) = &place {
            mounting::set_read_ahead(place.device, settings.read_ahead_bytes);
        }
        let copy =
            || session.as_fd().try_clone_to_owned().map_err(|e| Error::io("keep the device file of", subject(), e));
        let notifier = Notifier { device_file: Arc::new(copy()?) };
        let connection = match place {
            Some(place) => Some(Arc::new(Connection { device_file: copy()?, place })),
            None => None,
        };
        let end = Arc::new(End::default());
        let (announced, served) = (Arc::clone(&end), connection.clone());
        std::thread::Builder::new()
            .name("nearfs-fuse".to_owned())
            .spawn(move || {
                let outcome = session.run().map_err(|error: io::Error| error.to_string());
                if let Some(connection) = served {
                    connection.give_up();
                }
                announced.announce(outcome);
            })
            .map_err(|source| Error::io("start a thread for", subject(), source))?;
        Ok(Self { connection, upcalls, notifier, end })
    }

    /// Returns the counts of requests.
    pub fn upcalls(&self) -> &Arc<Upcalls> {
        &self.upcalls
    }

    /// Returns the way to invalidate what the kernel keeps.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Returns the file system's device number, `None` for a descriptor that somebody else has mounted.
    pub fn device(&self) -> Option<crate::mount_table::DeviceNumber> {
        self.connection.as_ref().map(|connection| connection.place.device)
    }

    /// Returns the mount's side of live updates.
    pub fn kept(&self) -> Arc<dyn Kept> {
        let end = Arc::clone(&self.end);
        Arc::new(KernelCaches { notifier: self.notifier(), give_up: move || end.give_up() })
    }

    /// Waits, as long as told, for the end of the session, or for a reason to end it: the engine gave up what it shows.
    /// Says whether it is time to end.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.end.wait_for_reason(timeout)
    }

    /// Returns how the session ended: `None` while it runs.
    pub fn outcome(&self) -> Option<Result<()>> {
        let outcome = self.end.outcome.lock();
        outcome
            .as_ref()
            .map(|outcome| outcome.clone().map_err(|text| Error::new(ErrorKind::LocalIo, "serve the kernel", text)))
    }

    /// Unmounts. A busy mount is tried again for `grace`, then taken out of the tree lazily. Idempotent; a file system
    /// that somebody else has mounted at the same place meanwhile is left alone.
    pub fn unmount(&self, grace: Duration) -> Result<Unmounted> {
        self.own_connection()?.unmount(grace, || self.end.wait(Duration::ZERO))
    }

    /// Ends the connection at once: whoever waits inside gets an error. Needs root, and the mount still in the tree.
    pub fn abort(&self) -> Result<()> {
        let connection = self.own_connection()?;
        if connection.is_mounted()? { mounting::force(&connection.place.path) } else { Ok(()) }
    }

    fn own_connection(&self) -> Result<&Connection> {
        self.connection.as_deref().ok_or_else(|| {
            let subject = "a descriptor that was mounted before: unmount it where it was mounted";
            Error::new(ErrorKind::Unsupported, "unmount", subject)
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.connection.is_none() || self.end.wait(Duration::ZERO) {
            return;
        }
        match self.unmount(Duration::ZERO) {
            Ok(_) if self.end.wait(DROP_GRACE) => {}
            Ok(_) => tracing::warn!("workers go on until the last open file is closed"),
            Err(error) => tracing::error!(%error, "the mount stays behind"),
        }
    }
}

/// Waits until the kernel's first request is there: the library would wait for ever on a descriptor that nobody has
/// mounted, or that somebody else serves.
fn await_first_request(device_file: &OwnedFd, subject: impl Fn() -> String) -> Result<()> {
    let failed = |errno: rustix::io::Errno| Error::io("wait for the kernel on", subject(), errno.into());
    let mut waited = [PollFd::new(device_file, PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut waited, Some(&HANDSHAKE_DEADLINE)));
    match ready.map_err(failed)? {
        0 => {
            let subject = format!("{}: no request within {} s", subject(), HANDSHAKE_DEADLINE.tv_sec);
            Err(Error::new(ErrorKind::Unreachable, "wait for the kernel on", subject))
        }
        _ if waited[0].revents().contains(PollFlags::IN) => Ok(()),
        _ => {
            let subject = format!("{}: the descriptor is not mounted, or not any more", subject());
            Err(Error::new(ErrorKind::InvalidInput, "serve", subject))
        }
    }
}
