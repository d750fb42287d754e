//! File catalogs: reading, the decoded index, the tree of nested catalogs, writing.

mod binds;
pub mod content;
mod counting;
mod decoded;
pub mod index;
mod numbers;
pub mod reader;
mod references;
mod rewriting;
mod rows;
pub mod schema;
pub mod succession;
mod transfer;
pub mod tree;
pub mod writer;

pub use rewriting::OwnerMap;
pub use rows::{NestedRow, Row, SmallFile, SmallFiles};
pub use transfer::{Moved, RowCounts};
pub use writer::{CatalogWriter, Finished, Previous, Seal};
