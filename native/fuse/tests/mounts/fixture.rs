//! A mount point of its own for each test, private to this namespace, and cleared away whatever the test did.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use nearfs_fuse::{MountSettings, Session};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::model::Model;

/// Longest time for anything that a session does.
pub const SOON: Duration = Duration::from_secs(10);

/// A directory that other mount namespaces do not see mounts in.
#[derive(Debug)]
pub struct MountPoint {
    directory: tempfile::TempDir,
}

impl MountPoint {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        rustix::mount::mount_bind(directory.path(), directory.path()).expect("the tests of this crate need root");
        rustix::mount::mount_change(directory.path(), MountPropagationFlags::PRIVATE).unwrap();
        std::fs::create_dir(directory.path().join("mnt here")).unwrap();
        Self { directory }
    }

    /// The mount point: a name with a blank, which the mount table escapes.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mnt here")
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        while rustix::mount::unmount(self.path(), UnmountFlags::DETACH).is_ok() {}
        let _ = rustix::mount::unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

/// A mounted model.
#[derive(Debug)]
pub struct Mounted {
    pub session: Session,
    pub model: Arc<Model>,
    // Declared last: dropped after the session.
    pub point: MountPoint,
}

impl Mounted {
    pub fn new(model: Model) -> Self {
        Self::with(model, |_| {})
    }

    pub fn with(model: Model, change: impl FnOnce(&mut MountSettings)) -> Self {
        let (point, model) = (MountPoint::new(), Arc::new(model));
        let mut settings = MountSettings::at(point.path());
        change(&mut settings);
        let session = Session::mount(Arc::clone(&model) as _, &settings).unwrap();
        Self { session, model, point }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.point.path().join(relative)
    }
}

impl Deref for Mounted {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

/// Runs a program to its end; it must succeed.
pub fn run(program: &str, arguments: &[&str], directory: &Path) -> Output {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
