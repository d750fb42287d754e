//! Magic extended attributes: what the client knows of an entry and of itself, by name.
//!
//! Owns the table of names, where each is valid, and its text. Source: format.md 9.2, client.md 5.8. Attributes about
//! proxies, fail-over and quota follow with those features; until then their names answer "no such attribute".

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use nearfs_format::dirent::{EntryFlags, FileType};

use crate::catalog::index::RowId;
use crate::catalog::tree::View;

use super::filesystem::Refusal;
use super::ops::Client;
use super::options::XattrVisibility;

/// Characters of a page of a long attribute.
const PAGE_BYTES: usize = 40_000;

/// Version that scripts of the reference system compare: the release whose behaviour is followed, patch level 0.
pub const COMPATIBLE_VERSION: &str = "2.12.0.0";

/// Names that are valid on every entry, alphabetical with the others when listed.
const EVERYWHERE: &[&str] = &[
    "user.catalog_counters",
    "user.expires",
    "user.fqrn",
    "user.host",
    "user.host_list",
    "user.inode_max",
    "user.nclg",
    "user.ndownload",
    "user.nioerr",
    "user.nopen",
    "user.pid",
    "user.proxy",
    "user.proxy_list",
    "user.pubkeys",
    "user.repo_counters",
    "user.revision",
    "user.root_hash",
    "user.rx",
    "user.tag",
    "user.uptime",
    "user.usedfd",
    "user.version",
];
/// Everything that is counted, `name,value` a line. Our own, so it is answered at the root of the repository only, and
/// listed nowhere: scripts that compare lists with the reference system's see no difference.
const OUR_COUNTERS: &[u8] = b"user.nearfs_counters";
const REGULAR: &[&str] =
    &["user.chunk_list", "user.chunks", "user.compression", "user.direct_io", "user.external_file"];
const RAWLINK: &[&str] = &["user.rawlink", "xfsroot.rawlink"];

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

fn names(view: &View, row: RowId) -> Vec<&'static str> {
    let entry = view.index.row(row);
    let mut names = EVERYWHERE.to_vec();
    if entry.hash.is_some() {
        names.push("user.hash");
    }
    match entry.file_type {
        FileType::Regular => names.extend(REGULAR),
        FileType::Symlink => names.extend(RAWLINK),
        _ => {}
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
        listed.extend(names(view, row).into_iter().map(|n| n.as_bytes().to_vec()));
    }
    listed.sort_unstable();
    listed.dedup();
    listed
}

/// Returns an attribute's value; a magic attribute hides a stored one of the same name.
pub(super) fn get(client: &Client, view: &View, row: RowId, name: &[u8]) -> Option<Vec<u8>> {
    if name == OUR_COUNTERS && view.is_root(row) {
        return Some(our_counters(client).into_bytes());
    }
    magic(client, view, row, name).or_else(|| view.index.xattrs(row).get(name).map(<[u8]>::to_vec))
}

/// Says why an attribute that is not there is not.
pub(super) fn refusal(client: &Client, name: &[u8]) -> Refusal {
    let tree = client.tree();
    let index = &tree.root().index;
    let has_some = index.counter("self_xattr") + index.counter("subtree_xattr") > 0;
    if UNASKED.contains(&name) && !has_some { Refusal::NoSuchAttributes } else { Refusal::NoAttribute }
}

fn magic(client: &Client, view: &View, row: RowId, name: &[u8]) -> Option<Vec<u8>> {
    let name = std::str::from_utf8(name).ok()?;
    let (plain, page) = match name.rsplit_once('~') {
        Some((plain, page)) => (plain, Some(page)),
        None => (name, None),
    };
    let known = names(view, row);
    let plain = known.iter().find(|n| **n == plain)?;
    let value = value(client, view, row, plain)?;
    let mut pages = value.chunks(PAGE_BYTES);
    match page {
        None => Some(pages.next().unwrap_or_default().to_vec()),
        Some("?") => Some(format!("num_pages, {}", pages.len().max(1)).into_bytes()),
        Some(number) => match number.parse::<usize>().ok()? {
            0 => Some(pages.next().unwrap_or_default().to_vec()),
            number => pages.nth(number).map(<[u8]>::to_vec),
        },
    }
}

