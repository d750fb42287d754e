//! The ledger of a cache directory: who added, used and removed which object, and how much it all takes.
//!
//! Any number of processes append records to one file, `cachedb.ledger`, and read on from where they were: each knows
//! the total without asking anybody, and a process that dies at any point leaves nothing locked. Records name objects,
//! so applying one twice does no harm; totals that processes keep may drift upwards after a death, and come right at
//! the next settling (see [`super::quota`]), which starts a new file under the same name. Who appends looks afterwards
//! whether the name still leads to its file, and appends again where it does not: nobody knows whether the settling saw
//! the records. So an addition may count twice for a while, but a removal never does, and totals are never too low.
//!
//! Threads: shared; the lock around the position is held for arithmetic, never across a system call.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nearfs_format::hash::{ContentHash, DIGEST_BYTES, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use parking_lot::Mutex;

use super::disk::TXN;
use crate::error::{Error, ErrorKind, Result};

/// Name of the ledger in the cache directory.
pub(super) const LEDGER: &str = "cachedb.ledger";
/// Divides every block size, so that no record lies across two.
pub(super) const RECORD_BYTES: usize = 32;
const COUNTED_MAGIC: &[u8; 8] = b"nearfsQ1";
const GUESSED_MAGIC: &[u8; 8] = b"nearfsQ?";
/// Bounds totals, so that sums of any number of records stay within range.
const TOTAL_RANGE: std::ops::Range<i64> = 0..1 << 60;
/// Makes a record of zeros, which a power failure leaves behind, invalid.
const SEED: u8 = 0x5a;
const PIECE_RECORDS: usize = 2048;
/// Text in one record.
const LABEL_PIECE_BYTES: usize = 28;
/// Longer labels are cut: they are for people.
const LABEL_LIMIT_BYTES: usize = 1024;
/// How often an append follows a ledger that is renewed under it.
const RENEWALS: usize = 100;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// An object is added.
    Insert(ObjectId, u64),
    /// An object was removed, or not added after all: the directory says which.
    Remove(ObjectId, u64),
    /// An object was used.
    Touch(ObjectId),
    /// An object stays while its process lives.
    Pin(ObjectId, u64),
    /// The total is off by so much.
    Correct(i64),
    /// The pinned total is off by so much.
    CorrectPinned(i64),
    /// The directory was counted: totals are no guess any more.
    Counted,
    /// An object may have been removed: the directory says.
    Look(ObjectId),
    /// A piece of what the object of the addition before it was fetched for, and its length.
    Label([u8; LABEL_PIECE_BYTES], u8),
}

