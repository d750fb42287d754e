//! Packs: many small files for one request, where the publisher made them (docs/format-packs.md).
//!
//! Owns the way from a file that is waited for, a trigger or a list to the packs that are asked for: [`super::packed`] says
//! which are worth it. A table is read once for each catalog in which something is waited for, and is a hint: members
//! count by their own hash, whatever it says.
//!
//! Threading: under the lock of whoever owns it; tables are read on threads of the crew.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_format::dirent::{Compression, EntryFlags};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::pack_table::{PACKS_DIRECTORY, PackKey, PackTable, TABLE_MAX_BYTES, table_name};
use nearfs_format::path::RepoPath;

use super::crew::Done;
use super::errands::{Errand, LOOK, OTHERS_LIMIT, PackErrand, Shared};
use super::ledger::Mechanism;
use super::neighbours::Event;
use super::packed::Packed;
use super::rows::{catalog_key, guessable};
use crate::cache::{Place, Want};
use crate::catalog::content;
use crate::catalog::index::RowId;
use crate::catalog::tree::{CatalogTree, View};
use crate::error::Result;
use crate::repo::snapshot::catalog_want;
use crate::transport::Interrupt;

/// Catalogs whose tables are remembered.
const CATALOGS_MAX: usize = 256;
/// What would have read a table by then was given up with the guesses of that moment.
const COMING_LIMIT: Duration = Duration::from_secs(20);
/// Files that were waited for while a table was on its way.
const MISSED_MAX: usize = 32;
/// Fewer files of a list come as fast alone.
const WANTED_MIN: usize = 3;

/// What is known of the packs of all catalogs.
#[derive(Debug, Default)]
pub(super) struct Packs {
    catalogs: HashMap<u64, State>,
    /// The repository has packs.
    are_there: bool,
    /// Packs that came.
    pub(super) came: u64,
}

#[derive(Debug, Clone)]
enum State {
    /// The table is on its way since then; files that were waited for meanwhile.
    Coming(Instant, Vec<RowId>),
    Without,
    Known(Arc<Packed>),
}

impl Shared {
    /// Has the catalog of packs of a revision fetched, where there is one.
    pub(super) fn enter_packs(&self, tree: &Arc<CatalogTree>) {
        if packs_row(tree).is_none() {
            return;
        }
        self.packs.lock().are_there = true;
        let tree = Arc::clone(tree);
        self.work((Mechanism::Packs, 0, 0), move |shared, interrupt| {
            shared.packs_view(&tree, interrupt).map_or(Done::Failed, |_| Done::WELL)
        });
    }

    /// Returns the catalog of packs, fetched if need be.
    fn packs_view(&self, tree: &CatalogTree, interrupt: &Interrupt) -> Result<Option<View>> {
        let Some(row) = packs_row(tree) else { return Ok(None) };
        let Some(nested) = tree.root().index.nested(row) else { return Ok(None) };
        let want = catalog_want(&self.fqrn, nested, Place::Data);
        if !tree.is_below_loaded(tree.root(), row) {
            if !self.bring(Mechanism::Packs, &want, interrupt)? {
                return Ok(None);
            }
            self.ledger.lock().take(&want.id);
        }
        tree.below(tree.root(), row)
    }

    /// Returns what has to be fetched for the table of the catalog at `mountpoint`; nothing where it has no packs.
    fn table_want(&self, tree: &CatalogTree, mountpoint: &RepoPath, interrupt: &Interrupt) -> Result<Option<Want>> {
        let Some(view) = self.packs_view(tree, interrupt)? else { return Ok(None) };
        let Some(row) = view.index.child(RowId::ROOT, table_name(mountpoint).as_bytes()) else { return Ok(None) };
        let want = content::of(&view, row).ok().and_then(guessable);
        let want = want.filter(|want| want.size_bytes.is_some_and(|size| size <= TABLE_MAX_BYTES as u64));
        Ok(want.map(|want| want.labelled(view.path(row).to_string())))
    }

