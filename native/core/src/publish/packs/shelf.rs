//! What lies below `/.nearfs`: the tables and packs of catalogs, as rows of the tree that is committed.
//!
//! Owns names and attributes of those rows, and which packs are there already. Not which files are packed. Belongs to
//! the thread that commits. Source: docs/format-packs.md.

use std::collections::{BTreeMap, HashSet};

use nearfs_format::dirent::{Compression, Entry, EntryFlags, FileType, Hardlinks};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::pack_table::{PACKS_DIRECTORY, PackTable, packs_name, table_name};
use nearfs_format::path::RepoPath;
use nearfs_format::xattr::XattrList;

use super::Means;
use super::bundles::Note;
use crate::error::{Error, ErrorKind, Result};
use crate::publish::plan::CATALOG_MARKER;
use crate::publish::tree::CatalogTree;
use crate::publish::virtual_directory::{empty_file, named};

const DIRECTORY_PERMISSIONS: u32 = 0o555;
const FILE_PERMISSIONS: u32 = 0o444;
/// Attribute of a table: content of its packs in bytes, a space, the mountpoint.
const ATTRIBUTE: &[u8] = b"user.nearfs.packs";
/// Attribute of a table with packs of bundles, or of a catalog with triggers: a [`Note`].
const BUNDLES_ATTRIBUTE: &[u8] = b"user.nearfs.bundles";
/// A mountpoint of a longer path does not fit into an attribute; its catalog has no packs.
const MOUNTPOINT_MAX_BYTES: usize = 200;

/// The directory of packs.
pub(super) fn root() -> Result<RepoPath> {
    RepoPath::parse(PACKS_DIRECTORY).map_err(|e| Error::format("publish", "/.nearfs", e))
}

/// Says whether a catalog may have packs.
pub(super) fn takes(mountpoint: &RepoPath) -> bool {
    mountpoint.as_bytes().len() <= MOUNTPOINT_MAX_BYTES
}

/// Says whether there is the directory of packs, as [`put`] makes it: hidden, the beginning of a nested catalog.
pub(super) fn is_there(tree: &mut CatalogTree<'_>) -> Result<bool> {
    let path = root()?;
    let Some(row) = tree.find(&path)? else { return Ok(false) };
    Ok(row.entry.is_directory() && row.entry.flags.has(EntryFlags::HIDDEN) && tree.is_mountpoint(&path)?)
}

/// Says the same; `InvalidInput` where something else has its name, which no publish may touch.
pub(super) fn exists(tree: &mut CatalogTree<'_>) -> Result<bool> {
    let path = root()?;
    if is_there(tree)? {
        return Ok(true);
    }
    if tree.find(&path)?.is_none() {
        return Ok(false);
    }
    let subject =
        format!("{path}: the base revision has an ordinary entry of this name; remove it, or set NEARFS_PACKS=no");
    Err(Error::new(ErrorKind::InvalidInput, "publish packs", subject))
}

/// The packs of one catalog, as its table notes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Noted {
    /// Content of all packs in bytes.
    pub(super) content_bytes: u64,
    /// What there is to know of bundles.
    pub(super) bundles: Note,
}

/// Returns what is noted of each catalog's packs, by mountpoint; and the size of everything below `/.nearfs` in
/// the base revision.
pub(super) fn contents(tree: &mut CatalogTree<'_>) -> Result<(BTreeMap<RepoPath, Noted>, u64)> {
    let path = root()?;
    let contents = tree.children(&path)?.iter().filter_map(|row| attributes(&row.entry)).collect();
    let id = tree.locate(&path)?;
    Ok((contents, u64::try_from(tree.node(id)?.accounted.file_size).unwrap_or(0)))
}

fn attributes(entry: &Entry) -> Option<(RepoPath, Noted)> {
    let value = entry.xattrs.get(ATTRIBUTE)?;
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (bytes, path) = (&value[..space], &value[space + 1..]);
    let path = if path == b"/" { RepoPath::root() } else { RepoPath::parse(path).ok()? };
    let content_bytes = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    let bundles = entry.xattrs.get(BUNDLES_ATTRIBUTE).and_then(Note::parse).unwrap_or_default();
    Some((path, Noted { content_bytes, bundles }))
}

/// Removes the directory of packs with all that is in it.
pub(super) fn clear(tree: &mut CatalogTree<'_>) -> Result<()> {
    tree.remove(&root()?)?;
    tree.recount_links(&RepoPath::root())
}

/// Removes the table and the packs of a catalog, if it has any.
pub(super) fn remove(tree: &mut CatalogTree<'_>, mountpoint: &RepoPath) -> Result<()> {
    let top = root()?;
    for name in [table_name(mountpoint), packs_name(mountpoint)] {
        let path = named(&top, name.as_bytes())?;
        if tree.find(&path)?.is_some() {
            tree.remove(&path)?;
        }
    }
    tree.recount_links(&top)
}

