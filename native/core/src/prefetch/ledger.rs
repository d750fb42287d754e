//! What guesses cost and earned: the only place that says whether another one may be made.
//!
//! Pure bookkeeping, no I/O. The bound: what was fetched ahead and not read yet, together with what is on its way, never
//! exceeds what was needed, plus the budget. A guess on its way counts with as much as it may be stored in; once it is
//! there, with what came over the line. What was read counts as needed from then on, and so does what somebody waits for.
//!
//! A pack brings many objects with one request: it counts as one thing until it is there, as its members afterwards.
//!
//! Threading: under the lock of whoever owns it.

use std::collections::{HashMap, VecDeque};

use nearfs_format::object::ObjectId;

/// Guesses that were not used are remembered up to this number; older ones stay counted as wasted.
const REMEMBERED_MAX: usize = 1 << 14;

const MECHANISMS: usize = 6;

/// Why an object is fetched ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// A small file near those that are read.
    Neighbours,
    /// A nested catalog of a directory that is listed, or beside others that are entered.
    Catalogs,
    /// A chunk of a file of which another one is read.
    ReadAhead,
    /// What a program read when it ran before.
    Traces,
    /// What a publisher says that a file's reader needs.
    Bundles,
    /// Small files that lie in one pack with one that is read, and the tables that name packs.
    Packs,
}

impl Mechanism {
    /// All of them, in the order of [`Ledger::tally`].
    pub const ALL: [Self; MECHANISMS] =
        [Self::Neighbours, Self::Catalogs, Self::ReadAhead, Self::Traces, Self::Bundles, Self::Packs];

    /// Its name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Neighbours => "neighbours",
            Self::Catalogs => "catalogs",
            Self::ReadAhead => "readahead",
            Self::Traces => "traces",
            Self::Bundles => "bundles",
            Self::Packs => "packs",
        }
    }
}

/// What one mechanism did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Guesses that were made.
    pub asked: u64,
    /// Guesses that were there when somebody asked.
    pub used: u64,
    /// Guesses that were still on their way when somebody asked.
    pub late: u64,
    /// Guesses that are there and that nobody asked for.
    pub wasted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Flying,
    /// On its way, and somebody waits for it.
    Awaited,
    Landed,
}

#[derive(Debug)]
struct Guess {
    mechanism: Mechanism,
    stage: Stage,
    bytes: u64,
}

/// The guesses of one mount.
#[derive(Debug, Default)]
pub struct Ledger {
    budget_bytes: u64,
    guesses: HashMap<ObjectId, Guess>,
    /// Those that landed, the oldest first.
    landed: VecDeque<ObjectId>,
    used_bytes: u64,
    unused_bytes: u64,
    pending_bytes: u64,
    /// Those of them for which somebody waits.
    awaited_bytes: u64,
    tallies: [Tally; MECHANISMS],
}

impl Ledger {
    /// Opens a ledger; `budget_bytes` may be wasted beyond what was needed.
    pub fn new(budget_bytes: u64) -> Self {
        Self { budget_bytes, ..Self::default() }
    }

    /// Says whether there is a guess that somebody might use.
    pub fn is_empty(&self) -> bool {
        self.guesses.is_empty()
    }

    /// Says whether an object was guessed and not used yet.
    pub fn has(&self, id: &ObjectId) -> bool {
        self.guesses.contains_key(id)
    }

    /// Bytes fetched ahead that somebody read.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Bytes fetched ahead that nobody read so far.
    pub fn unused_bytes(&self) -> u64 {
        self.unused_bytes
    }

    /// Bytes of guesses that wait or are on their way, at most.
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// Says what a mechanism did.
    pub fn tally(&self, mechanism: Mechanism) -> Tally {
        self.tallies[mechanism as usize]
    }

