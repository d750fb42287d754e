//! A repository as a whole: verified snapshots, tag history, reference log, revisions compared and listed.

pub mod branches;
pub mod diff;
pub mod facts;
pub mod history;
pub mod listing;
pub mod reflog;
pub mod snapshot;
pub mod stored;
