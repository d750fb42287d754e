//! The check of a repository: it accepts what is sound, and finds every class of damage.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod fixture;
mod golden;
mod published;
mod records;
