//! Where catalogs meet: root prefix, root row, transition rows, markers, registered mountpoints.
//!
//! Catalogs that bind mountpoints lead to are not visited: they are the root catalogs of other revisions, each of which
//! can be checked by its tag. Source: format.md 4.12, 8.6, 12.4, 12.5, 12.7 and 12.10.

use std::collections::HashSet;

use nearfs_format::dirent::EntryFlags;
use nearfs_format::hash::ContentHash;
use nearfs_format::path::{PathHash, RepoPath};
use nearfs_format::xattr::XattrList;

use super::findings::Findings;
use super::table::Table;
use crate::catalog::reader::{CatalogReader, NestedRow};

/// The file that makes a directory a nested catalog (format.md 8.5).
const MARKER: &[u8] = b".cvmfscatalog";
/// The flags in which the two rows of a mountpoint differ.
const NESTED_FLAGS: u32 = EntryFlags::NESTED_MOUNTPOINT | EntryFlags::NESTED_ROOT;
const ANY_MOUNTPOINT: [u32; 2] = [EntryFlags::NESTED_MOUNTPOINT, EntryFlags::BIND_MOUNTPOINT];

/// A catalog to be inspected, as whoever refers to it says.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) path: RepoPath,
    pub(super) hash: ContentHash,
    /// 0 where unknown.
    pub(super) size_bytes: u64,
    /// The mountpoint's row in the parent catalog.
    pub(super) transition: Option<Transition>,
}

/// A row that has to be the same in two catalogs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transition {
    name: Vec<u8>,
    linkcount: u32,
    group: u32,
    size: u64,
    mode: u32,
    time: (i64, u32),
    owner: Option<(u32, u32)>,
    hash: Option<ContentHash>,
    symlink: Vec<u8>,
    xattrs: Option<XattrList>,
    flags: u32,
}

impl Transition {
    fn of(table: &Table, at: u32) -> Self {
        let row = table.row(at);
        let xattr = table.xattr(at);
        Self {
            name: table.name(at).to_vec(),
            linkcount: row.hardlinks.linkcount,
            group: row.hardlinks.group,
            size: row.size,
            mode: row.mode,
            time: (row.mtime, row.mtime_ns),
            owner: row.owner,
            hash: row.hash,
            symlink: table.symlink(at).to_vec(),
            // Compared by meaning; a blob that cannot be read is a finding of its own.
            xattrs: (!xattr.is_empty()).then(|| XattrList::parse(xattr).unwrap_or_default()),
            flags: row.flags.with(NESTED_FLAGS, false).0,
        }
    }

    /// Names the columns in which two rows differ.
    fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'static str> + 'a {
        [
            ("names", self.name == other.name),
            ("linkcounts", self.linkcount == other.linkcount),
            ("hardlink groups", self.group == other.group),
            ("sizes", self.size == other.size),
            ("modes", self.mode == other.mode),
            ("timestamps", self.time == other.time),
            ("owners", self.owner == other.owner),
            ("hashes", self.hash == other.hash),
            ("symbolic links", self.symlink == other.symlink),
            ("extended attributes", self.xattrs == other.xattrs),
            ("flags", self.flags == other.flags),
        ]
        .into_iter()
        .filter(|(_, is_equal)| !is_equal)
        .map(|(what, _)| what)
    }
}

/// What a catalog says about the catalogs below it.
#[derive(Debug)]
pub(super) struct Registered {
    /// Rows of `nested_catalogs`; means nothing unless `is_known`.
    pub(super) count: i64,
    pub(super) is_known: bool,
    /// The nested catalogs, last path first.
    pub(super) mounts: Vec<Mount>,
}

/// Compares the path that the catalog says it belongs to; `None` if it says nothing that is a path.
pub(super) fn check_prefix(reader: &CatalogReader, expected: &RepoPath, findings: &mut Findings) -> Option<RepoPath> {
    match reader.root_prefix() {
        Ok(prefix) => {
            if prefix != *expected {
                findings.of_catalog(format_args!("root prefix mismatch (expected: {expected} / in catalog: {prefix})"));
            }
            Some(prefix)
        }
        Err(e) => {
            findings.of_catalog(format_args!("root prefix cannot be read: {e}"));
            None
        }
    }
}

/// Checks the catalog's root row by itself and against the mountpoint's row.
pub(super) fn check_root(table: &Table, root: u32, mount: &Mount, findings: &mut Findings) {
    let row = table.row(root);
    if row.flags.has(EntryFlags::NESTED_ROOT) == table.prefix.is_root() {
        let problem = if table.prefix.is_root() {
            "root directory of the repository is marked as the root of a nested catalog"
        } else {
            "root entry of a nested catalog is not marked as such"
        };
        findings.at(&table.prefix, problem);
    }
    if table.name(root) != table.prefix.name() {
        let name = table.name(root).escape_ascii();
        findings.at(&table.prefix, format_args!("root entry of the catalog has the name `{name}`"));
    }
    let parent = table.prefix.parent().map_or(PathHash::NULL, |parent| parent.hash());
    if row.parent_key != parent {
        let (expected, actual) = (parent.hex(), row.parent_key.hex());
        let problem = format_args!("parent of the catalog's root entry (expected: {expected} / in catalog: {actual})");
        findings.at(&table.prefix, problem);
    }
    if let Some(transition) = &mount.transition {
        for what in transition.differences(&Transition::of(table, root)) {
            findings.at(&mount.path, format_args!("{what} of the transition point and of the nested root differ"));
        }
    }
}

