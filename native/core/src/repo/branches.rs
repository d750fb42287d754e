//! Branches of the tag history: lines of revisions beside the default one.
//!
//! Owns the rows of the table `branches`; the default branch is always there and never listed. Works on the private
//! copy of [`HistoryDb`], in one thread. Source: format.md 6.1, 6.5.

use nearfs_format::history::check_branch_name;

use super::history::HistoryDb;
use crate::error::{Error, ErrorKind, Result};

const ABANDONED: &str = "SELECT branch, parent FROM branches WHERE branch <> '' \
     AND NOT EXISTS (SELECT 1 FROM tags WHERE tags.branch = branches.branch) LIMIT 1";

/// A branch other than the default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its name, never empty.
    pub name: String,
    /// The branch that it left; empty for the default one.
    pub parent: String,
    /// The revision of its first tag.
    pub initial_revision: u64,
}

impl HistoryDb {
    /// Returns the branches, by first revision and name.
    pub fn branches(&self) -> Result<Vec<Branch>> {
        let database = &self.database;
        if !database.has_table("branches")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT branch, parent, initial_revision FROM branches WHERE branch <> '' \
                   ORDER BY initial_revision, branch";
        database.rows(sql, &[], |row| {
            let name = database.text(row, 0)?;
            check_branch_name(&name).map_err(|e| database.corrupt(e))?;
            Ok(Branch { name, parent: database.text(row, 1)?, initial_revision: database.unsigned(row, 2)? })
        })
    }

    /// Adds a branch. `InvalidInput` for a name that is empty, taken or not valid, or a parent that does not exist.
    pub fn add_branch(&mut self, branch: &Branch) -> Result<()> {
        let invalid =
            |reason: &str| Error::new(ErrorKind::InvalidInput, "add branch", format!("`{}`: {reason}", branch.name));
        check_branch_name(&branch.name).map_err(|e| invalid(&e.to_string()))?;
        let known = self.branches()?;
        let is_known = |name: &str| name.is_empty() || known.iter().any(|other| other.name == name);
        if is_known(&branch.name) {
            return Err(invalid("the name is in use"));
        }
        if !is_known(&branch.parent) {
            return Err(invalid(&format!("there is no branch `{}` to leave", branch.parent)));
        }
        let first = i64::try_from(branch.initial_revision).map_err(|_| invalid("its revision is out of range"))?;
        self.bring_up_to_date()?;
        let sql = "INSERT INTO branches (branch, parent, initial_revision) VALUES (?1, ?2, ?3)";
        self.database.execute(sql, &[&branch.name, &branch.parent, &first]).map(drop)
    }

    /// Removes the branches that no tag is on any more; what left them has left their parents. Returns their names.
    pub fn prune_branches(&mut self) -> Result<Vec<String>> {
        let mut pruned = Vec::new();
        if !self.has_branch || !self.database.has_table("branches")? {
            return Ok(pruned);
        }
        // One at a time: the parent of the next may be the one that goes.
        while let Some((name, parent)) = self.abandoned()? {
            self.database.execute("UPDATE branches SET parent = ?2 WHERE parent = ?1", &[&name, &parent])?;
            if self.database.execute("DELETE FROM branches WHERE branch = ?1", &[&name])? == 0 {
                return Err(self.database.corrupt(format!("branch `{}` cannot be removed", name.escape_debug())));
            }
            pruned.push(name);
        }
        Ok(pruned)
    }

    fn abandoned(&self) -> Result<Option<(String, String)>> {
        let database = &self.database;
        database.row(ABANDONED, &[], |row| Ok((database.text(row, 0)?, database.text(row, 1)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfs_format::hash::HashAlgorithm;
    use nearfs_format::history::Tag;

    fn branch(name: &str, parent: &str, initial_revision: u64) -> Branch {
        Branch { name: name.into(), parent: parent.into(), initial_revision }
    }

    fn tag(name: &str, branch: &str) -> Tag {
        Tag {
            name: name.into(),
            root_hash: HashAlgorithm::Sha1.hash(name.as_bytes()),
            revision: 1,
            timestamp: 1,
            description: String::new(),
            size_bytes: 1,
            branch: branch.into(),
            channel: 0,
        }
    }

    #[test]
    fn abandoned_branches_go_and_their_children_move_up() {
        let scratch = tempfile::tempdir().unwrap();
        let mut history = HistoryDb::create(scratch.path(), "a.example.org").unwrap();
        for (name, parent) in [("fix", ""), ("fix/deep", "fix"), ("fix/deeper", "fix/deep")] {
            history.add_branch(&branch(name, parent, 2)).unwrap();
            history.insert(&tag(&format!("tag-{}", name.replace('/', "-")), name)).unwrap();
        }
        assert!(history.prune_branches().unwrap().is_empty());
        history.remove("tag-fix").unwrap();
        history.remove("tag-fix-deep").unwrap();
        let mut pruned = history.prune_branches().unwrap();
        pruned.sort();
        assert_eq!(pruned, ["fix", "fix/deep"]);
        assert_eq!(history.branches().unwrap(), [branch("fix/deeper", "", 2)]);
    }

    #[test]
    fn branches_that_cannot_be_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let mut history = HistoryDb::create(scratch.path(), "a.example.org").unwrap();
        history.add_branch(&branch("fix", "", 2)).unwrap();
        for bad in [branch("fix", "", 3), branch("", "", 3), branch("a b", "", 3), branch("other", "none", 3)] {
            assert_eq!(history.add_branch(&bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
        assert_eq!(history.branches().unwrap().len(), 1);
    }
}
