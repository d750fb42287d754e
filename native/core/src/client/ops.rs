//! The file system: look-ups, attributes, listings, opening and reading, answered from decoded catalogs and the cache.
//!
//! Owns no bytes on disk and no kernel protocol. One [`Client`] shows one repository, one revision at a time.
//!
//! Threading: every method may be called by any worker at any time. A look-up takes read locks only; opening and
//! reading may wait for the network, for as long as the transport's bounds say.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nearfs_format::dirent::{EntryFlags, FileType};
use nearfs_format::hash::ContentHash;
use nearfs_format::manifest::ManifestFields;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::symlink;
use parking_lot::{Mutex, RwLock};

use crate::cache::fill::ObjectCache;
use crate::cache::{self, Quota};
use crate::catalog::content::{self, Content};
use crate::catalog::index::{CatalogIndex, RowId};
use crate::catalog::reader::NestedRow;
use crate::catalog::tree::{CatalogSource, CatalogTree, View};
use crate::error::{Error, ErrorKind, Result};
use crate::prefetch::Prefetcher;
use crate::prefetch::traces::{Noted, Traces};
use crate::repo::snapshot::{Snapshot, catalog_want};
use crate::transport::Origin;

use super::filesystem::{FileSystem, FsError, FsResult, Refusal};
use super::learned;
use super::namespace::{self, Place, Revisions};
use super::options::ClientOptions;
use super::read::{Around, OpenFile, OpenFiles};
use super::types::{Attr, Fh, Ino, ListedEntry, Opened, Statfs};
use super::validity::Validity;
use super::xattr;

/// Unit of `statfs`, as in the reference client.
const BLOCK_BYTES: u32 = 512;
const EXCLUSIVE: i32 = 0o200;
/// A position in a listing says in its high bits which revision brought the catalog, so that a listing that began
/// before a switch goes on in the entries that it began with.
const POSITION_BITS: u32 = 32;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;

/// What a client counted since it started.
#[derive(Debug, Default)]
pub struct ClientCounters {
    /// Successful opens.
    pub opens: AtomicU64,
    /// Operations that failed for another reason than the caller's.
    pub io_errors: AtomicU64,
    /// When the last one did, Unix seconds; 0 for none.
    pub last_io_error_s: AtomicU64,
}

/// Counts that another layer keeps, with their names: how often the kernel asked, say.
type OuterCounters = Box<dyn Fn() -> Vec<(String, u64)> + Send + Sync>;

/// Holds [`OuterCounters`] once whoever runs the loop has given them.
#[derive(Default)]
struct Outer(OnceLock<OuterCounters>);

impl std::fmt::Debug for Outer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Outer(given: {})", self.0.get().is_some())
    }
}

/// Catalogs out of the object cache.
#[derive(Debug)]
struct CachedCatalogs {
    cache: Arc<ObjectCache>,
    fqrn: String,
    /// Where the first root catalog is asked for.
    root_place: cache::Place,
}

impl CatalogSource for CachedCatalogs {
    fn release(&self, hash: &ContentHash) {
        self.cache.unpin(&ObjectId::new(*hash, ObjectKind::Catalog));
    }

    fn load(&self, catalog: &NestedRow, subject: String) -> Result<Arc<CatalogIndex>> {
        let place = if catalog.path.is_root() { self.root_place.clone() } else { cache::Place::Data };
        let want = catalog_want(&self.fqrn, catalog, place);
        let name_it = |e: Error| Error::new(e.kind(), "load catalog", subject.as_str()).with_source(e);
        let file = self.cache.with_intact(&want, |file| file.check().map(|()| file.clone())).map_err(name_it)?;
        // Before it is decoded, so that its name stays. Where it cannot be pinned, it is decoded all the same.
        if let Err(error) = self.cache.pin(&want.id) {
            tracing::warn!(%error, "cannot pin a catalog");
        }
        match CatalogIndex::decode(file.cache_path(), subject.clone()) {
            // Without checksums, only this tells that the disk damaged it; or it was cleaned up before it was pinned.
            Err(error) if !file.has_checksums() || !file.cache_path().exists() => {
                let file = self.cache.reopen_damaged(&want, &error).map_err(name_it)?;
                CatalogIndex::decode(file.cache_path(), subject).map(Arc::new)
            }
            other => other.map(Arc::new),
        }
    }
}