    /// Has the table of a catalog fetched that somebody is about to enter.
    pub(super) fn bring_table(&self, tree: &Arc<CatalogTree>, mountpoint: &RepoPath) {
        if packs_row(tree).is_none() {
            return;
        }
        let (tree, mountpoint) = (Arc::clone(tree), mountpoint.clone());
        self.work((Mechanism::Packs, 0, 1), move |shared, interrupt| {
            let brought = shared
                .table_want(&tree, &mountpoint, interrupt)
                .and_then(|want| want.map_or(Ok(None), |want| shared.read(Mechanism::Packs, &want, interrupt)));
            brought.map_or(Done::Failed, |_| Done::WELL)
        });
    }

    /// Sees to it that the table of a catalog is known, where it has one; waits for whoever reads it already. On a thread of
    /// the crew.
    pub(super) fn ensure_table(&self, tree: &CatalogTree, view: &View, interrupt: &Interrupt) {
        if !self.settings.packs || packs_row(tree).is_none() {
            return;
        }
        let catalog = catalog_key(view);
        let is_new = {
            let mut packs = self.packs.lock();
            let is_new = !packs.catalogs.contains_key(&catalog);
            if is_new {
                packs.begin(catalog, Vec::new());
            }
            is_new
        };
        if is_new {
            self.load_table(tree, view, interrupt);
            return;
        }
        let until = Instant::now() + OTHERS_LIMIT;
        let is_coming = || matches!(self.packs.lock().catalogs.get(&catalog), Some(State::Coming(..)));
        while is_coming() && !interrupt.is_cancelled() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }

    /// Reads the table of a catalog and asks for the packs of what was waited for meanwhile.
    fn load_table(&self, tree: &CatalogTree, view: &View, interrupt: &Interrupt) -> Done {
        let read = self
            .table_want(tree, view.index.root_prefix(), interrupt)
            .and_then(|want| want.map_or(Ok(None), |want| self.read(Mechanism::Packs, &want, interrupt)));
        let (state, done) = match read {
            Ok(Some(bytes)) => match PackTable::parse(&bytes) {
                Ok(table) => (State::Known(Arc::new(Packed::new(table, &view.index))), Done::WELL),
                Err(error) => {
                    tracing::debug!(%error, catalog = %view.index.root_prefix(), "a table of packs is none");
                    (State::Without, Done::WELL)
                }
            },
            Ok(None) => (State::Without, Done::WELL),
            Err(error) => {
                tracing::debug!(%error, catalog = %view.index.root_prefix(), "a table of packs was not to be had");
                // Whoever waits for a file next has it looked for again.
                self.packs.lock().catalogs.remove(&catalog_key(view));
                return Done::Failed;
            }
        };
        let before = self.packs.lock().catalogs.insert(catalog_key(view), state);
        if let Some(State::Coming(_, missed)) = before {
            for row in missed {
                if let Some(packed) = self.packed(catalog_key(view)) {
                    self.missed_in_packs(view, &packed, row);
                }
            }
        }
        done
    }

    /// A small file is waited for, or came in a pack: asks for the packs that are worth it now.
    pub(super) fn ask_packs(&self, tree: &Arc<CatalogTree>, view: &View, row: RowId, event: Event) {
        if packs_row(tree).is_none() {
            return;
        }
        let packed = {
            let mut packs = self.packs.lock();
            match packs.catalogs.get_mut(&catalog_key(view)) {
                Some(State::Known(packed)) => Arc::clone(packed),
                Some(State::Without) => return,
                Some(State::Coming(since, missed)) if since.elapsed() < COMING_LIMIT => {
                    if missed.len() < MISSED_MAX && event == Event::Missed {
                        missed.push(row);
                    }
                    return;
                }
                _ => {
                    packs.begin(catalog_key(view), vec![row]);
                    drop(packs);
                    let (tree, view) = (Arc::clone(tree), view.clone());
                    let key = catalog_key(&view);
                    let is_taken = self.work((Mechanism::Packs, 0, 2), move |shared, interrupt| {
                        shared.load_table(&tree, &view, interrupt)
                    });
                    if !is_taken {
                        self.packs.lock().catalogs.remove(&key);
                    }
                    return;
                }
            }
        };
        match event {
            Event::Missed => self.missed_in_packs(view, &packed, row),
            Event::Used => {
                let Some(number) = packed.number_of(&view.index, row) else { return };
                let next = packed.used(&view.index, number);
                let _until_refused = next.into_iter().all(|number| self.ask_pack(view, &packed, number));
            }
        }
    }

