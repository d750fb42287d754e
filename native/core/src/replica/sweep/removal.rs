//! Deletes what a plan condemned, in an order that a kill cannot harm.
//!
//! Owns the walk over condemned catalogs, the list of deleted objects and the counters. Belongs to one thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};

use super::super::load;
use super::super::spill::SpilledSet;
use super::{OPERATION, Plan, warn};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::store::{ObjectRemove, Store};

/// Objects that are listed, then deleted, together.
const BATCH: usize = 1024;

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct Removal {
    /// Whether nothing is deleted, and only found out what would be.
    pub is_dry_run: bool,
    /// Whether the sizes of deleted objects are added up; costs a look at each.
    pub measure: bool,
    /// File that deleted objects are appended to, a hash with its suffix letter a line, before they are deleted.
    pub listing: Option<PathBuf>,
}

/// What was deleted, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Revisions, counted by their root catalogs.
    pub revisions: u64,
    /// Catalogs, root catalogs included.
    pub catalogs: u64,
    /// Files' objects and chunks.
    pub objects: u64,
    /// Certificates, histories and metainfo objects.
    pub auxiliary: u64,
    /// Stored size of all of them, if it was asked for.
    pub bytes: u64,
    /// Deletions of what was gone already: by an earlier mention, or an earlier collection.
    pub duplicates: u64,
    /// What is not as it should be, in words.
    pub warnings: Vec<String>,
    /// The reference log without what was deleted; `None` where it stays as it is.
    pub reflog: Option<Vec<u8>>,
}

/// A condemned catalog whose nested catalogs go first.
struct Frame {
    hash: ContentHash,
    nested: Vec<ContentHash>,
    /// Everything that it names is deleted.
    is_clear: bool,
}

impl Plan {
    /// Executes the plan. The caller then replaces the reference log, if there is a new one.
    ///
    /// Stops at the first object that cannot be deleted, and soon after `progress` was cancelled; the next collection
    /// goes on from there. A condemned catalog that is damaged stays, and its revision in the reference log: a warning
    /// says so. Counts condemned revisions as files in `progress`.
    pub fn execute<S: Store + ObjectRemove>(self, store: &S, removal: &Removal, progress: &Progress) -> Result<Swept> {
        let had = SpilledSet::new(&store.scratch_dir(), self.in_memory_max);
        let bin = Bin::open(store, removal, had)?;
        let mut reflog = self.reflog;
        let mut sweep = Sweep { store, kept: (&self.catalogs, &self.objects), progress, bin };
        let mut gone = Vec::new();
        progress.expect(self.condemned.len() as u64, 0);
        for root_hash in self.condemned {
            if sweep.remove_tree(root_hash)? {
                gone.push(root_hash);
            }
            progress.add_file();
        }
        let mut bin = sweep.bin;
        bin.swept.revisions = gone.len() as u64;
        for reference in self.outdated {
            progress.check(OPERATION)?;
            bin.add(ObjectId::new(reference.hash, reference.kind.object_kind()))?;
            gone.push(reference.hash);
        }
        bin.empty()?;
        let mut swept = bin.swept;
        if !removal.is_dry_run {
            // A collection that was killed leaves the catalog that it read.
            store.clear_leftovers()?;
        }
        if removal.is_dry_run || gone.is_empty() {
            return Ok(swept);
        }
        // The log must not forget on disk what is not deleted on disk.
        store.sync()?;
        for hash in &gone {
            reflog.remove(hash)?;
        }
        reflog.vacuum()?;
        swept.reflog = Some(reflog.into_bytes()?);
        Ok(swept)
    }
}

struct Sweep<'a, S> {
    store: &'a S,
    kept: (&'a SpilledSet, &'a SpilledSet),
    progress: &'a Progress,
    bin: Bin<'a, S>,
}

