//! What keeps a repository's storage whole and makes others like it: checks of its consistency, collection of garbage,
//! replication.
//!
//! A sibling of `client` and `publish`: uses `repo`, `catalog`, `store`, `transport` and `error` only.

pub mod check;
mod load;
mod paths;
pub mod pull;
mod spill;
pub mod sweep;

pub use paths::PathRules;
