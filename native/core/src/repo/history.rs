//! The tag history: which revisions have names.
//!
//! Owns the history database and the automatic tags. Works on a private copy; nothing changes until
//! [`HistoryDb::save`] stores a new history object and a manifest refers to it. Belongs to one thread at a time.
//! Source: format.md 6.

use std::path::Path;

use nearfs_format::codec;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::history::{
    self, TRUNK, TRUNK_DESCRIPTION, TRUNK_PREVIOUS, TRUNK_PREVIOUS_DESCRIPTION, Tag, check_branch_name, check_tag_name,
    generic_tag_name, is_generic_tag_name,
};
use nearfs_format::object::{ObjectId, ObjectKind};

use crate::catalog::schema::PAGE_BYTES;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::store::verify::read_verified;
use crate::store::{ObjectRead, Store};

const SCHEMA: &str = "1.0";
const SCHEMA_REVISION: i64 = 3;
/// Largest uncompressed history that is accepted: room for over a million tags.
const HISTORY_LIMIT_BYTES: u64 = 512 << 20;
/// So many automatic tags within one second are an error, not a wish.
const COLLISIONS_LIMIT: u32 = 10_000;

const CREATE_PROPERTIES: &str =
    "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));";
const CREATE_BRANCHES: &str = "CREATE TABLE branches (branch TEXT, parent TEXT, initial_revision INTEGER, \
     CONSTRAINT pk_branch PRIMARY KEY (branch), FOREIGN KEY (parent) REFERENCES branches (branch), \
     CHECK ((branch <> '' AND parent IS NOT NULL) OR (branch = '' AND parent IS NULL)));";
const INSERT_DEFAULT_BRANCH: &str = "INSERT INTO branches (branch, parent, initial_revision) VALUES ('', NULL, 0);";
const CREATE_TAGS: &str = "CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, \
     channel INTEGER, description TEXT, size INTEGER, branch TEXT, CONSTRAINT pk_tags PRIMARY KEY (name), \
     FOREIGN KEY (branch) REFERENCES branches (branch));";
const CREATE_RECYCLE_BIN: &str =
    "CREATE TABLE recycle_bin (hash TEXT, flags INTEGER, CONSTRAINT pk_hash PRIMARY KEY (hash));";
const CREATE: [&str; 5] = [CREATE_PROPERTIES, CREATE_BRANCHES, INSERT_DEFAULT_BRANCH, CREATE_TAGS, CREATE_RECYCLE_BIN];

const TAG_COLUMNS: &str = "name, hash, revision, timestamp, channel, description, size, branch";

/// A stored history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedHistory {
    /// Hash of the history object (manifest `H`).
    pub hash: ContentHash,
    /// The store did not have it.
    pub was_new: bool,
}

/// A history being read or changed.
#[derive(Debug)]
pub struct HistoryDb {
    pub(super) database: Database,
    has_size: bool,
    pub(super) has_branch: bool,
}

impl HistoryDb {
    /// Creates the history of a repository without tags. Its temporary file lies in `scratch`.
    pub fn create(scratch: &Path, fqrn: &str) -> Result<Self> {
        let database = Database::create(scratch, format!("history of {fqrn}"), PAGE_BYTES, &CREATE)?;
        database.set_property("schema", SCHEMA)?;
        database.set_property("schema_revision", &SCHEMA_REVISION.to_string())?;
        database.set_property("fqrn", fqrn)?;
        let null = ContentHash::null(HashAlgorithm::Sha1);
        database.set_property("previous_revision", &null.to_string())?;
        Ok(Self { database, has_size: true, has_branch: true })
    }

    /// Opens the uncompressed bytes of a history: schema 1.0, any revision. `Untrusted` if it is that of another
    /// repository, `Corrupt` if it is no sound history, `Unsupported` for another schema.
    pub fn open(scratch: &Path, fqrn: &str, bytes: &[u8]) -> Result<Self> {
        let database = Database::from_bytes(scratch, format!("history of {fqrn}"), bytes)?;
        let schema = database.property("schema")?.unwrap_or_default();
        if schema.trim().parse::<f64>().ok() != SCHEMA.parse().ok() {
            let subject = format!("{}: it has schema `{}`", database.subject(), schema.escape_debug());
            return Err(Error::new(ErrorKind::Unsupported, "open", subject));
        }
        match database.property("fqrn")? {
            Some(name) if name == fqrn => {}
            Some(name) => {
                let subject = format!("{}: it belongs to `{}`", database.subject(), name.escape_debug());
                return Err(Error::new(ErrorKind::Untrusted, "open", subject));
            }
            None => return Err(database.corrupt("it does not say whose it is")),
        }
        let has_size = database.has_column("tags", "size")?;
        let has_branch = database.has_column("tags", "branch")?;
        Ok(Self { database, has_size, has_branch })
    }

