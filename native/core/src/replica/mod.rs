//! What keeps a repository's storage whole: checks of its consistency, collection of garbage.
//!
//! A sibling of `client` and `publish`: uses `repo`, `catalog` and `error` only.

pub mod check;
pub mod sweep;