/// A repository's revision as a file system.
#[derive(Debug)]
pub struct Client {
    pub(super) revisions: Revisions,
    pub(super) cache: Arc<ObjectCache>,
    options: ClientOptions,
    pub(super) files: OpenFiles,
    ahead: Arc<Prefetcher>,
    traces: Traces,
    counters: ClientCounters,
    outer: Outer,
    started: Instant,
    is_fixed: bool,
    /// What named the revision that is shown; `None` where a root hash or the last known root was taken.
    manifest: RwLock<Option<Arc<ManifestFields>>>,
    pub(super) validity: Validity,
}

impl Client {
    /// Loads the root catalog of a snapshot.
    pub fn open(cache: Arc<ObjectCache>, snapshot: &Snapshot, options: ClientOptions) -> Result<Self> {
        let is_marked = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.has_alternative_paths);
        let root_place = cache::Place::in_repository(is_marked || (snapshot.is_fixed && options.alternative_root));
        let source = Arc::new(CachedCatalogs { cache: Arc::clone(&cache), fqrn: options.fqrn.clone(), root_place });
        let (root_hash, root_size) = (snapshot.root_hash, snapshot.root_size_bytes);
        let tree = CatalogTree::open(source, root_hash, root_size, namespace::FIRST_INO, options.catalog_bytes)?;
        let revisions = Revisions::new(tree);
        let ahead = Arc::new(Prefetcher::new(Arc::clone(&cache), &options.fqrn, options.prefetch.clone()));
        ahead.shows(&revisions.current());
        let traces = learned::traces(&options, Arc::clone(&ahead));
        traces.shows(&revisions.current());
        Ok(Self {
            revisions,
            traces,
            ahead,
            cache,
            options,
            files: OpenFiles::default(),
            counters: ClientCounters::default(),
            outer: Outer::default(),
            started: Instant::now(),
            is_fixed: snapshot.is_fixed,
            manifest: RwLock::new(snapshot.manifest.clone()),
            validity: Validity::from_now(),
        })
    }

    /// Returns the catalogs of the revision that is shown; another tree after a switch.
    pub fn tree(&self) -> Arc<CatalogTree> {
        self.revisions.current()
    }

    /// Returns the options it was opened with.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Returns what was counted.
    pub fn counters(&self) -> &ClientCounters {
        &self.counters
    }

    /// Returns the hosts and proxies in use.
    pub fn origin(&self) -> &Arc<Origin> {
        self.cache.origin()
    }

    /// Adds what another layer counts to [`Client::all_counters`]; only the first call has an effect.
    pub fn count_also(&self, counters: impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static) {
        let _ = self.outer.0.set(Box::new(counters));
    }

    /// Returns everything that is counted, with names.
    pub fn all_counters(&self) -> Vec<(String, u64)> {
        let transport = self.cache.origin().counters();
        let mut all = vec![
            ("requests".to_owned(), transport.requests),
            ("request_bytes".to_owned(), transport.bytes),
            ("request_errors".to_owned(), transport.errors),
            ("connections".to_owned(), transport.connections),
            ("fetches".to_owned(), self.fetches()),
            ("fetched_bytes".to_owned(), self.fetched_bytes()),
            ("opens".to_owned(), self.counters.opens.load(Ordering::Relaxed)),
            ("io_errors".to_owned(), self.counters.io_errors.load(Ordering::Relaxed)),
        ];
        let filled = self.cache.counters();
        all.push(("cache_hits".to_owned(), filled.hits));
        all.push(("cache_damaged".to_owned(), filled.damaged));
        all.push(("cache_uncached_bytes".to_owned(), self.cache.disk().spilled_bytes()));
        if let Some(quota) = self.cache.quota().map(Quota::counters) {
            all.push(("cache_limit_bytes".to_owned(), quota.limit_bytes));
            all.push(("cache_bytes".to_owned(), quota.cached_bytes));
            all.push(("cache_pinned_bytes".to_owned(), quota.pinned_bytes));
            all.push(("cache_cleanups".to_owned(), quota.cleanups));
            all.push(("cache_evicted_bytes".to_owned(), quota.evicted_bytes));
            all.push(("cache_refused".to_owned(), quota.refused));
        }
        all.extend(self.ahead.counters());
        all.extend(self.traces.counters());
        all.extend(self.outer.0.get().map(|counters| counters()).unwrap_or_default());
        all
    }

    /// Returns the manifest that named the revision.
    pub fn manifest(&self) -> Option<Arc<ManifestFields>> {
        self.manifest.read().clone()
    }

    pub(super) fn set_manifest(&self, manifest: Option<Arc<ManifestFields>>) {
        *self.manifest.write() = manifest;
    }

    /// Says whether the revision was chosen by hash, tag or date.
    pub fn is_fixed(&self) -> bool {
        self.is_fixed
    }

    /// Returns the time since the client was opened.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the cache.
    pub fn cache(&self) -> &ObjectCache {
        &self.cache
    }

    /// Returns how many objects were fetched.
    pub fn fetches(&self) -> u64 {
        self.cache.counters().fetches
    }

    /// Returns how many stored bytes were fetched.
    pub fn fetched_bytes(&self) -> u64 {
        self.cache.counters().bytes
    }

    /// Returns what notes the opens of programs.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Ends what is learned and fetched ahead, for good: before the network goes. Bounded.
    pub fn stop_prefetch(&self) {
        self.traces.stop();
        self.ahead.stop();
    }

    /// Returns how many files are open.
    pub fn open_files(&self) -> usize {
        self.files.len()
    }

    pub(super) fn entry(&self, ino: Ino) -> FsResult<Place> {
        self.revisions.entry(ino)
    }

    /// Returns where a directory's entries lie: in the nested catalog where one starts there.
    fn directory(&self, ino: Ino) -> FsResult<Place> {
        let place = self.entry(ino)?;
        if place.view.index.row(place.row).file_type != FileType::Directory {
            return Err(Refusal::NotADirectory.into());
        }
        if place.tree.is_below_loaded(&place.view, place.row) {
            self.ahead.catalog_entered(&place.view, place.row);
        } else {
            self.ahead.catalog_asked(&place.tree, &place.view, place.row);
        }
        Ok(place.below()?)
    }

    fn target(&self, view: &View, row: RowId) -> Vec<u8> {
        let raw = view.index.symlink(row);
        if self.options.raw_symlinks {
            return raw.to_vec();
        }
        symlink::expand(raw, |name| self.options.environment.get(name).cloned()).into_owned()
    }

    fn attr(&self, view: &View, row: RowId) -> Attr {
        let entry = view.index.row(row);
        let file_type = entry.file_type;
        let size_bytes = match file_type {
            FileType::Symlink => self.target(view, row).len() as u64,
            _ if file_type.is_special() => 0,
            _ => entry.size,
        };
        let readable = match file_type {
            _ if !self.options.world_readable => 0,
            FileType::Directory => 0o555,
            _ => 0o444,
        };
        let (uid, gid) = self.options.claimed_owner.unwrap_or_else(|| match entry.owner {
            Some((uid, gid)) => (self.options.uid_map.map(uid), self.options.gid_map.map(gid)),
            None => self.options.process_owner,
        });
        Attr {
            ino: namespace::ino(view, row),
            file_type,
            permissions: (entry.mode & 0o7777 | readable) as u16,
            size_bytes,
            nlink: entry.hardlinks.linkcount,
            uid,
            gid,
            rdev: if file_type.is_device() { entry.size } else { 0 },
            mtime_s: entry.mtime,
            mtime_ns: entry.mtime_ns,
        }
    }

    /// Returns where a listing goes on: in the revision in which it began, as long as that one answers.
    fn listed(&self, directory: Ino, from: u64) -> FsResult<Place> {
        let place = self.directory(directory)?;
        let began = u32::try_from(from >> POSITION_BITS).unwrap_or(u32::MAX);
        if from & POSITION_MASK <= 2 || began == place.view.catalog.since {
            return Ok(place);
        }
        for tree in self.revisions.earlier() {
            let Some(earlier) = namespace::entry_in(&tree, directory)? else { continue };
            let earlier = earlier.below()?;
            if earlier.view.catalog.since == began {
                return Ok(earlier);
            }
        }
        Ok(place)
    }

    fn open_place(&self, place: &Place, flags: i32) -> FsResult<(OpenFile, bool)> {
        let Place { tree, view, row } = place;
        let entry = view.index.row(*row);
        match entry.file_type {
            FileType::Regular => {}
            FileType::Directory => return Err(Refusal::IsADirectory.into()),
            _ => return Err(Refusal::NotAFile.into()),
        }
        if flags & EXCLUSIVE != 0 {
            return Err(Refusal::AlreadyExists.into());
        }
        self.ahead.opened(tree, view, *row);
        let path = || view.path(*row).to_string();
        let direct_io = entry.flags.has(EntryFlags::DIRECT_IO);
        let want = match content::of(view, *row)? {
            Content::Empty => return Ok((OpenFile::Empty, direct_io)),
            Content::Chunked(chunks) => {
                let noted = self.traces.opened(view, *row, flags, true);
                return Ok((OpenFile::chunked(path(), chunks, entry.mode & 0o111 != 0, noted), direct_io));
            }
            Content::Whole(want) => want,
        };
        let noted = self.traces.opened(view, *row, flags, false);
        let mut is_there = true;
        let opened = self.cache.open_for(&want, || {
            // Before it is waited for: what comes after it comes along.
            is_there = false;
            if self.traces.waited(noted, tree) {
                self.listed_asked(noted, &want.id, false);
            } else {
                self.ahead.file_asked(tree, view, *row, &want.id, false);
            }
            path()
        });
        if is_there && noted.is_as_learned() {
            self.listed_asked(noted, &want.id, true);
        } else if is_there {
            self.ahead.file_asked(tree, view, *row, &want.id, true);
        }
        match opened {
            Ok(object) => Ok((OpenFile::Whole { want, object: Mutex::new(object) }, direct_io)),
            // A file that its catalog names exists: an object that is missing is a broken repository, not ENOENT.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::Unreachable, "open", path()).with_source(error).into())
            }
            Err(error) => Err(Error::new(error.kind(), "open", path()).with_source(error).into()),
        }
    }

    /// An object is asked for in a run of which it is known what it opens.
    fn listed_asked(&self, noted: Noted, id: &ObjectId, is_there: bool) {
        if let Some(is_helped) = self.ahead.listed_asked(id, is_there) {
            self.traces.helped(noted, is_helped);
        }
    }

    pub(super) fn count_io_error(&self) {
        self.counters.io_errors.fetch_add(1, Ordering::Relaxed);
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.counters.last_io_error_s.store(now_s, Ordering::Relaxed);
    }

    /// Forgets the failed operations that were counted, and when the last one was.
    pub fn reset_error_counters(&self) {
        self.counters.io_errors.store(0, Ordering::Relaxed);
        self.counters.last_io_error_s.store(0, Ordering::Relaxed);
    }

    /// Counts failures that are nobody's request: the reference's I/O error counter.
    fn counted<T>(&self, outcome: FsResult<T>) -> FsResult<T> {
        if let Err(FsError::Engine(error)) = &outcome
            && !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ReadOnly | ErrorKind::InvalidInput)
        {
            self.count_io_error();
        }
        outcome
    }
}