    /// Reads a history object from a store and opens it.
    pub fn load<S: ObjectRead + ?Sized>(store: &S, scratch: &Path, fqrn: &str, hash: ContentHash) -> Result<Self> {
        let id = ObjectId::new(hash, ObjectKind::History);
        let stored = read_verified(store, &id, codec::stored_size_limit(HISTORY_LIMIT_BYTES))?;
        let bytes = codec::inflate_bounded(&stored, HISTORY_LIMIT_BYTES)
            .map_err(|e| Error::format("inflate", id.to_string(), e))?;
        Self::open(scratch, fqrn, &bytes)
    }

    /// Returns the tags in the order of listings: newest first (6.3).
    pub fn tags(&self) -> Result<Vec<Tag>> {
        let mut tags = self.select("")?;
        tags.sort_by(Tag::listing_order);
        Ok(tags)
    }

    fn select(&self, condition: &str) -> Result<Vec<Tag>> {
        let size = if self.has_size { "size" } else { "0" };
        let branch = if self.has_branch { "branch" } else { "''" };
        let sql = format!(
            "SELECT name, hash, revision, timestamp, channel, description, {size}, {branch} FROM tags {condition}"
        );
        self.database.rows(&sql, &[], |row| self.read_tag(row))
    }

    fn read_tag(&self, row: &rusqlite::Row<'_>) -> Result<Tag> {
        let database = &self.database;
        let name = database.text(row, 0)?;
        let hash = database.text(row, 1)?;
        let root_hash = hash.parse().map_err(|e| database.corrupt(format!("tag `{}`: {e}", name.escape_debug())))?;
        Ok(Tag {
            name,
            root_hash,
            revision: database.unsigned(row, 2)?,
            timestamp: database.integer(row, 3)?,
            channel: database.integer(row, 4)?,
            // Free text of old releases need not be UTF-8.
            description: String::from_utf8_lossy(&database.bytes(row, 5)?).into_owned(),
            size_bytes: database.unsigned(row, 6)?,
            branch: database.text(row, 7)?,
        })
    }

    /// Returns the tag of that name.
    pub fn find(&self, name: &str) -> Result<Option<Tag>> {
        // Few repositories have more than some hundred tags; reading them all keeps one reader of rows.
        Ok(self.select("")?.into_iter().find(|tag| tag.name == name))
    }

    /// Returns what a date means: the highest revision of the default branch that is not newer.
    pub fn find_by_date(&self, unix_s: i64) -> Result<Option<Tag>> {
        Ok(history::tag_at(&self.select("")?, unix_s).cloned())
    }

