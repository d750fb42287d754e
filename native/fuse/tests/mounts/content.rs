//! What programs see is what the file system says: names, attributes, content, and error numbers.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::atomic::Ordering;

use nearfs_core::client::Ino;
use nearfs_format::dirent::FileType;
use rustix::io::Errno;

use crate::fixture::{Mounted, run};
use crate::model::{Content, LARGE, Model, sample};

fn errno(error: &std::io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

#[test]
fn the_whole_tree_equals_the_model() {
    let mounted = Mounted::new(sample());
    let root = mounted.point.path();
    let paths = mounted.model.paths();
    assert!(paths.len() > LARGE);
    for (path, ino) in &paths {
        let node = mounted.model.node(*ino).unwrap();
        let path = root.join(OsStr::from_bytes(path));
        let stat = fs::symlink_metadata(&path).unwrap();
        let attr = node.attr;
        assert_eq!((stat.ino(), stat.size(), stat.blocks()), (ino.0, attr.size_bytes, 1 + attr.size_bytes / 512));
        assert_eq!((stat.uid(), stat.gid(), stat.nlink(), stat.blksize()), (1234, 5678, 1, 4096));
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (attr.mtime_s, 123_456_789), "{}", path.display());
        assert_eq!((stat.ctime(), stat.atime()), (attr.mtime_s, attr.mtime_s));
        assert_eq!(stat.mode() & 0o7777, u32::from(attr.permissions));
        assert_eq!(FileType::from_mode(stat.mode()), Some(attr.file_type));
        match &node.content {
            Content::File(bytes) => assert!(fs::read(&path).unwrap() == *bytes, "{}", path.display()),
            Content::Symlink(target) => assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), target),
            Content::Directory(entries) => {
                let listed: Vec<_> = fs::read_dir(&path).unwrap().map(Result::unwrap).collect();
                let listed: Vec<_> =
                    listed.iter().map(|e| (e.file_name().as_bytes().to_vec(), e.metadata().unwrap().ino())).collect();
                let expected: Vec<_> = entries.iter().map(|(name, ino)| (name.clone(), ino.0)).collect();
                assert_eq!(listed, expected);
            }
            Content::Fifo | Content::Broken(_) | Content::Bug => {}
        }
    }
    let root_stat = fs::metadata(&root).unwrap();
    assert_eq!((root_stat.ino(), root_stat.mode() & 0o170_000), (Ino::ROOT.0, 0o040_000));
    let opened = mounted.model.opened.load(Ordering::Relaxed);
    let asked = mounted.upcalls().get(nearfs_fuse::Operation::Open);
    assert_eq!(opened, asked);
}

#[test]
fn a_program_runs_from_the_mount() {
    let mounted = Mounted::with(sample(), |settings| settings.default_permissions = true);
    // World may read, owner may execute: root executes it through the shell.
    let output = run("sh", &["bin/tool"], &mounted.point.path());
    assert_eq!(output.stdout, b"hello\n");
}

#[test]
fn reads_at_any_offset_and_beyond_the_end() {
    let mounted = Mounted::new(sample());
    let mut file = File::open(mounted.path("big")).unwrap();
    let expected = fs::read(mounted.path("big")).unwrap();
    assert_eq!(expected.len(), 20_000_000);
    for (offset, length) in [(0, 1), (4095, 4098), (1_048_575, 2_097_154), (19_999_999, 100), (20_000_000, 5)] {
        let mut buffer = vec![0; length];
        let count = file.read_at(&mut buffer, offset as u64).unwrap();
        let end = expected.len().min(offset + length);
        assert!(buffer[..count] == expected[offset..offset + count] && count > 0 || offset >= end);
    }
    file.seek(SeekFrom::End(10)).unwrap();
    assert_eq!(file.read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn missing_names_are_missing_and_the_answer_is_kept() {
    let mounted = Mounted::new(sample());
    let count = || mounted.upcalls().get(nearfs_fuse::Operation::Lookup);
    let before = count();
    for _ in 0..5 {
        let error = fs::metadata(mounted.path("bin/no-such")).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::NOENT));
    }
    // One for `bin`, one for the name.
    assert_eq!(count() - before, 2);
    let error = fs::metadata(mounted.path("bin/tool/below")).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::NOTDIR));
}

