//! A mount whose requests somebody else's loop answers.
//!
//! Owns the way in and out, which is the native session's own: the same options, the same errors, the same care for a
//! successor's mount. The loop gets the device file and is told nothing else.
//!
//! Threading: may be shared; every method returns within bounded time.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nearfs_core::client::updates::Kept;
use nearfs_core::{Error, Result};

use crate::mounting::{self, Connection, Mounted, Unmounted};
use crate::notify::{KernelCaches, Notifier};
use crate::settings::MountSettings;

/// A mount without a loop. Dropping it leaves the mount as it is: who serves it unmounts it, or gives it up.
#[derive(Debug)]
pub struct UnservedMount {
    connection: Arc<Connection>,
    notifier: Notifier,
    read_ahead_bytes: u32,
}

impl UnservedMount {
    /// Mounts. Returns the device file beside it, in which the kernel's first request waits.
    pub fn mount(settings: &MountSettings) -> Result<(Self, OwnedFd)> {
        let Mounted { device_file, place } = mounting::mount(settings)?;
        let copy = || {
            device_file.as_fd().try_clone_to_owned().map_err(|source| {
                let _ = mounting::detach(&place.path);
                Error::io("keep the device file of", place.path.display().to_string(), source)
            })
        };
        let notifier = Notifier { device_file: Arc::new(copy()?) };
        let connection = Arc::new(Connection { device_file: copy()?, place: place.clone() });
        Ok((Self { connection, notifier, read_ahead_bytes: settings.read_ahead_bytes }, device_file))
    }

    /// Raises the kernel's read-ahead; has an effect once the loop has answered the first request.
    pub fn set_read_ahead(&self) {
        mounting::set_read_ahead(self.connection.place.device, self.read_ahead_bytes);
    }

    /// Returns the mount's side of live updates.
    pub fn kept(&self) -> Arc<dyn Kept> {
        let connection = Arc::clone(&self.connection);
        let give_up = move || {
            if let Err(error) = connection.unmount(Duration::ZERO, || false) {
                tracing::error!(%error, "a mount goes on that should end");
            }
        };
        Arc::new(KernelCaches { notifier: self.notifier.clone(), give_up })
    }

    /// Unmounts as [`Session::unmount`](crate::Session::unmount) does.
    pub fn unmount(&self, grace: Duration) -> Result<Unmounted> {
        self.connection.unmount(grace, || false)
    }

    /// Ends what nobody serves any more: whoever waits inside gets an error. Does nothing where the mount is gone.
    pub fn give_up(&self) {
        self.connection.give_up();
    }
}