    /// Adds a tag. `InvalidInput` for a name that is taken or not valid, or a branch that does not exist.
    pub fn insert(&mut self, tag: &Tag) -> Result<()> {
        let invalid = |reason: String| Error::new(ErrorKind::InvalidInput, "add tag", reason);
        check_tag_name(&tag.name).map_err(|e| invalid(e.to_string()))?;
        check_branch_name(&tag.branch).map_err(|e| invalid(e.to_string()))?;
        if self.find(&tag.name)?.is_some() {
            return Err(invalid(format!("`{}`: the name is in use", tag.name)));
        }
        self.bring_up_to_date()?;
        let branches = "SELECT count(*) FROM branches WHERE branch = ?1";
        if self.database.row(branches, &[&tag.branch], |row| self.database.integer(row, 0))? != Some(1) {
            return Err(invalid(format!("`{}`: there is no branch `{}`", tag.name, tag.branch)));
        }
        let column =
            |value: u64| i64::try_from(value).map_err(|_| invalid(format!("`{}`: {value} is out of range", tag.name)));
        let sql = format!("INSERT INTO tags ({TAG_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
        let (revision, size) = (column(tag.revision)?, column(tag.size_bytes)?);
        self.database
            .execute(
                &sql,
                &[
                    &tag.name,
                    &tag.root_hash.to_string(),
                    &revision,
                    &tag.timestamp,
                    &tag.channel,
                    &tag.description,
                    &size,
                    &tag.branch,
                ],
            )
            .map(drop)
    }

    /// Removes a tag; says whether there was one.
    pub fn remove(&mut self, name: &str) -> Result<bool> {
        Ok(self.database.execute("DELETE FROM tags WHERE name = ?1", &[&name])? > 0)
    }

    /// Renames a tag and gives it another description; says whether there was one.
    pub fn rename(&mut self, name: &str, new_name: &str, description: &str) -> Result<bool> {
        let sql = "UPDATE tags SET name = ?2, description = ?3 WHERE name = ?1";
        Ok(self.database.execute(sql, &[&name, &new_name, &description])? > 0)
    }

    /// Moves the automatic tags on to a new head (6.2): what `trunk` named becomes `trunk-previous`.
    pub fn advance_trunk(&mut self, head: &Tag) -> Result<()> {
        self.remove(TRUNK_PREVIOUS)?;
        self.rename(TRUNK, TRUNK_PREVIOUS, TRUNK_PREVIOUS_DESCRIPTION)?;
        self.insert(&Tag { name: TRUNK.into(), description: TRUNK_DESCRIPTION.into(), ..head.clone() })
    }

    /// Returns the name for an automatic tag made at `unix_s` that is not taken yet.
    pub fn free_generic_name(&self, unix_s: i64) -> Result<String> {
        let taken: std::collections::HashSet<String> = self.select("")?.into_iter().map(|tag| tag.name).collect();
        (0..COLLISIONS_LIMIT)
            .map(|collision| generic_tag_name(unix_s, collision))
            .find(|name| !taken.contains(name))
            .ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "add tag", generic_tag_name(unix_s, 0) + ": too many in one second")
            })
    }

    /// Removes automatic tags with a timestamp before `unix_s`; returns their names.
    pub fn remove_generic_before(&mut self, unix_s: i64) -> Result<Vec<String>> {
        let outdated: Vec<String> = self
            .select("")?
            .into_iter()
            .filter(|tag| tag.timestamp < unix_s && is_generic_tag_name(&tag.name))
            .map(|tag| tag.name)
            .collect();
        for name in &outdated {
            self.remove(name)?;
        }
        Ok(outdated)
    }

    /// Returns the hash of the history before this one, `None` for the first.
    pub fn previous_revision(&self) -> Result<Option<ContentHash>> {
        // Unreadable and null both mean "none": old versions wrote zeros of other lengths.
        let text = self.database.property("previous_revision")?;
        Ok(text.and_then(|text| text.parse::<ContentHash>().ok()).filter(|hash| !hash.is_null()))
    }

    /// Records which history this one replaces: the manifest's `H`.
    pub fn set_previous_revision(&mut self, hash: ContentHash) -> Result<()> {
        self.database.set_property("previous_revision", &hash.to_string())
    }

    /// Ends the work: deflates the database and stores it. A manifest then has to refer to it.
    pub fn save(self, store: &dyn Store, algorithm: HashAlgorithm) -> Result<SavedHistory> {
        let stored = codec::deflate(&self.database.into_bytes()?);
        let hash = algorithm.hash(&stored);
        let outcome = store.put(&ObjectId::new(hash, ObjectKind::History), &stored)?;
        Ok(SavedHistory { hash, was_new: outcome.was_new })
    }

    /// Adds what older revisions of the schema lack, before the first change that needs it.
    pub(super) fn bring_up_to_date(&mut self) -> Result<()> {
        let database = &self.database;
        if !self.has_size {
            database.run("ALTER TABLE tags ADD COLUMN size INTEGER DEFAULT 0;")?;
        }
        if !database.has_table("recycle_bin")? {
            database.run(CREATE_RECYCLE_BIN)?;
        }
        if !database.has_table("branches")? {
            database.run(CREATE_BRANCHES)?;
            database.run(INSERT_DEFAULT_BRANCH)?;
            database.run("DELETE FROM recycle_bin;")?;
        }
        if !self.has_branch {
            // A column with a reference can only be added with a NULL default.
            database.run("ALTER TABLE tags ADD COLUMN branch TEXT REFERENCES branches (branch);")?;
            database.run("UPDATE tags SET branch = '';")?;
        }
        let revision: i64 = database.number_property("schema_revision")?.unwrap_or(0);
        if revision < SCHEMA_REVISION {
            database.set_property("schema_revision", &SCHEMA_REVISION.to_string())?;
        }
        (self.has_size, self.has_branch) = (true, true);
        Ok(())
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
