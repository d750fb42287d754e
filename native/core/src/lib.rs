//! The engine of nearfs: from an object's URL to a file's bytes, and from a tree on disk to a published revision.
//!
//! Knows no kernel protocol and no Python. Layers, each of which may use any layer to its right:
//! `client | publish | replica -> repo -> catalog -> cache -> store -> transport -> error`; siblings never import each
//! other.

#![forbid(unsafe_code)]

pub mod cache;
pub mod catalog;
pub mod client;
mod database;
pub mod error;
pub mod journal;
pub mod prefetch;
pub mod progress;
pub mod publish;
pub mod replica;
pub mod repo;
pub mod store;
pub mod transport;

pub use error::{Error, ErrorKind, Result};
