//! Settling: what the ledger recorded goes into the database, and what was not used for longest goes away.
//!
//! A short job under the lock of `lock_cachedb`, done by whichever process notices that it is due. If its process dies
//! in the middle, the lock is free and the next one does the rest: every step may be done twice, and each leaves
//! totals right or too high, never too low.
//!
//! Threads: runs on a thread that serves nobody; only the owner of the lock gets here.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};
use rustix::fs::{FlockOperation, flock};

use super::cachedb::CacheDb;
use super::ledger::{Ledger, Record, replay};
use crate::error::{Error, ErrorKind, Result};

const LOCK: &str = "lock_cachedb";
/// The ledger that is being settled.
const ASIDE: &str = "cachedb.settling";
/// Objects removed between two looks at whether to go on, and between two records of it.
const BATCH: usize = 64;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What a clean-up did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Evicted {
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

/// The right to settle, and the database after it.
#[derive(Debug)]
pub(super) struct Settling<'a> {
    dir: &'a Path,
    ledger: &'a Ledger,
    db: CacheDb,
    _lock: File,
}

impl<'a> Settling<'a> {
    /// Settles the ledger; nothing if another process is at it for longer than `patience`.
    pub(super) fn begin(
        dir: &'a Path,
        ledger: &'a Ledger,
        patience: Duration,
        may_go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Self>> {
        let Some(lock) = lock(dir, patience)? else { return Ok(None) };
        ledger.catch_up()?;
        let aside = dir.join(ASIDE);
        let open = if ledger.is_counted() { CacheDb::open(dir) } else { Err(uncounted(dir)) };
        let db = match open.and_then(|db| settle(dir, ledger, db, &aside)) {
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                tracing::info!(cache = %dir.display(), why = %error, "counting the objects of the cache");
                count(dir, ledger, &aside, may_go_on)?
            }
            other => other?,
        };
        Ok(Some(Self { dir, ledger, db, _lock: lock }))
    }

    /// Returns the database.
    pub(super) fn db(&self) -> &CacheDb {
        &self.db
    }

    /// Removes what was not used for longest until all objects take at most `goal_bytes`, or only pinned ones are left.
    pub(super) fn evict(&self, goal_bytes: u64, may_go_on: &dyn Fn() -> bool) -> Result<Evicted> {
        let mut evicted = Evicted::default();
        let mut total = self.db.totals()?.0.max(0) as u64;
        if total > goal_bytes {
            self.db.note_cleanup()?;
        }
        while total > goal_bytes && may_go_on() {
            let mut oldest = self.db.oldest(BATCH)?;
            let mut over = total - goal_bytes;
            let needed = oldest.iter().take_while(|(_, size)| {
                let is_needed = over > 0;
                over = over.saturating_sub(*size);
                is_needed
            });
            let needed = needed.count();
            oldest.truncate(needed);
            if oldest.is_empty() {
                break;
            }
            let removed = self.remove(&oldest)?;
            total = total.saturating_sub(removed.bytes);
            evicted.objects += removed.objects;
            evicted.bytes += removed.bytes;
        }
        Ok(evicted)
    }

    /// Removes one object; says whether it was there and is gone now.
    pub(super) fn evict_one(&self, id: &ObjectId) -> Result<bool> {
        let path = self.dir.join(id.cache_key());
        let Ok(metadata) = fs::metadata(&path) else { return Ok(false) };
        Ok(self.remove(&[(id.hash, metadata.len())])?.objects == 1)
    }

    fn remove(&self, victims: &[(ContentHash, u64)]) -> Result<Evicted> {
        let (mut gone, mut records) = (Vec::new(), Vec::new());
        self.db.begin()?;
        for (hash, size) in victims {
            let id = ObjectId::new(*hash, ObjectKind::File);
            if remove_unpinned(&self.dir.join(id.cache_key())) {
                gone.push(*hash);
                records.push(Record::Remove(id, *size));
            } else {
                self.db.set_pinned(hash, true)?;
            }
        }
        self.db.delete(&gone)?;
        self.db.commit()?;
        if !records.is_empty() {
            self.ledger.append(&records)?;
        }
        Ok(Evicted { objects: gone.len() as u64, bytes: bytes_of(&records) })
    }
}

