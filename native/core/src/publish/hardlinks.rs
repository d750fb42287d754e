//! Files with several names.
//!
//! Owns which names become a hardlink group of the repository. In a plain directory the names of one directory do;
//! across directories groups are split, or refused if the settings say so. An overlay breaks links, as the reference
//! has it, except that a change that shows under names which the upper directory does not have is refused. Source:
//! format.md 4.6, 10.4.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nearfs_format::dirent::Entry;
use nearfs_format::path::RepoPath;

use super::plan::{Action, Found};
use super::scan::{Scan, refused};
use crate::error::{Error, ErrorKind, Result};

/// One name of a file with several, in a plain directory.
#[derive(Debug)]
struct Name {
    path: RepoPath,
    found: Found,
    before: Option<Entry>,
}

/// Files with several names in one directory, by device and inode.
#[derive(Debug, Default)]
pub(super) struct LinkedFiles(BTreeMap<(u64, u64), Names>);

#[derive(Debug)]
struct Names {
    /// All names that the file has, in this directory or elsewhere.
    nlink: u64,
    names: Vec<Name>,
}

impl LinkedFiles {
    /// Notes one name.
    pub(super) fn note(&mut self, path: &RepoPath, stat: &fs::Metadata, found: Found, before: Option<Entry>) {
        let file = self.0.entry((stat.dev(), stat.ino()));
        let file = file.or_insert_with(|| Names { nlink: stat.nlink(), names: Vec::new() });
        file.names.push(Name { path: path.clone(), found, before });
    }
}

/// Files that have names outside of the directory in which they were met, by device and inode, and that name.
#[derive(Debug, Default)]
pub(super) struct SpreadNames(BTreeMap<(u64, u64), RepoPath>);

impl Scan<'_, '_> {
    /// Turns the files with several names in one directory into changes. A file that has names in another directory,
    /// too, is refused, if the settings say so.
    pub(super) fn linked(&mut self, files: LinkedFiles, spread: &mut SpreadNames) -> Result<()> {
        for (inode, Names { nlink, names }) in files.0 {
            if let Some(name) = names.first()
                && !self.settings.ignore_xdir_hardlinks
                && (names.len() as u64) < nlink
                && let Some(other) = spread.0.insert(inode, name.path.clone())
            {
                let first = other.min(name.path.clone());
                return Err(refused(&first, format!("Hardlinks across directories ({first})")));
            }
            self.group(names);
        }
        Ok(())
    }

    /// Publishes the names that one file has in one directory.
    fn group(&mut self, mut names: Vec<Name>) {
        names.sort_by(|a, b| a.path.cmp(&b.path));
        let linkcount = u32::try_from(names.len()).unwrap_or(u32::MAX);
        if linkcount == 1 || self.is_same_group(&names, linkcount) {
            for Name { path, found, before } in names {
                self.compare(&path, found, before.as_ref(), linkcount);
            }
            return;
        }
        let mut names = names.into_iter();
        let Some(Name { path: first, found, before }) = names.next() else { return };
        self.renew(&first, found, before.as_ref());
        for Name { path, before, .. } in names {
            let replaces = before.as_ref().is_some_and(|entry| !entry.is_directory());
            if before.is_some() && !replaces {
                self.push(&path, Action::Remove);
            }
            self.push(&path, Action::Link { first: first.clone(), linkcount, replaces });
        }
    }

    /// Says whether the base revision has just this group, unchanged.
    fn is_same_group(&self, names: &[Name], linkcount: u32) -> bool {
        let links = names.first().and_then(|name| name.before.as_ref()).map(|entry| entry.hardlinks);
        links.is_some_and(|links| links.group != 0 && links.linkcount == linkcount)
            && names.iter().all(|name| {
                let before = name.before.as_ref();
                before.is_some_and(|entry| Some(entry.hardlinks) == links && self.is_same_file(&name.found, entry))
            })
    }

    /// Publishes a file whether or not it seems to have changed.
    fn renew(&mut self, path: &RepoPath, found: Found, before: Option<&Entry>) {
        match before {
            Some(entry) if entry.is_directory() => {
                self.push(path, Action::Remove);
                self.push(path, Action::Add(found));
            }
            Some(_) => self.push(path, Action::Replace(found)),
            None => self.push(path, Action::Add(found)),
        }
    }
}

/// Names of files in an upper directory whose inodes have several, by device and inode.
#[derive(Debug, Default)]
pub(super) struct UpperNames(BTreeMap<(u64, u64), Seen>);

#[derive(Debug)]
struct Seen {
    first: RepoPath,
    names: u64,
    nlink: u64,
    /// One of the names belongs to a hardlink group of the base revision.
    was_linked: bool,
}

impl UpperNames {
    /// Notes one name; `base` is what the base revision has there.
    pub(super) fn note(&mut self, path: &RepoPath, stat: &fs::Metadata, base: Option<&Entry>) {
        if stat.nlink() < 2 || stat.is_dir() {
            return;
        }
        let was_linked = base.is_some_and(|entry| !entry.is_directory() && entry.hardlinks.linkcount > 1);
        let seen = self.0.entry((stat.dev(), stat.ino())).or_insert_with(|| Seen {
            first: path.clone(),
            names: 0,
            nlink: stat.nlink(),
            was_linked: false,
        });
        seen.names += 1;
        seen.was_linked |= was_linked;
    }

    /// Refuses files that the union shows changed under more names than the upper directory has: with `index=on` a
    /// changed file keeps all its names of the base revision, through a link outside of the upper directory.
    pub(super) fn check(&self) -> Result<()> {
        match self.0.values().find(|seen| seen.was_linked && seen.names < seen.nlink) {
            None => Ok(()),
            Some(Seen { first: path, .. }) => {
                let reason = format!(
                    "{path}: its change also shows under its other names, since the overlay was mounted with index=on; \
                     give each name a file of its own (cp -p FILE NEW && mv NEW FILE), or mount with index=off"
                );
                Err(Error::new(ErrorKind::Unsupported, "publish", reason))
            }
        }
    }
}
