//! How a mount follows its repository, as an object: what an operator sees and asks for (`cvmfs_talk`).

use std::sync::Arc;
use std::time::Duration;

use nearfs_core::client::Client;
use nearfs_core::client::updates::{Outcome, Updates};
use pyo3::prelude::*;

use crate::errors::Raised;
use crate::opening::Opened;

/// The updates of one mount.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct Following {
    client: Arc<Client>,
    updates: Arc<Updates>,
}

impl Following {
    pub(crate) fn of(opened: &Opened) -> Self {
        Self { client: Arc::clone(&opened.client), updates: Arc::clone(&opened.updates) }
    }
}

#[pymethods]
impl Following {
    /// Looks for a new revision and switches to it; returns whether there was one.
    fn remount(&self, py: Python<'_>) -> Result<bool, Raised> {
        Ok(py.detach(|| self.updates.remount())? == Outcome::Switched)
    }

    /// True where the last look for a new revision failed.
    #[getter]
    fn is_offline(&self) -> bool {
        self.updates.is_offline()
    }

    /// True where the revision was chosen by hash, tag or date.
    #[getter]
    fn is_fixed(&self) -> bool {
        self.client.is_fixed()
    }

    /// How many revisions were shown before this one.
    #[getter]
    fn generation(&self) -> u32 {
        self.client.tree().generation()
    }

    /// The number that the next new entry gets.
    #[getter]
    fn next_inode(&self) -> u64 {
        self.client.tree().next_number()
    }

    /// Seconds that a revision is believed at most; None for what the repository says.
    #[getter]
    fn max_ttl_s(&self) -> Option<u64> {
        self.client.max_ttl().map(|ttl| ttl.as_secs())
    }

    fn set_max_ttl(&self, max_ttl_s: Option<u64>) {
        self.updates.set_max_ttl(max_ttl_s.map(Duration::from_secs));
    }

    /// Returns (depth below the root catalog, path) of every catalog that was entered, parents first.
    fn catalogs(&self, py: Python<'_>) -> Result<Vec<(usize, Vec<u8>)>, Raised> {
        let listed = py.detach(|| self.client.tree().mountpoints())?;
        Ok(listed.into_iter().map(|(depth, path)| (depth, path.as_bytes().to_vec())).collect())
    }

    /// Forgets failed operations that were counted.
    fn reset_error_counters(&self) {
        self.client.reset_error_counters();
    }

    /// Lets go of all decoded nested catalogs.
    fn release_nested(&self, py: Python<'_>) {
        py.detach(|| self.client.tree().release_nested());
    }
}
