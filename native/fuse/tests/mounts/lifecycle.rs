//! How mounts begin and end: by us, by others, and by a crash.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_core::ErrorKind;
use nearfs_core::client::Ino;
use nearfs_fuse::{MountSettings, Session, Unmounted, clear_stale_mount, is_mounted, mounted_at};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::fixture::{MountPoint, Mounted, SOON, run};
use crate::model::{Content, Model, sample};

/// The user `nobody`.
const NOBODY: u32 = 65_534;
const CHILD_MOUNT_POINT: &str = "NEARFS_TEST_MOUNT_POINT";

#[test]
fn the_mount_table_shows_what_scripts_look_for() {
    let mounted = Mounted::with(sample(), |settings| {
        settings.allow_other = true;
        settings.default_permissions = true;
        settings.options = vec!["noexec".to_owned()];
    });
    let entry = mounted_at(&mounted.point.path()).unwrap().unwrap();
    assert_eq!((&entry.file_system[..], &entry.source[..]), (&b"fuse"[..], &b"cvmfs2"[..]));
    assert_eq!(Some(entry.device), mounted.device());
    let table = fs::read_to_string("/proc/mounts").unwrap();
    let escaped = mounted.point.path().display().to_string().replace(' ', "\\040");
    let line = table.lines().find(|line| line.contains(&escaped) && line.contains("cvmfs2")).unwrap();
    assert!(line.starts_with("cvmfs2 "), "{line}");
    for option in ["ro", "nosuid", "nodev", "noexec", "default_permissions", "allow_other"] {
        assert!(line.split([' ', ',']).any(|word| word == option), "{option} in {line}");
    }
}

#[test]
fn settings_decide_over_set_id_bits_type_and_writing() {
    let mounted = Mounted::with(sample(), |settings| {
        settings.suid = true;
        settings.writable = true;
        settings.subtype = Some("nearfs".to_owned());
        settings.source = "other".to_owned();
    });
    let entry = mounted_at(&mounted.point.path()).unwrap().unwrap();
    assert_eq!((&entry.file_system[..], &entry.source[..]), (&b"fuse.nearfs"[..], &b"other"[..]));
    let stat = rustix::fs::statvfs(mounted.point.path()).unwrap();
    assert!(!stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    assert!(!stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
}

#[test]
fn unmounting_twice_is_unmounting_once() {
    let mounted = Mounted::new(sample());
    assert!(is_mounted(&mounted.point.path()).unwrap());
    assert!(!mounted.wait(Duration::ZERO));
    assert!(mounted.outcome().is_none());
    assert_eq!(mounted.unmount(SOON).unwrap(), Unmounted::Clean);
    assert!(mounted.wait(SOON));
    assert_eq!(mounted.unmount(SOON).unwrap(), Unmounted::AlreadyGone);
    assert!(!is_mounted(&mounted.point.path()).unwrap());
    assert!(mounted.outcome().unwrap().is_ok());
}

#[test]
fn an_unmount_from_outside_ends_the_session() {
    let mounted = Mounted::new(sample());
    assert!(!mounted.wait(Duration::from_millis(50)));
    run("umount", &[mounted.point.path().to_str().unwrap()], "/".as_ref());
    assert!(mounted.wait(SOON));
    assert_eq!(mounted.unmount(SOON).unwrap(), Unmounted::AlreadyGone);
}

#[test]
fn a_session_leaves_its_successors_mount_alone() {
    let mounted = Mounted::new(sample());
    let point = mounted.point.path();
    run("umount", &[point.to_str().unwrap()], "/".as_ref());
    let mut settings = MountSettings::at(&point);
    settings.source = "successor".to_owned();
    let successor = Session::mount(Arc::new(sample()), &settings).unwrap();
    assert_eq!(mounted.unmount(SOON).unwrap(), Unmounted::AlreadyGone);
    let Mounted { session, point: kept, .. } = mounted;
    drop(session);
    assert_eq!(mounted_at(&point).unwrap().unwrap().source, b"successor");
    assert_eq!(fs::read(point.join("marked")).unwrap(), b"with attributes");
    assert_eq!(successor.unmount(SOON).unwrap(), Unmounted::Clean);
    assert!(successor.wait(SOON));
    drop(kept);
}

#[test]
fn a_mount_under_another_one_is_not_confused_with_it() {
    let mounted = Mounted::new(sample());
    let point = mounted.point.path();
    rustix::mount::mount("none", &point, "tmpfs", MountFlags::empty(), None).unwrap();
    let error = mounted.unmount(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(mounted_at(&point).unwrap().unwrap().file_system, b"tmpfs");
    rustix::mount::unmount(&point, UnmountFlags::empty()).unwrap();
    assert_eq!(mounted.unmount(SOON).unwrap(), Unmounted::Clean);
}

#[test]
fn a_busy_mount_is_waited_for_then_detached_and_serves_until_the_last_close() {
    let mounted = Mounted::new(sample());
    let mut open = File::open(mounted.path("big")).unwrap();
    let start = Instant::now();
    assert_eq!(mounted.unmount(Duration::from_millis(200)).unwrap(), Unmounted::Lazy);
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(!is_mounted(&mounted.point.path()).unwrap());
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 20_000_000);
    assert!(!mounted.wait(Duration::from_millis(100)));
    drop(open);
    assert!(mounted.wait(SOON));
}

#[test]
fn a_busy_mount_that_becomes_free_in_time_is_unmounted_cleanly() {
    let mounted = Mounted::new(sample());
    let open = File::open(mounted.path("marked")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(open);
        });
        assert_eq!(mounted.unmount(SOON).unwrap(), Unmounted::Clean);
    });
}

