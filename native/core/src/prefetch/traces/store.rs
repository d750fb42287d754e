//! The traces of one repository on disk: a file each, below the cache directory, which no clean-up of the cache touches.
//!
//! Owns `traces/<repository>/` and the limits to it. Nothing here is worth a failure: what cannot be read is no trace, and
//! where nothing can be written nothing is learned. A file is replaced by renaming, so that a reader, and whoever comes
//! after a crash, sees a whole one; it is not synced, because a torn one is known by its last line.
//!
//! Threading: one owner; other processes may read and write the same directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nearfs_format::path::RepoPath;
use nearfs_format::trace::{Listing, TRACE_MAX_BYTES, Trace, TraceName};
use rustix::fs::{Access, OFlags, access};

use super::learning::Memory;

/// The directory of all repositories' traces, in the cache directory.
const TRACES: &str = "traces";
/// Traces of a repository; the one that held good longest ago goes first.
const TRACES_MAX: usize = 512;
/// Traces of one trigger: a compiler has another use with every source.
const TRACES_OF_TRIGGER_MAX: usize = 64;
/// Traces that are looked into for a file.
const LOOKED_AT_MAX: usize = 64;
/// Bytes of a repository's traces.
const BYTES_MAX: u64 = 32 << 20;
/// A trace that holds good is marked so about that often.
const MARK_AFTER: Duration = Duration::from_secs(3600);
/// What temporary files begin with; they are left by a process that was killed, and old ones are removed.
const TEMPORARY: &str = ".new-";
const TEMPORARY_AGE: Duration = Duration::from_secs(3600);
/// Hex digits of a trigger in a file name.
const DIGEST_DIGITS: usize = 40;

/// The traces of one repository.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    limits: Limits,
    /// Traces that were written.
    pub(super) written: u64,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    traces: usize,
    of_trigger: usize,
    bytes: u64,
}

impl Store {
    /// Takes the first of some directories that can be written; nothing where none can.
    pub(super) fn open(directories: &[PathBuf], fqrn: &str) -> Option<Self> {
        if fqrn.is_empty() || fqrn.starts_with('.') || fqrn.contains(['/', '\0']) {
            return None;
        }
        let limits = Limits { traces: TRACES_MAX, of_trigger: TRACES_OF_TRIGGER_MAX, bytes: BYTES_MAX };
        directories.iter().find_map(|directory| {
            let dir = directory.join(TRACES).join(fqrn);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            let is_writable = made.is_ok() && access(&dir, Access::WRITE_OK | Access::EXEC_OK).is_ok();
            is_writable.then_some(Self { dir, limits, written: 0 })
        })
    }

    /// Returns the files with traces of triggers alone, those that held good last first.
    fn latest(&self) -> io::Result<Vec<String>> {
        let mut found: Vec<(SystemTime, String)> = Vec::new();
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
            if name.len() == DIGEST_DIGITS {
                found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), name));
            }
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Returns the triggers whose traces held good last.
    pub(super) fn last_triggers(&self, count: usize) -> Vec<RepoPath> {
        self.first_lists(|_| true).take(count).map(|trace| trace.name().trigger.clone()).collect()
    }

    /// Reads the traces of triggers alone that list something of a kind, those that held good last first.
    fn first_lists(&self, of: impl Fn(Listing) -> bool) -> impl Iterator<Item = Trace> {
        let latest = self.latest().unwrap_or_default().into_iter().take(LOOKED_AT_MAX);
        // Only what is of use is parsed: somebody waits meanwhile.
        let texts = latest.filter_map(|name| self.read_text(&name).ok());
        let texts = texts.filter(move |text| Trace::peek(text).is_some_and(&of));
        texts.filter_map(|text| Trace::parse(&text).ok()).filter(|trace| trace.name().after.is_none())
    }

    fn read(&self, name: &TraceName) -> io::Result<Trace> {
        let trace = self.read_file(&name.file_name())?;
        if trace.name() == name { Ok(trace) } else { Err(io::Error::other("it is the trace of another trigger")) }
    }

    fn read_file(&self, name: &str) -> io::Result<Trace> {
        Trace::parse(&self.read_text(name)?).map_err(io::Error::other)
    }

    fn read_text(&self, name: &str) -> io::Result<Vec<u8>> {
        // Neither a link nor a pipe in its place is followed or waited for.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.dir.join(name))?;
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        file.take(TRACE_MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&mut self, trace: &Trace) -> io::Result<()> {
        let path = self.dir.join(trace.name().file_name());
        let is_new = !path.exists();
        // Readable for its owner alone: it says what users opened.
        let mut temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.dir)?;
        temporary.write_all(&trace.encode())?;
        temporary.persist(&path).map_err(|error| error.error)?;
        self.written += 1;
        if is_new { self.keep_limits(&trace.name().file_name()) } else { Ok(()) }
    }

    /// Removes what is too much, except `newest`: first of its trigger, then of all.
    fn keep_limits(&self, newest: &str) -> io::Result<()> {
        let mut found: Vec<(SystemTime, u64, String)> = Vec::new();
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if !name.starts_with(TEMPORARY) {
                found.push((modified, metadata.len(), name));
            } else if is_older(modified, TEMPORARY_AGE) {
                self.remove(&name);
            }
        }
        // The newest one last, whatever the clock says.
        found.sort_unstable_by(|a, b| (a.2 == newest).cmp(&(b.2 == newest)).then_with(|| a.cmp(b)));
        let trigger = newest.get(..DIGEST_DIGITS).unwrap_or(newest);
        let is_second = |name: &str| name.starts_with(trigger) && name.len() > DIGEST_DIGITS;
        let mut seconds = found.iter().filter(|(_, _, name)| is_second(name)).count();
        found.retain(|(_, _, name)| {
            let is_too_much = seconds > self.limits.of_trigger && is_second(name);
            if is_too_much {
                self.remove(name);
                seconds -= 1;
            }
            !is_too_much
        });
        let (mut count, mut bytes) = (found.len(), found.iter().map(|(_, size, _)| size).sum::<u64>());
        for (_, size, name) in found.iter().take(found.len().saturating_sub(1)) {
            if count > self.limits.traces || bytes > self.limits.bytes {
                self.remove(name);
                (count, bytes) = (count - 1, bytes - size);
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.dir.join(name)) {
            tracing::debug!(%error, name, "cannot remove a trace");
        }
    }

    fn mark(&self, name: &TraceName) -> io::Result<()> {
        let file = File::open(self.dir.join(name.file_name()))?;
        if is_older(file.metadata()?.modified()?, MARK_AFTER) { file.set_modified(SystemTime::now()) } else { Ok(()) }
    }
}