    /// Takes note of a guess of `bytes`, if it may be made: there is none for that object, and the bound holds even if
    /// it is in vain. `demanded_bytes` is what came so far because somebody waited for it.
    pub fn admit(&mut self, id: ObjectId, mechanism: Mechanism, bytes: u64, demanded_bytes: u64) -> bool {
        if self.has(&id) || !self.has_room(bytes, demanded_bytes) {
            return false;
        }
        self.pending_bytes += bytes;
        self.tallies[mechanism as usize].asked += 1;
        self.guesses.insert(id, Guess { mechanism, stage: Stage::Waiting, bytes });
        true
    }

    fn has_room(&self, bytes: u64, demanded_bytes: u64) -> bool {
        let needed = demanded_bytes.saturating_add(self.used_bytes).saturating_add(self.awaited_bytes);
        let in_vain = self.pending_bytes.saturating_sub(self.awaited_bytes).saturating_add(self.unused_bytes);
        in_vain.saturating_add(bytes) <= needed.saturating_add(self.budget_bytes)
    }

    /// Takes note of a pack of `bytes` and of the objects that it is thought to bring; says whether it may be asked for.
    /// Objects that were guessed already stay what they are.
    pub fn admit_pack(
        &mut self,
        pack: ObjectId,
        mechanism: Mechanism,
        bytes: u64,
        members: &[ObjectId],
        demanded_bytes: u64,
    ) -> bool {
        if self.has(&pack) || !self.has_room(bytes, demanded_bytes) {
            return false;
        }
        self.pending_bytes += bytes;
        self.guesses.insert(pack, Guess { mechanism, stage: Stage::Waiting, bytes });
        for member in members {
            if !self.has(member) {
                self.tallies[mechanism as usize].asked += 1;
                self.guesses.insert(*member, Guess { mechanism, stage: Stage::Flying, bytes: 0 });
            }
        }
        true
    }

    /// A pack is there: `bytes` came over the line, in them the members in `landed`, each with its stored bytes. What
    /// nobody can use of it is wasted for good; members that did not come are no guesses any more.
    pub fn land_pack(&mut self, pack: &ObjectId, bytes: u64, members: &[ObjectId], landed: &[(ObjectId, u64)]) {
        let Some(guess) = self.guesses.remove(pack) else { return };
        self.pending_bytes = self.pending_bytes.saturating_sub(guess.bytes);
        let mut left = bytes;
        for (id, stored) in landed {
            left = left.saturating_sub(*stored);
            self.land(*id, *stored);
        }
        self.unused_bytes += left;
        for member in members {
            if self.guesses.get(member).is_some_and(|guess| guess.stage != Stage::Landed && guess.bytes == 0) {
                self.guesses.remove(member);
            }
        }
    }

    /// A pack will not come, nor its members by it.
    pub fn drop_pack(&mut self, pack: &ObjectId, members: &[ObjectId]) {
        self.land_pack(pack, 0, members, &[]);
    }

    /// Says whether a guess is still wanted when its turn has come; it is on its way then.
    pub fn depart(&mut self, id: &ObjectId) -> bool {
        match self.guesses.get_mut(id) {
            Some(guess) if guess.stage == Stage::Waiting => {
                guess.stage = Stage::Flying;
                true
            }
            _ => false,
        }
    }

    /// A guess is there; `bytes` came over the line for it.
    pub fn land(&mut self, id: ObjectId, bytes: u64) {
        let Some(guess) = self.guesses.get_mut(&id) else { return };
        self.pending_bytes = self.pending_bytes.saturating_sub(guess.bytes);
        if guess.stage == Stage::Awaited {
            self.awaited_bytes = self.awaited_bytes.saturating_sub(guess.bytes);
            self.used_bytes += bytes;
            self.guesses.remove(&id);
            return;
        }
        (guess.stage, guess.bytes) = (Stage::Landed, bytes);
        self.unused_bytes += bytes;
        self.tallies[guess.mechanism as usize].wasted += 1;
        self.landed.push_back(id);
        self.forget_oldest();
    }