    /// Asks for the pack of a file that is waited for, and for those beside it that are worth it.
    fn missed_in_packs(&self, view: &View, packed: &Packed, row: RowId) {
        let Some(number) = packed.number_of(&view.index, row) else { return };
        let listed = self.sweeps.lock().count(catalog_key(view), Instant::now());
        let next = packed.missed(&view.index, number, listed);
        let mut all = std::iter::once(number).chain(next);
        let _until_refused = all.all(|number| self.ask_pack(view, packed, number));
    }

    /// A directory is listed from its beginning.
    pub(super) fn listed(&self, view: &View, directory: RowId) {
        if self.packs.lock().are_there {
            self.sweeps.lock().listed(catalog_key(view), directory.0, Instant::now());
        }
    }

    /// Asks for the packs that the publisher made for a trigger, where they are known.
    pub(super) fn ask_own_packs(&self, view: &View, key: PackKey) {
        let Some(packed) = self.packed(catalog_key(view)) else { return };
        let lane = (Mechanism::Bundles, catalog_key(view), 0);
        for number in packed.table().of_trigger(key) {
            let errand = self.pack_errand(view, &packed, number, Mechanism::Bundles);
            if matches!(&errand, Errand::Pack(of) if of.wants.len() > 1) && self.ask(lane, errand).is_ok() {
                packed.set_asked(number, true);
            }
        }
    }

    /// Asks for the pack of a file that is worth having; says whether it is, or was, asked for.
    pub(super) fn ask_pack_of(&self, view: &View, row: RowId) -> bool {
        let Some(packed) = self.packed(catalog_key(view)) else { return false };
        let Some(number) = packed.number_of(&view.index, row) else { return false };
        self.ask_pack(view, &packed, number)
    }

    fn packed(&self, catalog: u64) -> Option<Arc<Packed>> {
        match self.packs.lock().catalogs.get(&catalog) {
            Some(State::Known(packed)) => Some(Arc::clone(packed)),
            _ => None,
        }
    }

    fn ask_pack(&self, view: &View, packed: &Packed, number: usize) -> bool {
        if packed.is_asked(number) {
            return true;
        }
        let lane = (Mechanism::Packs, catalog_key(view), 0);
        let errand = self.pack_errand(view, packed, number, lane.0);
        if !packed.is_worth_more(number) || self.ask(lane, errand).is_err() {
            return false;
        }
        packed.set_asked(number, true);
        true
    }

    /// Returns the errand of a pack, for those of its files that are missing.
    fn pack_errand(&self, view: &View, packed: &Packed, number: usize, mechanism: Mechanism) -> Errand {
        let (mut wants, mut seen) = (Vec::new(), HashSet::new());
        for row in packed.rows(number) {
            let want = content::of(view, *row).ok().and_then(guessable);
            if let Some(want) = want.filter(|want| seen.insert(want.id) && !self.cache.is_cached(&want.id)) {
                wants.push(want.labelled(view.path(*row).to_string()));
            }
        }
        errand_of(packed, number, wants, mechanism)
    }

