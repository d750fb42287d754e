//! Packs of the catalogs that a publish changed: many small files for one request (docs/format-packs.md).
//!
//! Owns the choice of what is packed and how much of it. [`grouping`] is pure, [`bundles`] follows specifications, and
//! [`shelf`] owns the rows below `/.nearfs`.
//! Runs after the last change and before the catalogs are stored, so that packs are part of the revision. A pack whose
//! files did not change is neither read nor written. Memory: the names of at most [`KEPT_MEMBERS`] files, one pack, and
//! the catalogs that any commit has open. Belongs to the thread that commits.

mod bundles;
mod grouping;
mod shelf;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

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
use bundles::Note;
use grouping::{CONTENT_MAX_BYTES, Group, Grouping, MEMBERS_MIN};
use shelf::Noted;

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

/// Closes catalogs behind the path that comes next.
type Leave<'l> = dyn FnMut(&mut CatalogTree<'_>, &RepoPath) -> Result<()> + 'l;

/// A group, as far as choosing needs it.
struct Candidate {
    name: String,
    members: usize,
    content_bytes: u64,
    is_bundle: bool,
}

/// The files of one catalog, grouped: those of bundles first.
struct Grouped {
    groups: Vec<Group>,
    bundles: Note,
}

/// Brings the packs up to date. `leave` is called with the path that comes next, to close catalogs behind it.
pub(super) fn update(
    tree: &mut CatalogTree<'_>,
    means: &Means<'_>,
    touched: Touched,
    leave: &mut Leave<'_>,
) -> Result<()> {
    if !means.settings.packs {
        // What else has that name stays.
        return if shelf::is_there(tree)? { shelf::clear(tree) } else { Ok(()) };
    }
    let there = shelf::exists(tree)?;
    let (mut noted, own_bytes) = if there { shelf::contents(tree)? } else { (BTreeMap::new(), 0) };
    let allowed = touched.content_bytes.saturating_sub(own_bytes) / SHARE;
    for mountpoint in gone(tree, noted.keys())? {
        shelf::remove(tree, &mountpoint)?;
        noted.remove(&mountpoint);
    }
    let mut packer = Packer { means, leave, kept: BTreeMap::new(), kept_members: 0, candidates: BTreeMap::new() };
    if there {
        let changed = || touched.changed.iter().chain(&tree.removed).cloned();
        let depends = noted.iter().filter(|(_, noted)| noted.bundles.concerns(changed()));
        let queue = touched.changed.iter().chain(depends.map(|(mountpoint, _)| mountpoint)).cloned().collect();
        packer.look(tree, queue, false)?;
    } else {
        // The first time, everything is packed.
        packer.look(tree, BTreeSet::from([RepoPath::root()]), true)?;
    }
    let mut chosen = packer.choose(&noted, allowed);
    if packer.is_worth_more(&noted, &chosen, allowed) {
        packer.look(tree, BTreeSet::from([RepoPath::root()]), true)?;
        chosen = packer.choose(&noted, allowed);
    }
    let mountpoints: Vec<RepoPath> = packer.candidates.keys().cloned().collect();
    mountpoints.iter().try_for_each(|mountpoint| packer.pack(tree, mountpoint, &chosen))
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

/// Returns the names of the packs that there is room for: those of bundles, then those that save most requests for
/// their bytes.
fn choose<'c>(candidates: impl Iterator<Item = &'c Candidate>, mut allowed: u64, half_bytes: u64) -> HashSet<String> {
    let mut order: Vec<&Candidate> = candidates.collect();
    let average = |candidate: &Candidate| candidate.content_bytes / candidate.members.max(1) as u64;
    order.sort_by_key(|candidate| (!candidate.is_bundle, average(candidate), candidate.name.as_str()));
    let reserved = allowed.min(half_bytes);
    let mut chosen = HashSet::new();
    for candidate in order {
        let is_favoured = candidate.is_bundle || average(candidate) <= SMALL_ON_AVERAGE_BYTES;
        let floor = if is_favoured { 0 } else { reserved };
        if allowed.saturating_sub(floor) >= candidate.content_bytes {
            allowed -= candidate.content_bytes;
            chosen.insert(candidate.name.clone());
        }
    }
    chosen
}

struct Packer<'p, 's> {
    means: &'p Means<'s>,
    leave: &'p mut Leave<'p>,
    kept: BTreeMap<RepoPath, Grouped>,
    kept_members: usize,
    /// By mountpoint, of all catalogs that were looked at.
    candidates: BTreeMap<RepoPath, Vec<Candidate>>,
}