#[test]
fn without_a_timeout_nothing_is_kept() {
    let mut model = sample();
    model.timeout = std::time::Duration::ZERO;
    let mounted = Mounted::new(model);
    let count = || mounted.upcalls().get(nearfs_fuse::Operation::Lookup);
    let before = count();
    for _ in 0..5 {
        assert_eq!(errno(&fs::metadata(mounted.path("no-such")).unwrap_err()), Some(Errno::NOENT));
    }
    assert_eq!(count() - before, 5);
}

#[test]
fn failures_below_have_their_numbers_and_the_mount_goes_on() {
    let mounted = Mounted::with(sample(), |settings| settings.workers = Some(1));
    for (name, expected) in [
        ("corrupt", Errno::IO),
        ("unreachable", Errno::IO),
        ("full", Errno::NOSPC),
        ("bug", Errno::IO),
        ("corrupt", Errno::IO),
    ] {
        assert_eq!(errno(&File::open(mounted.path(name)).unwrap_err()), Some(expected), "{name}");
    }
    // The only worker has survived the panic.
    assert_eq!(fs::read(mounted.path("marked")).unwrap(), b"with attributes");
}

#[test]
fn extended_attributes_are_probed_listed_and_bounded() {
    let mounted = Mounted::new(sample());
    let path = mounted.path("marked");
    let mut small = [0; 4];
    let mut large = vec![0; 65_536];
    assert_eq!(rustix::fs::getxattr_query(&path, "user.fqrn").unwrap(), 16);
    assert_eq!(rustix::fs::getxattr(&path, "user.fqrn", &mut small[..]).unwrap_err(), Errno::RANGE);
    assert_eq!(rustix::fs::getxattr(&path, "user.fqrn", &mut large[..]).unwrap(), 16);
    assert_eq!(&large[..16], b"test.example.org");
    assert_eq!(rustix::fs::getxattr(&path, "user.long", &mut large[..]).unwrap(), 40_000);
    assert_eq!(rustix::fs::getxattr(&path, "user.empty", &mut large[..]).unwrap(), 0);
    assert_eq!(rustix::fs::getxattr(&path, "user.none", &mut large[..]).unwrap_err(), Errno::NODATA);
    let names = b"user.empty\0user.fqrn\0user.long\0";
    assert_eq!(rustix::fs::listxattr_query(&path).unwrap(), names.len());
    assert_eq!(rustix::fs::listxattr(&path, &mut small[..]).unwrap_err(), Errno::RANGE);
    let count = rustix::fs::listxattr(&path, &mut large[..]).unwrap();
    assert_eq!(&large[..count], names);
    assert_eq!(rustix::fs::listxattr(mounted.path("old"), &mut large[..]).unwrap(), 0);
}

#[test]
fn statfs_shows_cache_and_repository() {
    let mounted = Mounted::new(sample());
    let stat = rustix::fs::statvfs(mounted.point.path()).unwrap();
    assert_eq!((stat.f_bsize, stat.f_frsize, stat.f_blocks, stat.f_bfree, stat.f_bavail), (512, 512, 2000, 1000, 1000));
    assert_eq!((stat.f_files, stat.f_ffree, stat.f_namemax), (mounted.model.nodes.len() as u64, 3, 255));
}

