//! From a tree on disk to a new revision in a store.
