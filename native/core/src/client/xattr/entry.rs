//! Magic attributes about one entry: its objects, its flags, its catalog.

use std::fmt::Write as _;

use nearfs_format::dirent::{Compression, EntryFlags, FileType};
use nearfs_format::object::{ObjectId, ObjectKind};

use super::counter_lines;
use crate::cache::Want;
use crate::cache::audit::{Names, names_of};
use crate::catalog::index::RowId;
use crate::catalog::tree::View;
use crate::client::ops::Client;
use crate::transport::url::escape;

const REGULAR: &[&str] = &[
    "user.bundle_trigger",
    "user.chunk_list",
    "user.chunks",
    "user.compression",
    "user.direct_io",
    "user.external_file",
];
const EXTERNAL: &[&str] = &["user.external_url"];
const HASHED: &[&str] = &["user.hash", "user.lhash"];
const SYMLINK: &[&str] = &["user.rawlink", "xfsroot.rawlink"];

/// Returns the names that an entry has.
pub(super) fn names(view: &View, row: RowId) -> impl Iterator<Item = &'static str> {
    let entry = view.index.row(row);
    let by_type: &[&str] = match entry.file_type {
        FileType::Regular => REGULAR,
        FileType::Symlink => SYMLINK,
        _ => &[],
    };
    let by_hash: &[&str] = if entry.hash.is_some() { HASHED } else { &[] };
    let by_place: &[&str] = if entry.flags.has(EntryFlags::EXTERNAL) { EXTERNAL } else { &[] };
    by_type.iter().chain(by_hash).chain(by_place).copied()
}

/// Returns the value of one of [`names`].
pub(super) fn value(client: &Client, view: &View, row: RowId, name: &str) -> Option<Vec<u8>> {
    let entry = view.index.row(row);
    let flag = |mask| u8::from(entry.flags.has(mask)).to_string();
    let text = match name {
        "user.hash" => entry.hash?.to_string(),
        "user.lhash" => local_hash(client, view, row)?,
        "user.chunks" => view.index.chunks(row).ok()?.map_or(1, |c| c.as_slice().len()).to_string(),
        "user.chunk_list" => chunk_list(view, row)?,
        "user.compression" => entry.compression.name().to_owned(),
        "user.bundle_trigger" => flag(EntryFlags::BUNDLE_TRIGGER),
        "user.direct_io" => flag(EntryFlags::DIRECT_IO),
        "user.external_file" => flag(EntryFlags::EXTERNAL),
        "user.external_url" => external_url(client, view, row),
        "user.rawlink" | "xfsroot.rawlink" => return Some(view.index.symlink(row).to_vec()),
        "user.catalog_counters" => {
            let mountpoint = view.path(RowId::ROOT);
            let mountpoint = String::from_utf8_lossy(mountpoint.as_bytes()).into_owned();
            format!("catalog_hash: {}\ncatalog_mountpoint: {mountpoint}\n{}", view.catalog.hash, counter_lines(view))
        }
        _ => return None,
    };
    Some(text.into_bytes())
}

/// Hashes what lies in the cache, as the publisher did; says so where it is not there or cannot be read.
fn local_hash(client: &Client, view: &View, row: RowId) -> Option<String> {
    let entry = view.index.row(row);
    let hash = entry.hash?;
    let id = ObjectId::new(hash, ObjectKind::File);
    let found = client.cache().find(&Want::sized(id, entry.compression, entry.size));
    let names = match found.transpose() {
        None => return Some("Not in cache".to_owned()),
        Some(found) => found.and_then(|file| names_of(hash.algorithm(), |block, offset| file.read_at(block, offset))),
    };
    let stored = |names: Names| if entry.compression == Compression::None { names.plain } else { names.deflated };
    Some(names.map_or_else(|_| "I/O error (5)".to_owned(), |names| stored(names).to_string()))
}

fn external_url(client: &Client, view: &View, row: RowId) -> String {
    let host = client.cache().external().and_then(|origin| origin.hosts().into_iter().next());
    host.map_or_else(String::new, |host| format!("{host}{}", escape(view.path(row).as_bytes())))
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
