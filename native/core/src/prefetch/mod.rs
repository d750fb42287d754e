//! What to fetch next, before anybody asks for it: so that a cold start costs a few round trips, not one a file.
//!
//! The planners are pure: [`neighbours`] and [`namesakes`] look at what is read, [`readahead`] at how; [`lists`] follows
//! what a bundle or a trace names, [`packs`] knows which small files one request brings. [`ledger`] says what a guess may
//! cost; the crew fetches. [`Prefetcher`] joins them and is what the client tells of everything that is asked for. A
//! guess is never waited for, never retried, never moves a host or a proxy, and takes no connection from a demand
//! request; its failure is nobody's. What comes is checked as anything else. See docs/cold-start.md.
//!
//! Threading: shared by all workers; locks are held to plan, never across I/O.

mod air;
mod crew;
mod errands;
pub mod ledger;
pub mod lists;
pub mod namesakes;
pub mod neighbours;
mod packed;
mod packs;
mod queue;
pub mod readahead;
mod rows;
mod settings;
mod sweeps;
pub mod traces;

use std::sync::Arc;

use nearfs_format::bundle;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;
use parking_lot::Mutex;

use crate::cache::fill::ObjectCache;
use crate::cache::{Place, Want};
use crate::catalog::content::{self, Chunks};
use crate::catalog::index::{CatalogIndex, RowId};
use crate::catalog::tree::{CatalogTree, View};
use crate::repo::snapshot::catalog_want;

use errands::Shared;
use ledger::Mechanism;
pub use lists::Item;
use neighbours::{Event, Neighbours, Rows};
use rows::{Files, Mountpoints, SMALL_CATALOG_BYTES, catalog_key, guessable};
pub use settings::PrefetchSettings;

/// So many catalogs of one listing are guessed at most.
const CATALOGS_MAX: usize = 64;
/// Connections that are opened ahead over a long line, so that the first large answer comes in parts at once.
const CONNECTIONS_AHEAD: usize = 16;

/// Before anything of a repository is known: has connections opened as soon as the line turns out to be long, so that they
/// are there when the first catalog is asked for.
pub fn prepare(cache: &ObjectCache, settings: &PrefetchSettings) {
    if settings.is_on() && !cache.disk().is_read_only() {
        cache.origin().connect_ahead(CONNECTIONS_AHEAD);
    }
}

/// Fetches ahead for one mount.
#[derive(Debug)]
pub struct Prefetcher {
    shared: Arc<Shared>,
    planners: Mutex<Planners>,
}

#[derive(Debug, Default)]
struct Planners {
    files: Neighbours,
    mountpoints: Neighbours,
    namesakes: namesakes::Namesakes,
}

impl Prefetcher {
    /// Prepares; nothing is fetched before something is asked for. Without a cache that keeps it, nothing ever is.
    pub fn new(cache: Arc<ObjectCache>, fqrn: &str, settings: PrefetchSettings) -> Self {
        let settings = if cache.disk().is_read_only() { PrefetchSettings::OFF } else { settings };
        Self { shared: Shared::new(cache, fqrn, settings), planners: Mutex::default() }
    }

    /// A revision is shown from now on: prepares for what will be asked for in it.
    pub fn shows(&self, tree: &Arc<CatalogTree>) {
        if self.settings().is_on() && self.settings().packs {
            self.shared.enter_packs(tree);
        }
    }

    /// Gives up all guesses, and makes none from now on. Bounded: waits for threads to notice, not for the network.
    pub fn stop(&self) {
        self.shared.crew.stop();
    }

    fn settings(&self) -> &PrefetchSettings {
        &self.shared.settings
    }

    /// A regular file is opened, whatever it consists of and whether it is there: what a publisher says is read with it
    /// is brought.
    pub fn opened(&self, tree: &Arc<CatalogTree>, view: &View, row: RowId) {
        if !self.settings().is_on() || !self.settings().bundles {
            return;
        }
        let Some(specification) = specification_of(view, row) else { return };
        if self.shared.triggers.lock().is_new((catalog_key(view), row.0)) {
            self.shared.follow_bundle(tree, view, row, specification);
        }
    }