fn value(client: &Client, view: &View, row: RowId, name: &str) -> Option<Vec<u8>> {
    let entry = view.index.row(row);
    let options = client.options();
    let counters = client.counters();
    let flag = |mask| u8::from(entry.flags.has(mask)).to_string();
    let text = match name {
        "user.fqrn" => options.fqrn.clone(),
        "user.revision" => client.tree().root().index.revision().to_string(),
        "user.root_hash" => client.tree().root().catalog.hash.to_string(),
        "user.tag" => options.tag.clone(),
        "user.hash" => entry.hash?.to_string(),
        "user.chunks" => view.index.chunks(row).ok()?.map_or(1, |c| c.as_slice().len()).to_string(),
        "user.chunk_list" => chunk_list(view, row)?,
        "user.compression" => entry.compression.name().to_owned(),
        "user.direct_io" => flag(EntryFlags::DIRECT_IO),
        "user.external_file" => flag(EntryFlags::EXTERNAL),
        "user.rawlink" | "xfsroot.rawlink" => return Some(view.index.symlink(row).to_vec()),
        "user.catalog_counters" => {
            let mountpoint = view.path(RowId::ROOT);
            let mountpoint = String::from_utf8_lossy(mountpoint.as_bytes()).into_owned();
            format!("catalog_hash: {}\ncatalog_mountpoint: {mountpoint}\n{}", view.catalog.hash, counter_lines(view))
        }
        "user.repo_counters" => counter_lines(client.tree().root()),
        "user.pubkeys" => options.public_keys.clone(),
        "user.expires" if client.is_fixed() => "never (fixed root catalog)".to_owned(),
        "user.expires" => client.minutes_to_expiry().to_string(),
        "user.host" => client.origin().active_host().to_string(),
        "user.host_list" => client.origin().hosts().join(";"),
        "user.proxy_list" => proxy_list(client),
        "user.proxy" => client.origin().active_proxy().to_string(),
        "user.nclg" => client.tree().loaded_count().to_string(),
        "user.inode_max" => (client.tree().next_number() - 1).to_string(),
        "user.nopen" => counters.opens.load(Ordering::Relaxed).to_string(),
        "user.nioerr" => counters.io_errors.load(Ordering::Relaxed).to_string(),
        "user.ndownload" => client.fetches().to_string(),
        "user.rx" => (client.fetched_bytes() / 1024).to_string(),
        "user.usedfd" => client.open_files().to_string(),
        "user.pid" => std::process::id().to_string(),
        "user.uptime" => (client.uptime().as_secs() / 60).to_string(),
        "user.version" => COMPATIBLE_VERSION.to_owned(),
        _ => return None,
    };
    Some(text.into_bytes())
}

/// Proxies in the order of the configuration, one a line.
fn proxy_list(client: &Client) -> String {
    client.origin().proxies().concat().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn our_counters(client: &Client) -> String {
    client.all_counters().into_iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name},{value}");
        text
    })
}

fn chunk_list(view: &View, row: RowId) -> Option<String> {
    let entry = view.index.row(row);
    let mut text = String::from("hash,offset,size\n");
    match view.index.chunks(row).ok()? {
        Some(chunks) => {
            for chunk in chunks.as_slice() {
                let _ = writeln!(text, "{},{},{}", chunk.hash, chunk.offset, chunk.size);
            }
        }
        None => {
            let _ = writeln!(text, "{},0,{}", entry.hash?, entry.size);
        }
    }
    Some(text)
}

fn counter_lines(view: &View) -> String {
    COUNTERS.iter().fold(String::new(), |mut text, name| {
        let index = &view.index;
        let total = index.counter(&format!("self_{name}")) + index.counter(&format!("subtree_{name}"));
        let _ = writeln!(text, "{name},{total}");
        text
    })
}