/// Checks that marker files are where nested catalogs begin, and nowhere else.
pub(super) fn check_markers(table: &Table, root: u32, findings: &mut Findings) {
    let mut is_marked = false;
    for (at, row) in table.placed().filter(|(at, _)| table.name(*at) == MARKER) {
        if table.parent(at) != root || table.prefix.is_root() {
            findings.at(&table.path(at), "abandoned nested catalog marker");
            continue;
        }
        is_marked = true;
        if !row.is_regular() {
            findings.at(&table.path(at), "nested catalog marker is no regular file");
        }
    }
    if !is_marked && table.is_complete && !table.prefix.is_root() {
        findings.at(&table.prefix, "nested catalog without marker");
    }
}

/// Compares mountpoint rows with the tables of nested and bound catalogs.
pub(super) fn check_registered(table: &Table, reader: &CatalogReader, findings: &mut Findings) -> Registered {
    check_flags(table, findings);
    let nested = listed(reader.nested(), "nested catalogs", findings);
    let binds = listed(reader.bind_mountpoints(), "bind mountpoints", findings);
    let mut paths = HashSet::new();
    for row in nested.iter().chain(&binds).flatten() {
        if !paths.insert(&row.path) {
            findings.at(&row.path, "duplicate nested catalog or bind mountpoint");
        }
    }
    let nested_places = check_rows(table, nested.as_deref(), EntryFlags::NESTED_MOUNTPOINT, findings);
    check_rows(table, binds.as_deref(), EntryFlags::BIND_MOUNTPOINT, findings);
    let is_known = nested.is_some();
    let nested = nested.unwrap_or_default();
    let count = nested.len() as i64;
    let mut mounts: Vec<Mount> = nested
        .into_iter()
        .zip(nested_places)
        // Only longer paths: whatever the tables say, the walk ends.
        .filter(|(row, _)| row.path != table.prefix && row.path.starts_with(&table.prefix) && !row.hash.is_null())
        .map(|(row, place)| Mount {
            path: row.path,
            hash: row.hash,
            size_bytes: row.size_bytes,
            transition: place.map(|at| Transition::of(table, at)),
        })
        .collect();
    mounts.sort_unstable_by(|a, b| b.path.cmp(&a.path));
    mounts.dedup_by(|a, b| a.path == b.path);
    Registered { count, is_known, mounts }
}

fn listed(rows: crate::Result<Vec<NestedRow>>, what: &str, findings: &mut Findings) -> Option<Vec<NestedRow>> {
    rows.map_err(|e| findings.of_catalog(format_args!("{what} cannot be read: {e}"))).ok()
}

/// Checks the flags that make an entry a mountpoint, and that nothing lies below one.
fn check_flags(table: &Table, findings: &mut Findings) {
    let mut occupied = HashSet::new();
    for (at, row) in table.placed() {
        let kinds = [EntryFlags::NESTED_MOUNTPOINT, EntryFlags::BIND_MOUNTPOINT, EntryFlags::NESTED_ROOT];
        let count = kinds.into_iter().filter(|kind| row.flags.has(*kind)).count();
        if count > 1 {
            findings.at(&table.path(at), "more than one of nested mountpoint, bind mountpoint and nested root");
        }
        if count > 0 && !row.is_directory() {
            findings.at(&table.path(at), "mountpoint is not a directory");
        }
        let parent = table.parent(at);
        if parent == at {
            continue;
        }
        if row.flags.has(EntryFlags::NESTED_ROOT) {
            findings.at(&table.path(at), "root of a nested catalog below the root of this one");
        }
        // The root's own entry stands for this catalog, whatever its flags say.
        let is_below = parent != table.parent(parent) && ANY_MOUNTPOINT.iter().any(|m| table.row(parent).flags.has(*m));
        if is_below && occupied.insert(parent) {
            findings.at(&table.path(parent), "mountpoint has entries in the catalog that holds it");
        }
    }
}

/// Compares one table with the rows that have its flag; returns the mountpoint's position for each row of the table.
fn check_rows(table: &Table, rows: Option<&[NestedRow]>, flag: u32, findings: &mut Findings) -> Vec<Option<u32>> {
    let Some(rows) = rows else { return Vec::new() };
    let noun = if flag == EntryFlags::NESTED_MOUNTPOINT { "nested catalog" } else { "bind mountpoint" };
    let mut registered = HashSet::new();
    let mut places = Vec::with_capacity(rows.len());
    for row in rows {
        if row.hash.is_null() {
            findings.at(&row.path, format_args!("{noun} with zero hash"));
        }
        let place = table.position(row.path.hash()).filter(|at| table.is_placed(*at));
        let place = place.filter(|at| table.parent(*at) != *at && table.row(*at).flags.has(flag));
        if place.is_none() && table.is_complete {
            findings.at(&row.path, format_args!("dangling {noun}: registered, but no mountpoint leads to it"));
        }
        registered.extend(place);
        places.push(place);
    }
    for (at, _) in table.placed().filter(|(at, row)| row.flags.has(flag) && !registered.contains(at)) {
        findings.at(&table.path(at), format_args!("{noun} is not registered"));
    }
    places
}
