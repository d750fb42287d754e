//! File catalogs: reading, the decoded index, the tree of nested catalogs, writing.