impl Record {
    /// Returns the records that follow an addition to say what it was for.
    pub(super) fn labels(text: &str) -> impl Iterator<Item = Self> + '_ {
        let bytes = &text.as_bytes()[..text.len().min(LABEL_LIMIT_BYTES)];
        bytes.chunks(LABEL_PIECE_BYTES).map(|piece| {
            let mut padded = [0; LABEL_PIECE_BYTES];
            padded[..piece.len()].copy_from_slice(piece);
            Self::Label(padded, piece.len() as u8)
        })
    }

    /// Returns the bytes: operation, algorithm, kind, check, digest, size; little endian.
    pub(super) fn encode(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        if let Self::Label(text, length) = self {
            (bytes[0], bytes[1]) = (9, length);
            bytes[4..].copy_from_slice(&text);
            bytes[3] = checked(&bytes);
            return bytes;
        }
        let (operation, id, size) = match self {
            Self::Insert(id, size) => (1, Some(id), size),
            Self::Remove(id, size) => (2, Some(id), size),
            Self::Touch(id) => (3, Some(id), 0),
            Self::Pin(id, size) => (4, Some(id), size),
            Self::Correct(delta) => (5, None, delta as u64),
            Self::CorrectPinned(delta) => (6, None, delta as u64),
            Self::Counted => (7, None, 0),
            Self::Look(id) => (8, Some(id), 0),
            Self::Label(..) => (9, None, 0),
        };
        bytes[0] = operation;
        if let Some(id) = id {
            bytes[1] = id.hash.algorithm().flag_id() as u8;
            bytes[2] = id.kind as u8;
            bytes[4..4 + DIGEST_BYTES].copy_from_slice(id.hash.digest());
        }
        bytes[24..].copy_from_slice(&size.to_le_bytes());
        bytes[3] = checked(&bytes);
        bytes
    }

    /// Reads a record; nothing if it is none.
    pub(super) fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        if bytes[3] != checked(bytes) {
            return None;
        }
        let size = u64::from_le_bytes(bytes[24..].try_into().ok()?);
        let digest: [u8; DIGEST_BYTES] = bytes[4..24].try_into().ok()?;
        let id = || {
            let algorithm = HashAlgorithm::from_flag_id(bytes[1].into())?;
            Some(ObjectId::new(ContentHash::new(algorithm, digest), kind(bytes[2])?))
        };
        // No object is larger than any file system allows: sums stay within range.
        let bounded = Some(size).filter(|size| *size < 1 << 50);
        Some(match bytes[0] {
            1 => Self::Insert(id()?, bounded?),
            2 => Self::Remove(id()?, bounded?),
            3 => Self::Touch(id()?),
            4 => Self::Pin(id()?, bounded?),
            5 => Self::Correct(size as i64),
            6 => Self::CorrectPinned(size as i64),
            7 => Self::Counted,
            8 => Self::Look(id()?),
            9 if usize::from(bytes[1]) <= LABEL_PIECE_BYTES => Self::Label(bytes[4..].try_into().ok()?, bytes[1]),
            _ => return None,
        })
    }

    /// Returns what to append where nobody knows whether the record itself was seen.
    fn said_again(self) -> Self {
        match self {
            Self::Remove(id, _) => Self::Look(id),
            other => other,
        }
    }

    /// Returns by how much the total and the pinned total change.
    fn deltas(self) -> (i64, i64) {
        match self {
            Self::Insert(_, size) => (size as i64, 0),
            Self::Remove(_, size) => (-(size as i64), 0),
            Self::Pin(_, size) => (0, size as i64),
            Self::Correct(delta) => (delta, 0),
            Self::CorrectPinned(delta) => (0, delta),
            Self::Touch(_) | Self::Look(_) | Self::Counted | Self::Label(..) => (0, 0),
        }
    }
}

fn checked(bytes: &[u8; RECORD_BYTES]) -> u8 {
    bytes.iter().enumerate().filter(|(at, _)| *at != 3).fold(SEED, |sum, (_, byte)| sum.rotate_left(1) ^ byte)
}

fn kind(byte: u8) -> Option<ObjectKind> {
    use ObjectKind::{Catalog, Certificate, Chunk, File, History, Metainfo};
    [File, Chunk, Catalog, History, Certificate, Metainfo].into_iter().find(|kind| *kind as u8 == byte)
}

/// What a ledger begins with: the state that its records change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    /// Which start of the machine it belongs to: after another one, the disk may have lost records.
    pub(super) boot: u64,
    /// Bytes of all objects.
    pub(super) total_bytes: i64,
    /// Bytes of pinned objects.
    pub(super) pinned_bytes: i64,
    /// Whether the directory was counted; otherwise totals are a guess until [`Record::Counted`].
    pub(super) is_counted: bool,
}

impl Opening {
    fn encode(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(if self.is_counted { COUNTED_MAGIC } else { GUESSED_MAGIC });
        bytes[8..16].copy_from_slice(&self.boot.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.total_bytes.to_le_bytes());
        bytes[24..].copy_from_slice(&self.pinned_bytes.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
        let is_counted = bytes[..8] == *COUNTED_MAGIC;
        let (total_bytes, pinned_bytes) = (word(16)? as i64, word(24)? as i64);
        let is_sane = TOTAL_RANGE.contains(&total_bytes) && TOTAL_RANGE.contains(&pinned_bytes);
        ((is_counted || bytes[..8] == *GUESSED_MAGIC) && is_sane).then_some(Self {
            boot: word(8)?,
            total_bytes,
            pinned_bytes,
            is_counted,
        })
    }
}

/// A ledger, and what this process read of it.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    position: Mutex<Position>,
}