impl Memory for Store {
    fn get(&mut self, name: &TraceName) -> Option<Trace> {
        match self.read(name) {
            Ok(trace) => Some(trace),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::debug!(%error, trigger = %name.trigger, "a trace cannot be used");
                }
                None
            }
        }
    }

    fn listing(&mut self, one: &RepoPath, other: &RepoPath) -> Option<Trace> {
        self.first_lists(|kind| kind != Listing::Shared).find(|trace| trace.has(one) && trace.has(other))
    }

    fn unordered(&mut self, path: &RepoPath) -> Option<Trace> {
        let mut found = self.first_lists(|kind| kind == Listing::Unordered).filter(|trace| trace.has(path));
        let first = found.next();
        first.filter(|_| found.next().is_none())
    }

    fn put(&mut self, trace: Trace) {
        if let Err(error) = self.write(&trace) {
            tracing::debug!(%error, dir = %self.dir.display(), "a trace cannot be kept");
        }
    }

    fn confirm(&mut self, name: &TraceName) {
        if let Err(error) = self.mark(name) {
            tracing::debug!(%error, trigger = %name.trigger, "a trace cannot be marked");
        }
    }
}

fn is_older(modified: SystemTime, age: Duration) -> bool {
    SystemTime::now().duration_since(modified).is_ok_and(|passed| passed > age)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use nearfs_format::trace::TraceItem;
    use tempfile::TempDir;

    use super::*;

    fn path(text: String) -> RepoPath {
        RepoPath::parse(text.as_bytes()).unwrap()
    }

    fn trace(trigger: usize, after: Option<usize>) -> Trace {
        let name = TraceName { trigger: path(format!("/t{trigger}")), after: after.map(|n| path(format!("/a{n}"))) };
        let items = (0..9).map(|n| TraceItem { path: path(format!("/f{n}")), offsets: None });
        Trace::new(name, Listing::Whole, items)
    }

    fn store(home: &TempDir) -> Store {
        Store::open(&[home.path().to_owned()], "lab.example.org").unwrap()
    }

    fn names(store: &Store) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&store.dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn age(store: &Store, trace: &Trace, hours: u64) {
        let file = File::open(store.dir.join(trace.name().file_name())).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600 * hours)).unwrap();
    }

    #[test]
    fn what_is_kept_is_there_for_its_owner_alone() {
        let home = TempDir::new().unwrap();
        let mut store = store(&home);
        let kept = trace(1, Some(2));
        assert_eq!(store.get(kept.name()), None);
        store.put(kept.clone());
        assert_eq!((store.get(kept.name()), store.get(trace(1, None).name())), (Some(kept.clone()), None));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = store.dir.join(kept.name().file_name());
        assert_eq!([mode(&home.path().join(TRACES)), mode(&store.dir), mode(&file)], [0o700, 0o700, 0o600]);
        age(&store, &kept, 9);
        store.confirm(kept.name());
        assert!(!is_older(fs::metadata(&file).unwrap().modified().unwrap(), MARK_AFTER));
    }

    #[test]
    fn what_is_no_trace_of_that_name_is_none() {
        let home = TempDir::new().unwrap();
        let mut store = store(&home);
        let (good, other) = (trace(1, None), trace(2, None));
        store.put(good.clone());
        let (file, elsewhere) = (store.dir.join(good.name().file_name()), store.dir.join(other.name().file_name()));
        fs::copy(&file, &elsewhere).unwrap();
        assert_eq!(store.get(other.name()), None, "of another trigger");
        fs::remove_file(&elsewhere).unwrap();
        symlink(&file, &elsewhere).unwrap();
        assert_eq!(store.get(other.name()), None, "a link");
        fs::remove_file(&elsewhere).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        assert_eq!(store.get(other.name()), None, "a directory");
        store.put(other.clone());
        for damaged in [&b""[..], b"nearfs-trace 2\n", &good.encode()[..40], &vec![b'/'; 2 * TRACE_MAX_BYTES]] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(store.get(good.name()), None);
        }
        store.put(good.clone());
        assert_eq!(store.get(good.name()), Some(good));
    }

    #[test]
    fn a_file_leads_to_the_one_list_without_order_that_has_it() {
        let home = TempDir::new().unwrap();
        let mut store = store(&home);
        let listed = |trigger: usize, listing, files: std::ops::Range<usize>| {
            let items = files.map(|n| TraceItem { path: path(format!("/f{n}")), offsets: None });
            Trace::new(TraceName::of(path(format!("/t{trigger}"))), listing, items)
        };
        for (trigger, listing) in [(1, Listing::Unordered), (2, Listing::Whole), (3, Listing::Shared)] {
            store.put(listed(trigger, listing, 0..9));
        }
        let found = |store: &mut Store, name: &str| {
            store.unordered(&path(name.to_owned())).map(|trace| trace.name().trigger.to_string())
        };
        assert_eq!((found(&mut store, "/f3"), found(&mut store, "/t1")), (Some("/t1".into()), Some("/t1".into())));
        assert_eq!((found(&mut store, "/t2"), found(&mut store, "/f9")), (None, None));
        store.put(listed(4, Listing::Unordered, 8..12));
        assert_eq!((found(&mut store, "/f8"), found(&mut store, "/f3")), (None, Some("/t1".into())), "two have it");
        age(&store, &listed(1, Listing::Unordered, 0..9), 5);
        assert_eq!(store.last_triggers(9).len(), 4);
        assert_eq!(store.last_triggers(4)[3].to_string(), "/t1");
    }

    #[test]
    fn what_held_good_longest_ago_makes_room() {
        let home = TempDir::new().unwrap();
        let mut store = store(&home);
        store.limits = Limits { traces: 8, of_trigger: 4, bytes: u64::MAX };
        for number in 0..7 {
            store.put(trace(number, None));
            age(&store, &trace(number, None), 100 - number as u64);
        }
        store.confirm(trace(0, None).name());
        for after in 0..9 {
            store.put(trace(3, Some(after)));
            age(&store, &trace(3, Some(after)), 50 - after as u64);
        }
        assert_eq!(names(&store).len(), 8);
        assert!(store.get(trace(0, None).name()).is_some(), "it was used again");
        assert_eq!((store.get(trace(1, None).name()), store.get(trace(3, Some(4)).name())), (None, None));
        assert!([5, 6, 7, 8].iter().all(|after| store.get(trace(3, Some(*after)).name()).is_some()));
        store.limits.bytes = 3 * trace(3, Some(8)).encode().len() as u64;
        store.put(trace(9, None));
        assert!((2..=3).contains(&names(&store).len()) && store.get(trace(9, None).name()).is_some());
    }

    #[test]
    fn temporary_files_of_the_dead_are_removed() {
        let home = TempDir::new().unwrap();
        let mut store = store(&home);
        for (name, hours) in [("old", 2), ("young", 0)] {
            let file = File::create(store.dir.join(format!("{TEMPORARY}{name}"))).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600 * hours)).unwrap();
        }
        store.put(trace(1, None));
        assert_eq!(names(&store), [format!("{TEMPORARY}young"), trace(1, None).name().file_name()]);
    }

    #[test]
    fn where_nothing_can_be_written_another_place_does_or_none() {
        let home = TempDir::new().unwrap();
        let (file, second) = (home.path().join("file"), home.path().join("second"));
        fs::write(&file, b"").unwrap();
        assert!(Store::open(std::slice::from_ref(&file), "lab.example.org").is_none());
        let store = Store::open(&[file, second.clone()], "lab.example.org").unwrap();
        assert!(store.dir.starts_with(second));
        assert!(["", "..", "a/b"].iter().all(|fqrn| Store::open(&[home.path().to_owned()], fqrn).is_none()));
    }
}