impl<S: Store + ObjectRemove> Sweep<'_, S> {
    /// Deletes a condemned revision, its catalogs last; says whether nothing of it is left.
    fn remove_tree(&mut self, root_hash: ContentHash) -> Result<bool> {
        let mut is_clear = true;
        let mut frames = Vec::new();
        match self.enter(root_hash)? {
            Entered::Opened(frame) => frames.push(frame),
            Entered::Nothing => return Ok(true),
            Entered::Damaged => return Ok(false),
        }
        while let Some(frame) = frames.last_mut() {
            if let Some(hash) = frame.nested.pop() {
                match self.enter(hash)? {
                    Entered::Opened(nested) => frames.push(nested),
                    Entered::Nothing => {}
                    Entered::Damaged => frame.is_clear = false,
                }
            } else if let Some(done) = frames.pop() {
                if done.is_clear {
                    self.bin.add(ObjectId::new(done.hash, ObjectKind::Catalog))?;
                    // Before another revision asks for this catalog.
                    self.bin.empty()?;
                }
                match frames.last_mut() {
                    Some(above) => above.is_clear &= done.is_clear,
                    None => is_clear = done.is_clear,
                }
            }
        }
        Ok(is_clear)
    }

    /// Deletes what a condemned catalog names, except for nested catalogs, which it returns.
    fn enter(&mut self, hash: ContentHash) -> Result<Entered> {
        self.progress.check(OPERATION)?;
        let (kept_catalogs, kept_objects) = self.kept;
        if kept_catalogs.contains(&hash, 0)? || self.bin.had(&ObjectId::new(hash, ObjectKind::Catalog))? {
            return Ok(Entered::Nothing);
        }
        let clear = load::open(self.store, hash, self.progress).and_then(|catalog| {
            let Some(catalog) = catalog else { return Ok(None) };
            let nested = catalog.reader.nested()?;
            catalog.reader.references(|id| {
                self.progress.check(OPERATION)?;
                if kept_objects.contains(&id.hash, 0)? { Ok(()) } else { self.bin.add(id) }
            })?;
            Ok(Some(nested.into_iter().map(|nested| nested.hash).collect()))
        });
        match clear {
            Ok(Some(nested)) => Ok(Entered::Opened(Frame { hash, nested, is_clear: true })),
            Ok(None) => Ok(Entered::Nothing),
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                let text = format_args!("catalog {hash} of a revision to be collected stays, with what it names: {e}");
                warn(&mut self.bin.swept.warnings, text);
                Ok(Entered::Damaged)
            }
            Err(e) => Err(e),
        }
    }
}

enum Entered {
    Opened(Frame),
    /// Kept, or gone already.
    Nothing,
    Damaged,
}

/// Objects on their way out.
struct Bin<'a, S> {
    store: &'a S,
    removal: &'a Removal,
    listing: Option<File>,
    waiting: Vec<ObjectId>,
    /// What a dry run would have deleted by now.
    had: SpilledSet,
    swept: Swept,
}

impl<'a, S: Store + ObjectRemove> Bin<'a, S> {
    fn open(store: &'a S, removal: &'a Removal, had: SpilledSet) -> Result<Self> {
        let open = |path: &PathBuf| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.map_err(|e| Error::io("open deletion log", path.display().to_string(), e))
        };
        let listing = removal.listing.as_ref().map(open).transpose()?;
        Ok(Self { store, removal, listing, waiting: Vec::new(), had, swept: Swept::default() })
    }

    /// Says whether a dry run would have deleted the object before. A real run finds it gone.
    fn had(&self, id: &ObjectId) -> Result<bool> {
        if self.removal.is_dry_run { self.had.contains(&id.hash, kind_number(id.kind)) } else { Ok(false) }
    }

    fn add(&mut self, id: ObjectId) -> Result<()> {
        if self.removal.is_dry_run {
            if self.had(&id)? {
                self.swept.duplicates += 1;
                return Ok(());
            }
            self.had.insert(&id.hash, kind_number(id.kind))?;
        }
        self.waiting.push(id);
        if self.waiting.len() < BATCH { Ok(()) } else { self.empty() }
    }

    /// Deletes what waits, in its order.
    fn empty(&mut self) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        if self.removal.is_dry_run || self.removal.measure || self.listing.is_some() {
            let mut there = Vec::with_capacity(waiting.len());
            for id in waiting {
                match self.store.size(&id)? {
                    Some(bytes) => {
                        self.swept.bytes += bytes;
                        there.push(id);
                    }
                    None => self.swept.duplicates += 1,
                }
            }
            waiting = there;
        }
        self.list(&waiting)?;
        for id in waiting {
            if self.removal.is_dry_run || self.store.remove(&id)? {
                match id.kind {
                    ObjectKind::Catalog => self.swept.catalogs += 1,
                    ObjectKind::File | ObjectKind::Chunk => self.swept.objects += 1,
                    _ => self.swept.auxiliary += 1,
                }
            } else {
                self.swept.duplicates += 1;
            }
        }
        Ok(())
    }

    fn list(&mut self, ids: &[ObjectId]) -> Result<()> {
        let Some(file) = &mut self.listing else { return Ok(()) };
        let mut text = Vec::new();
        for id in ids {
            // Memory takes every write.
            let _ = writeln!(text, "{}{}", id.hash, id.kind.suffix());
        }
        file.write_all(&text).map_err(|e: io::Error| {
            let path = self.removal.listing.as_ref().map_or_else(String::new, |path| path.display().to_string());
            Error::io("write deletion log", path, e)
        })
    }
}

/// Tells apart what has the same hash and another suffix.
fn kind_number(kind: ObjectKind) -> u8 {
    kind.suffix().bytes().next().unwrap_or(0)
}