    /// A file stored whole is asked for; call it before anybody waits where it is not there.
    pub fn file_asked(&self, tree: &Arc<CatalogTree>, view: &View, row: RowId, id: &ObjectId, is_there: bool) {
        let Some(event) = self.event(id, is_there) else { return };
        if self.settings().packs {
            self.shared.ask_packs(tree, view, row, event);
        }
        if self.settings().neighbours {
            let rows = Files(&view.index);
            let planned = {
                let mut planners = self.planners.lock();
                let mut planned = planners.namesakes.plan(catalog_key(view), &rows, row.0, event);
                planned.extend(planners.files.plan(catalog_key(view), &rows, row.0, event));
                planned
            };
            let small = |row| content::of(view, row).ok().and_then(guessable);
            self.guess_rows(Mechanism::Neighbours, view, &rows, row, planned, small);
        }
    }

    /// The entries of a directory are asked for, and a catalog that is at hand starts there: a list may have brought it.
    pub fn catalog_entered(&self, view: &View, row: RowId) {
        if let Some(nested) = view.index.nested(row).filter(|_| self.settings().is_on()) {
            let taken = self.shared.ledger.lock().take(&ObjectId::new(nested.hash, ObjectKind::Catalog));
            if taken.is_some() {
                self.shared.pump();
            }
        }
    }

    /// The entries of a directory where a catalog starts are asked for, and it is not at hand.
    pub fn catalog_asked(&self, tree: &Arc<CatalogTree>, view: &View, row: RowId) {
        let Some(nested) = view.index.nested(row) else { return };
        let id = ObjectId::new(nested.hash, ObjectKind::Catalog);
        if !self.settings().is_on() {
            return;
        }
        if self.settings().packs {
            self.shared.bring_table(tree, &nested.path);
        }
        if let Some(event) = self.event(&id, self.shared.cache.is_cached(&id))
            && self.settings().catalogs
        {
            let rows = Mountpoints(&view.index);
            let planned = self.planners.lock().mountpoints.plan(catalog_key(view), &rows, row.0, event);
            let small = |row| self.small_catalog(&view.index, row);
            self.guess_rows(Mechanism::Catalogs, view, &rows, row, planned, small);
        }
    }

    /// A directory is listed from its beginning: whoever looks at all of it looks into the catalogs that start there.
    pub fn listed(&self, view: &View, directory: RowId) {
        if self.settings().is_on() && self.settings().packs {
            self.shared.listed(view, directory);
        }
        if !self.settings().catalogs || !self.settings().is_on() || view.index.all_nested().next().is_none() {
            return;
        }
        let wants = view.index.children(directory).filter_map(|row| self.small_catalog(&view.index, RowId(row)));
        let mut missing = wants.filter(|want| !self.shared.cache.is_cached(&want.id)).take(CATALOGS_MAX);
        let lane = (Mechanism::Catalogs, catalog_key(view), directory.0);
        let _until_refused = missing.all(|want| self.shared.guess(lane, want));
    }

    /// A chunk is asked for and not there; call it before anybody waits. Who waits for one of a program is brought the
    /// next one too: it is mapped, and read here and there until its symbols are found. Not by a proxy, whose one connection
    /// to the host has got up to speed, which a second one would only begin to.
    pub fn chunk_missed(&self, chunks: &Chunks, number: usize, is_program: bool, path: &str) {
        let Some(want) = chunks.want(number) else { return };
        if self.event(&want.id, false) == Some(Event::Missed)
            && is_program
            && self.shared.cache.origin().is_direct()
            && let Some(next) = chunks.list.as_slice().get(number + 1)
        {
            self.read_ahead(chunks, number + 1, next.offset + 1, path);
        }
    }

    /// An object is asked for, and what is read with it need not be guessed: it is a chunk that is there, or one of what a
    /// trace lists. Says whether somebody guessed it; nothing where it was there by itself.
    pub fn listed_asked(&self, id: &ObjectId, is_there: bool) -> Option<bool> {
        self.event(id, is_there).map(|event| event == Event::Used)
    }

    /// Keeps the chunks of `chunks` from number `from` on that begin before `end`; returns up to which one there is
    /// nothing to be done any more.
    pub fn read_ahead(&self, chunks: &Chunks, from: usize, end: u64, path: &str) -> usize {
        let mut number = from;
        while self.settings().readahead
            && chunks.list.as_slice().get(number).is_some_and(|chunk| chunk.offset < end)
            && let Some(want) = chunks.want(number).filter(|want| want.place == Place::Data)
            && (self.shared.cache.is_cached(&want.id)
                || self.shared.guess((Mechanism::ReadAhead, 0, 0), want.labelled(path)))
        {
            number += 1;
        }
        number
    }

