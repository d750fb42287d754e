//! The file that an object is written to before it is one.
//!
//! Without a name, where the file system and the kernel can do that: it gets its name by a link, which locks the one
//! directory that it appears in. Renaming from a directory that all share makes everybody who writes at that moment wait
//! for each other, and hundreds do in a cold start. Nothing is left of it when its process dies. Elsewhere it is a named
//! file in `txn/`, locked while it is written, so that others know leftovers of the dead from the work of the living.
//!
//! Belongs to one thread; dropping it removes it.

use std::fs::{self, File, Permissions};
use std::io::{self, Seek as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, linkat, openat};
use tempfile::{NamedTempFile, TempPath};

use super::disk::Sharing;

/// Names of temporary files begin like this, and go on at random.
const PREFIX: &str = "fetch";
/// By these names an open file can be linked.
const DESCRIPTORS: &str = "/proc/self/fd";

/// A file without its final name.
#[derive(Debug)]
pub(super) enum Temporary {
    /// Without any, and the directory for those that need one.
    Unnamed(File, PathBuf),
    /// In that directory.
    Named(NamedTempFile),
}

impl Temporary {
    /// Creates one in the directory for them; with a name of its own where somebody has to open it by that.
    pub(super) fn create(txn: &Path, sharing: Sharing, needs_name: bool) -> io::Result<Self> {
        let unnamed = if needs_name || !has_descriptors() { None } else { unnamed(txn) };
        let temporary = if let Some(file) = unnamed {
            Self::Unnamed(file, txn.to_owned())
        } else {
            let named = builder().tempfile_in(txn)?;
            // Where locks do not exist, leftovers are known by their age.
            let _ = flock(named.as_file(), FlockOperation::NonBlockingLockExclusive);
            Self::Named(named)
        };
        if sharing == Sharing::Alien {
            temporary.file().set_permissions(Permissions::from_mode(sharing.modes().0))?;
        }
        Ok(temporary)
    }

    /// Returns the open file.
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Unnamed(file, _) => file,
            Self::Named(named) => named.as_file(),
        }
    }

    /// Gives it its name, in place of what has that name; gives it back where that fails.
    pub(super) fn persist(self, target: &Path) -> Result<File, (Self, io::Error)> {
        match self {
            Self::Named(named) => named.persist(target).map_err(|refused| (Self::Named(refused.file), refused.error)),
            Self::Unnamed(file, txn) => {
                let named = match name_it(&file, &txn, target) {
                    Err(error) if is_about_links(&error) => copied(&file, &txn, target),
                    Ok(()) => return Ok(file),
                    Err(error) => Err(error),
                };
                named.map_err(|error| (Self::Unnamed(file, txn), error))
            }
        }
    }

    /// Returns the file, and its name where it has one.
    pub(super) fn into_parts(self) -> (File, Option<TempPath>) {
        match self {
            Self::Unnamed(file, _) => (file, None),
            Self::Named(named) => {
                let (file, name) = named.into_parts();
                (file, Some(name))
            }
        }
    }
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).rand_bytes(6);
    builder
}

/// Creates a file without a name; nothing where that cannot be done, for whatever reason: one with a name says why.
fn unnamed(txn: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    openat(CWD, txn, flags, Mode::RUSR | Mode::WUSR).ok().map(File::from)
}

fn has_descriptors() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| Path::new(DESCRIPTORS).is_dir())
}

fn name_it(file: &File, txn: &Path, target: &Path) -> io::Result<()> {
    match link(file, target) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A link replaces nothing, a rename does.
            let second = builder().make_in(txn, |name| link(file, name))?;
            fs::rename(second.path(), target)?;
            // There is nothing left to be removed by that name.
            let _ = second.into_temp_path().keep();
            Ok(())
        }
        other => other,
    }
}

/// Says whether a rename may succeed where a link failed so: some file systems have no links.
fn is_about_links(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    !matches!(error.kind(), NotFound | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

/// Writes the content to a file that has a name, and renames that. Checksums that are kept with the first file are not with
/// this one: it is read as an object that another client left.
fn copied(file: &File, txn: &Path, target: &Path) -> io::Result<File> {
    let mut named = builder().tempfile_in(txn)?;
    named.as_file().set_permissions(file.metadata()?.permissions())?;
    let mut source = file;
    source.rewind()?;
    io::copy(&mut source, named.as_file_mut())?;
    named.as_file().sync_data()?;
    named.persist(target).map_err(|refused| refused.error)
}

fn link(file: &File, name: &Path) -> io::Result<()> {
    let descriptor = format!("{DESCRIPTORS}/{}", file.as_raw_fd());
    Ok(linkat(CWD, descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_appears_whole_under_its_name_or_not_at_all() {
        for needs_name in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (txn, target) = (dir.path().join("txn"), dir.path().join("object"));
            fs::create_dir(&txn).unwrap();
            for content in ["first", "in its place"] {
                let temporary = Temporary::create(&txn, Sharing::Exclusive, needs_name).unwrap();
                temporary.file().write_all(content.as_bytes()).unwrap();
                assert_eq!(fs::read_dir(&txn).unwrap().count(), usize::from(needs_name));
                temporary.persist(&target).unwrap();
                assert_eq!(fs::read_to_string(&target).unwrap(), content);
                assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
            }
            let (temporary, error) = Temporary::create(&txn, Sharing::Alien, needs_name)
                .unwrap()
                .persist(&dir.path().join("missing/object"))
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert_eq!(temporary.file().metadata().unwrap().permissions().mode() & 0o777, 0o660);
            drop(temporary);
            assert_eq!(fs::read_dir(&txn).unwrap().count(), 0);
        }
        let missing = Temporary::create(Path::new("/nowhere"), Sharing::Exclusive, false).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn where_there_are_no_links_the_content_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let Temporary::Unnamed(file, txn) = Temporary::create(dir.path(), Sharing::Alien, false).unwrap() else {
            panic!("the test needs a file system with files that have no name");
        };
        (&file).write_all(b"all of it").unwrap();
        let target = dir.path().join("object");
        copied(&file, &txn, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"all of it");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(is_about_links(&rustix::io::Errno::XDEV.into()) && !is_about_links(&io::ErrorKind::NotFound.into()));
    }

    #[test]
    fn many_writers_of_one_name_leave_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("object");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let temporary = Temporary::create(dir.path(), Sharing::Shared, false).unwrap();
                        temporary.file().write_all(b"the same content").unwrap();
                        temporary.persist(&target).unwrap();
                        assert_eq!(fs::read(&target).unwrap(), b"the same content");
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
