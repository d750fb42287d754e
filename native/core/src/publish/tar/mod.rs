//! Publishing a tar archive without unpacking it.
//!
//! Owns what each member means: ownership, links, whiteouts, deletions. `members` reads the archive, `merge` puts its
//! tree together, `intake` stores contents while they stream by and `contents` remembers them, `plan` compares with the
//! base revision. Memory does not depend on the archive. It is read once; one that turns out to be damaged leaves objects that nobody refers to, and no revision.
//! Source: server.md 3.19, format.md 10.4.

mod contents;
mod header;
mod input;
mod intake;
mod members;
mod merge;
mod pax;
mod plan;
mod sparse;

use nearfs_format::dirent::{Entry, EntryFlags, FileType};
use nearfs_format::path::RepoPath;
use nearfs_format::xattr::{MAX_ATTRIBUTES, MAX_FIELD_BYTES, XattrList};

pub use input::Archive;

use super::grafts::GRAFT_PREFIX;
use super::names;
use super::pipeline::{Content, Tally};
use super::plan::{CATALOG_MARKER, Found};
use super::scan::refused;
use super::tree::CatalogTree;
use super::types::{PublishSettings, Warning};
use super::xattrs::UNION_XATTRS;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::store::Store;
use contents::{Contents, Ticket};
use intake::store_members;
use members::{Kind, Member, Members};
use merge::{Given, Said, Unpacked, place};
use plan::{DIRECTORY_BYTES, Planner, Sink};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const UNION_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
const OPAQUE_XATTRS: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];
const PERMISSIONS: u32 = 0o7777;
/// Owner and group of what nobody described, where the archive's own numbers are kept (10.4).
const NOBODY: (u32, u32) = (u32::MAX, u32::MAX);

/// What an ingest does beside publishing an archive.
#[derive(Debug, Clone, Default)]
pub struct IngestSettings {
    /// The directory of the repository in which the archive unpacks; made with its parents where it is missing.
    pub base: RepoPath,
    /// What is removed first, with everything below.
    pub deletions: Vec<RepoPath>,
    /// Owner and group of every entry; `None` keeps the archive's numbers.
    pub owner: Option<(u32, u32)>,
    /// Make `base` a nested catalog.
    pub makes_catalog: bool,
    /// Remove what `base` has and the archive has not.
    pub mirrors: bool,
}

/// An archive on its way into a repository.
pub(super) struct Order<'o> {
    pub(super) store: &'o dyn Store,
    /// `None` for deletions only.
    pub(super) archive: Option<&'o Archive>,
    pub(super) ingest: &'o IngestSettings,
    pub(super) settings: &'o PublishSettings,
    pub(super) progress: &'o Progress,
}

/// Reads the archive, stores its contents unless it is a dry run (no `tally`), and hands each change to `sink`, in the
/// order of names. `base` is a tree of its own, which nobody changes. Returns what was left out.
pub(super) fn ingest(
    order: &Order<'_>,
    base: &mut CatalogTree<'_>,
    tally: Option<&Tally>,
    sink: &mut Sink<'_>,
) -> Result<Vec<Warning>> {
    let &Order { store, archive, ingest, settings, progress } = order;
    let scratch = store.scratch_dir();
    let contents = Contents::create(&scratch, settings.hash_algorithm)?;
    let mut merger = Merger {
        tree: base,
        ingest,
        settings,
        unpacked: Unpacked::create(&scratch)?,
        contents: &contents,
        next_ticket: 0,
        warnings: Vec::new(),
    };
    merger.begin(archive.is_some())?;
    if let Some(archive) = archive {
        let mut members = Members::new(archive.open(progress)?);
        if let Some(tally) = tally {
            let rest = store_members(store, settings, progress, tally, |intake| {
                merger.read(&mut members, progress, |ticket, size, members| {
                    contents.keep(&intake.take(ticket, size, members)?)
                })?;
                merger.mark()?.map_or(Ok(()), |ticket| contents.keep(&intake.take(ticket, 0, &mut members)?))
            })?;
            contents.keep(&rest)?;
        } else {
            merger.read(&mut members, progress, |_, _, _| Ok(()))?;
            merger.mark()?;
        }
    }
    let Merger { tree, unpacked, mut warnings, .. } = merger;
    let implied_owner = ingest.owner.unwrap_or(NOBODY);
    let stored = tally.map(|_| &contents);
    Planner { tree, settings, implied_owner, unpacked: &unpacked, stored, sink }.walk(progress)?;
    warnings.sort_by(|a, b| a.path().cmp(b.path()));
    warnings.dedup();
    Ok(warnings)
}