/// One of the files that had the name. Held open, so that no later one gets its number.
#[derive(Debug, Clone)]
pub(super) struct Place {
    file: Arc<File>,
    inode: (u64, u64),
}

#[derive(Debug, Clone)]
struct Position {
    place: Place,
    offset: u64,
    total_bytes: i64,
    pinned_bytes: i64,
    is_counted: bool,
}

impl Ledger {
    /// Opens the ledger of `dir`; nothing if there is none, or none that can be believed since the machine's last start.
    pub(super) fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(LEDGER);
        match open_at(&path) {
            Ok(Some((position, opening))) if opening.boot == boot() => {
                Ok(Some(Self { path, position: Mutex::new(position) }))
            }
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("open", &path, e)),
        }
    }

    /// Puts a new ledger in the place of whatever is there. Its total is a guess. Only for the holder of the settling lock.
    pub(super) fn create(dir: &Path, total_bytes: i64) -> Result<Self> {
        let path = dir.join(LEDGER);
        let opening = Opening { boot: boot(), total_bytes, pinned_bytes: 0, is_counted: false };
        replace(&path, opening).map_err(|e| failed("create", &path, e))?;
        Self::open(dir)?
            .ok_or_else(|| Error::new(ErrorKind::LocalIo, "create", format!("{}: vanished", path.display())))
    }

    /// Puts a new ledger in the place of this one, which stays readable as `aside`; returns what the new one begins
    /// with. Only for the holder of the settling lock.
    pub(super) fn renew(&self, aside: &Path) -> Result<Opening> {
        self.catch_up()?;
        let before = self.position.lock().clone();
        let mut opening = Opening {
            boot: boot(),
            total_bytes: before.total_bytes.max(0),
            pinned_bytes: before.pinned_bytes.max(0),
            is_counted: before.is_counted,
        };
        let renew = || -> io::Result<()> {
            fs::hard_link(&self.path, aside)?;
            replace(&self.path, opening)
        };
        renew().map_err(|e| failed("renew", &self.path, e))?;
        self.follow()?;
        // What came between the reading and the renaming is not lost, but missing in the total until it is settled.
        let late = self.read_on(&before)?.0.into_iter().map(|record| record.deltas().0).sum::<i64>();
        if late != 0 {
            self.append(&[Record::Correct(late)])?;
            opening.total_bytes += late;
        }
        Ok(opening)
    }

    /// Appends records in one piece, whole or not at all as far as readers are concerned; returns where they are.
    pub(super) fn append(&self, records: &[Record]) -> Result<Place> {
        let mut bytes: Vec<u8> = records.iter().flat_map(|record| record.encode()).collect();
        for _ in 0..RENEWALS {
            let place = self.position.lock().place.clone();
            if (&*place.file).write(&bytes).map_err(|e| failed("append to", &self.path, e))? != bytes.len() {
                let full = io::Error::from(io::ErrorKind::StorageFull);
                return Err(failed("append to", &self.path, full));
            }
            if self.is_current(&place)? {
                return Ok(place);
            }
            self.follow()?;
            bytes = records.iter().flat_map(|record| record.said_again().encode()).collect();
        }
        Err(Error::new(ErrorKind::Busy, "append to", self.path.display().to_string()))
    }

    /// Says whether the name still leads to the file where something was appended.
    pub(super) fn is_current(&self, place: &Place) -> Result<bool> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok((metadata.dev(), metadata.ino()) == place.inode),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed("look at", &self.path, e)),
        }
    }

    /// Goes over to the file that has the name now.
    fn follow(&self) -> Result<()> {
        match open_at(&self.path) {
            Ok(Some((position, _))) => {
                let mut current = self.position.lock();
                if current.place.inode != position.place.inode {
                    *current = position;
                }
                Ok(())
            }
            Ok(None) => Err(Error::new(ErrorKind::Corrupt, "open", self.path.display().to_string())),
            Err(e) => Err(failed("open", &self.path, e)),
        }
    }

    /// Reads what others appended.
    pub(super) fn catch_up(&self) -> Result<()> {
        let place = self.position.lock().place.clone();
        if !self.is_current(&place)? {
            self.follow()?;
        }
        loop {
            let before = self.position.lock().clone();
            let (records, is_damaged, got) = self.read_on(&before)?;
            if got == 0 {
                return Ok(());
            }
            let mut position = self.position.lock();
            // Another thread may have read the same piece meanwhile.
            if position.place.inode == before.place.inode && position.offset == before.offset {
                position.offset += got;
                for record in records {
                    position.apply(record);
                }
                position.is_counted &= !is_damaged;
            }
        }
    }

    /// Reads the next records, whether something else was among them, and how many bytes it was.
    fn read_on(&self, position: &Position) -> Result<(Vec<Record>, bool, u64)> {
        let end = position.place.file.metadata().map_err(|e| failed("look at", &self.path, e))?.len();
        let left = end.saturating_sub(position.offset).min((RECORD_BYTES * PIECE_RECORDS) as u64);
        let mut piece = vec![0; left as usize];
        let got =
            position.place.file.read_at(&mut piece, position.offset).map_err(|e| failed("read", &self.path, e))?;
        let got = got - got % RECORD_BYTES;
        let (records, is_damaged) = decode_all(&piece[..got]);
        Ok((records, is_damaged, got as u64))
    }

    /// Returns the bytes of all objects, and of the pinned ones, as far as was read.
    pub(super) fn totals(&self) -> (u64, u64) {
        let position = self.position.lock();
        (position.total_bytes.max(0) as u64, position.pinned_bytes.max(0) as u64)
    }

    /// Returns how many bytes of records were read.
    pub(super) fn length_bytes(&self) -> u64 {
        self.position.lock().offset
    }

    /// Says whether totals follow from a count of the directory, and all that was read since are records.
    pub(super) fn is_counted(&self) -> bool {
        self.position.lock().is_counted
    }
}

