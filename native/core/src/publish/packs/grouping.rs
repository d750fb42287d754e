//! Which small files go into one pack: those of a kind, of directories one after the other, or those of a bundle.
//!
//! Pure. Directories come as a walk meets them, files by name; each kind fills a pack of its own, which ends where it is
//! full, or half full at a file whose hash says so. So what changes in one place moves the ends of packs nearby only, and
//! all others stay what they are. Source: docs/format-packs.md.

use std::collections::{BTreeMap, HashSet};

use nearfs_format::hash::{ContentHash, HashAlgorithm, Hasher};
use nearfs_format::pack_table::{PackKey, kind_of};

use crate::catalog::SmallFile;

/// Files with more content are not packed: they are seldom stored in 64 KiB.
pub(super) const CONTENT_MAX_BYTES: u64 = 128 << 10;
/// Content of a pack, at most: it comes in three round trips over a fresh connection, also by a proxy, and several come
/// side by side.
const FULL_BYTES: u64 = 256 << 10;
/// One in so many files ends a pack that is half full.
const ENDS_ONE_IN: u8 = 16;
/// Packs of fewer files of a directory save next to nothing.
pub(super) const MEMBERS_MIN: usize = 3;
/// Part of the name of a pack. Another number means other packs of the same files.
const RULES: &[u8] = b"2\n";

/// Files for one pack.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// In the order of the walk; equal contents once.
    pub(super) members: Vec<ContentHash>,
    /// Triggers that lead to the pack.
    pub(super) keys: HashSet<PackKey>,
    /// Sum of the sizes of contents.
    pub(super) content_bytes: u64,
    /// Says whether a bundle's trigger leads to it.
    pub(super) is_bundle: bool,
    hashes: HashSet<ContentHash>,
}

impl Group {
    /// Returns the name of the pack: the same as long as its files are.
    pub(super) fn name(&self) -> String {
        let mut hasher = Hasher::new(HashAlgorithm::Sha1);
        hasher.update(RULES);
        self.members.iter().for_each(|member| hasher.update(member.digest()));
        hasher.finish().hex()
    }

    fn add(&mut self, file: &SmallFile) {
        if self.hashes.insert(file.hash) {
            self.members.push(file.hash);
            self.content_bytes += file.size;
        }
    }
}

/// The groups of one catalog while it is walked.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    open: BTreeMap<Vec<u8>, Group>,
    done: Vec<Group>,
}

impl Grouping {
    /// Adds the next file of the walk.
    pub(super) fn add(&mut self, file: &SmallFile) {
        self.put(kind_of(&file.name), None, file);
    }

    /// Adds the next file of a kind, or of a bundle that `key` leads to.
    pub(super) fn put(&mut self, kind: &[u8], key: Option<PackKey>, file: &SmallFile) {
        if !self.open.contains_key(kind) {
            self.open.insert(kind.to_vec(), Group::default());
        }
        let Some(group) = self.open.get_mut(kind) else { return };
        let is_end = group.content_bytes * 2 >= FULL_BYTES && file.hash.digest()[0] % ENDS_ONE_IN == 0;
        if is_end || group.content_bytes + file.size > FULL_BYTES {
            self.done.push(std::mem::take(group));
        }
        group.keys.extend(key);
        group.add(file);
    }

    /// Returns the groups of at least so many members; those of one kind in the order of the walk.
    pub(super) fn finish(mut self, members_min: usize) -> Vec<Group> {
        self.done.extend(self.open.into_values());
        self.done.retain(|group| group.members.len() >= members_min);
        self.done.iter_mut().for_each(|group| group.hashes = HashSet::new());
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> SmallFile {
        SmallFile { name: name.into(), hash: HashAlgorithm::Sha1.hash(name.as_bytes()), size }
    }

    /// Groups `directories` of `files` files of 1,000 bytes each; `changed` is left out.
    fn groups(directories: u32, files: u32, changed: Option<&str>) -> Vec<Group> {
        let mut grouping = Grouping::default();
        for directory in 0..directories {
            for number in 0..files {
                let name = format!("{directory}-{number}.lua");
                if changed != Some(name.as_str()) {
                    grouping.add(&file(&name, 1000));
                }
            }
        }
        grouping.finish(MEMBERS_MIN)
    }

    #[test]
    fn small_trees_are_one_pack_for_each_kind() {
        let mut grouping = Grouping::default();
        for name in ["a.lua", "a.py", "b.lua", "b.py", "c", "c.lua", "c.py", "d.lua", "d.py"] {
            grouping.add(&file(name, 10));
        }
        let groups = grouping.finish(MEMBERS_MIN);
        assert_eq!(groups.len(), 2, "one file is no pack");
        assert!(groups.iter().all(|group| (group.members.len(), group.content_bytes) == (4, 40)));
    }

    #[test]
    fn equal_contents_are_packed_once() {
        let mut grouping = Grouping::default();
        for number in 0..40 {
            let content = file(&(number % 5).to_string(), 10);
            grouping.add(&SmallFile { name: format!("{number}.x").into(), ..content });
        }
        let groups = grouping.finish(MEMBERS_MIN);
        assert_eq!((groups.len(), groups[0].members.len(), groups[0].content_bytes), (1, 5, 50));
    }

    #[test]
    fn no_pack_is_too_large_and_every_file_is_in_one() {
        let groups = groups(100, 50, None);
        assert!(groups.iter().all(|group| group.content_bytes <= FULL_BYTES));
        assert_eq!(groups.iter().map(|group| group.members.len()).sum::<usize>(), 5000);
        assert!(groups.len() <= 40, "{} packs for five MB", groups.len());
    }

    #[test]
    fn one_file_less_changes_two_packs_at_most() {
        let before: HashSet<String> = groups(100, 50, None).iter().map(Group::name).collect();
        for changed in ["0-0.lua", "50-7.lua", "99-49.lua"] {
            let after: HashSet<String> = groups(100, 50, Some(changed)).iter().map(Group::name).collect();
            let new = after.difference(&before).count();
            assert!((1..=4).contains(&new), "{changed}: {new} of {} packs are new", after.len());
        }
    }
}
