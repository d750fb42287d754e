//! Garbage collection: what no kept revision needs leaves the storage.
//!
//! Owns the two halves, a plan that changes nothing and its execution, and the order of deletions. Does not own locks,
//! and not where the reference log's checksum is kept: the caller holds the repository's publish lock from before the
//! plan until the new reference log is in place. Memory is bounded whatever the size of the repository: see [`super::spill`].
//!
//! **A kill at any moment loses nothing.** Nothing that a kept revision reaches is ever deleted. Within a condemned
//! revision a catalog is deleted after everything that it names, nested catalogs included, and the reference log forgets
//! a root catalog after that: what is still to be deleted can always be found again from the log.
//! Belongs to one thread. Source: format.md 7.3.

mod mark;
mod rebuild;
mod removal;

use nearfs_format::hash::ContentHash;
use nearfs_format::reflog::RefKind;

use crate::error::Result;
use crate::progress::Progress;
use crate::repo::reflog::{Reference, Reflog};
use crate::store::Store;

use super::paths::PathRules;
use super::spill::SpilledSet;
pub use rebuild::{Rebuilt, rebuild};
pub use removal::{Removal, Swept};

const OPERATION: &str = "collect garbage";
/// Hashes in memory before a set goes to disk: some 100 MB in a set of this size.
const IN_MEMORY_MAX: usize = 1_500_000;
/// Warnings that are kept: more say nothing new.
const WARNINGS_MAX: usize = 100;

/// What the manifest names.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Root catalog (`C`).
    pub root_hash: ContentHash,
    /// Tag history (`H`).
    pub history: Option<ContentHash>,
    /// Certificate (`X`).
    pub certificate: Option<ContentHash>,
    /// Metainfo (`M`).
    pub metainfo: Option<ContentHash>,
}

/// Which revisions before the newest one stay. Those with a tag always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// So many revisions before the newest one.
    Revisions(u64),
    /// Revisions that were added to the reference log at this time (Unix seconds) or later, and the one before them,
    /// which was served then.
    Since(i64),
}

/// What to keep.
#[derive(Debug, Clone)]
pub struct SweepSettings {
    /// Fully qualified repository name.
    pub fqrn: String,
    /// What the manifest names.
    pub head: Head,
    /// Which older revisions stay.
    pub retention: Retention,
    /// Further root catalogs that stay: mounted ones, the base of an open transaction. Those that are gone are no error.
    pub also_kept: Vec<ContentHash>,
    /// Hash that the reference log has to have.
    pub reflog_checksum: ContentHash,
    /// Hashes in memory before a set goes to disk.
    pub in_memory_max: usize,
    /// What the storage of a partial replica has; other nested catalogs are not needed.
    pub paths: PathRules,
}

impl SweepSettings {
    /// Returns settings with the usual bound of memory, and nothing kept beside the retention.
    pub fn new(fqrn: impl Into<String>, head: Head, retention: Retention, reflog_checksum: ContentHash) -> Self {
        let (fqrn, also_kept, in_memory_max) = (fqrn.into(), Vec::new(), IN_MEMORY_MAX);
        let paths = PathRules::default();
        Self { fqrn, head, retention, also_kept, reflog_checksum, in_memory_max, paths }
    }
}

/// A revision of the newest one's line that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptRevision {
    /// Its root catalog.
    pub root_hash: ContentHash,
    /// Its number.
    pub revision: u64,
    /// Time of its commit, Unix seconds.
    pub last_modified_s: i64,
    /// When it was added to the reference log, Unix seconds, where the log knows it.
    pub added_s: Option<i64>,
}

impl KeptRevision {
    fn age_s(&self) -> i64 {
        self.added_s.unwrap_or(self.last_modified_s)
    }
}

/// What a collection is going to do.
#[derive(Debug)]
pub struct Plan {
    reflog: Reflog,
    /// Catalogs of kept revisions.
    catalogs: SpilledSet,
    /// What the files of kept revisions need.
    objects: SpilledSet,
    in_memory_max: usize,
    /// Number of catalogs of kept revisions.
    pub catalogs_kept: u64,
    /// The newest revision and those before it that stay, newest first; tagged ones are not listed.
    pub kept: Vec<KeptRevision>,
    /// Root catalogs to be collected, oldest first.
    pub condemned: Vec<ContentHash>,
    /// Certificates, histories and metainfo objects to be deleted, oldest first.
    pub outdated: Vec<Reference>,
    /// Time before which auxiliary objects are outdated, Unix seconds.
    pub oldest_kept_s: i64,
    /// All references by kind, in the order of [`RefKind::ALL`].
    pub referenced: [u64; RefKind::ALL.len()],
    /// What is not as it should be, in words; at most [`WARNINGS_MAX`].
    pub warnings: Vec<String>,
}

/// Finds out what can go. Changes nothing.
///
/// Fails where a catalog of the newest or of a tagged revision is missing, or where any that is to be kept is corrupt:
/// what it needs is not known then, and might be deleted. Blocks; `progress` cancels.
pub fn plan(store: &dyn Store, settings: &SweepSettings, progress: &Progress) -> Result<Plan> {
    let reflog = Reflog::load(store, &store.scratch_dir(), &settings.fqrn, &settings.reflog_checksum)?;
    let references = reflog.list()?;
    let marked = mark::mark(store, settings, &references, progress)?;
    // Never everything: the newest revision at least is marked, or marking failed.
    let oldest_kept_s = marked.kept.iter().map(KeptRevision::age_s).min().unwrap_or(i64::MIN);
    let head = settings.head;
    let served = [head.certificate, head.history, head.metainfo];
    let (mut condemned, mut outdated) = (Vec::new(), Vec::new());
    let mut referenced = [0; RefKind::ALL.len()];
    for reference in references {
        for (count, kind) in referenced.iter_mut().zip(RefKind::ALL) {
            *count += u64::from(kind == reference.kind);
        }
        if reference.kind == RefKind::Catalog {
            if !marked.catalogs.contains(&reference.hash, 0)? {
                condemned.push(reference.hash);
            }
        } else if reference.timestamp < oldest_kept_s && !served.contains(&Some(reference.hash)) {
            outdated.push(reference);
        }
    }
    Ok(Plan {
        reflog,
        catalogs: marked.catalogs,
        objects: marked.objects,
        in_memory_max: settings.in_memory_max,
        catalogs_kept: marked.catalogs_kept,
        kept: marked.kept,
        condemned,
        outdated,
        oldest_kept_s,
        referenced,
        warnings: marked.warnings,
    })
}

fn warn(warnings: &mut Vec<String>, text: impl std::fmt::Display) {
    if warnings.len() < WARNINGS_MAX {
        warnings.push(text.to_string());
    }
}
