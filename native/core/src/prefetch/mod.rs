//! What to fetch next, before anybody asks for it: so that a cold start costs a few round trips, not one a file.
//!
//! [`neighbours`] and [`readahead`] are the planners, pure; [`ledger`] says what a guess may cost; the crew fetches.
//! [`Prefetcher`] joins them and is what the client tells of everything that is asked for. A guess is never waited for,
//! never retried, never moves a host or a proxy, and takes no connection from a demand request; its failure is nobody's.
//! What comes is checked as anything else. See docs/cold-start.md.
//!
//! Threading: shared by all workers; locks are held to plan, never across I/O.

mod crew;
pub mod ledger;
pub mod neighbours;
mod queue;
pub mod readahead;
mod settings;

use std::ops::Range;
use std::sync::Arc;

use nearfs_format::dirent::{EntryFlags, FileType};
use nearfs_format::object::{ObjectId, ObjectKind};
use parking_lot::Mutex;

use crate::cache::fill::ObjectCache;
use crate::cache::{Place, Want};
use crate::catalog::content::{self, Chunks, Content};
use crate::catalog::index::{CatalogIndex, RowId};
use crate::catalog::tree::View;
use crate::repo::snapshot::catalog_want;
use crate::transport::Interrupt;

use crew::Crew;
use ledger::{Ledger, Mechanism};
use neighbours::{Event, Neighbours, Rows, SMALL_BYTES};
use queue::Lane;
pub use settings::PrefetchSettings;

/// Larger catalogs are not guessed.
const SMALL_CATALOG_BYTES: u64 = 1 << 20;
/// So many catalogs of one listing are guessed at most.
const CATALOGS_MAX: usize = 64;

/// Fetches ahead for one mount.
#[derive(Debug)]
pub struct Prefetcher {
    settings: PrefetchSettings,
    fqrn: String,
    cache: Arc<ObjectCache>,
    ledger: Arc<Mutex<Ledger>>,
    files: Mutex<Neighbours>,
    mountpoints: Mutex<Neighbours>,
    crew: Arc<Crew>,
}

impl Prefetcher {
    /// Prepares; nothing is fetched before something is asked for. Without a cache that keeps it, nothing ever is.
    pub fn new(cache: Arc<ObjectCache>, fqrn: &str, settings: PrefetchSettings) -> Self {
        let settings = if cache.disk().is_read_only() { PrefetchSettings::OFF } else { settings };
        let ledger = Arc::new(Mutex::new(Ledger::new(settings.budget_bytes)));
        let crew = Crew::new(settings.requests, fetcher(Arc::clone(&cache), Arc::clone(&ledger)));
        let (files, mountpoints, fqrn) = (Mutex::default(), Mutex::default(), fqrn.to_owned());
        Self { settings, fqrn, cache, ledger, files, mountpoints, crew }
    }

    /// Gives up all guesses, and makes none from now on. Bounded: waits for threads to notice, not for the network.
    pub fn stop(&self) {
        self.crew.stop();
    }

    /// A file stored whole is asked for; call it before anybody waits where it is not there.
    pub fn file_asked(&self, view: &View, row: RowId, id: &ObjectId, is_there: bool) {
        if let Some(event) = self.event(id, is_there)
            && self.settings.neighbours
        {
            let small = |row| content::of(view, row).ok().and_then(guessable);
            self.plan(&self.files, Mechanism::Neighbours, view, &Files(&view.index), row, event, small);
        }
    }

    /// The entries of a directory where a catalog starts are asked for, and it is not at hand.
    pub fn catalog_asked(&self, view: &View, row: RowId) {
        let Some(nested) = view.index.nested(row) else { return };
        let id = ObjectId::new(nested.hash, ObjectKind::Catalog);
        if self.settings.is_on()
            && let Some(event) = self.event(&id, self.cache.is_cached(&id))
            && self.settings.catalogs
        {
            let small = |row| self.small_catalog(&view.index, row);
            self.plan(&self.mountpoints, Mechanism::Catalogs, view, &Mountpoints(&view.index), row, event, small);
        }
    }

    /// A directory is listed from its beginning: whoever looks at all of it looks into the catalogs that start there.
    pub fn listed(&self, view: &View, directory: RowId) {
        if !self.settings.catalogs || !self.settings.is_on() || view.index.all_nested().next().is_none() {
            return;
        }
        let wants = view.index.children(directory).filter_map(|row| self.small_catalog(&view.index, RowId(row)));
        let mut missing = wants.filter(|want| !self.cache.is_cached(&want.id)).take(CATALOGS_MAX);
        let _until_refused =
            missing.all(|want| self.guess((Mechanism::Catalogs, catalog_key(view), directory.0), want));
    }

    /// A chunk is asked for; call it before anybody waits where it is not there.
    pub fn chunk_asked(&self, id: &ObjectId, is_there: bool) {
        let _nothing_follows = self.event(id, is_there);
    }

    /// Keeps the chunks of `chunks` from number `from` on that begin before `end`; returns up to which one there is
    /// nothing to be done any more.
    pub fn read_ahead(&self, chunks: &Chunks, from: usize, end: u64, path: &str) -> usize {
        let mut number = from;
        while self.settings.readahead
            && chunks.list.as_slice().get(number).is_some_and(|chunk| chunk.offset < end)
            && let Some(want) = chunks.want(number).filter(|want| want.place == Place::Data)
            && (self.cache.is_cached(&want.id) || self.guess((Mechanism::ReadAhead, 0, 0), want.labelled(path)))
        {
            number += 1;
        }
        number
    }

