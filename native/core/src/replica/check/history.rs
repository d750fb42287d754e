//! Checks the tag database: branches, tags, and how they refer to each other. Source: format.md 6.1 and 12.2.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use nearfs_format::hash::ContentHash;
use nearfs_format::history::{check_branch_name, check_tag_name};
use nearfs_format::object::{ObjectId, ObjectKind};

use super::database::{Database, integer, text};
use super::findings::{Finding, Findings};
use super::load::{Problem, Storage};
use crate::error::Result;

/// The only schema there is; its revisions add columns and tables.
const SCHEMA: &str = "1.0";

/// Checks the history with that hash in `storage`, the directory that holds `data/`; the root catalogs that its tags
/// name are checked by [`super::check`].
pub fn check_history(storage: &Path, history: ContentHash, fqrn: &str) -> Result<Vec<Finding>> {
    let storage = Storage::open(storage)?;
    let mut findings = Findings::default();
    findings.begin_catalog(format!("tag database {history}"));
    // Histories have kilobytes: nobody has time to give up.
    match storage.inflate(&ObjectId::new(history, ObjectKind::History), &AtomicBool::new(false)) {
        Ok(inflated) => {
            if inflated.has_write_ahead_log {
                findings.of_catalog("an SQLite file with a write-ahead log, which clients cannot read");
            }
            let checked = Database::open(&inflated.file).and_then(|history| check_rows(&history, fqrn, &mut findings));
            if let Err(problem) = checked {
                findings.of_catalog(format_args!("tag database cannot be read: {problem}"));
            }
        }
        Err(stop) => findings.of_catalog(format_args!("tag database cannot be loaded: {}", stop.problem()?)),
    }
    Ok(findings.into_list())
}

fn check_rows(history: &Database, fqrn: &str, findings: &mut Findings) -> Result<(), Problem> {
    for (key, expected) in [("schema", SCHEMA), ("fqrn", fqrn)] {
        let actual = history.property(key)?;
        let is_equal = match (key, &actual) {
            // A number, which other writers may spell differently.
            ("schema", Some(text)) => text.trim().parse::<f64>().ok() == expected.parse().ok(),
            (_, actual) => actual.as_deref() == Some(expected),
        };
        if !is_equal {
            let actual = actual.unwrap_or_default().escape_debug().to_string();
            findings.of_catalog(format_args!("property {key} mismatch (expected: {expected} / in database: {actual})"));
        }
    }
    let branches = read_branches(history, findings)?;
    let used = check_tags(history, branches.as_ref(), findings)?;
    for branch in branches.iter().flat_map(HashMap::keys).filter(|b| !b.is_empty() && !used.contains(*b)) {
        findings.of(format_args!("branch {}", branch.escape_debug()), "dangling branch: no tag belongs to it");
    }
    Ok(())
}

/// Returns the first revision of every branch; `None` for a schema without branches.
fn read_branches(history: &Database, findings: &mut Findings) -> Result<Option<HashMap<String, i64>>, Problem> {
    if !history.has_column("branches", "branch")? {
        return Ok(None);
    }
    let mut branches = HashMap::new();
    let mut parents = Vec::new();
    history.each("SELECT branch, initial_revision, parent, parent IS NULL FROM branches", |row| {
        let branch = text(row, 0);
        if let Err(e) = check_branch_name(&branch) {
            findings.of(format_args!("branch {}", branch.escape_debug()), format_args!("invalid branch name: {e}"));
        }
        let has_parent = integer(row, 3) == Some(0);
        if has_parent == branch.is_empty() {
            findings.of(format_args!("branch `{}`", branch.escape_debug()), "only the default branch has no parent");
        }
        if has_parent {
            parents.push((branch.clone(), text(row, 2)));
        }
        branches.insert(branch, integer(row, 1).unwrap_or(0));
    })?;
    for (branch, parent) in parents.iter().filter(|(_, parent)| !branches.contains_key(parent)) {
        let problem = format!("unknown parent branch `{}`", parent.escape_debug());
        findings.of(format_args!("branch {}", branch.escape_debug()), problem);
    }
    Ok(Some(branches))
}

/// Checks all tags; returns the branches that have one.
fn check_tags(
    history: &Database,
    branches: Option<&HashMap<String, i64>>,
    findings: &mut Findings,
) -> Result<HashSet<String>, Problem> {
    let mut used = HashSet::new();
    let branch = if history.has_column("tags", "branch")? { "branch" } else { "''" };
    history.each(&format!("SELECT name, hash, revision, {branch} FROM tags"), |row| {
        let name = text(row, 0);
        let mut found = |problem: String| findings.of(format_args!("tag {}", name.escape_debug()), problem);
        if let Err(e) = check_tag_name(&name) {
            found(format!("invalid tag name: {e}"));
        }
        match text(row, 1).parse::<ContentHash>() {
            Ok(hash) if hash.is_null() => found("tag with zero hash".to_owned()),
            Ok(_) => {}
            Err(e) => found(format!("invalid root catalog: {e}")),
        }
        let branch = text(row, 3);
        let revision = integer(row, 2).unwrap_or(-1);
        match branches.map(|branches| branches.get(&branch)) {
            Some(None) => found(format!("unknown branch `{}`", branch.escape_debug())),
            Some(Some(initial)) if revision < *initial => {
                found(format!("invalid revision {revision}: its branch begins at {initial}"));
            }
            _ if revision < 0 => found("invalid revision".to_owned()),
            _ => {}
        }
        used.insert(branch);
    })?;
    Ok(used)
}
