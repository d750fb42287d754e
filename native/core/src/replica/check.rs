//! Checks that a revision in a local storage is whole and consistent: the engine of `cvmfs_server check`.
//!
//! Owns the walk over the catalogs of a revision; what is wrong within one catalog is decided by the modules below,
//! a rule set a file. Nothing is changed. A problem in the repository never is an error of the check: it becomes a
//! [`Finding`] and the walk goes on with what can still be read. Only what stops the check itself is an error: no
//! such storage, a full scratch disk, a cancellation.
//!
//! One catalog is in memory at a time; objects are verified by as many threads as there are processors.
//! Source: format.md 12, server.md 3.13.

mod chunks;
mod counters;
mod database;
mod entries;
mod findings;
mod history;
mod links;
mod load;
mod mountpoints;
mod objects;
mod references;
mod table;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nearfs_format::counters::{CatalogCounters, Counters};
use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;

use crate::catalog::reader::CatalogReader;
use crate::error::{Error, ErrorKind, Result};

use super::paths::PathRules;
pub use findings::Finding;
use findings::Findings;
pub use history::check_history;
use load::Storage;
use mountpoints::Mount;
use objects::ObjectCheck;
pub use references::check_references;
use table::Table;

const OPERATION: &str = "check";

/// What to check, and how thoroughly.
#[derive(Debug, Clone)]
pub struct CheckSettings {
    /// Fully qualified repository name, for error messages.
    pub fqrn: String,
    /// Root catalog of the revision.
    pub root_hash: ContentHash,
    /// Size of the uncompressed root catalog in bytes as the manifest or the tag says it; 0 where unknown.
    pub expected_size_bytes: u64,
    /// Whether every object that a catalog names has to be in the storage. External files are not looked for.
    pub check_chunks: bool,
    /// Whether every object is read: it has to have the hash that names it and the size that its catalog says.
    pub verify_content: bool,
    /// Mountpoint of the nested catalog to begin with; the root for everything. The row in its parent is not compared.
    pub subtree: RepoPath,
    /// What the storage of a partial replica has; other nested catalogs are not looked for.
    pub paths: PathRules,
}

/// What was visited and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Hash (text form) and mountpoint of every catalog, in the order of the visits.
    pub catalogs: Vec<(String, String)>,
    /// The problems; empty for a sound revision.
    pub findings: Vec<Finding>,
}

/// Checks one revision of the repository that lies in `storage`, the directory that holds `data/`.
///
/// Blocks; setting `cancel` ends it soon with `Cancelled`. Catalogs are inflated one after the other into the system's
/// directory for temporary files, which has to have room for the largest one.
pub fn check(storage: &Path, settings: &CheckSettings, cancel: &AtomicBool) -> Result<CheckReport> {
    let storage = Storage::open(storage)?;
    let mut walk = Walk {
        storage: &storage,
        settings,
        cancel,
        objects: ObjectCheck::new(settings.verify_content),
        findings: Findings::default(),
        catalogs: Vec::new(),
    };
    if let Some(mount) = walk.find_start()? {
        walk.run(mount)?;
    }
    Ok(CheckReport { catalogs: walk.catalogs, findings: walk.findings.into_list() })
}

/// Returns `Cancelled` once somebody asked to stop.
fn check_cancelled(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::new(ErrorKind::Cancelled, OPERATION, "the repository: stopped on request"));
    }
    Ok(())
}

struct Walk<'a> {
    storage: &'a Storage<'a>,
    settings: &'a CheckSettings,
    cancel: &'a AtomicBool,
    objects: ObjectCheck,
    findings: Findings,
    catalogs: Vec<(String, String)>,
}

/// What is kept of an inspected catalog until everything below it is inspected.
struct Frame {
    subject: String,
    schema_revision: u32,
    /// `None` where the table cannot be read, which is a finding already.
    stored: Option<CatalogCounters>,
    own: Counters,
    below: Counters,
    /// False where rows or catalogs below could not be counted; sums are not compared then.
    own_is_known: bool,
    below_is_known: bool,
    waiting: Vec<Mount>,
}

