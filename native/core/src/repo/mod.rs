//! A repository as a whole: verified snapshots, tag history, reference log.
