//! Who looks through directories: how many of a catalog were listed lately, whoever did it. Pure.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// What was listed before a pause of this length says nothing about what is opened now.
const PAUSE: Duration = Duration::from_secs(10);
/// Catalogs that are remembered, and directories of each.
const CATALOGS_MAX: usize = 16;
const DIRECTORIES_MAX: usize = 1 << 14;

/// The directories that were listed lately, by catalog.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    catalogs: HashMap<u64, Sweep>,
}

#[derive(Debug)]
struct Sweep {
    directories: HashSet<u32>,
    last: Instant,
}

impl Sweeps {
    /// A directory is listed.
    pub(super) fn listed(&mut self, catalog: u64, directory: u32, now: Instant) {
        if self.catalogs.len() >= CATALOGS_MAX && !self.catalogs.contains_key(&catalog) {
            let oldest = self.catalogs.iter().min_by_key(|(_, sweep)| sweep.last).map(|(catalog, _)| *catalog);
            oldest.and_then(|catalog| self.catalogs.remove(&catalog));
        }
        let sweep = self.catalogs.entry(catalog).or_insert_with(|| Sweep { directories: HashSet::new(), last: now });
        if sweep.is_over(now) {
            sweep.directories.clear();
        }
        sweep.last = now;
        if sweep.directories.len() < DIRECTORIES_MAX {
            sweep.directories.insert(directory);
        }
    }

    /// Returns how many directories of a catalog were listed lately.
    pub(super) fn count(&self, catalog: u64, now: Instant) -> usize {
        self.catalogs.get(&catalog).filter(|sweep| !sweep.is_over(now)).map_or(0, |sweep| sweep.directories.len())
    }
}

impl Sweep {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > PAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_count_once_and_until_a_pause() {
        let (mut sweeps, now) = (Sweeps::default(), Instant::now());
        for directory in [1, 2, 2, 1, 3] {
            sweeps.listed(7, directory, now);
        }
        assert_eq!((sweeps.count(7, now), sweeps.count(8, now)), (3, 0));
        let later = now + PAUSE * 2;
        assert_eq!(sweeps.count(7, later), 0);
        sweeps.listed(7, 9, later);
        assert_eq!(sweeps.count(7, later), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut sweeps, mut now) = (Sweeps::default(), Instant::now());
        for catalog in 0..CATALOGS_MAX as u64 + 5 {
            now += Duration::from_millis(1);
            sweeps.listed(catalog, 0, now);
        }
        assert_eq!((sweeps.catalogs.len(), sweeps.count(4, now), sweeps.count(5, now)), (CATALOGS_MAX, 0, 1));
        (0..DIRECTORIES_MAX as u32 + 9).for_each(|directory| sweeps.listed(5, directory, now));
        assert_eq!(sweeps.count(5, now), DIRECTORIES_MAX);
    }
}
