//! Replication: a storage becomes what a source serves.
//!
//! Owns which revisions are brought over and in which order: metainfo and history, the line of revisions since the last
//! pull, oldest first, then the tagged ones. Does not own the manifest: the caller puts reference log, whitelist and
//! manifest in place when this returns, in that order, so that readers see the old revision until the new one is whole.
//! The caller holds the replica's lock throughout. Source: format.md 11.1.

mod fetching;
mod head;
mod present;
mod walk;

use std::collections::HashSet;
use std::sync::Arc;

use nearfs_format::hash::ContentHash;
use nearfs_format::manifest::ManifestFields;
use nearfs_format::object::{ObjectId, ObjectKind};

use super::paths::PathRules;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repo::history::HistoryDb;
use crate::store::{ReplicaStore, Store};
use crate::transport::Origin;
use fetching::Fetcher;
use present::Present;
use walk::{Scratch, Walked, Walker};

pub use head::{SourceHead, head};

/// Warnings that are kept: more say nothing new.
const WARNINGS_MAX: usize = 100;

/// What to bring over.
#[derive(Debug, Clone)]
pub struct PullSettings {
    /// Requests for objects in flight at most.
    pub in_flight: u32,
    /// The first pull brings no revisions before the newest one but those with a tag.
    pub is_initial: bool,
    /// Revisions that were committed before (Unix seconds) end the line; `None` follows it to the last pull.
    pub threshold_s: Option<i64>,
    /// The storage was left by a machine that went down: its objects are read and hashed instead of believed.
    pub verifies: bool,
    /// Root catalogs that the reference log has: those were whole.
    pub known: HashSet<ContentHash>,
    /// What a partial replica wants.
    pub paths: PathRules,
    /// The last pull wanted other parts: what is below a catalog that is there may be missing.
    pub rewalks: bool,
}

/// What a pull did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Root catalogs that are whole and that the reference log has to have, oldest first.
    pub roots: Vec<ContentHash>,
    /// Catalogs that came.
    pub catalogs_new: u64,
    /// Other objects that came.
    pub objects_new: u64,
    /// Stored bytes of those.
    pub bytes_new: u64,
    /// Objects that were looked at: those of catalogs that came.
    pub objects_seen: u64,
    /// Tags in the history.
    pub tags: u64,
    /// Revisions that the source no longer has whole, in words.
    pub warnings: Vec<String>,
}

/// A revision to be brought over.
struct Wanted {
    root: ContentHash,
    scratch: Scratch,
    /// What it is, for messages.
    name: String,
}

/// Brings everything over that the manifest of `head` reaches.
///
/// # Errors
///
/// `NotFound` for an object that the source does not have: where it was collected or published meanwhile, ask for the
/// head again. `Corrupt` for bytes that are not what their name says, `Unreachable`, `Cancelled`. What came stays, and
/// the next pull goes on from there.
pub fn pull<S: ReplicaStore + 'static>(
    origin: &Arc<Origin>,
    store: &Arc<S>,
    fields: &ManifestFields,
    fqrn: &str,
    settings: &PullSettings,
    progress: &Arc<Progress>,
) -> Result<Pulled> {
    store.clear_leftovers()?;
    let present = Present { store: store.as_ref(), verifies: settings.verifies };
    let queue: Arc<dyn Store> = Arc::<S>::clone(store);
    let fetcher = Fetcher::new(Arc::clone(origin), queue, Arc::clone(progress), settings.in_flight);
    let mut puller = Puller {
        singles: singles(&fetcher, present, fields)?,
        walker: Walker {
            store: store.as_ref(),
            fetcher,
            progress,
            present,
            rewalks: settings.rewalks,
            paths: &settings.paths,
            seen: walk::nothing_seen(store.as_ref()),
            walked: Walked::default(),
        },
        fields,
        fqrn,
        settings,
        pulled: Pulled::default(),
    };
    puller.line()?;
    puller.walker.fetcher.drain()?;
    if let Some(history) = fields.history {
        puller.tags(HistoryDb::load(store.as_ref(), &store.scratch_dir(), fqrn, history)?)?;
    }
    let Puller { walker, mut pulled, .. } = puller;
    let walked = walker.walked;
    store.sync()?;
    (pulled.objects_new, pulled.bytes_new) = walker.fetcher.counts();
    (pulled.catalogs_new, pulled.objects_seen) = (walked.catalogs_new, walked.objects_seen);
    Ok(pulled)
}