    /// A guess will not come: it failed, was given up, or was there already.
    pub fn drop_guess(&mut self, id: &ObjectId) {
        if let Some(guess) = self.guesses.remove(id)
            && guess.stage != Stage::Landed
        {
            self.pending_bytes = self.pending_bytes.saturating_sub(guess.bytes);
            if guess.stage == Stage::Awaited {
                self.awaited_bytes = self.awaited_bytes.saturating_sub(guess.bytes);
            }
        }
    }

    /// Somebody asks for an object; says whose guess it was, if it was one. What still waits for its turn is no help,
    /// and is taken back.
    pub fn take(&mut self, id: &ObjectId) -> Option<Mechanism> {
        let guess = self.guesses.get_mut(id)?;
        let (mechanism, bytes) = (guess.mechanism, guess.bytes);
        let tally = &mut self.tallies[mechanism as usize];
        match guess.stage {
            Stage::Awaited => {}
            Stage::Flying => {
                guess.stage = Stage::Awaited;
                self.awaited_bytes += bytes;
                tally.late += 1;
            }
            Stage::Waiting => {
                self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
                tally.late += 1;
                self.guesses.remove(id);
            }
            Stage::Landed => {
                self.unused_bytes = self.unused_bytes.saturating_sub(bytes);
                self.used_bytes += bytes;
                (tally.used, tally.wasted) = (tally.used + 1, tally.wasted.saturating_sub(1));
                self.guesses.remove(id);
            }
        }
        Some(mechanism)
    }