    /// Returns what was counted, with names.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let ledger = self.ledger.lock();
        let tallies = Mechanism::ALL.into_iter().flat_map(|mechanism| {
            let (name, tally) = (mechanism.name(), ledger.tally(mechanism));
            let counts = [("asked", tally.asked), ("used", tally.used), ("late", tally.late), ("wasted", tally.wasted)];
            counts.map(|(what, count)| (format!("prefetch_{name}_{what}"), count))
        });
        let bytes = [
            ("prefetch_used_bytes", ledger.used_bytes()),
            ("prefetch_unused_bytes", ledger.unused_bytes()),
            ("prefetch_pending_bytes", ledger.pending_bytes()),
        ];
        tallies.chain(bytes.map(|(name, count)| (name.to_owned(), count))).collect()
    }

    /// Says what it means for planning that an object is asked for; nothing where it was there by itself.
    fn event(&self, id: &ObjectId, is_there: bool) -> Option<Event> {
        if !self.settings.is_on() {
            return None;
        }
        match self.ledger.lock().take(id) {
            Some(_) => Some(Event::Used),
            None => (!is_there).then_some(Event::Missed),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "two planners of one kind, each with its own eyes")]
    fn plan(
        &self,
        planner: &Mutex<Neighbours>,
        mechanism: Mechanism,
        view: &View,
        rows: &impl Rows,
        row: RowId,
        event: Event,
        want: impl Fn(RowId) -> Option<Want>,
    ) {
        let catalog = catalog_key(view);
        let lane = (mechanism, catalog, rows.parent(rows.parent(row.0)));
        let candidates = planner.lock().plan(catalog, rows, row.0, event);
        for candidate in candidates {
            let Some(want) = want(RowId(candidate)) else { continue };
            let is_guessed = !self.cache.is_cached(&want.id);
            if is_guessed && !self.guess(lane, want.labelled(view.path(RowId(candidate)).to_string())) {
                break;
            }
            planner.lock().planned(catalog, rows, candidate, is_guessed);
        }
    }

    fn small_catalog(&self, index: &CatalogIndex, row: RowId) -> Option<Want> {
        let nested = index.nested(row).filter(|nested| (1..=SMALL_CATALOG_BYTES).contains(&nested.size_bytes))?;
        Some(catalog_want(&self.fqrn, nested, Place::Data))
    }

    /// Has an object fetched, if the ledger allows it; says whether it does.
    fn guess(&self, lane: Lane, want: Want) -> bool {
        let id = want.id;
        let (bytes, demanded_bytes) =
            (want.size_bytes.unwrap_or(want.limit_bytes), self.cache.counters().demanded_bytes);
        if !self.crew.is_ready() || !self.ledger.lock().admit(id, lane.0, bytes, demanded_bytes) {
            return false;
        }
        let is_taken = self.crew.push(lane, want);
        if !is_taken {
            self.ledger.lock().drop_guess(&id);
        }
        is_taken
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns what tells a catalog from all others, also from those of earlier revisions.
fn catalog_key(view: &View) -> u64 {
    u64::from(view.catalog.since) << 32 | u64::from(view.catalog.id.0)
}

/// Returns what the crew does with a guess.
fn fetcher(cache: Arc<ObjectCache>, ledger: Arc<Mutex<Ledger>>) -> Box<crew::Fetch> {
    Box::new(move |want: &Want, interrupt: &Interrupt| {
        if interrupt.is_cancelled() {
            ledger.lock().drop_guess(&want.id);
            return false;
        }
        if !ledger.lock().depart(&want.id) {
            return true;
        }
        match cache.fetch_ahead(want, interrupt) {
            Ok(Some(stored_bytes)) => ledger.lock().land(want.id, stored_bytes),
            Ok(None) => ledger.lock().drop_guess(&want.id),
            Err(error) => {
                tracing::debug!(%error, "a guess failed");
                ledger.lock().drop_guess(&want.id);
                return false;
            }
        }
        true
    })
}

/// Returns the want of a file that may be guessed: one object of the repository.
fn guessable(content: Content) -> Option<Want> {
    match content {
        Content::Whole(want) if want.place == Place::Data => Some(want),
        _ => None,
    }
}

/// A catalog's files, for the planner.
struct Files<'a>(&'a CatalogIndex);

impl Rows for Files<'_> {
    fn parent(&self, row: u32) -> u32 {
        self.0.parent(RowId(row)).0
    }

    fn children(&self, row: u32) -> Range<u32> {
        self.0.children(RowId(row))
    }

    fn name(&self, row: u32) -> &[u8] {
        self.0.name(RowId(row))
    }

    fn is_small_file(&self, row: u32) -> bool {
        let entry = self.0.row(RowId(row));
        let is_plain = entry.file_type == FileType::Regular && !entry.flags.has(EntryFlags::CHUNKED);
        is_plain && (1..=SMALL_BYTES).contains(&entry.size)
    }
}

/// The directories of a catalog where small nested catalogs start: of one kind, whatever they are called.
struct Mountpoints<'a>(&'a CatalogIndex);

impl Rows for Mountpoints<'_> {
    fn parent(&self, row: u32) -> u32 {
        self.0.parent(RowId(row)).0
    }

    fn children(&self, row: u32) -> Range<u32> {
        self.0.children(RowId(row))
    }

    fn name(&self, _row: u32) -> &[u8] {
        b""
    }

    fn is_small_file(&self, row: u32) -> bool {
        self.0.nested(RowId(row)).is_some_and(|nested| (1..=SMALL_CATALOG_BYTES).contains(&nested.size_bytes))
    }
}