impl FileSystem for Client {
    fn lookup(&self, parent: Ino, name: &[u8]) -> FsResult<Attr> {
        let Place { view, row, .. } = self.counted(self.directory(parent))?;
        let child = match name {
            b"." => return self.getattr(parent),
            b".." => return self.getattr(namespace::parent_ino(&view, row)),
            _ => view.index.child(row, name),
        };
        child.map(|child| self.attr(&view, child)).ok_or(FsError::Refused(Refusal::NoEntry))
    }

    fn getattr(&self, ino: Ino) -> FsResult<Attr> {
        match self.counted(self.entry(ino)) {
            Ok(Place { view, row, .. }) => Ok(self.attr(&view, row)),
            Err(error @ FsError::Refused(Refusal::Stale)) => self.files.attr(ino).ok_or(error),
            Err(error) => Err(error),
        }
    }

    fn readlink(&self, ino: Ino) -> FsResult<Vec<u8>> {
        let Place { view, row, .. } = self.entry(ino)?;
        if view.index.row(row).file_type != FileType::Symlink {
            return Err(Refusal::NotASymlink.into());
        }
        Ok(self.target(&view, row))
    }

    fn open(&self, ino: Ino, flags: i32) -> FsResult<Opened> {
        let place = self.counted(self.entry(ino))?;
        let (content, direct_io) = self.counted(self.open_place(&place, flags))?;
        self.counters.opens.fetch_add(1, Ordering::Relaxed);
        let attr = self.attr(&place.view, place.row);
        // An inode's content never changes: what has another content gets another number. So pages of earlier opens
        // stay good.
        Ok(Opened { fh: Fh(self.files.insert(content, attr)), keep_cache: !direct_io, direct_io })
    }

