//! The adapter on a real `/dev/fuse`, over a file system in memory. Needs root.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod content;
mod fixture;
mod lifecycle;
mod model;
mod upcalls;