/// Every way to write, each as root, who is never refused for want of permission.
fn writes(mounted: &Mounted) -> Vec<(&'static str, std::io::Result<()>)> {
    use rustix::fs::{self as sys, AtFlags, CWD, Mode, XattrFlags};
    let path = |name: &str| mounted.path(name);
    let times = sys::Timestamps {
        last_access: sys::Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: sys::Timespec { tv_sec: 1, tv_nsec: 0 },
    };
    let truncated = OpenOptions::new().write(true).truncate(true).open(path("marked"));
    let special = sys::mknodat(CWD, path("new"), sys::FileType::Fifo, Mode::RUSR, 0);
    let linked = sys::linkat(CWD, path("marked"), CWD, path("new"), AtFlags::empty());
    vec![
        ("create", File::create_new(path("new")).map(drop)),
        ("truncate on open", truncated.map(drop)),
        ("mkdir", fs::create_dir(path("new"))),
        ("unlink", fs::remove_file(path("marked"))),
        ("rmdir", fs::remove_dir(path("bin"))),
        ("symlink", std::os::unix::fs::symlink("x", path("new"))),
        ("link", linked.map_err(Into::into)),
        ("rename", fs::rename(path("marked"), path("new"))),
        ("mknod", special.map_err(Into::into)),
        ("chmod", sys::chmod(path("marked"), Mode::RUSR).map_err(Into::into)),
        ("chmod of the root", sys::chmod(path(""), Mode::RWXU).map_err(Into::into)),
        ("chown", std::os::unix::fs::chown(path("marked"), Some(0), Some(0))),
        ("utimes", sys::utimensat(CWD, path("marked"), &times, AtFlags::empty()).map_err(Into::into)),
        ("setxattr", sys::setxattr(path("marked"), "user.x", b"y", XattrFlags::empty()).map_err(Into::into)),
        ("removexattr", sys::removexattr(path("marked"), "user.fqrn").map_err(Into::into)),
        ("access", sys::access(path("marked"), sys::Access::WRITE_OK).map_err(Into::into)),
    ]
}

#[test]
fn every_write_is_refused_as_read_only() {
    for writable in [false, true] {
        let mounted = Mounted::with(sample(), |settings| settings.writable = writable);
        for (what, outcome) in writes(&mounted) {
            assert_eq!(outcome.err().and_then(|e| errno(&e)), Some(Errno::ROFS), "{what}, writable: {writable}");
        }
        let through_us = mounted.upcalls().get(nearfs_fuse::Operation::Write);
        assert_eq!(through_us > 0, writable, "{through_us} write requests");
        assert_eq!(fs::read(mounted.path("marked")).unwrap(), b"with attributes");
    }
}

#[test]
fn a_writable_mount_tolerates_wrong_open_flags_but_not_writing() {
    let mounted = Mounted::with(sample(), |settings| settings.writable = true);
    let file = OpenOptions::new().read(true).write(true).custom_flags(0).open(mounted.path("marked")).unwrap();
    let error = file.write_at(b"x", 0).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::ROFS));
    let mut text = String::new();
    (&file).read_to_string(&mut text).unwrap();
    assert_eq!(text, "with attributes");
}

#[test]
fn files_opened_for_writing_on_a_read_only_mount_are_refused() {
    let mounted = Mounted::new(sample());
    let error = OpenOptions::new().write(true).open(mounted.path("marked")).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::ROFS));
}

#[test]
fn eight_threads_see_the_same_tree() {
    let mounted = Mounted::new(sample());
    let paths = mounted.model.paths();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (mounted, paths) = (&mounted, &paths);
            scope.spawn(move || {
                for (path, ino) in paths.iter().cycle().skip(worker * 700).step_by(7).take(1500) {
                    let node = mounted.model.node(*ino).unwrap();
                    let path = mounted.point.path().join(OsStr::from_bytes(path));
                    assert_eq!(fs::symlink_metadata(&path).unwrap().size(), node.attr.size_bytes);
                    match &node.content {
                        Content::File(bytes) => assert!(fs::read(&path).unwrap() == *bytes),
                        Content::Directory(entries) => assert_eq!(fs::read_dir(&path).unwrap().count(), entries.len()),
                        _ => {}
                    }
                }
            });
        }
    });
    assert_eq!(mounted.upcalls().get(nearfs_fuse::Operation::Write), 0);
}

#[test]
fn slow_reads_do_not_hold_up_look_ups() {
    let mut model = Model::new();
    for i in 0..8 {
        model.add(Ino::ROOT, format!("slow{i}").as_bytes(), Content::File(vec![1; 10]));
    }
    model.read_delay = std::time::Duration::from_millis(1500);
    let mounted = Mounted::new(model);
    std::thread::scope(|scope| {
        for i in 0..8 {
            let path = mounted.path(&format!("slow{i}"));
            scope.spawn(move || assert_eq!(fs::read(path).unwrap().len(), 10));
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        let start = std::time::Instant::now();
        assert!(fs::metadata(mounted.path("none")).is_err());
        assert!(start.elapsed() < std::time::Duration::from_millis(500), "{:?}", start.elapsed());
    });
}
