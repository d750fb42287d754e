//! Catalogs of a sensible size without anybody's doing: large ones are split, small ones of our own making merged.
//!
//! Owns which directories become nested catalogs, and the two marker files in them. Runs once for each catalog
//! that a commit writes, after the changes in it. Source: format.md 10.6.

use nearfs_format::dirent::EntryFlags;
use nearfs_format::path::RepoPath;

use super::names::is_own;
use super::pipeline::Tally;
use super::plan::CATALOG_MARKER;
use super::tree::{CatalogTree, NodeId};
use super::types::{CatalogWeights, PublishSettings};
use super::virtual_directory::{empty_file, named};
use crate::error::Result;

/// Says that its catalog may be merged again without asking.
pub(super) const AUTOMATIC_MARKER: &[u8] = b".cvmfsautocatalog";
const MARKER_PERMISSIONS: u32 = 0o600;

/// Balances those of `ids` that changed, if the settings ask for it; a catalog comes before the one around it.
pub(super) fn balance(
    tree: &mut CatalogTree<'_>,
    ids: &[NodeId],
    settings: &PublishSettings,
    tally: &Tally,
) -> Result<()> {
    let Some(weights) = settings.autocatalogs else { return Ok(()) };
    for id in ids.iter().copied() {
        let Ok(node) = tree.node(id) else { continue };
        if is_own(&node.mountpoint) || !(node.is_dirty || id == CatalogTree::ROOT) {
            continue;
        }
        let (mountpoint, entries) = (node.mountpoint.clone(), node.writer.entries()?);
        if entries < weights.min && id != CatalogTree::ROOT && is_automatic(tree, &mountpoint)? {
            tree.remove(&named(&mountpoint, CATALOG_MARKER)?)?;
            tree.remove(&named(&mountpoint, AUTOMATIC_MARKER)?)?;
            tree.merge(&mountpoint)?;
        } else if entries > weights.max {
            for directory in partition(tree, id, &mountpoint, weights)? {
                split(tree, &directory, settings, tally)?;
            }
        }
    }
    Ok(())
}

fn is_automatic(tree: &mut CatalogTree<'_>, mountpoint: &RepoPath) -> Result<bool> {
    Ok(tree.find(&named(mountpoint, AUTOMATIC_MARKER)?)?.is_some()
        && tree.find(&named(mountpoint, CATALOG_MARKER)?)?.is_some())
}

/// A directory of the catalog that is to be split.
struct Directory {
    path: RepoPath,
    /// Entries of which it consists, itself included, as long as they are not in other catalogs.
    weight: u64,
    /// The candidates in it, in the order of their rows.
    children: Vec<usize>,
}

/// Returns the directories that are to be split off, those inside others first.
fn partition(
    tree: &CatalogTree<'_>,
    id: NodeId,
    mountpoint: &RepoPath,
    weights: CatalogWeights,
) -> Result<Vec<RepoPath>> {
    let mut directories = listed(tree, id, mountpoint)?;
    let mut chosen = Vec::new();
    // Whatever lies below a directory has a larger index.
    for index in (0..directories.len()).rev() {
        let mut children = std::mem::take(&mut directories[index].children);
        let mut weight = directories[index].weight;
        weight += children.iter().map(|child| directories[*child].weight).sum::<u64>();
        while weight > weights.max / 2 {
            let weight_of = |child: &usize| directories[*child].weight;
            // The first of those that are equally heavy.
            let Some(place) = (0..children.len()).rev().max_by_key(|place| weight_of(&children[*place])) else { break };
            if weight_of(&children[place]) < weights.min {
                break;
            }
            let child = children.remove(place);
            weight -= directories[child].weight - 1;
            chosen.push(directories[child].path.clone());
        }
        directories[index].weight = weight;
    }
    Ok(chosen)
}

/// Lists the directories of one catalog from the top; weights do not include children yet.
fn listed(tree: &CatalogTree<'_>, id: NodeId, mountpoint: &RepoPath) -> Result<Vec<Directory>> {
    let writer = &tree.node(id)?.writer;
    let mut directories = vec![Directory { path: mountpoint.clone(), weight: 1, children: Vec::new() }];
    let mut index = 0;
    while let Some(path) = directories.get(index).map(|directory| directory.path.clone()) {
        for (name, is_directory, flags) in writer.listing(&path)? {
            if !is_directory || flags.has(EntryFlags::NESTED_MOUNTPOINT) || flags.has(EntryFlags::BIND_MOUNTPOINT) {
                directories[index].weight += 1;
                continue;
            }
            let child = directories.len();
            directories[index].children.push(child);
            let path = named(&path, &name)?;
            directories.push(Directory { path, weight: 1, children: Vec::new() });
        }
        index += 1;
    }
    Ok(directories)
}

fn split(tree: &mut CatalogTree<'_>, path: &RepoPath, settings: &PublishSettings, tally: &Tally) -> Result<()> {
    let Some(row) = tree.find(path)? else { return Ok(()) };
    let mut entry = empty_file(tree.store(), settings, tally)?;
    entry.mode |= MARKER_PERMISSIONS;
    (entry.uid, entry.gid) = (row.entry.uid, row.entry.gid);
    for name in [CATALOG_MARKER, AUTOMATIC_MARKER] {
        let marker = named(path, name)?;
        if tree.find(&marker)?.is_none() {
            tree.add(&marker, &entry, &[])?;
        }
    }
    tree.split(path)
}
