//! Checks the reference log: that it is the one that was written, and that it knows what the manifest names.
//!
//! Source: format.md 7.1, 7.2 and 12.1.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use nearfs_format::hash::ContentHash;
use nearfs_format::object::ObjectKind;
use nearfs_format::reflog::{RefKind, SCHEMA, SCHEMA_REVISION};

use super::database::{Database, integer, text};
use super::findings::{Finding, Findings};
use super::load::{Problem, Storage};
use crate::error::{Error, ErrorKind, Result};

const REFLOG: &str = ".cvmfsreflog";

/// Checks `.cvmfsreflog` in `storage` against its checksum (text of `reflog.chksum`, or the manifest's `Y`; empty where
/// none is known) and looks for every reference in it: root catalog, certificate, history and metainfo of the manifest.
///
/// A repository with neither a log nor a checksum is an old one, and sound.
pub fn check_references(
    storage: &Path,
    checksum: &str,
    references: &[(ContentHash, ObjectKind)],
) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    findings.begin_catalog(format!("reference log {REFLOG}"));
    let storage = Storage::open(storage)?;
    let exists = storage.path(REFLOG).exists();
    let checksum = checksum.trim();
    match (exists, checksum.is_empty()) {
        (false, true) => {}
        (false, false) => findings.of_catalog("missing from the storage, though its checksum is known"),
        (true, true) => findings.of_catalog("its checksum is unknown, so it cannot be trusted"),
        (true, false) => check_log(&storage, checksum, references, &mut findings)?,
    }
    Ok(findings.into_list())
}

fn check_log(
    storage: &Storage<'_>,
    checksum: &str,
    references: &[(ContentHash, ObjectKind)],
    findings: &mut Findings,
) -> Result<()> {
    let expected = checksum
        .parse::<ContentHash>()
        .map_err(|e| Error::new(ErrorKind::InvalidInput, "check", "reference log: its checksum").with_source(e))?;
    // Reflogs have kilobytes: nobody has time to give up.
    let copy = match storage.copy_plain(REFLOG, expected, &AtomicBool::new(false)) {
        Ok(copy) => copy,
        Err(stop) => {
            findings.of_catalog(format_args!("reference log mismatch: {}", stop.problem()?));
            return Ok(());
        }
    };
    if let Err(problem) = Database::open(&copy.file).and_then(|log| check_rows(&log, references, findings)) {
        findings.of_catalog(format_args!("reference log cannot be read: {problem}"));
    }
    Ok(())
}

fn check_rows(
    log: &Database,
    references: &[(ContentHash, ObjectKind)],
    findings: &mut Findings,
) -> Result<(), Problem> {
    for (key, expected) in [("schema", SCHEMA), ("schema_revision", SCHEMA_REVISION)] {
        let actual = log.property(key)?.unwrap_or_default();
        if actual != expected {
            let actual = actual.escape_debug();
            findings.of_catalog(format_args!("property {key} mismatch (expected: {expected} / in log: {actual})"));
        }
    }
    let mut known = HashSet::new();
    log.each("SELECT hash, type FROM refs", |row| {
        let hash = text(row, 0);
        let kind = integer(row, 1).and_then(|id| RefKind::from_id(id).ok());
        match (hash.parse::<ContentHash>(), kind) {
            (Ok(hash), Some(kind)) => drop(known.insert((hash, kind))),
            _ => findings.of_catalog(format_args!("invalid reference `{}`", hash.escape_debug())),
        }
    })?;
    for (hash, kind) in references {
        let is_known = RefKind::from_object_kind(*kind).is_some_and(|kind| known.contains(&(*hash, kind)));
        if !is_known {
            findings
                .of(format_args!("{} {hash}", kind.noun()), format_args!("missing from the reference log ({REFLOG})"));
        }
    }
    Ok(())
}