impl Position {
    fn apply(&mut self, record: Record) {
        let (total, pinned) = record.deltas();
        self.total_bytes = self.total_bytes.saturating_add(total);
        self.pinned_bytes = self.pinned_bytes.saturating_add(pinned);
        self.is_counted |= record == Record::Counted;
    }
}

/// Feeds the records of a ledger that was put aside to `apply`; says whether all of it could be read.
pub(super) fn replay(aside: &Path, mut apply: impl FnMut(Record) -> Result<()>) -> Result<bool> {
    let file = File::open(aside).map_err(|e| failed("open", aside, e))?;
    let (mut offset, mut is_whole) = (RECORD_BYTES as u64, true);
    let mut piece = vec![0; RECORD_BYTES * PIECE_RECORDS];
    loop {
        let got = file.read_at(&mut piece, offset).map_err(|e| failed("read", aside, e))?;
        let (records, is_damaged) = decode_all(&piece[..got - got % RECORD_BYTES]);
        is_whole &= !is_damaged && got % RECORD_BYTES == 0;
        records.into_iter().try_for_each(&mut apply)?;
        if got < piece.len() {
            return Ok(is_whole);
        }
        offset += got as u64;
    }
}

fn decode_all(bytes: &[u8]) -> (Vec<Record>, bool) {
    let pieces = bytes.chunks_exact(RECORD_BYTES);
    let count = pieces.len();
    let records: Vec<Record> = pieces.filter_map(|piece| Record::decode(piece.try_into().ok()?)).collect();
    let is_damaged = records.len() != count;
    (records, is_damaged)
}