#[test]
fn an_aborted_connection_ends_whoever_waits_inside() {
    let mut model = Model::new();
    model.add(Ino::ROOT, b"slow", Content::File(vec![1; 10]));
    model.read_delay = Duration::from_secs(4);
    let mounted = Mounted::new(model);
    let path = mounted.path("slow");
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || fs::read(path));
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        mounted.abort().unwrap();
        let error = reader.join().unwrap().unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(2), "{error} after {:?}", start.elapsed());
    });
    assert!(mounted.wait(SOON));
}

#[test]
fn dropping_a_session_unmounts() {
    let mounted = Mounted::new(sample());
    let Mounted { session, point, .. } = mounted;
    drop(session);
    assert!(!is_mounted(&point.path()).unwrap());
}

#[test]
fn places_that_cannot_be_mounted_on_are_named() {
    let point = MountPoint::new();
    let mount = |path: PathBuf| Session::mount(Arc::new(Model::new()), &MountSettings::at(path)).unwrap_err();
    assert_eq!(mount(point.path().join("none")).kind(), ErrorKind::NotFound);
    fs::write(point.path().join("file"), "").unwrap();
    let error = mount(point.path().join("file"));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("not a directory"), "{error}");
    assert_eq!(mount("/dev/fd/9999".into()).kind(), ErrorKind::NotFound);
    let mut settings = MountSettings::at(point.path());
    settings.options = vec!["no_such_option".to_owned()];
    assert!(Session::mount(Arc::new(Model::new()), &settings).is_err());
    assert!(!is_mounted(&point.path()).unwrap());
}

/// Mounts a descriptor by hand, as `mount.fuse3` with `drop_privileges` or a container runtime does.
#[test]
fn a_descriptor_that_somebody_else_has_mounted_is_served() {
    use std::os::fd::IntoRawFd;
    let point = MountPoint::new();
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap().into_raw_fd();
    let text = std::ffi::CString::new(format!("fd={device},rootmode=40000,user_id=0,group_id=0")).unwrap();
    rustix::mount::mount("premounted", point.path(), "fuse", MountFlags::RDONLY, text.as_c_str()).unwrap();
    let settings = MountSettings::at(format!("/dev/fd/{device}"));
    let session = Session::mount(Arc::new(sample()), &settings).unwrap();
    assert_eq!(fs::read(point.path().join("marked")).unwrap(), b"with attributes");
    assert_eq!(session.unmount(Duration::ZERO).unwrap_err().kind(), ErrorKind::Unsupported);
    rustix::mount::unmount(point.path(), UnmountFlags::empty()).unwrap();
    assert!(session.wait(SOON));
}

