//! A repository as a whole: verified snapshots, tag history, reference log.

pub mod facts;
pub mod history;
pub mod reflog;
pub mod snapshot;
