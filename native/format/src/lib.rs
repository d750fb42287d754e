//! Bytes to values and back: the formats of CernVM-FS 2.12, and nothing else.
//!
//! No I/O, no clock, no threads, no unsafe code, no panic on any input. Parsers check sizes first and return proven
//! types; whoever holds a [`manifest::Manifest`] holds one whose signature was checked.

#![forbid(unsafe_code)]

pub mod blacklist;
pub mod bundle;
pub mod chunk;
pub mod chunker;
pub mod codec;
pub mod counters;
pub mod dirent;
pub mod envelope;
pub mod error;
pub mod fingerprint;
pub mod hash;
pub mod history;
pub mod manifest;
pub mod metainfo;
pub mod object;
pub mod pack;
pub mod pack_table;
pub mod path;
mod pem;
pub mod reflog;
mod rsa_key;
pub mod symlink;
pub mod time;
pub mod trace;
pub mod trust;
pub mod whitelist;
pub mod xattr;

pub use error::{FormatError, Result};
