//! Packs of the catalogs that a publish changed: many small files for one request (docs/format-packs.md).
//!
//! Owns the choice of what is packed and how much of it. [`grouping`] is pure, [`shelf`] owns the rows below `/.nearfs`.
//! Runs after the last change and before the catalogs are stored, so that packs are part of the revision. A pack whose
//! files did not change is neither read nor written. Memory: the names of at most [`KEPT_MEMBERS`] files, one pack, and
//! the catalogs that any commit has open. Belongs to the thread that commits.

mod grouping;
mod shelf;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::pack::{MEMBER_MAX_BYTES, PackWriter};
use nearfs_format::pack_table::{PackReference, PackTable};
use nearfs_format::path::RepoPath;

use super::names;
use super::pipeline::Tally;
use super::tree::CatalogTree;
use super::types::PublishSettings;
use super::virtual_directory::named;
use crate::error::{ErrorKind, Result};
use crate::store::Store;
use crate::store::verify::read_verified;
use grouping::{CONTENT_MAX_BYTES, Group, Grouping};

/// One in so many bytes of content may be packed: packs cost storage.
const SHARE: u64 = 5;
/// Packs of larger files, on average, get no more than half of that: they save fewer requests.
const SMALL_ON_AVERAGE_BYTES: u64 = 8 << 10;
/// Groups of so many files are remembered between choosing and writing; those of more are made again.
const KEPT_MEMBERS: usize = 200_000;

/// What packing needs besides the tree.
pub(super) struct Means<'s> {
    pub(super) store: &'s dyn Store,
    pub(super) settings: &'s PublishSettings,
    pub(super) tally: &'s Tally,
}

/// What happened to the catalogs of a tree before it is packed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Mountpoints of catalogs that changed.
    pub(super) changed: BTreeSet<RepoPath>,
    /// Content of all regular files, the packs of the base revision among them, in bytes.
    pub(super) content_bytes: u64,
}

/// A group, as far as choosing needs it.
struct Candidate {
    name: String,
    members: usize,
    content_bytes: u64,
}

/// Brings the packs up to date. `leave` is called with the mountpoint that comes next, to close catalogs behind it.
pub(super) fn update(
    tree: &mut CatalogTree<'_>,
    means: &Means<'_>,
    touched: Touched,
    leave: &mut dyn FnMut(&mut CatalogTree<'_>, &RepoPath) -> Result<()>,
) -> Result<()> {
    if !means.settings.packs {
        // What else has that name stays.
        return if shelf::is_there(tree)? { shelf::clear(tree) } else { Ok(()) };
    }
    let there = shelf::exists(tree)?;
    let (mut contents, own_bytes) = if there { shelf::contents(tree)? } else { (BTreeMap::new(), 0) };
    let allowed = touched.content_bytes.saturating_sub(own_bytes) / SHARE;
    for mountpoint in gone(tree, contents.keys())? {
        shelf::remove(tree, &mountpoint)?;
        contents.remove(&mountpoint);
    }
    let mut packer = Packer { means, leave, kept: BTreeMap::new(), kept_members: 0 };
    // The first time, everything is packed.
    let queue = if there { touched.changed } else { BTreeSet::from([RepoPath::root()]) };
    let candidates = packer.look(tree, queue, !there)?;
    contents.retain(|mountpoint, _| !candidates.contains_key(mountpoint));
    let left = allowed.saturating_sub(contents.values().sum());
    let chosen = choose(candidates.values().flatten(), left, allowed / 2);
    candidates.keys().try_for_each(|mountpoint| packer.pack(tree, mountpoint, &chosen))
}

/// Returns the mountpoints among `packed` where no catalog begins any more.
fn gone<'m>(tree: &mut CatalogTree<'_>, packed: impl Iterator<Item = &'m RepoPath>) -> Result<Vec<RepoPath>> {
    let is_below_removed = |tree: &CatalogTree<'_>, path: &RepoPath| {
        std::iter::successors(Some(path.clone()), RepoPath::parent).any(|above| tree.removed.contains(&above))
    };
    let mut gone = Vec::new();
    for mountpoint in packed {
        if is_below_removed(tree, mountpoint) && !tree.is_mountpoint(mountpoint)? {
            gone.push(mountpoint.clone());
        }
    }
    Ok(gone)
}

/// Returns the names of the packs that there is room for: those that save most requests for their bytes first.
fn choose<'c>(candidates: impl Iterator<Item = &'c Candidate>, mut allowed: u64, half_bytes: u64) -> HashSet<String> {
    let mut order: Vec<&Candidate> = candidates.collect();
    let average = |candidate: &Candidate| candidate.content_bytes / candidate.members.max(1) as u64;
    order.sort_by_key(|candidate| (average(candidate), candidate.name.as_str()));
    let reserved = allowed.min(half_bytes);
    let mut chosen = HashSet::new();
    for candidate in order {
        let floor = if average(candidate) <= SMALL_ON_AVERAGE_BYTES { 0 } else { reserved };
        if allowed.saturating_sub(floor) >= candidate.content_bytes {
            allowed -= candidate.content_bytes;
            chosen.insert(candidate.name.clone());
        }
    }
    chosen
}

