//! Magic extended attributes: what the client knows of an entry and of itself, by name.
//!
//! Owns where each is valid and listed, and what hides what; the texts are those of [`entry`] and [`mount`], the pages
//! those of [`paging`]. Source: format.md 9.2, client.md 5.8.

mod entry;
mod mount;
mod paging;

use std::fmt::Write as _;

use paging::Part;

use super::filesystem::Refusal;
use super::ops::Client;
use super::options::XattrVisibility;
use crate::catalog::index::RowId;
use crate::catalog::tree::View;

pub use mount::COMPATIBLE_VERSION;

/// The membership requirement, where the repository has one.
const AUTHZ: &str = "user.authz";
/// Everything that is counted, `name,value` a line. Our own, so it is answered at the root of the repository only, and
/// listed nowhere: scripts that compare lists with the reference system's see no difference.
const OUR_COUNTERS: &[u8] = b"user.nearfs_counters";
/// Attributes that programs ask for unasked: `ls -l` wants three of each file, and stops when it hears that there are
/// none on the file system. Attributes never change under a revision, and the root's counters cover all of it.
const UNASKED: [&[u8]; 3] = [b"security.selinux", b"system.posix_acl_access", b"system.posix_acl_default"];

/// The twelve counters, sorted by name, as the CSV of `user.*_counters` has them.
const COUNTERS: [&str; 12] = [
    "chunked",
    "chunked_size",
    "chunks",
    "dir",
    "external",
    "external_file_size",
    "file_size",
    "nested",
    "regular",
    "special",
    "symlink",
    "xattr",
];

fn names(client: &Client, view: &View, row: RowId) -> Vec<&'static str> {
    let mut names = mount::NAMES.to_vec();
    names.extend(entry::names(view, row));
    if client.tree().root().index.authz().is_some() {
        names.push(AUTHZ);
    }
    names.sort_unstable();
    names
}

/// Returns the names to list for an entry: stored ones, and magic ones where they are visible.
pub(super) fn list(client: &Client, view: &View, row: RowId) -> Vec<Vec<u8>> {
    let is_root = view.is_root(row);
    let visible = match client.options().xattr_visibility {
        XattrVisibility::Always => true,
        XattrVisibility::RootOnly => is_root,
        XattrVisibility::Never => false,
    };
    let mut listed: Vec<Vec<u8>> = view.index.xattrs(row).keys().map(<[u8]>::to_vec).collect();
    if visible {
        listed.extend(names(client, view, row).into_iter().map(|n| n.as_bytes().to_vec()));
    }
    listed.sort_unstable();
    listed.dedup();
    listed
}

/// Returns an attribute's value for a caller of this primary group; a magic attribute hides a stored one of the same
/// name, also where the caller may not read it.
pub(super) fn get(client: &Client, view: &View, row: RowId, name: &[u8], gid: u32) -> Option<Vec<u8>> {
    let plain = std::str::from_utf8(name).map_or("", |name| Part::of(name).0);
    if !client.options().xattr_guard.lets_read(plain, gid) {
        return None;
    }
    if name == OUR_COUNTERS && view.is_root(row) {
        return Some(our_counters(client).into_bytes());
    }
    magic(client, view, row, name).or_else(|| view.index.xattrs(row).get(name).map(<[u8]>::to_vec))
}

/// Says why an attribute that is not there is not. The kernel asks for access lists before it lets anybody but the
/// owner in; where fuse-overlayfs passes "not supported" on from below, it lets nobody in.
pub(super) fn refusal(client: &Client, name: &[u8]) -> Refusal {
    if client.options().raw_symlinks {
        return Refusal::NoAttribute;
    }
    let tree = client.tree();
    let index = &tree.root().index;
    let has_some = index.counter("self_xattr") + index.counter("subtree_xattr") > 0;
    if UNASKED.contains(&name) && !has_some { Refusal::NoSuchAttributes } else { Refusal::NoAttribute }
}

fn magic(client: &Client, view: &View, row: RowId, name: &[u8]) -> Option<Vec<u8>> {
    let (plain, part) = Part::of(std::str::from_utf8(name).ok()?);
    let is_known = mount::NAMES.contains(&plain) || plain == AUTHZ || entry::names(view, row).any(|name| name == plain);
    if !is_known {
        return None;
    }
    let value = match plain {
        AUTHZ => client.tree().root().index.authz().map(|text| text.as_bytes().to_vec()),
        _ => entry::value(client, view, row, plain).or_else(|| mount::value(client, plain)),
    };
    part.cut(plain, &value?)
}

fn our_counters(client: &Client) -> String {
    client.all_counters().into_iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name},{value}");
        text
    })
}

fn counter_lines(view: &View) -> String {
    COUNTERS.iter().fold(String::new(), |mut text, name| {
        let index = &view.index;
        let total = index.counter(&format!("self_{name}")) + index.counter(&format!("subtree_{name}"));
        let _ = writeln!(text, "{name},{total}");
        text
    })
}
