//! Packs of bundles: the small files that a specification lists, in its order, for whoever opens the trigger.
//!
//! Owns which files these are, and the note by which a later publish knows that they changed: dependencies may lie in
//! other catalogs than their trigger. Belongs to the thread that commits. Source: docs/format-packs.md.

use std::collections::BTreeSet;

use nearfs_format::bundle::specification_path;
use nearfs_format::pack_table::PackKey;
use nearfs_format::path::RepoPath;

use super::grouping::{CONTENT_MAX_BYTES, Group, Grouping};
use super::{Leave, names};
use crate::catalog::SmallFile;
use crate::error::Result;
use crate::publish::bundles::{Judged, judge};
use crate::publish::tree::CatalogTree;

/// One file by itself comes as fast without a pack.
const MEMBERS_MIN: usize = 2;
/// Bytes of a path hash that a note has for a catalog. Two catalogs of the same ones cost a look in vain.
const ORIGIN_BYTES: usize = 4;
/// More catalogs do not fit into an attribute.
const ORIGINS_MAX: usize = 61;
/// Stands for all catalogs.
const ANY: [u8; ORIGIN_BYTES] = [0xff; ORIGIN_BYTES];

/// What a table notes about the bundles of its catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Note {
    /// Content of the packs of bundles.
    pub(super) content_bytes: u64,
    /// Other catalogs that hold dependencies, and the mountpoints above those.
    origins: BTreeSet<[u8; ORIGIN_BYTES]>,
}

impl Note {
    /// Returns the value of the attribute, nothing where there is nothing to say.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        if *self == Self::default() {
            return None;
        }
        let mut value = self.content_bytes.to_le_bytes().to_vec();
        if self.origins.len() > ORIGINS_MAX {
            value.extend_from_slice(&ANY);
        } else {
            self.origins.iter().for_each(|origin| value.extend_from_slice(origin));
        }
        Some(value)
    }

    /// Reads the value of the attribute.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let (bytes, origins) = value.split_first_chunk()?;
        let origins = origins.chunks_exact(ORIGIN_BYTES).filter_map(|origin| origin.try_into().ok()).collect();
        Some(Self { content_bytes: u64::from_le_bytes(*bytes), origins })
    }

    fn add(&mut self, mountpoint: &RepoPath) {
        self.origins.insert(origin(mountpoint));
    }

    /// Says whether a dependency may be in one of these catalogs.
    pub(super) fn concerns(&self, mut mountpoints: impl Iterator<Item = RepoPath>) -> bool {
        let is_one = |mountpoint: RepoPath| self.origins.contains(&origin(&mountpoint));
        !self.origins.is_empty() && (self.origins.contains(&ANY) || mountpoints.any(is_one))
    }
}

fn origin(mountpoint: &RepoPath) -> [u8; ORIGIN_BYTES] {
    let [a, b, c, d, ..] = mountpoint.hash().first.to_le_bytes();
    [a, b, c, d]
}

/// Groups the files of the bundles that begin with `triggers`, which are in the catalog at `mountpoint`; the note has no
/// sizes yet.
pub(super) fn groups_of(
    tree: &mut CatalogTree<'_>,
    mountpoint: &RepoPath,
    triggers: &[RepoPath],
    leave: &mut Leave<'_>,
) -> Result<(Vec<Group>, Note)> {
    let (mut groups, mut note) = (Vec::new(), Note::default());
    for trigger in triggers {
        let Some(path) = specification_path(trigger) else { continue };
        leave(tree, &path)?;
        let Some(row) = tree.find(&path)? else { continue };
        let Judged::Valid(specification) = judge(tree, &path, &row.entry)? else { continue };
        let (key, mut grouping) = (PackKey::of_trigger(trigger), Grouping::default());
        // Whoever opens the trigger asks for its content at once.
        let wanted = specification.dependencies().iter().filter(|path| *path != trigger && !names::is_own(path));
        for dependency in wanted {
            leave(tree, dependency)?;
            let file = tree.find(dependency)?.and_then(|row| SmallFile::of(row, CONTENT_MAX_BYTES));
            // It is noted where a file would be that is not there yet.
            note_origin(tree, mountpoint, dependency, &mut note)?;
            if let Some(file) = file {
                grouping.put(b"", Some(key), &file);
            }
        }
        groups.extend(grouping.finish(MEMBERS_MIN));
    }
    for group in &mut groups {
        group.is_bundle = true;
    }
    Ok((groups, note))
}

/// Notes the catalog that answers for a path, with those around it: it goes when one of them goes.
fn note_origin(tree: &mut CatalogTree<'_>, own: &RepoPath, path: &RepoPath, note: &mut Note) -> Result<()> {
    let mut id = tree.locate(&path.parent().unwrap_or_default())?;
    if tree.node(id)?.mountpoint == *own {
        return Ok(());
    }
    note.add(&tree.node(id)?.mountpoint);
    while let Some(parent) = tree.node(id)?.parent.filter(|parent| *parent != CatalogTree::ROOT) {
        note.add(&tree.node(parent)?.mountpoint);
        id = parent;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> RepoPath {
        RepoPath::parse(path.as_bytes()).unwrap()
    }

    fn note(mountpoints: usize) -> Note {
        let mut note = Note { content_bytes: 70_000, ..Note::default() };
        (0..mountpoints).for_each(|number| note.add(&path(&format!("/{number}"))));
        note
    }

    #[test]
    fn a_note_tells_the_catalogs_that_it_is_about() {
        let note = Note::parse(&note(ORIGINS_MAX).encode().unwrap()).unwrap();
        assert_eq!(note.content_bytes, 70_000);
        assert!(note.concerns([path("/x"), path("/60")].into_iter()) && !note.concerns([path("/61")].into_iter()));
        assert!(!Note { content_bytes: 3, ..Note::default() }.concerns([RepoPath::root()].into_iter()));
        assert_eq!(Note::default().encode(), None);
        assert_eq!(Note::parse(b"1234567"), None);
    }

    #[test]
    fn a_note_of_too_many_catalogs_is_about_all() {
        let value = note(ORIGINS_MAX + 1).encode().unwrap();
        assert!(value.len() <= 255 && note(ORIGINS_MAX).encode().unwrap().len() <= 255);
        assert!(Note::parse(&value).unwrap().concerns([path("/x")].into_iter()));
    }
}