    /// Bounds the memory: used ones leave their place in the row, unused ones their place in the table.
    fn forget_oldest(&mut self) {
        while self.landed.len() > REMEMBERED_MAX {
            let Some(oldest) = self.landed.pop_front() else { return };
            if self.guesses.get(&oldest).is_some_and(|guess| guess.stage == Stage::Landed) {
                self.guesses.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nearfs_format::hash::HashAlgorithm;
    use nearfs_format::object::ObjectKind;

    use super::*;

    fn id(number: u32) -> ObjectId {
        ObjectId::new(HashAlgorithm::Sha1.hash(&number.to_le_bytes()), ObjectKind::File)
    }

    #[test]
    fn guesses_in_vain_never_exceed_what_was_needed_plus_the_budget() {
        let mut ledger = Ledger::new(1000);
        let (mut demanded, mut in_vain) = (0, 0);
        for number in 0..10_000 {
            if ledger.admit(id(number), Mechanism::Neighbours, 30, demanded) {
                assert!(ledger.depart(&id(number)));
                ledger.land(id(number), 20);
                in_vain += 20;
            }
            demanded += u64::from(number % 7 == 0) * 5;
            assert!(in_vain <= demanded + 1000, "{in_vain} of {demanded}");
        }
        assert!(in_vain > 1000, "what was needed makes room");
        assert_eq!(ledger.unused_bytes(), in_vain);
    }

    #[test]
    fn what_is_used_makes_room_for_more() {
        let mut ledger = Ledger::new(100);
        for number in 0..50 {
            assert!(ledger.admit(id(number), Mechanism::ReadAhead, 100, 0), "{number}");
            assert!(!ledger.admit(id(number), Mechanism::ReadAhead, 1, 1 << 40), "twice");
            assert!(ledger.depart(&id(number)));
            ledger.land(id(number), 60);
            assert_eq!(ledger.take(&id(number)), Some(Mechanism::ReadAhead));
            assert_eq!(ledger.take(&id(number)), None);
        }
        let expected = Tally { asked: 50, used: 50, late: 0, wasted: 0 };
        assert_eq!((ledger.tally(Mechanism::ReadAhead), ledger.used_bytes()), (expected, 50 * 60));
        assert!(ledger.is_empty());
    }

    #[test]
    fn late_guesses_count_as_late_wherever_they_are() {
        let mut ledger = Ledger::new(1000);
        for number in 0..3 {
            assert!(ledger.admit(id(number), Mechanism::Catalogs, 10, 0));
        }
        assert!(ledger.depart(&id(0)));
        assert_eq!(ledger.take(&id(0)), Some(Mechanism::Catalogs));
        assert_eq!(ledger.take(&id(1)), Some(Mechanism::Catalogs));
        assert!(!ledger.depart(&id(1)), "its reader fetches it");
        ledger.land(id(0), 7);
        ledger.drop_guess(&id(2));
        assert_eq!((ledger.used_bytes(), ledger.unused_bytes(), ledger.pending_bytes()), (7, 0, 0));
        assert_eq!(ledger.tally(Mechanism::Catalogs), Tally { asked: 3, used: 0, late: 2, wasted: 0 });
    }

    #[test]
    fn what_somebody_waits_for_makes_room() {
        let mut ledger = Ledger::new(100);
        assert!(ledger.admit(id(0), Mechanism::Traces, 100, 0) && ledger.depart(&id(0)));
        assert!(!ledger.admit(id(1), Mechanism::Traces, 100, 0));
        assert_eq!(ledger.take(&id(0)), Some(Mechanism::Traces));
        assert!(ledger.admit(id(1), Mechanism::Traces, 100, 0));
        assert!(ledger.admit(id(2), Mechanism::Traces, 100, 0));
        assert!(!ledger.admit(id(3), Mechanism::Traces, 1, 0));
        ledger.drop_guess(&id(0));
        assert!(!ledger.admit(id(3), Mechanism::Traces, 1, 0), "it did not come: nothing was needed");
        assert_eq!((ledger.pending_bytes(), ledger.awaited_bytes), (200, 0));
    }

    #[test]
    fn a_pack_counts_once_and_its_members_afterwards() {
        let mut ledger = Ledger::new(1000);
        let members = [id(1), id(2), id(3), id(4)];
        assert!(ledger.admit(id(2), Mechanism::Neighbours, 10, 0));
        assert!(ledger.admit_pack(id(9), Mechanism::Packs, 500, &members, 0));
        assert!(!ledger.admit_pack(id(8), Mechanism::Packs, 500, &members, 0), "no room");
        assert_eq!((ledger.pending_bytes(), ledger.tally(Mechanism::Packs).asked), (510, 3));
        assert!(ledger.depart(&id(9)) && !ledger.depart(&id(1)));
        assert_eq!(ledger.take(&id(1)), Some(Mechanism::Packs), "on its way");
        ledger.land_pack(&id(9), 480, &members, &[(id(1), 100), (id(3), 200)]);
        assert_eq!((ledger.used_bytes(), ledger.unused_bytes(), ledger.pending_bytes()), (100, 380, 10));
        assert_eq!((ledger.take(&id(4)), ledger.take(&id(2))), (None, Some(Mechanism::Neighbours)));
        assert_eq!(ledger.take(&id(3)), Some(Mechanism::Packs));
        assert_eq!(ledger.tally(Mechanism::Packs), Tally { asked: 3, used: 1, late: 1, wasted: 0 });
        assert_eq!((ledger.used_bytes(), ledger.unused_bytes()), (300, 180), "what it had beside them stays wasted");
        assert!(ledger.admit_pack(id(8), Mechanism::Packs, 500, &members, 0));
        ledger.drop_pack(&id(8), &members);
        assert!(ledger.is_empty());
        assert_eq!(ledger.pending_bytes(), 0);
    }

    #[test]
    fn memory_has_a_bound_and_forgotten_waste_stays_waste() {
        let mut ledger = Ledger::new(u64::MAX);
        let count = REMEMBERED_MAX as u32 + 500;
        for number in 0..count {
            assert!(ledger.admit(id(number), Mechanism::Neighbours, 1, 0) && ledger.depart(&id(number)));
            ledger.land(id(number), 1);
        }
        assert_eq!(ledger.guesses.len(), REMEMBERED_MAX);
        assert_eq!((ledger.unused_bytes(), ledger.take(&id(0))), (u64::from(count), None));
    }
}
