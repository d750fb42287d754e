//! What the crew does for the planners: fetches an object, a pack, or what is needed in order to plan further.
//!
//! Owns the account's side of every fetch: nothing leaves that the ledger did not admit, and whatever comes of it is put
//! down. Not what is worth fetching. Nothing here waits for the network but on the crew's own threads.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nearfs_format::object::ObjectId;
use parking_lot::Mutex;

use super::crew::{self, Crew, Done};
use super::ledger::{Ledger, Mechanism};
use super::lists::Recent;
use super::packs::Packs;
use super::queue::Lane;
use super::settings::PrefetchSettings;
use super::sweeps::Sweeps;
use crate::cache::Want;
use crate::cache::fill::ObjectCache;
use crate::error::{ErrorKind, Result};
use crate::transport::Interrupt;

/// How long something is waited for that somebody else is fetching, and how often is looked for it.
pub(super) const OTHERS_LIMIT: Duration = Duration::from_secs(5);
pub(super) const LOOK: Duration = Duration::from_millis(2);
/// What waits for room in the account is forgotten after this time: nobody reads it any more.
const LIST_LIFE: Duration = Duration::from_secs(60);
/// Lists that wait at a time; the oldest goes.
const LISTS_MAX: usize = 16;
/// Connections that are opened with the first guess; further ones as they are needed.
const CONNECTIONS_AHEAD: usize = 48;
/// Guesses that are looked at each time that there may be room.
const LOOKED_AT_MAX: usize = 512;

/// Work that is no fetch of its own: on a thread of the crew, with everything that is shared.
pub(super) type Work = dyn FnOnce(&Arc<Shared>, &Interrupt) -> Done + Send;

/// Something for the crew to do.
pub(super) enum Errand {
    /// Fetch an object.
    Object(Want),
    /// Fetch a pack, for some of its members.
    Pack(Box<PackErrand>),
    /// Do something that is no request of its own.
    Work(Box<Work>),
}

/// A pack, and which of its members somebody may read.
#[derive(Debug)]
pub(super) struct PackErrand {
    pub(super) mechanism: Mechanism,
    pub(super) pack: Want,
    pub(super) wants: Vec<Want>,
    pub(super) ids: Vec<ObjectId>,
}

impl crew::Errand for Errand {
    fn bytes(&self) -> u64 {
        match self {
            Self::Object(want) => want.typical_bytes().unwrap_or(want.limit_bytes).max(1),
            Self::Pack(errand) => errand.pack.content_limit().max(1),
            Self::Work(_) => 0,
        }
    }
}

impl fmt::Debug for Errand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(want) => write!(out, "Object({})", want.id),
            Self::Pack(errand) => write!(out, "Pack({}, {} wants)", errand.pack.id, errand.wants.len()),
            Self::Work(_) => out.write_str("Work"),
        }
    }
}

/// Guesses that were listed at once and wait for room in the account.
#[derive(Debug)]
struct List {
    lane: Lane,
    errands: VecDeque<Errand>,
    since: Instant,
}

/// What planners and crew share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: PrefetchSettings,
    pub(super) fqrn: String,
    pub(super) cache: Arc<ObjectCache>,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) packs: Mutex<Packs>,
    /// Directories that were listed lately.
    pub(super) sweeps: Mutex<Sweeps>,
    /// Triggers whose bundles were followed.
    pub(super) triggers: Mutex<Recent>,
    pub(super) crew: Arc<Crew<Errand>>,
    lists: Mutex<Vec<List>>,
    is_connected: AtomicBool,
}

impl Shared {
    pub(super) fn new(cache: Arc<ObjectCache>, fqrn: &str, settings: PrefetchSettings) -> Arc<Self> {
        Arc::new_cyclic(|weak: &std::sync::Weak<Self>| {
            let weak = weak.clone();
            let run = move |errand, interrupt: &Interrupt| {
                weak.upgrade().map_or(Done::Failed, |shared| shared.run(errand, interrupt))
            };
            Self {
                crew: Crew::new(settings.requests, settings.bundle_requests.max(1), Box::new(run)),
                ledger: Mutex::new(Ledger::new(settings.budget_bytes)),
                packs: Mutex::default(),
                sweeps: Mutex::default(),
                triggers: Mutex::default(),
                lists: Mutex::default(),
                is_connected: AtomicBool::new(false),
                fqrn: fqrn.to_owned(),
                settings,
                cache,
            }
        })
    }