#[test]
fn a_descriptor_that_nobody_has_mounted_is_refused_in_time() {
    use std::os::fd::IntoRawFd;
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap().into_raw_fd();
    let settings = MountSettings::at(format!("/dev/fd/{device}"));
    let error = Session::mount(Arc::new(Model::new()), &settings).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

/// An ordinary user in a mount namespace of its own, where `/dev/fuse` is open to everybody, as distributions have it.
#[test]
fn an_ordinary_user_mounts_with_fusermount3() {
    use std::os::unix::fs::PermissionsExt;
    let point = MountPoint::new();
    let parent = point.path().parent().unwrap().to_owned();
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(point.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let program = parent.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let script = "mknod -m 666 fuse c 10 229 && mount --bind fuse /dev/fuse && \
        exec setpriv --reuid 65534 --regid 65534 --clear-groups ./program --ignored --exact \
        lifecycle::child_that_mounts_as_an_ordinary_user";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .current_dir(&parent)
        .env(CHILD_MOUNT_POINT, point.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "is fuse3 installed? {text}");
}

#[test]
#[ignore = "the child process of the test above"]
fn child_that_mounts_as_an_ordinary_user() {
    let Some(path) = std::env::var_os(CHILD_MOUNT_POINT).map(PathBuf::from) else { return };
    assert_eq!(rustix::process::getuid().as_raw(), NOBODY);
    let mut settings = MountSettings::at(&path);
    settings.default_permissions = true;
    let session = Session::mount(Arc::new(sample()), &settings).unwrap();
    let entry = mounted_at(&path).unwrap().unwrap();
    assert_eq!((&entry.file_system[..], &entry.source[..]), (&b"fuse"[..], &b"cvmfs2"[..]));
    assert_eq!(fs::read(path.join("marked")).unwrap(), b"with attributes");
    let open = File::open(path.join("marked")).unwrap();
    assert_eq!(session.unmount(Duration::from_millis(100)).unwrap(), Unmounted::Lazy);
    drop(open);
    assert!(session.wait(SOON));
    let session = Session::mount(Arc::new(sample()), &settings).unwrap();
    assert_eq!(session.unmount(SOON).unwrap(), Unmounted::Clean);
    assert!(session.wait(SOON));
    settings.options = vec!["no_such_option".to_owned()];
    let error = Session::mount(Arc::new(sample()), &settings).unwrap_err();
    assert!(error.to_string().contains("fusermount3"), "{error}");
    assert!(!is_mounted(&path).unwrap());
}

#[test]
#[ignore = "the child process of the tests of crashes"]
fn child_that_mounts_and_waits() {
    let Some(path) = std::env::var_os(CHILD_MOUNT_POINT) else { return };
    let _session = Session::mount(Arc::new(sample()), &MountSettings::at(path)).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

/// Starts a client in another process, and kills it as soon as it serves.
fn crash_on(point: &MountPoint) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "lifecycle::child_that_mounts_and_waits"])
        .env(CHILD_MOUNT_POINT, point.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + SOON;
    while !fs::exists(point.path().join("marked")).unwrap_or(false) {
        assert!(Instant::now() < deadline, "the child does not mount");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_mount_of_a_killed_client_is_cleared() {
    let point = MountPoint::new();
    crash_on(&point);
    let error = fs::metadata(point.path()).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOTCONN));
    assert!(is_mounted(&point.path()).unwrap());
    let error = Session::mount(Arc::new(sample()), &MountSettings::at(point.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    // Somebody else's.
    assert!(!clear_stale_mount(&point.path(), "sshfs").unwrap());
    assert!(clear_stale_mount(&point.path(), MountSettings::DEFAULT_SOURCE).unwrap());
    assert!(!is_mounted(&point.path()).unwrap());
    assert!(!clear_stale_mount(&point.path(), MountSettings::DEFAULT_SOURCE).unwrap());
    let session = Session::mount(Arc::new(sample()), &MountSettings::at(point.path())).unwrap();
    assert_eq!(session.unmount(SOON).unwrap(), Unmounted::Clean);
}

#[test]
fn a_living_mount_is_never_cleared() {
    let mounted = Mounted::new(sample());
    assert!(!clear_stale_mount(&mounted.point.path(), MountSettings::DEFAULT_SOURCE).unwrap());
    assert_eq!(fs::read(mounted.path("marked")).unwrap(), b"with attributes");
}