    /// Fetches what `items` name in this revision, in their order, as far as the account allows; the rest when there is
    /// room again. Returns at once: paths are looked up, and catalogs fetched for that, by the crew.
    pub fn follow(&self, mechanism: Mechanism, tree: &Arc<CatalogTree>, items: Vec<Item>) {
        if self.settings().is_on() {
            self.shared.follow(mechanism, tree, items);
        }
    }

    /// Fetches the catalogs on the way to `paths`, which are likely to be asked for. Returns at once.
    pub fn enter(&self, tree: &Arc<CatalogTree>, paths: Vec<RepoPath>) {
        if self.settings().is_on() {
            self.shared.bring_ways(tree, paths);
        }
    }

    /// Returns what was counted, with names.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let ledger = self.shared.ledger.lock();
        let tallies = Mechanism::ALL.into_iter().flat_map(|mechanism| {
            let (name, tally) = (mechanism.name(), ledger.tally(mechanism));
            let counts = [("asked", tally.asked), ("used", tally.used), ("late", tally.late), ("wasted", tally.wasted)];
            counts.map(|(what, count)| (format!("prefetch_{name}_{what}"), count))
        });
        let bytes = [
            ("prefetch_used_bytes", ledger.used_bytes()),
            ("prefetch_unused_bytes", ledger.unused_bytes()),
            ("prefetch_pending_bytes", ledger.pending_bytes()),
            ("prefetch_air_bytes", self.shared.crew.air_bytes()),
            ("prefetch_packs_fetched", self.shared.packs.lock().came),
            ("prefetch_needed_bytes", ledger.used_bytes() + self.shared.cache.counters().demanded_bytes),
        ];
        tallies.chain(bytes.map(|(name, count)| (name.to_owned(), count))).collect()
    }

    /// Says what it means for planning that an object is asked for; nothing where it was there by itself, or came because
    /// it stands in a list: who reads what a list names goes by the list.
    fn event(&self, id: &ObjectId, is_there: bool) -> Option<Event> {
        if !self.settings().is_on() {
            return None;
        }
        let taken = self.shared.ledger.lock().take(id);
        // Either way there may be room now for what waits.
        if taken.is_some() || !is_there {
            self.shared.pump();
        }
        match taken {
            Some(Mechanism::Bundles | Mechanism::Traces) => None,
            Some(_) => Some(Event::Used),
            None => (!is_there).then_some(Event::Missed),
        }
    }

    fn guess_rows(
        &self,
        mechanism: Mechanism,
        view: &View,
        rows: &impl Rows,
        row: RowId,
        planned: Vec<u32>,
        want: impl Fn(RowId) -> Option<Want>,
    ) {
        let catalog = catalog_key(view);
        let lane = (mechanism, catalog, rows.parent(rows.parent(row.0)));
        for candidate in planned {
            let Some(want) = want(RowId(candidate)) else { continue };
            let is_guessed = !self.shared.cache.is_cached(&want.id);
            let is_refused = || {
                let by_pack = mechanism == Mechanism::Neighbours && self.shared.ask_pack_of(view, RowId(candidate));
                !by_pack && !self.shared.guess(lane, want.labelled(view.path(RowId(candidate)).to_string()))
            };
            if is_guessed && is_refused() {
                break;
            }
            let mut planners = self.planners.lock();
            let planner =
                if mechanism == Mechanism::Catalogs { &mut planners.mountpoints } else { &mut planners.files };
            planner.planned(catalog, rows, candidate, is_guessed);
        }
    }

    fn small_catalog(&self, index: &CatalogIndex, row: RowId) -> Option<Want> {
        let nested = index.nested(row).filter(|nested| (1..=SMALL_CATALOG_BYTES).contains(&nested.size_bytes))?;
        Some(catalog_want(&self.shared.fqrn, nested, Place::Data))
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the row of the bundle specification beside a file.
fn specification_of(view: &View, row: RowId) -> Option<RowId> {
    let name = [bundle::BUNDLE_PREFIX, view.index.name(row)].concat();
    view.index.child(view.index.parent(row), &name)
}
