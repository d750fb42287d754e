//! What a configuration decides about fetching ahead. Values only; Python reads the files.

/// Which guesses are made, and what they may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefetchSettings {
    /// Small files near those that are read (`NEARFS_PREFETCH_NEIGHBOURS`).
    pub neighbours: bool,
    /// Small nested catalogs of a directory that is listed (`NEARFS_PREFETCH_CATALOGS`).
    pub catalogs: bool,
    /// Chunks after those that are read in order (`NEARFS_PREFETCH_READAHEAD`).
    pub readahead: bool,
    /// What programs opened when they ran before (`NEARFS_PREFETCH_TRACES`).
    pub traces: bool,
    /// Packs of small files, where the repository has them (`NEARFS_PREFETCH_PACKS`).
    pub packs: bool,
    /// What a publisher says is read with a file (`CVMFS_PREFETCH_FILEBUNDLES`).
    pub bundles: bool,
    /// Bytes that may be fetched ahead in vain beyond what was needed so far (`NEARFS_PREFETCH_BUDGET`).
    pub budget_bytes: u64,
    /// Guesses that are asked for at the same time (`NEARFS_PREFETCH_REQUESTS`).
    pub requests: usize,
    /// The same for what bundles name (`CVMFS_BUNDLE_POOL_SIZE`).
    pub bundle_requests: usize,
}

impl PrefetchSettings {
    /// Nothing is ever fetched ahead (`NEARFS_PREFETCH=no`).
    pub const OFF: Self = Self {
        neighbours: false,
        catalogs: false,
        readahead: false,
        traces: false,
        packs: false,
        bundles: false,
        budget_bytes: 0,
        requests: 0,
        bundle_requests: 0,
    };

    /// Says whether any guess is made.
    pub const fn is_on(&self) -> bool {
        self.requests > 0
            && (self.neighbours || self.catalogs || self.readahead || self.traces || self.packs || self.bundles)
    }
}

impl Default for PrefetchSettings {
    fn default() -> Self {
        Self {
            neighbours: true,
            catalogs: true,
            readahead: true,
            traces: true,
            packs: true,
            bundles: true,
            budget_bytes: 2 << 20,
            requests: 192,
            bundle_requests: 192,
        }
    }
}
