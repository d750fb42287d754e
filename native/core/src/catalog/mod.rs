//! File catalogs: reading, the decoded index, the tree of nested catalogs, writing.

mod counting;
pub mod index;
pub mod reader;
mod rows;
pub mod schema;
mod transfer;
pub mod tree;
pub mod writer;

pub use rows::{NestedRow, Row};
pub use transfer::{Moved, Removed};
pub use writer::{CatalogWriter, Finished, Previous, Seal};