    /// Has an object fetched, if the account allows it; says whether it does.
    pub(super) fn guess(&self, lane: Lane, want: Want) -> bool {
        self.ask(lane, Errand::Object(want)).is_ok()
    }

    /// Has something done without an entry of its own in the account; says whether somebody will.
    pub(super) fn work(&self, lane: Lane, work: impl FnOnce(&Arc<Self>, &Interrupt) -> Done + Send + 'static) -> bool {
        self.crew.is_ready() && self.crew.push(lane, Errand::Work(Box::new(work))).is_ok()
    }

    /// Has an errand done, if the account allows it; gives it back where it does not.
    pub(super) fn ask(&self, lane: Lane, mut errand: Errand) -> Result<(), Errand> {
        if !self.crew.is_ready() || !self.admit(lane.0, &mut errand) {
            return Err(errand);
        }
        if !self.is_connected.swap(true, Ordering::Relaxed) {
            // What follows shall not wait for connections one by one.
            self.cache.origin().connect_ahead(CONNECTIONS_AHEAD.min(self.settings.requests));
            let origin = self.cache.origin();
            self.crew.expect(origin.connect_time(), origin.is_direct());
        }
        self.crew.push(lane, errand).inspect_err(|errand| self.forget(errand))
    }

    /// Puts an errand down in the account, if that allows it: with all that it may cost; where there is no room for that,
    /// with what it most likely does, and then it is worth no more.
    fn admit(&self, mechanism: Mechanism, errand: &mut Errand) -> bool {
        let demanded_bytes = self.cache.counters().demanded_bytes;
        let mut ledger = self.ledger.lock();
        match errand {
            Errand::Object(want) => {
                want.worth_bytes = None;
                if ledger.admit(want.id, mechanism, want.content_limit(), demanded_bytes) {
                    return true;
                }
                want.worth_bytes = want.modest_bytes();
                want.worth_bytes.is_some_and(|bytes| ledger.admit(want.id, mechanism, bytes, demanded_bytes))
            }
            Errand::Pack(of) => {
                let bytes = of.pack.content_limit();
                ledger.admit_pack(of.pack.id, of.mechanism, bytes, &of.ids, demanded_bytes)
            }
            Errand::Work(..) => true,
        }
    }

    fn forget(&self, errand: &Errand) {
        match errand {
            Errand::Object(want) => self.ledger.lock().drop_guess(&want.id),
            Errand::Pack(of) => self.ledger.lock().drop_pack(&of.pack.id, &of.ids),
            Errand::Work(..) => {}
        }
    }

    fn run(self: &Arc<Self>, errand: Errand, interrupt: &Interrupt) -> Done {
        if interrupt.is_cancelled() {
            self.forget(&errand);
            return Done::Failed;
        }
        match errand {
            Errand::Object(want) => self.fetch(&want, interrupt),
            Errand::Pack(errand) => self.fetch_pack(&errand, interrupt),
            Errand::Work(work) => work(self, interrupt),
        }
    }

    fn fetch(&self, want: &Want, interrupt: &Interrupt) -> Done {
        if !self.ledger.lock().depart(&want.id) {
            return Done::WELL;
        }
        match self.cache.fetch_ahead(want, interrupt) {
            Ok(Some(came)) => {
                self.ledger.lock().land(want.id, came.bytes);
                Done::Came(came)
            }
            Ok(None) => {
                self.ledger.lock().drop_guess(&want.id);
                Done::WELL
            }
            Err(error) => {
                tracing::debug!(%error, "a guess failed");
                self.ledger.lock().drop_guess(&want.id);
                Done::Failed
            }
        }
    }