    fn read(&self, fh: Fh, offset: u64, size: u32, into: &mut Vec<u8>) -> FsResult<()> {
        let file = self.files.get(fh.0).ok_or(Refusal::BadHandle)?;
        let around =
            Around { cache: &self.cache, ahead: &self.ahead, traces: &self.traces, revisions: &self.revisions };
        self.counted(file.content.read(&around, offset, size as usize, into).map_err(FsError::from))
    }

    fn release(&self, fh: Fh) {
        self.files.remove(fh.0);
    }

    fn list(
        &self,
        directory: Ino,
        from: u64,
        sink: &mut dyn FnMut(&ListedEntry<'_>) -> ControlFlow<()>,
    ) -> FsResult<()> {
        let Place { view, row, .. } = self.counted(self.listed(directory, from))?;
        if from == 0 {
            self.ahead.listed(&view, row);
            let attr = self.getattr(directory)?;
            if sink(&ListedEntry { name: b".", attr, next: 1 }).is_break() {
                return Ok(());
            }
        }
        if from <= 1 {
            let attr = self.getattr(namespace::parent_ino(&view, row))?;
            if sink(&ListedEntry { name: b"..", attr, next: 2 }).is_break() {
                return Ok(());
            }
        }
        let children = view.index.children(row);
        let skip = u32::try_from((from & POSITION_MASK).saturating_sub(2)).unwrap_or(u32::MAX);
        let revision = u64::from(view.catalog.since) << POSITION_BITS;
        for child in children.start.saturating_add(skip)..children.end {
            if view.index.row(RowId(child)).flags.has(EntryFlags::HIDDEN) {
                continue;
            }
            let listed = ListedEntry {
                name: view.index.name(RowId(child)),
                attr: self.attr(&view, RowId(child)),
                next: revision | (u64::from(child - children.start) + 3),
            };
            if sink(&listed).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn getxattr(&self, ino: Ino, name: &[u8], gid: u32) -> FsResult<Vec<u8>> {
        let Place { view, row, .. } = self.entry(ino)?;
        xattr::get(self, &view, row, name, gid).ok_or_else(|| xattr::refusal(self, name).into())
    }

    fn listxattr(&self, ino: Ino) -> FsResult<Vec<u8>> {
        let Place { view, row, .. } = self.entry(ino)?;
        let mut names = Vec::new();
        for name in xattr::list(self, &view, row) {
            names.extend_from_slice(&name);
            names.push(0);
        }
        Ok(names)
    }

    fn statfs(&self) -> FsResult<Statfs> {
        let tree = self.tree();
        let root = tree.root();
        let total: i64 = ["regular", "symlink", "special", "dir"]
            .iter()
            .map(|name| root.index.counter(&format!("self_{name}")) + root.index.counter(&format!("subtree_{name}")))
            .sum();
        let files = u64::try_from(total).unwrap_or(0);
        let quota = self.cache.quota().map(Quota::counters).unwrap_or_default();
        Ok(Statfs {
            block_bytes: BLOCK_BYTES,
            blocks: quota.limit_bytes / u64::from(BLOCK_BYTES),
            blocks_free: quota.limit_bytes.saturating_sub(quota.cached_bytes) / u64::from(BLOCK_BYTES),
            files,
            files_free: files.saturating_sub(tree.loaded_rows()),
        })
    }

    fn generation(&self) -> u32 {
        self.tree().generation()
    }

    fn entry_timeout(&self) -> Duration {
        self.options.kernel_cache
    }
}