impl Walk<'_> {
    /// Returns the catalog to begin with; `None` if the way to it is damaged, which is a finding then.
    fn find_start(&mut self) -> Result<Option<Mount>> {
        let mut mount = Mount {
            path: RepoPath::root(),
            hash: self.settings.root_hash,
            size_bytes: self.settings.expected_size_bytes,
            transition: None,
        };
        while mount.path != self.settings.subtree {
            check_cancelled(self.cancel)?;
            self.findings.begin_catalog(subject(&mount));
            let Some(reader) = self.open(&mount)? else { return Ok(None) };
            let nested = match reader.nested() {
                Ok(nested) => nested,
                Err(e) => {
                    self.findings.of_catalog(format_args!("nested catalogs cannot be read: {e}"));
                    return Ok(None);
                }
            };
            let next = nested.into_iter().find(|n| n.path != mount.path && self.settings.subtree.starts_with(&n.path));
            // Mountpoints only get longer, so this ends.
            let next = next.filter(|n| n.path.starts_with(&mount.path)).ok_or_else(|| {
                let CheckSettings { fqrn, subtree, .. } = self.settings;
                let reason =
                    format!("{fqrn}: no nested catalog at {subtree}; the one that holds it is at {}", mount.path);
                Error::new(ErrorKind::NotFound, OPERATION, reason)
            })?;
            mount = Mount { path: next.path, hash: next.hash, size_bytes: next.size_bytes, transition: None };
        }
        Ok(Some(mount))
    }

    /// Visits catalogs depth first, parents before their nested catalogs.
    fn run(&mut self, start: Mount) -> Result<()> {
        let mut frames: Vec<Frame> = self.inspect(&start)?.into_iter().collect();
        while let Some(frame) = frames.last_mut() {
            if let Some(mount) = frame.waiting.pop() {
                match self.inspect(&mount)? {
                    Some(child) => frames.push(child),
                    None => frame.below_is_known = false,
                }
            } else if let Some(done) = frames.pop() {
                counters::compare(&done, &mut self.findings);
                if let Some(parent) = frames.last_mut() {
                    parent.below += done.own + done.below;
                    parent.below_is_known &= done.own_is_known && done.below_is_known;
                }
            }
        }
        Ok(())
    }

    /// Loads and opens a catalog; `None` if that fails, which is a finding then.
    fn open(&mut self, mount: &Mount) -> Result<Option<CatalogReader>> {
        let loaded = match self.storage.inflate(&ObjectId::new(mount.hash, ObjectKind::Catalog), self.cancel) {
            Ok(loaded) => loaded,
            Err(stop) => {
                self.findings.of_catalog(format_args!("catalog cannot be loaded: {}", stop.problem()?));
                return Ok(None);
            }
        };
        if mount.size_bytes > 0 && loaded.size_bytes != mount.size_bytes {
            let (stated, actual) = (mount.size_bytes, loaded.size_bytes);
            self.findings
                .of_catalog(format_args!("catalog file size mismatch (expected: {stated} / actual: {actual})"));
        }
        if loaded.has_write_ahead_log {
            self.findings.of_catalog("catalog is an SQLite file with a write-ahead log, which clients cannot read");
        }
        match CatalogReader::open(&loaded.file, subject(mount)) {
            Ok(reader) => Ok(Some(reader)),
            Err(e) => {
                self.findings.of_catalog(format_args!("catalog cannot be opened: {e}"));
                Ok(None)
            }
        }
    }

    /// Applies every rule that needs nothing but this catalog and its mountpoint's row.
    fn inspect(&mut self, mount: &Mount) -> Result<Option<Frame>> {
        check_cancelled(self.cancel)?;
        self.catalogs.push((mount.hash.to_string(), mount.path.to_string()));
        self.findings.begin_catalog(subject(mount));
        let Some(reader) = self.open(mount)? else { return Ok(None) };
        let findings = &mut self.findings;
        let stored = counters::read(&reader, findings);
        let Some(prefix) = mountpoints::check_prefix(&reader, &mount.path, findings) else { return Ok(None) };
        let mut table = Table::read(&reader, prefix, findings);
        let Some(root) = table.place(findings) else { return Ok(None) };
        let mut own = entries::check(&table, findings);
        links::check(&table, reader.schema(), findings);
        mountpoints::check_root(&table, root, mount, findings);
        mountpoints::check_markers(&table, root, findings);
        let nested = mountpoints::check_registered(&table, &reader, findings);
        own.nested = nested.count;
        let wants_objects = self.settings.check_chunks || self.settings.verify_content;
        let mut uses = wants_objects.then(Vec::new);
        let chunks = chunks::check(&table, &reader, uses.as_mut(), findings);
        own.chunks = chunks.unwrap_or(0);
        if let Some(uses) = uses {
            self.objects.check(self.storage, &table, uses, self.cancel, findings)?;
        }
        // A catalog that belongs elsewhere leads elsewhere: following it could visit the same catalogs many times.
        let mut waiting = if table.prefix == mount.path { nested.mounts } else { Vec::new() };
        waiting.retain(|mount| self.settings.paths.wants(&mount.path));
        Ok(Some(Frame {
            subject: subject(mount),
            schema_revision: reader.schema().revision,
            stored,
            own,
            below: Counters::default(),
            own_is_known: table.is_complete && nested.is_known && chunks.is_some(),
            below_is_known: waiting.len() as i64 == nested.count && nested.is_known,
            waiting,
        }))
    }
}

fn subject(mount: &Mount) -> String {
    format!("catalog {} at {}", mount.hash, mount.path)
}