    /// Turns what is wanted into errands, in the order of `wanted`: a pack where the publisher made it for this list
    /// (`preferred`: the catalog and the key of its trigger), or where at least half of it is wanted; objects for the rest.
    pub(super) fn by_packs(
        &self,
        mechanism: Mechanism,
        wanted: Vec<(View, RowId, Want)>,
        preferred: Option<(u64, PackKey)>,
    ) -> VecDeque<Errand> {
        let (own, wanted) = self.by_own_packs(mechanism, wanted, preferred);
        let mut places: HashMap<(u64, usize), (View, Arc<Packed>, usize)> = HashMap::new();
        let mut place_of = HashMap::new();
        for (view, row, want) in &wanted {
            let Some(packed) = self.packed(catalog_key(view)) else { continue };
            let Some(number) = packed.number_of(&view.index, *row) else { continue };
            let place = (catalog_key(view), number);
            place_of.insert(want.id, place);
            places.entry(place).or_insert_with(|| (view.clone(), packed, 0)).2 += 1;
        }
        places.retain(|(_, number), (_, packed, count)| {
            *count >= WANTED_MIN && *count * 2 >= packed.rows(*number).len() && !packed.is_asked(*number)
        });
        let (mut errands, mut covered) = (own, HashSet::new());
        for (_, _, want) in wanted {
            if covered.contains(&want.id) {
                continue;
            }
            let place = place_of.get(&want.id).and_then(|place| Some((place.1, places.remove(place)?)));
            let Some((number, (view, packed, _))) = place else {
                errands.push_back(Errand::Object(want));
                continue;
            };
            packed.set_asked(number, true);
            let errand = self.pack_errand(&view, &packed, number, mechanism);
            if let Errand::Pack(of) = &errand {
                covered.extend(of.ids.iter().copied());
            }
            errands.push_back(errand);
        }
        errands
    }

    /// Returns the packs that the publisher made for a list, and what of it lies in none of them.
    fn by_own_packs(
        &self,
        mechanism: Mechanism,
        wanted: Vec<(View, RowId, Want)>,
        preferred: Option<(u64, PackKey)>,
    ) -> (VecDeque<Errand>, Vec<(View, RowId, Want)>) {
        let Some((packed, key)) = preferred.and_then(|(catalog, key)| Some((self.packed(catalog)?, key))) else {
            return (VecDeque::new(), wanted);
        };
        let own: Vec<usize> = packed.table().of_trigger(key).collect();
        let mut in_packs: BTreeMap<usize, Vec<Want>> = BTreeMap::new();
        let mut rest = Vec::new();
        for (view, row, want) in wanted {
            let numbers = (want.id.kind == ObjectKind::File).then(|| packed.table().of_object(&want.id.hash));
            match numbers.and_then(|mut numbers| numbers.find(|number| own.contains(number))) {
                Some(number) => in_packs.entry(number).or_default().push(want),
                None => rest.push((view, row, want)),
            }
        }
        // A pack for a single file is a pack in vain.
        let errands = in_packs.into_iter().map(|(number, mut wants)| match wants.len() {
            1 => Errand::Object(wants.remove(0)),
            _ => errand_of(&packed, number, wants, mechanism),
        });
        (errands.collect(), rest)
    }
}

impl Packs {
    fn begin(&mut self, catalog: u64, missed: Vec<RowId>) {
        if self.catalogs.len() >= CATALOGS_MAX {
            self.catalogs.retain(|_, state| matches!(state, State::Coming(..)));
        }
        self.catalogs.insert(catalog, State::Coming(Instant::now(), missed));
    }
}

/// Returns the errand of a pack for some of its members.
fn errand_of(packed: &Packed, number: usize, wants: Vec<Want>, mechanism: Mechanism) -> Errand {
    let reference = &packed.table().packs()[number];
    let id = ObjectId::new(reference.hash, ObjectKind::File);
    let pack = Want::sized(id, Compression::None, u64::from(reference.size_bytes))
        .labelled(format!("pack of {} files", reference.members));
    let ids = wants.iter().map(|want| want.id).collect();
    Errand::Pack(Box::new(PackErrand { mechanism, pack, wants, ids }))
}

/// Returns where the catalog of packs starts: hidden, as a publisher makes it.
fn packs_row(tree: &CatalogTree) -> Option<RowId> {
    let index = &tree.root().index;
    let row = index.child(RowId::ROOT, PACKS_DIRECTORY.strip_prefix(b"/").unwrap_or(PACKS_DIRECTORY))?;
    (index.row(row).flags.has(EntryFlags::HIDDEN) && index.nested(row).is_some()).then_some(row)
}
