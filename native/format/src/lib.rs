//! Bytes to values and back: the formats of CernVM-FS 2.12, and nothing else.
//!
//! No I/O, no clock, no threads, no unsafe code, no panic on any input. Parsers check sizes first and return proven
//! types; whoever holds a [`manifest::Manifest`] holds one whose signature was checked.

#![forbid(unsafe_code)]

pub mod dirent;
pub mod error;
pub mod hash;
pub mod object;
pub mod path;
pub mod xattr;

pub use error::{FormatError, Result};
