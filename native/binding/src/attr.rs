//! Attributes and listed entries as Python sees them. Values only.

use nearfs_core::client::Attr as EngineAttr;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What `stat` shows of an entry.
#[pyclass(frozen, get_all, module = "nearfs._native")]
pub(crate) struct Attr {
    ino: u64,
    mode: u32,
    size: u64,
    blocks: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    rdev: u32,
    mtime_s: i64,
    mtime_ns: u32,
}

impl From<EngineAttr> for Attr {
    fn from(attr: EngineAttr) -> Self {
        Self {
            ino: attr.ino.0,
            mode: attr.file_type.mode_bits() | u32::from(attr.permissions),
            size: attr.size_bytes,
            blocks: attr.blocks(),
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            // The kernel's half of glibc's encoding, as in the native loop.
            rdev: attr.rdev as u32,
            mtime_s: attr.mtime_s,
            mtime_ns: attr.mtime_ns.min(999_999_999),
        }
    }
}

/// An entry of a listing: name, attributes, position after it.
pub(crate) type Listed = (Py<PyBytes>, Attr, u64);