struct Packer<'p, 's> {
    means: &'p Means<'s>,
    leave: &'p mut dyn FnMut(&mut CatalogTree<'_>, &RepoPath) -> Result<()>,
    kept: BTreeMap<RepoPath, Vec<Group>>,
    kept_members: usize,
}

impl Packer<'_, '_> {
    /// Groups the files of the catalogs in `queue`, and of those below them if `with_nested`.
    fn look(
        &mut self,
        tree: &mut CatalogTree<'_>,
        mut queue: BTreeSet<RepoPath>,
        with_nested: bool,
    ) -> Result<BTreeMap<RepoPath, Vec<Candidate>>> {
        let mut candidates = BTreeMap::new();
        while let Some(mountpoint) = queue.pop_first() {
            if names::is_own(&mountpoint) || !shelf::takes(&mountpoint) {
                continue;
            }
            (self.leave)(tree, &mountpoint)?;
            // It changed, and was removed later on.
            if !mountpoint.is_root() && !tree.is_mountpoint(&mountpoint)? {
                continue;
            }
            if with_nested {
                queue.extend(tree.nested_of(&mountpoint)?);
            }
            let groups = groups_of(tree, &mountpoint)?;
            let candidate = |group: &Group| Candidate {
                name: group.name(),
                members: group.members.len(),
                content_bytes: group.content_bytes,
            };
            candidates.insert(mountpoint.clone(), groups.iter().map(candidate).collect());
            let members = groups.iter().map(|group| group.members.len()).sum::<usize>();
            if self.kept_members + members <= KEPT_MEMBERS {
                self.kept_members += members;
                self.kept.insert(mountpoint, groups);
            }
        }
        Ok(candidates)
    }

    /// Gives one catalog the packs that were chosen.
    fn pack(&mut self, tree: &mut CatalogTree<'_>, mountpoint: &RepoPath, chosen: &HashSet<String>) -> Result<()> {
        (self.leave)(tree, mountpoint)?;
        let groups = match self.kept.remove(mountpoint) {
            Some(groups) => groups,
            None => groups_of(tree, mountpoint)?,
        };
        let directory = shelf::packs_of(mountpoint)?;
        let (mut table, mut rows, mut content_bytes) = (PackTable::default(), Vec::new(), 0);
        for group in groups {
            let name = group.name();
            if !chosen.contains(&name) {
                continue;
            }
            let entry = match tree.find(&named(&directory, name.as_bytes())?)? {
                Some(row) => row.entry,
                None => match self.write(&group)? {
                    Some(bytes) => shelf::store_plain(self.means, &bytes)?,
                    None => continue,
                },
            };
            let (Some(hash), Ok(size_bytes)) = (entry.hash, u32::try_from(entry.size)) else { continue };
            let reference = PackReference { hash, size_bytes, members: group.members.len() as u32 };
            if table.add(reference, &group.members, &group.keys) {
                content_bytes += group.content_bytes;
                rows.push((name, entry));
            }
        }
        if table.is_empty() {
            return if shelf::exists(tree)? { shelf::remove(tree, mountpoint) } else { Ok(()) };
        }
        shelf::put(tree, self.means, mountpoint, rows, &table, content_bytes)
    }

    /// Returns a pack of the files in a group, nothing if there are too few. What is missing, damaged or stored in more
    /// than a member may have is left out: clients get it as they would without packs.
    fn write(&self, group: &Group) -> Result<Option<Vec<u8>>> {
        let mut writer = PackWriter::new();
        for hash in &group.members {
            match self.stored(*hash) {
                Ok(stored) => drop(writer.add(*hash, &stored)),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((writer.len() > 1).then(|| writer.finish()))
    }

    fn stored(&self, hash: ContentHash) -> Result<Vec<u8>> {
        read_verified(self.means.store, &ObjectId::new(hash, ObjectKind::File), MEMBER_MAX_BYTES as u64)
    }
}

/// Groups the small files of one catalog.
fn groups_of(tree: &mut CatalogTree<'_>, mountpoint: &RepoPath) -> Result<Vec<Group>> {
    let id = tree.locate(mountpoint)?;
    let writer = &tree.node(id)?.writer;
    let (mut grouping, mut ahead) = (Grouping::default(), vec![mountpoint.clone()]);
    while let Some(directory) = ahead.pop() {
        let (files, directories) = writer.small_files(&directory, CONTENT_MAX_BYTES)?;
        for file in &files {
            grouping.add(file);
        }
        for name in directories.iter().rev() {
            ahead.push(named(&directory, name)?);
        }
    }
    Ok(grouping.finish())
}
