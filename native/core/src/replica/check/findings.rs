//! The list of problems, bounded: a single torn page can spoil a million entries.
//!
//! Owns how a problem is worded around its subject. Belongs to the thread that checks.

use std::fmt::Display;

use nearfs_format::path::RepoPath;

/// More problems in one catalog say nothing new.
const CATALOG_MAX: usize = 1000;
/// More problems in one repository do not fit a person's day.
const TOTAL_MAX: usize = 100_000;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A path in the repository, or an object such as `catalog <hash> at <path>`.
    pub subject: String,
    /// What is wrong with it; for a path with the catalog that says so.
    pub problem: String,
}

/// Collects problems of one catalog after the other.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    catalog: String,
    in_catalog: usize,
    left_out: u64,
}

impl Findings {
    /// Names the catalog that the following problems belong to.
    pub(super) fn begin_catalog(&mut self, catalog: String) {
        self.catalog = catalog;
        self.in_catalog = 0;
    }

    /// Adds a problem of the catalog itself.
    pub(super) fn of_catalog(&mut self, problem: impl Display) {
        let subject = self.catalog.clone();
        self.of(&subject, problem);
    }

    /// Adds a problem of a path in the catalog.
    pub(super) fn at(&mut self, path: &RepoPath, problem: impl Display) {
        if self.in_catalog < CATALOG_MAX {
            let problem = format!("{problem} ({})", self.catalog);
            self.of(path, problem);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds a problem of anything.
    pub(super) fn of(&mut self, subject: impl Display, problem: impl Display) {
        if self.in_catalog >= CATALOG_MAX || self.list.len() >= TOTAL_MAX {
            self.left_out += 1;
            return;
        }
        self.in_catalog += 1;
        self.list.push(Finding { subject: subject.to_string(), problem: problem.to_string() });
    }

    /// Returns the problems; the last one counts those that are not listed.
    pub(super) fn into_list(mut self) -> Vec<Finding> {
        if self.left_out > 0 {
            let problem = format!("{} more problems (at most {CATALOG_MAX} a catalog are listed)", self.left_out);
            self.list.push(Finding { subject: "repository".to_owned(), problem });
        }
        self.list
    }
}
