//! Link counts and hardlink groups. Source: format.md 4.6 and 12.9.

use nearfs_format::dirent::EntryFlags;

use super::findings::Findings;
use super::table::Table;
use crate::catalog::reader::Schema;

/// First schema with link counts; before, every entry has one link.
const SCHEMA_WITH_LINKS: f64 = 2.0;

/// Checks link counts of all entries and the members of all hardlink groups.
pub(super) fn check(table: &Table, schema: Schema, findings: &mut Findings) {
    if schema.version < SCHEMA_WITH_LINKS {
        return;
    }
    let mut subdirectories = vec![0_u32; table.rows.len()];
    for (at, row) in table.placed() {
        if row.is_directory() && table.parent(at) != at {
            subdirectories[table.parent(at) as usize] += 1;
        }
    }
    let mut members: Vec<(u32, u32)> = Vec::new();
    for (at, row) in table.placed() {
        let links = row.hardlinks;
        if row.is_directory() {
            check_directory(table, at, subdirectories[at as usize], findings);
        } else if links.linkcount == 0 {
            findings.at(&table.path(at), "linkcount is 0");
        } else if links.group != 0 {
            members.push((links.group, at));
        } else if links.linkcount > 1 {
            let problem = format_args!("linkcount is {}, but the entry is in no hardlink group", links.linkcount);
            findings.at(&table.path(at), problem);
        }
    }
    members.sort_unstable();
    for group in members.chunk_by(|a, b| a.0 == b.0) {
        check_group(table, group, findings);
    }
}

fn check_directory(table: &Table, at: u32, subdirectories: u32, findings: &mut Findings) {
    let row = table.row(at);
    let links = row.hardlinks;
    if links.group != 0 {
        findings.at(&table.path(at), format_args!("directory in hardlink group {}", links.group));
    }
    // What lies below a mountpoint is counted in the catalog that it leads to; a nested one is compared with this row
    // there, and a bound one's root had this link count when it was bound.
    let mountpoints = [EntryFlags::NESTED_MOUNTPOINT, EntryFlags::BIND_MOUNTPOINT];
    let leads_elsewhere = mountpoints.into_iter().any(|flag| row.flags.has(flag));
    let expected = subdirectories.saturating_add(2);
    if table.is_complete && !leads_elsewhere && links.linkcount != expected {
        let actual = links.linkcount;
        findings.at(
            &table.path(at),
            format_args!("wrong directory linkcount (expected: {expected} / in catalog: {actual})"),
        );
    }
}

fn check_group(table: &Table, group: &[(u32, u32)], findings: &mut Findings) {
    let Some(&(id, first)) = group.first() else { return };
    let size = group.len() as u64;
    let linkcount = u64::from(table.row(first).hardlinks.linkcount);
    if table.is_complete && linkcount != size {
        let problem =
            format_args!("wrong size of hardlink group {id} (linkcount: {linkcount} / members in catalog: {size})");
        findings.at(&table.path(first), problem);
    }
    for &(_, at) in &group[1..] {
        if table.parent(at) != table.parent(first) {
            findings.at(&table.path(at), format_args!("hardlink group {id} spans several directories"));
        }
        if let Some(what) = difference(table, first, at) {
            let other = table.path(first);
            findings.at(&table.path(at), format_args!("{what} differs from {other} in the same hardlink group {id}"));
        }
    }
}

fn without_trigger(flags: EntryFlags) -> EntryFlags {
    flags.with(EntryFlags::BUNDLE_TRIGGER, false)
}

/// Names the first column in which two members of a group differ.
fn difference(table: &Table, a: u32, b: u32) -> Option<&'static str> {
    let (left, right) = (table.row(a), table.row(b));
    [
        ("linkcount", left.hardlinks == right.hardlinks),
        ("mode", left.mode == right.mode),
        ("size", left.size == right.size),
        ("timestamp", (left.mtime, left.mtime_ns) == (right.mtime, right.mtime_ns)),
        ("owner", left.owner == right.owner),
        ("hash", left.hash == right.hash),
        // A specification belongs to one name: the others of the file are no triggers.
        ("flags", without_trigger(left.flags) == without_trigger(right.flags)),
        ("symlink", table.symlink(a) == table.symlink(b)),
        ("xattr", table.xattr(a) == table.xattr(b)),
    ]
    .into_iter()
    .find(|(_, is_equal)| !is_equal)
    .map(|(what, _)| what)
}