/// Returns the directory with the packs of a catalog.
pub(super) fn packs_of(mountpoint: &RepoPath) -> Result<RepoPath> {
    named(&root()?, packs_name(mountpoint).as_bytes())
}

/// Makes the packs of a catalog those of `rows`, and its table the given one. Rows that are there stay as they are.
pub(super) fn put(
    tree: &mut CatalogTree<'_>,
    means: &Means<'_>,
    mountpoint: &RepoPath,
    rows: Vec<(String, Entry)>,
    table: &PackTable,
    noted: &Noted,
) -> Result<()> {
    let top = root()?;
    if !exists(tree)? {
        make_directory(tree, means, &top, true)?;
        tree.recount_links(&RepoPath::root())?;
    }
    let directory = packs_of(mountpoint)?;
    if tree.find(&directory)?.is_none() {
        make_directory(tree, means, &directory, false)?;
        tree.recount_links(&top)?;
    }
    let wanted: HashSet<&[u8]> = rows.iter().map(|(name, _)| name.as_bytes()).collect();
    for row in tree.children(&directory)? {
        if row.name != CATALOG_MARKER && !wanted.contains(row.name.as_slice()) {
            tree.remove(&named(&directory, &row.name)?)?;
        }
    }
    for (name, entry) in rows {
        let path = named(&directory, name.as_bytes())?;
        if tree.find(&path)?.is_none() {
            tree.add(&path, &entry, &[])?;
        }
    }
    put_table(tree, means, &named(&top, table_name(mountpoint).as_bytes())?, mountpoint, table, noted)
}

fn put_table(
    tree: &mut CatalogTree<'_>,
    means: &Means<'_>,
    path: &RepoPath,
    mountpoint: &RepoPath,
    table: &PackTable,
    noted: &Noted,
) -> Result<()> {
    let mut entry = store_plain(means, &table.encode())?;
    let shown: &[u8] = if mountpoint.is_root() { b"/" } else { mountpoint.as_bytes() };
    let value = [noted.content_bytes.to_string().as_bytes(), b" ", shown].concat();
    let bundles = noted.bundles.encode().map(|value| (BUNDLES_ATTRIBUTE.to_vec(), value));
    entry.xattrs = XattrList::from_pairs([(ATTRIBUTE.to_vec(), value)].into_iter().chain(bundles))
        .map_err(|e| Error::format("publish packs", mountpoint.to_string(), e))?;
    if let Some(row) = tree.find(path)? {
        if (row.entry.hash, &row.entry.xattrs) == (entry.hash, &entry.xattrs) {
            return Ok(());
        }
        tree.remove(path)?;
    }
    tree.add(path, &entry, &[])
}

/// Stores a file as it is; returns its row.
pub(super) fn store_plain(means: &Means<'_>, bytes: &[u8]) -> Result<Entry> {
    let algorithm = means.settings.hash_algorithm;
    let hash = algorithm.hash(bytes);
    let outcome = means.store.put(&ObjectId::new(hash, ObjectKind::File), bytes)?;
    means.tally.count(outcome, bytes.len() as u64);
    let flags = EntryFlags(EntryFlags::FILE).with_hash_algorithm(algorithm).with_compression(Compression::None);
    Ok(Entry {
        mode: FileType::Regular.mode_bits() | FILE_PERMISSIONS,
        size: bytes.len() as u64,
        hash: Some(hash),
        ..blank(means, flags, Hardlinks::SINGLE)
    })
}

fn blank(means: &Means<'_>, flags: EntryFlags, hardlinks: Hardlinks) -> Entry {
    Entry {
        mode: 0,
        size: 0,
        mtime: means.settings.now,
        mtime_ns: None,
        uid: 0,
        gid: 0,
        hardlinks,
        flags,
        hash: None,
        symlink: Vec::new(),
        xattrs: XattrList::default(),
    }
}

/// Makes a directory in which a nested catalog begins.
fn make_directory(tree: &mut CatalogTree<'_>, means: &Means<'_>, path: &RepoPath, is_hidden: bool) -> Result<()> {
    let flags = EntryFlags(EntryFlags::DIRECTORY).with(EntryFlags::HIDDEN, is_hidden);
    let mode = FileType::Directory.mode_bits() | DIRECTORY_PERMISSIONS;
    let links = Hardlinks { group: 0, linkcount: 2 };
    tree.add(path, &Entry { mode, size: 4096, ..blank(means, flags, links) }, &[])?;
    tree.split(path)?;
    let mut marker = empty_file(means.store, means.settings, means.tally)?;
    marker.mode |= FILE_PERMISSIONS;
    tree.add(&named(path, CATALOG_MARKER)?, &marker, &[])
}
