//! What keeps a repository's storage whole: checks of its consistency.
//!
//! A sibling of `client` and `publish`: uses `repo`, `catalog` and `error` only.

pub mod check;
