//! Finds what belongs in the reference log: for repositories without one, and for logs that lack something.
//!
//! Owns where to look: the manifest, the root catalogs before its own, the histories before its own and their tags.
//! Revisions that nothing leads to any more stay unknown, and their objects in the storage. Belongs to one thread.
//! Source: format.md 7.2.

use nearfs_format::hash::ContentHash;
use nearfs_format::object::ObjectId;
use nearfs_format::reflog::RefKind;

use super::super::load;
use super::{Head, OPERATION};
use crate::error::{ErrorKind, Result};
use crate::progress::Progress;
use crate::repo::history::HistoryDb;
use crate::repo::reflog::{Reference, Reflog};
use crate::store::Store;

/// A reference log that lacks nothing that can be found.
#[derive(Debug)]
pub struct Rebuilt {
    /// The bytes of the log.
    pub reflog: Vec<u8>,
    /// What was added, with the time of now: younger than it is, so that the next collection rather keeps it.
    pub added: Vec<Reference>,
}

/// Returns the log with everything added that is stored and leads to the present: that with hash `checksum`, or a new
/// one. Changes nothing. `NotFound` or `Corrupt` if what the manifest itself names cannot be read.
pub fn rebuild(
    store: &dyn Store,
    fqrn: &str,
    head: &Head,
    checksum: Option<&ContentHash>,
    now_s: i64,
    progress: &Progress,
) -> Result<Rebuilt> {
    let scratch = store.scratch_dir();
    let reflog = match checksum {
        Some(checksum) => Reflog::load(store, &scratch, fqrn, checksum)?,
        None => Reflog::create(&scratch, fqrn)?,
    };
    let mut search = Search { store, fqrn, progress, now_s, reflog, added: Vec::new() };
    search.follow_roots(head.root_hash)?;
    if let Some(history) = head.history {
        search.follow_histories(history)?;
    }
    for (hash, kind) in [(head.certificate, RefKind::Certificate), (head.metainfo, RefKind::Metainfo)] {
        if let Some(hash) = hash {
            search.add(hash, kind)?;
        }
    }
    Ok(Rebuilt { reflog: search.reflog.into_bytes()?, added: search.added })
}

struct Search<'a> {
    store: &'a dyn Store,
    fqrn: &'a str,
    progress: &'a Progress,
    now_s: i64,
    reflog: Reflog,
    added: Vec<Reference>,
}

impl Search<'_> {
    fn add(&mut self, hash: ContentHash, kind: RefKind) -> Result<()> {
        let is_stored = self.store.size(&ObjectId::new(hash, kind.object_kind()))?.is_some();
        if is_stored && !self.reflog.contains(&hash, kind)? {
            let reference = Reference { hash, kind, timestamp: self.now_s };
            self.reflog.add(&reference)?;
            self.added.push(reference);
        }
        Ok(())
    }

    fn follow_roots(&mut self, head: ContentHash) -> Result<()> {
        let mut next = Some(head);
        while let Some(hash) = next {
            self.add(hash, RefKind::Catalog)?;
            // An end: a collection took what was before.
            let Some(root) = load::open(self.store, hash, self.progress)? else { break };
            next = root.previous_revision();
        }
        Ok(())
    }

    fn follow_histories(&mut self, head: ContentHash) -> Result<()> {
        let mut next = Some(head);
        while let Some(hash) = next {
            self.progress.check(OPERATION)?;
            let history = match HistoryDb::load(self.store, &self.store.scratch_dir(), self.fqrn, hash) {
                Ok(history) => history,
                Err(e) if e.kind() == ErrorKind::NotFound && hash != head => break,
                Err(e) => return Err(e),
            };
            self.add(hash, RefKind::History)?;
            for tag in history.tags()? {
                self.add(tag.root_hash, RefKind::Catalog)?;
            }
            next = history.previous_revision()?;
        }
        Ok(())
    }
}