fn open_at(path: &Path) -> io::Result<Option<(Position, Opening)>> {
    let file = OpenOptions::new().read(true).append(true).open(path)?;
    let metadata = file.metadata()?;
    let mut opening = [0; RECORD_BYTES];
    match file.read_exact_at(&mut opening, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    Ok(Opening::decode(&opening).map(|opening| {
        let position = Position {
            place: Place { file: Arc::new(file), inode: (metadata.dev(), metadata.ino()) },
            offset: RECORD_BYTES as u64,
            total_bytes: opening.total_bytes,
            pinned_bytes: opening.pinned_bytes,
            is_counted: opening.is_counted,
        };
        (position, opening)
    }))
}

fn replace(path: &Path, opening: Opening) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    // Named as what a later start removes.
    let mut temporary = tempfile::Builder::new().prefix("fetch").tempfile_in(dir.join(TXN))?;
    temporary.write_all(&opening.encode())?;
    temporary.persist(path).map(drop).map_err(|refused| refused.error)
}

/// Returns a number that changes with every start of the machine.
fn boot() -> u64 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digest = HashAlgorithm::Sha1.hash(text.trim().as_bytes());
    digest.digest().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn failed(operation: &'static str, path: &Path, error: io::Error) -> Error {
    Error::io(operation, path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u64) -> ObjectId {
        let kind = if number % 5 == 0 { ObjectKind::Catalog } else { ObjectKind::File };
        ObjectId::new(HashAlgorithm::ALL[number as usize % 3].hash(&number.to_le_bytes()), kind)
    }

    proptest! {
        #[test]
        fn records_and_bytes_are_each_others_inverse(number in any::<u64>(), size in 0u64..1 << 50, delta in any::<i64>()) {
            let id = id(number);
            for record in [
                Record::Insert(id, size), Record::Remove(id, size), Record::Touch(id), Record::Pin(id, size),
                Record::Correct(delta), Record::CorrectPinned(delta), Record::Counted, Record::Look(id),
                Record::Label([number as u8; LABEL_PIECE_BYTES], number as u8 % 29),
            ] {
                prop_assert_eq!(Record::decode(&record.encode()), Some(record));
            }
        }

        #[test]
        fn a_changed_bit_is_no_record(number in any::<u64>(), bit in 0usize..RECORD_BYTES * 8) {
            let mut bytes = Record::Insert(id(number), 7).encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Record::decode(&bytes), None);
        }
    }

    #[test]
    fn every_process_sees_what_the_others_wrote_across_renewals() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("txn")).unwrap();
        let here = Ledger::create(dir.path(), 1000).unwrap();
        let there = Ledger::open(dir.path()).unwrap().unwrap();
        here.append(&[Record::Insert(id(1), 500), Record::Touch(id(2)), Record::Pin(id(1), 500)]).unwrap();
        there.catch_up().unwrap();
        assert_eq!(there.totals(), (1500, 500));
        let aside = dir.path().join("aside");
        let opening = here.renew(&aside).unwrap();
        assert_eq!((opening.total_bytes, opening.pinned_bytes, opening.is_counted), (1500, 500, false));
        // Still appends to the old file, notices, and appends again.
        there.append(&[Record::Remove(id(1), 500)]).unwrap();
        here.catch_up().unwrap();
        there.catch_up().unwrap();
        assert_eq!((here.totals(), there.totals()), ((1500, 500), (1500, 500)), "too high until it is settled");
        let mut records = Vec::new();
        let is_whole = replay(&aside, |record| {
            records.push(record);
            Ok(())
        });
        assert!(is_whole.unwrap());
        assert_eq!(records.last(), Some(&Record::Remove(id(1), 500)));
        assert_eq!(records.len(), 4);
    }

    #[test]
    fn zeros_and_torn_records_are_noticed_and_another_boot_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("txn")).unwrap();
        let ledger = Ledger::create(dir.path(), 0).unwrap();
        ledger.append(&[Record::Insert(id(1), 5), Record::Counted]).unwrap();
        ledger.catch_up().unwrap();
        assert!(ledger.is_counted());
        let path = dir.path().join(LEDGER);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&[0; RECORD_BYTES]);
        fs::write(&path, &bytes).unwrap();
        ledger.catch_up().unwrap();
        assert!(!ledger.is_counted());
        assert_eq!(ledger.totals(), (5, 0));
        bytes[9] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(Ledger::open(dir.path()).unwrap().is_none());
        fs::write(&path, b"short").unwrap();
        assert!(Ledger::open(dir.path()).unwrap().is_none());
    }
}