struct Merger<'t, 's> {
    tree: &'t mut CatalogTree<'s>,
    ingest: &'t IngestSettings,
    settings: &'t PublishSettings,
    unpacked: Unpacked,
    contents: &'t Contents,
    next_ticket: Ticket,
    warnings: Vec<Warning>,
}

impl Merger<'_, '_> {
    /// Deletions come first; the base directory is there whatever the archive holds.
    fn begin(&mut self, has_archive: bool) -> Result<()> {
        for path in &self.ingest.deletions {
            if path.is_root() {
                return Err(refused(path, "the root directory cannot be deleted"));
            }
            check_reserved(path)?;
            if self.tree.find(path)?.is_none() {
                self.warnings.push(Warning::NothingToDelete(path.clone()));
            }
            self.unpacked.delete(path)?;
        }
        check_reserved(&self.ingest.base)?;
        if has_archive {
            self.unpacked.require(&self.ingest.base)?;
            if self.ingest.mirrors {
                self.unpacked.mirror(&self.ingest.base)?;
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        members: &mut Members<'_>,
        progress: &Progress,
        mut take: impl FnMut(Ticket, u64, &mut Members<'_>) -> Result<()>,
    ) -> Result<()> {
        while let Some(member) = members.next()? {
            progress.check("read archive")?;
            let size = member.size;
            if let Some(ticket) = self.merge(member)? {
                take(ticket, size, members)?;
            }
        }
        Ok(())
    }

    /// Puts a member in its place; returns the ticket of a content that is to be stored.
    fn merge(&mut self, member: Member) -> Result<Option<Ticket>> {
        let path = place(&self.ingest.base, &member.path)?;
        if path.is_root() {
            return Ok(None);
        }
        check_reserved(&path)?;
        if path == self.ingest.base && member.kind != Kind::Directory {
            return Err(refused(&path, "the archive has something else than a directory for its own top"));
        }
        if self.is_whiteout(&path, &member)? {
            return Ok(None);
        }
        if member.kind == Kind::Hardlink {
            let given = self.hardlink(&path, &member)?;
            self.check_name(&path, given.found.file_type)?;
            self.unpacked.give(&path, &given)?;
            return Ok(None);
        }
        let found = self.found(&path, &member)?;
        self.check_name(&path, found.file_type)?;
        if found.file_type.is_special() && self.settings.ignore_special {
            self.warnings.push(Warning::SpecialSkipped(path));
            return Ok(None);
        }
        let content = if member.kind == Kind::Regular { Some(self.ticket()?) } else { None };
        let is_opaque = member.xattrs.iter().any(|(key, value)| OPAQUE_XATTRS.contains(&&key[..]) && value == b"y");
        self.unpacked.give(&path, &Given { found, content })?;
        if is_opaque {
            self.unpacked.mirror(&path)?;
        }
        Ok(content)
    }

    fn ticket(&mut self) -> Result<Ticket> {
        let ticket = self.next_ticket;
        let next = ticket.checked_add(1);
        let full = || Error::new(ErrorKind::Unsupported, "read", "archive: it has more files than can be counted");
        self.next_ticket = next.ok_or_else(full)?;
        Ok(ticket)
    }

    /// Handles the signs of union file systems: removals and directories that hide what lies below.
    fn is_whiteout(&mut self, path: &RepoPath, member: &Member) -> Result<bool> {
        let prefix = path.name().get(..WHITEOUT_PREFIX.len()).unwrap_or_default();
        let parent = path.parent().unwrap_or_default();
        if path.name() == OPAQUE_NAME {
            self.unpacked.mirror(&parent)?;
        } else if path.name().starts_with(UNION_PREFIX) {
            self.warnings.push(Warning::ReservedName(path.clone()));
        } else if prefix.eq_ignore_ascii_case(WHITEOUT_PREFIX) {
            let name = path.name().get(WHITEOUT_PREFIX.len()..).unwrap_or_default();
            let hidden = parent.join(name).map_err(|e| refused(path, e))?;
            self.unpacked.hide(&hidden)?;
        } else if member.kind == Kind::CharDevice && member.device == (0, 0) {
            self.unpacked.hide(path)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn found(&mut self, path: &RepoPath, member: &Member) -> Result<Found> {
        let (file_type, bits) = match member.kind {
            Kind::Regular | Kind::Hardlink => (FileType::Regular, 0o100_000),
            Kind::Symlink => (FileType::Symlink, 0o120_000),
            Kind::CharDevice => (FileType::CharDevice, 0o020_000),
            Kind::BlockDevice => (FileType::BlockDevice, 0o060_000),
            Kind::Directory => (FileType::Directory, 0o040_000),
            Kind::Fifo => (FileType::Fifo, 0o010_000),
        };
        let symlink = if member.kind == Kind::Symlink { member.link.clone() } else { Vec::new() };
        if member.kind == Kind::Symlink && (symlink.is_empty() || symlink.contains(&0)) {
            return Err(refused(path, "the archive has a symlink without a target"));
        }
        let size = match file_type {
            FileType::Regular => member.size,
            FileType::Symlink => symlink.len() as u64,
            FileType::Directory => DIRECTORY_BYTES,
            FileType::CharDevice | FileType::BlockDevice => rustix::fs::makedev(member.device.0, member.device.1),
            FileType::Fifo | FileType::Socket => 0,
        };
        let (uid, gid) = self.ingest.owner.unwrap_or((member.uid, member.gid));
        // Links are as open as Linux makes them, whatever the archive says.
        let permissions = if file_type == FileType::Symlink { 0o777 } else { member.mode & PERMISSIONS };
        let xattrs = self.xattrs(path, member)?;
        let (mode, mtime, mtime_ns) = (bits | permissions, member.mtime, member.mtime_ns);
        Ok(Found { file_type, mode, uid, gid, size, mtime, mtime_ns, symlink, xattrs, given: None })
    }

    fn xattrs(&mut self, path: &RepoPath, member: &Member) -> Result<XattrList> {
        if !self.settings.include_xattrs {
            return Ok(XattrList::default());
        }
        let (mut pairs, mut is_skipped) = (Vec::new(), false);
        let own = |key: &[u8]| UNION_XATTRS.iter().any(|prefix| key.starts_with(prefix));
        for (key, value) in member.xattrs.iter().filter(|(key, _)| !own(key)) {
            if key.is_empty()
                || key.len() > MAX_FIELD_BYTES
                || value.len() > MAX_FIELD_BYTES
                || pairs.len() == MAX_ATTRIBUTES
            {
                is_skipped = true;
            } else {
                pairs.push((key.clone(), value.clone()));
            }
        }
        if is_skipped {
            self.warnings.push(Warning::XattrSkipped(path.clone()));
        }
        XattrList::from_pairs(pairs).map_err(|e| refused(path, e.to_string()))
    }

    /// A hardlink becomes a file of its own that shares the content (10.4).
    fn hardlink(&mut self, path: &RepoPath, member: &Member) -> Result<Given> {
        let target = place(&self.ingest.base, &member.link)?;
        let bad = |reason: &str| refused(path, format!("the archive links it to {target}, {reason}"));
        let (node, is_hidden) = self.unpacked.find(&target)?;
        match node.map(|node| node.said) {
            Some(Said::Given(given)) if given.found.file_type == FileType::Directory => {
                return Err(bad("which is a directory"));
            }
            Some(Said::Given(given)) => return Ok(*given),
            _ if is_hidden => return Err(bad("which does not exist")),
            _ => {}
        }
        self.tree.arrive(&target);
        let Some(row) = self.tree.find(&target)? else { return Err(bad("which does not exist")) };
        self.clone_of(&target, &row.entry).map_err(&bad)?.ok_or_else(|| bad("which cannot be read"))
    }

    /// Builds a copy of an entry of the base revision; an error says why there can be none.
    fn clone_of(&mut self, target: &RepoPath, entry: &Entry) -> Result<Option<Given>, &'static str> {
        let Some(file_type) = entry.file_type().filter(|kind| *kind != FileType::Directory) else {
            return Err("which is a directory");
        };
        let content = if file_type == FileType::Regular {
            let expected = EntryFlags(EntryFlags::FILE)
                .with_compression(self.settings.compression)
                .with_hash_algorithm(self.settings.hash_algorithm);
            if entry.flags.with(EntryFlags::CHUNKED, false) != expected {
                return Err("which is stored in another way than new files; put the file itself into the archive");
            }
            let Ok(chunks) = self.tree.chunks(target, entry) else { return Ok(None) };
            let Ok(ticket) = self.ticket() else { return Ok(None) };
            let content = Content { hash: entry.hash, chunks };
            let Ok(()) = self.contents.keep_content(ticket, &content) else { return Ok(None) };
            Some(ticket)
        } else {
            None
        };
        let found = Found {
            file_type,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            mtime: entry.mtime,
            mtime_ns: entry.mtime_ns.unwrap_or(0),
            symlink: entry.symlink.clone(),
            xattrs: entry.xattrs.clone(),
            given: None,
        };
        Ok(Some(Given { found, content }))
    }

    fn check_name(&mut self, path: &RepoPath, file_type: FileType) -> Result<()> {
        if path.name().starts_with(GRAFT_PREFIX) {
            let reason = "graft descriptors are read from directories only, not from archives; remove the file";
            return Err(Error::new(ErrorKind::Unsupported, "publish", format!("{path}: {reason}")));
        }
        self.warnings.extend(names::check(path, file_type, 1)?);
        Ok(())
    }

    /// Puts the marker of a nested catalog into the base directory, unless it is there; returns its content's ticket.
    fn mark(&mut self) -> Result<Option<Ticket>> {
        if !self.ingest.makes_catalog {
            return Ok(None);
        }
        let path = self.ingest.base.join(CATALOG_MARKER).map_err(|e| refused(&self.ingest.base, e))?;
        self.check_name(&path, FileType::Regular)?;
        let (node, is_hidden) = self.unpacked.find(&path)?;
        if node.is_some() || (!is_hidden && self.tree.find(&path)?.is_some()) {
            return Ok(None);
        }
        let (uid, gid) = self.ingest.owner.unwrap_or(NOBODY);
        let ticket = self.ticket()?;
        let found = Found {
            file_type: FileType::Regular,
            mode: 0o100_644,
            uid,
            gid,
            size: 0,
            mtime: self.settings.now,
            mtime_ns: 0,
            symlink: Vec::new(),
            xattrs: XattrList::default(),
            given: None,
        };
        self.unpacked.give(&path, &Given { found, content: Some(ticket) })?;
        Ok(Some(ticket))
    }
}

/// Refuses paths in the directories that only the publisher itself writes (8.6).
fn check_reserved(path: &RepoPath) -> Result<()> {
    if names::is_own(path) {
        return Err(refused(path, "the directories /.cvmfs and /.nearfs are reserved"));
    }
    Ok(())
}