/// Asks for what the manifest names itself. A queue of its own: what fails there belongs to no revision.
fn singles(fetcher: &Fetcher, present: Present<'_>, fields: &ManifestFields) -> Result<Fetcher> {
    let queue = fetcher.anew();
    let named = [
        (fields.metainfo, ObjectKind::Metainfo),
        (fields.history, ObjectKind::History),
        (fields.certificate, ObjectKind::Certificate),
    ];
    for (hash, kind) in named {
        if let Some(id) = hash.map(|hash| ObjectId::new(hash, kind))
            && !present.has(&id)?
        {
            queue.object(id)?;
        }
    }
    Ok(queue)
}

struct Puller<'p> {
    walker: Walker<'p>,
    singles: Fetcher,
    fields: &'p ManifestFields,
    fqrn: &'p str,
    settings: &'p PullSettings,
    pulled: Pulled,
}

impl Puller<'_> {
    /// Brings the newest revision over, after those that came since the last pull: whoever finds a revision finds the
    /// ones before it.
    fn line(&mut self) -> Result<()> {
        let newest = self.fields.root_hash;
        let mut line = vec![Wanted { root: newest, scratch: None, name: "the newest revision".into() }];
        let is_known = self.was_brought(newest)?;
        if !self.settings.is_initial && !is_known {
            self.predecessors(&mut line)?;
        }
        self.await_singles()?;
        while let Some(wanted) = line.pop() {
            let is_newest = wanted.root == newest;
            self.bring(wanted, is_newest)?;
        }
        Ok(())
    }

    /// Waits for metainfo, history and certificate, whose requests passed while root catalogs were asked for: without
    /// them, nothing that the manifest names may be shown.
    fn await_singles(&self) -> Result<()> {
        self.singles.drain().map_err(|e| {
            let subject = format!("{}: what its manifest itself names did not come", self.fqrn);
            Error::new(e.kind(), "replicate", subject).with_source(e)
        })
    }

    /// Says whether an earlier pull brought a revision over: the reference log follows when it is whole, and on disk.
    fn was_brought(&self, root: ContentHash) -> Result<bool> {
        Ok(self.settings.known.contains(&root) && self.walker.has_named(root)?)
    }

    fn predecessors(&mut self, line: &mut Vec<Wanted>) -> Result<()> {
        let mut known: HashSet<ContentHash> = HashSet::from([self.fields.root_hash]);
        loop {
            let Some(last) = line.last_mut() else { return Ok(()) };
            let Some(opened) = self.root(last)? else { return Ok(()) };
            let committed_s = opened.reader.number("last_modified").unwrap_or(0);
            let is_old =
                self.settings.threshold_s.is_some_and(|threshold| committed_s < u64::try_from(threshold).unwrap_or(0));
            if line.len() > 1 && is_old {
                line.pop();
                return Ok(());
            }
            let Some(previous) = opened.previous_revision() else { return Ok(()) };
            // A line that leads back into itself ends there.
            if self.was_brought(previous)? || !known.insert(previous) {
                return Ok(());
            }
            line.push(Wanted { root: previous, scratch: None, name: format!("revision {previous}") });
        }
    }

    /// Opens a root catalog, from the store or from the source; `None` for one before the newest that is gone.
    fn root(&self, wanted: &mut Wanted) -> Result<Option<super::load::Opened>> {
        if !self.walker.has_tree(wanted.root)? {
            self.walker.fetcher.catalog(0, wanted.root);
            match self.walker.fetcher.arrived()?.file {
                Ok(file) => wanted.scratch = Some(file.into_temp_path()),
                Err(e) if e.kind() == ErrorKind::NotFound && wanted.root != self.fields.root_hash => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        self.walker.open(wanted.root, wanted.scratch.as_ref()).map(Some)
    }

    fn tags(&mut self, history: HistoryDb) -> Result<()> {
        let mut brought: HashSet<ContentHash> = self.pulled.roots.iter().copied().collect();
        for tag in history.tags()? {
            self.pulled.tags += 1;
            if brought.insert(tag.root_hash) {
                let wanted = Wanted { root: tag.root_hash, scratch: None, name: format!("tag '{}'", tag.name) };
                self.bring(wanted, false)?;
            }
        }
        Ok(())
    }

    /// Brings one revision over. One before the newest may be gone where its source collects garbage.
    fn bring(&mut self, wanted: Wanted, is_newest: bool) -> Result<()> {
        let Wanted { root, scratch, name } = wanted;
        match self.walker.tree(root, scratch) {
            Ok(()) => self.pulled.roots.push(root),
            Err(e) if e.kind() == ErrorKind::NotFound && !is_newest && self.fields.is_collectable => {
                self.walker.start_over();
                if self.pulled.warnings.len() < WARNINGS_MAX {
                    self.pulled.warnings.push(format!("skipping missing root catalog {root} ({name}): {e}"));
                }
            }
            Err(e) => return Err(Error::new(e.kind(), "replicate", name).with_source(e)),
        }
        Ok(())
    }
}
