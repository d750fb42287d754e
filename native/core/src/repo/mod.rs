//! A repository as a whole: verified snapshots, tag history, reference log, revisions compared and listed, bundles.

pub mod branches;
pub mod bundles;
pub mod diff;
pub mod facts;
pub mod history;
pub mod listing;
pub mod reflog;
pub mod snapshot;
pub mod stored;
