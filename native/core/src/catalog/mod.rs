//! File catalogs: reading, the decoded index, the tree of nested catalogs, writing.

pub mod index;
pub mod reader;
pub mod tree;
