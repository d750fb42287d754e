//! Changes to all rows of one catalog at once: owners, hardlink groups, hashes of whole chunked files.
//!
//! Owns which rows a change is for; every method returns how many it changed. Source: format.md 4.5 to 4.7, 10.5.

use std::collections::HashMap;

use super::writer::CatalogWriter;
use crate::error::Result;

/// User or group ids to be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnerMap {
    /// What exactly these become.
    pub exact: HashMap<u32, u32>,
    /// What all others become; `None`: they stay.
    pub otherwise: Option<u32>,
}

impl OwnerMap {
    /// Returns what an id becomes.
    pub fn of(&self, id: u32) -> u32 {
        self.new_id(id).unwrap_or(id)
    }

    fn new_id(&self, id: u32) -> Option<u32> {
        self.exact.get(&id).copied().or(self.otherwise).filter(|new| *new != id)
    }
}

impl CatalogWriter {
    /// Gives entries other owners and groups.
    pub fn change_owners(&self, users: &OwnerMap, groups: &OwnerMap) -> Result<u64> {
        let rows = self.owner_updates("uid", users)? + self.owner_updates("gid", groups)?;
        if rows == 0 {
            return Ok(0);
        }
        let sql = "SELECT count(*) FROM catalog WHERE uid IN (SELECT source FROM temp.new_uid) \
                   OR gid IN (SELECT source FROM temp.new_gid)";
        let changed = self.database.number(sql)?;
        for column in ["uid", "gid"] {
            // In one statement: what became 2 does not become 3 by the next line of the map.
            self.database.run(&format!(
                "UPDATE catalog SET {column} = (SELECT target FROM temp.new_{column} WHERE source = {column}) \
                 WHERE {column} IN (SELECT source FROM temp.new_{column})"
            ))?;
        }
        Ok(u64::try_from(changed).unwrap_or(0))
    }

    /// Notes which of the ids that occur in a column become others; returns how many.
    fn owner_updates(&self, column: &str, map: &OwnerMap) -> Result<usize> {
        let present: Vec<u32> = self
            .database
            .rows(&format!("SELECT DISTINCT {column} FROM catalog"), &[], |row| self.database.unsigned(row, 0))?;
        let new: Vec<(u32, u32)> = present.into_iter().filter_map(|id| Some((id, map.new_id(id)?))).collect();
        self.database
            .run(&format!("CREATE TEMPORARY TABLE new_{column} (source INTEGER PRIMARY KEY, target INTEGER)"))?;
        for (source, target) in &new {
            let sql = format!("INSERT INTO temp.new_{column} (source, target) VALUES (?1, ?2)");
            self.database.execute(&sql, &[source, target])?;
        }
        Ok(new.len())
    }

    /// Makes every name of a hardlink group a file of its own; directories keep their link counts.
    pub fn break_hardlinks(&self) -> Result<u64> {
        let sql = "UPDATE catalog SET hardlinks = 1 WHERE mode & 61440 != 16384 AND hardlinks != 1";
        Ok(self.database.execute(sql, &[])? as u64)
    }

    /// Forgets the hash of the whole file where the chunks of it are known.
    pub fn drop_bulk_hashes(&self) -> Result<u64> {
        let sql = "UPDATE catalog SET hash = NULL WHERE mode & 61440 = 32768 AND flags & 64 != 0 \
                   AND hash IS NOT NULL AND EXISTS (SELECT 1 FROM chunks \
                   WHERE chunks.md5path_1 = catalog.md5path_1 AND chunks.md5path_2 = catalog.md5path_2)";
        Ok(self.database.execute(sql, &[])? as u64)
    }
}