fn bytes_of(records: &[Record]) -> u64 {
    records.iter().map(|record| if let Record::Remove(_, size) = record { *size } else { 0 }).sum()
}

/// Takes over what the ledger recorded, and corrects its totals.
fn settle(dir: &Path, ledger: &Ledger, mut db: CacheDb, aside: &Path) -> Result<CacheDb> {
    // One that a dead settler left: its records are older than those of the ledger.
    if aside.exists() {
        take_over(&mut db, aside)?;
    }
    let opening = ledger.renew(aside)?;
    take_over(&mut db, aside)?;
    release_the_dead(dir, &db)?;
    let (total, pinned) = db.totals()?;
    ledger.append(&[
        Record::Correct(total - opening.total_bytes),
        Record::CorrectPinned(pinned - opening.pinned_bytes),
    ])?;
    ledger.catch_up()?;
    Ok(db)
}

fn take_over(db: &mut CacheDb, aside: &Path) -> Result<()> {
    db.begin()?;
    let is_whole = replay(aside, |record| db.apply(record))?;
    db.commit()?;
    remove_aside(aside)?;
    if is_whole { Ok(()) } else { Err(Error::new(ErrorKind::Corrupt, "read", aside.display().to_string())) }
}

fn remove_aside(aside: &Path) -> Result<()> {
    match fs::remove_file(aside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", aside.display().to_string(), e)),
        _ => Ok(()),
    }
}

/// Makes the database again from what lies in the directory.
fn count(dir: &Path, ledger: &Ledger, aside: &Path, may_go_on: &dyn Fn() -> bool) -> Result<CacheDb> {
    remove_aside(aside)?;
    // What is added from here on is in the new ledger, whether the count sees it or not.
    let opening = ledger.renew(aside)?;
    let mut db = CacheDb::count(dir, may_go_on)?;
    // The order of use, which are catalogs, and objects that are about to get their names: should one not get it, the
    // new ledger says so, and it has to be there to be subtracted.
    db.begin()?;
    replay(aside, |record| db.apply(record))?;
    db.commit()?;
    remove_aside(aside)?;
    release_the_dead(dir, &db)?;
    let (total, pinned) = db.totals()?;
    ledger.append(&[
        Record::Correct(total - opening.total_bytes),
        Record::CorrectPinned(pinned - opening.pinned_bytes),
        Record::Counted,
    ])?;
    ledger.catch_up()?;
    Ok(db)
}

/// Finds the pins whose processes ended.
fn release_the_dead(dir: &Path, db: &CacheDb) -> Result<()> {
    for (hash, _) in db.pinned()? {
        let path = dir.join(ObjectId::new(hash, ObjectKind::File).cache_key());
        let is_held = File::open(path).is_ok_and(|file| !is_free(&file));
        if !is_held {
            db.set_pinned(&hash, false)?;
        }
    }
    Ok(())
}

/// Removes an object unless a living process has it pinned; says whether it is gone.
///
/// The lock is held while the name goes: who pins an object looks at its name once it has the lock.
fn remove_unpinned(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) if !is_free(&file) => false,
        Ok(_held) => fs::remove_file(path).is_ok() || !path.exists(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
        // Not readable, but perhaps removable: nobody can have it pinned.
        Err(_) => fs::remove_file(path).is_ok(),
    }
}

fn is_free(file: &File) -> bool {
    // A file system without locks has no pins.
    !matches!(flock(file, FlockOperation::NonBlockingLockExclusive), Err(rustix::io::Errno::WOULDBLOCK))
}

/// Takes the lock that settling needs; nothing if another process has it for longer than `patience`.
pub(super) fn lock(dir: &Path, patience: Duration) -> Result<Option<File>> {
    let path = dir.join(LOCK);
    let failed = |e: std::io::Error| Error::io("lock", path.display().to_string(), e);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    let deadline = Instant::now() + patience;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(failed(e.into())),
        }
    }
}

fn uncounted(dir: &Path) -> Error {
    Error::new(ErrorKind::NotFound, "settle", format!("{}: its objects were never counted", dir.display()))
}