    fn fetch_pack(&self, errand: &PackErrand, interrupt: &Interrupt) -> Done {
        let PackErrand { pack, wants, ids, .. } = errand;
        if !self.ledger.lock().depart(&pack.id) {
            return Done::WELL;
        }
        match self.cache.fetch_pack(pack, wants, interrupt) {
            Ok(unpacked) => {
                self.packs.lock().came += 1;
                self.ledger.lock().land_pack(&pack.id, unpacked.came.bytes, ids, &unpacked.landed);
                Done::Came(unpacked.came)
            }
            Err(error) => {
                tracing::debug!(%error, pack = %pack.id, "a pack is of no use");
                // It is gone or damaged, which says nothing about other objects; what came of it came in vain.
                let is_none = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported);
                let is_its_own = is_none || error.kind() == ErrorKind::NotFound;
                let in_vain = if is_none { pack.content_limit() } else { 0 };
                self.ledger.lock().land_pack(&pack.id, in_vain, ids, &[]);
                if is_its_own { Done::WELL } else { Done::Failed }
            }
        }
    }

    /// Sees to it that an object is in the cache, on a thread of the crew; says whether it is. Waits for whoever fetches
    /// it already, and does nothing that the account does not allow.
    pub(super) fn bring(&self, mechanism: Mechanism, want: &Want, interrupt: &Interrupt) -> Result<bool> {
        if self.cache.is_cached(&want.id) {
            return Ok(true);
        }
        self.bring_booked(want, self.book(mechanism, want), interrupt)
    }

    /// Puts an object down in the account, if that has room for it: [`Self::bring_booked`] has to follow.
    pub(super) fn book(&self, mechanism: Mechanism, want: &Want) -> Option<Want> {
        let mut errand = Errand::Object(want.clone());
        let is_admitted = self.admit(mechanism, &mut errand);
        match errand {
            Errand::Object(want) if is_admitted => Some(want),
            _ => None,
        }
    }

    /// Fetches what was booked of an object, and waits for whoever fetches it already; says whether it is in the cache.
    pub(super) fn bring_booked(&self, want: &Want, booked: Option<Want>, interrupt: &Interrupt) -> Result<bool> {
        if let Some(want) = booked.filter(|want| self.ledger.lock().depart(&want.id)) {
            match self.cache.fetch_ahead(&want, interrupt) {
                Ok(Some(came)) => self.ledger.lock().land(want.id, came.bytes),
                Ok(None) => self.ledger.lock().drop_guess(&want.id),
                Err(error) => {
                    self.ledger.lock().drop_guess(&want.id);
                    return Err(error);
                }
            }
        }
        let until = Instant::now() + OTHERS_LIMIT;
        let is_on_its_way = || self.cache.is_on_its_way(want) && !interrupt.is_cancelled() && Instant::now() < until;
        while is_on_its_way() {
            std::thread::sleep(LOOK);
        }
        Ok(self.cache.is_cached(&want.id))
    }

    /// Returns the content of an object that only planning needs, brought first if need be; nothing where it cannot be
    /// had.
    pub(super) fn read(&self, mechanism: Mechanism, want: &Want, interrupt: &Interrupt) -> Result<Option<Vec<u8>>> {
        if !self.bring(mechanism, want, interrupt)? {
            return Ok(None);
        }
        self.ledger.lock().take(&want.id);
        let Some(object) = self.cache.find(want)? else { return Ok(None) };
        object.read_all(want.content_limit()).map(Some)
    }

    /// Has all of `errands` done, in their order: those for which there is no room now when there is.
    pub(super) fn list(&self, lane: Lane, errands: VecDeque<Errand>) {
        if errands.is_empty() {
            return;
        }
        let mut lists = self.lists.lock();
        if lists.len() >= LISTS_MAX {
            lists.remove(0);
        }
        lists.push(List { lane, errands, since: Instant::now() });
        self.pump_all(&mut lists);
    }

    /// Has done what waits for room in the account, as far as there is room now.
    pub(super) fn pump(&self) {
        // Whoever has it does the same.
        if let Some(mut lists) = self.lists.try_lock()
            && !lists.is_empty()
        {
            self.pump_all(&mut lists);
        }
    }

    fn pump_all(&self, lists: &mut Vec<List>) {
        lists.retain(|list| list.since.elapsed() < LIST_LIFE);
        for list in lists.iter_mut().rev() {
            let mut kept = VecDeque::new();
            for _ in 0..LOOKED_AT_MAX {
                let Some(errand) = list.errands.pop_front() else { break };
                if self.is_settled(&errand) {
                    continue;
                }
                // What is too large now does not hold up what is not.
                if let Err(errand) = self.ask(list.lane, errand) {
                    kept.push_back(errand);
                }
            }
            kept.append(&mut list.errands);
            list.errands = kept;
        }
        lists.retain(|list| !list.errands.is_empty());
    }

    fn is_settled(&self, errand: &Errand) -> bool {
        let is_there = |id| self.cache.is_cached(id) || self.ledger.lock().has(id);
        match errand {
            Errand::Object(want) => is_there(&want.id),
            Errand::Pack(of) => of.ids.iter().all(is_there),
            Errand::Work(..) => false,
        }
    }
}