impl Packer<'_, '_> {
    /// Groups the files of the catalogs in `queue`, and of those below them if `with_nested`.
    fn look(&mut self, tree: &mut CatalogTree<'_>, mut queue: BTreeSet<RepoPath>, with_nested: bool) -> Result<()> {
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
            if self.candidates.contains_key(&mountpoint) {
                continue;
            }
            let grouped = self.groups_of(tree, &mountpoint)?;
            let candidate = |group: &Group| Candidate {
                name: group.name(),
                members: group.members.len(),
                content_bytes: group.content_bytes,
                is_bundle: group.is_bundle,
            };
            self.candidates.insert(mountpoint.clone(), grouped.groups.iter().map(candidate).collect());
            let members = grouped.groups.iter().map(|group| group.members.len()).sum::<usize>();
            if self.kept_members + members <= KEPT_MEMBERS {
                self.kept_members += members;
                self.kept.insert(mountpoint, grouped);
            }
        }
        Ok(())
    }

    /// Chooses among what was looked at; the packs of other catalogs stay.
    fn choose(&self, noted: &BTreeMap<RepoPath, Noted>, allowed: u64) -> HashSet<String> {
        let taken = self.others(noted).map(|noted| noted.content_bytes).sum();
        choose(self.candidates.values().flatten(), allowed.saturating_sub(taken), allowed / 2)
    }

    fn others<'n>(&self, noted: &'n BTreeMap<RepoPath, Noted>) -> impl Iterator<Item = &'n Noted> {
        noted.iter().filter(|(mountpoint, _)| !self.candidates.contains_key(mountpoint)).map(|(_, noted)| noted)
    }

    /// Says whether a bundle found no room that packs of directories in other catalogs would have to make: then those
    /// have to be looked at too.
    fn is_worth_more(&self, noted: &BTreeMap<RepoPath, Noted>, chosen: &HashSet<String>, allowed: u64) -> bool {
        let bundles: u64 = self.others(noted).map(|noted| noted.bundles.content_bytes).sum();
        let all: u64 = self.others(noted).map(|noted| noted.content_bytes).sum();
        let (in_room, left_out): (Vec<&Candidate>, _) =
            self.candidates.values().flatten().filter(|c| c.is_bundle).partition(|c| chosen.contains(&c.name));
        let in_room: u64 = in_room.into_iter().map(|candidate| candidate.content_bytes).sum();
        let room = allowed.saturating_sub(bundles).saturating_sub(in_room);
        all > bundles && left_out.into_iter().any(|candidate| candidate.content_bytes <= room)
    }

    /// Groups the small files of one catalog.
    fn groups_of(&mut self, tree: &mut CatalogTree<'_>, mountpoint: &RepoPath) -> Result<Grouped> {
        let id = tree.locate(mountpoint)?;
        let writer = &tree.node(id)?.writer;
        let (mut grouping, mut triggers, mut ahead) = (Grouping::default(), Vec::new(), vec![mountpoint.clone()]);
        while let Some(directory) = ahead.pop() {
            let found = writer.small_files(&directory, CONTENT_MAX_BYTES)?;
            for file in &found.files {
                grouping.add(file);
            }
            for name in &found.triggers {
                triggers.push(named(&directory, name)?);
            }
            for name in found.directories.iter().rev() {
                ahead.push(named(&directory, name)?);
            }
        }
        let (mut groups, bundles) = bundles::groups_of(tree, mountpoint, &triggers, self.leave)?;
        groups.extend(grouping.finish(MEMBERS_MIN));
        Ok(Grouped { groups: without_twins(groups), bundles })
    }

    /// Gives one catalog the packs that were chosen.
    fn pack(&mut self, tree: &mut CatalogTree<'_>, mountpoint: &RepoPath, chosen: &HashSet<String>) -> Result<()> {
        (self.leave)(tree, mountpoint)?;
        let Grouped { groups, bundles } = match self.kept.remove(mountpoint) {
            Some(grouped) => grouped,
            None => self.groups_of(tree, mountpoint)?,
        };
        let directory = shelf::packs_of(mountpoint)?;
        let (mut table, mut rows, mut noted) = (PackTable::default(), Vec::new(), Noted { content_bytes: 0, bundles });
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
                noted.content_bytes += group.content_bytes;
                noted.bundles.content_bytes += if group.is_bundle { group.content_bytes } else { 0 };
                rows.push((name, entry));
            }
        }
        if table.is_empty() {
            return if shelf::exists(tree)? { shelf::remove(tree, mountpoint) } else { Ok(()) };
        }
        shelf::put(tree, self.means, mountpoint, rows, &table, &noted)
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

/// Puts groups of the same files together: one pack, to which the keys of all of them lead.
fn without_twins(groups: Vec<Group>) -> Vec<Group> {
    let mut distinct: Vec<Group> = Vec::with_capacity(groups.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for group in groups {
        match places.entry(group.name()) {
            Entry::Occupied(place) => {
                if let Some(twin) = distinct.get_mut(*place.get()) {
                    twin.keys.extend(group.keys);
                }
            }
            Entry::Vacant(place) => {
                place.insert(distinct.len());
                distinct.push(group);
            }
        }
    }
    distinct
}
