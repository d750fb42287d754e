//! What is opened while somebody records it on request (`cvmfs_talk trace begin`): by one process group and what belongs
//! to its session, or by anybody.
//!
//! Apart from what is learned: it goes on where nothing is learned, and nothing of it is kept. Pure; under the lock of
//! whoever owns it.

use std::time::{Duration, Instant};

use super::callers::Caller;
use super::sheet::{Key, Rows, Sheet};

/// Recordings at a time; one more ends the oldest.
const RECORDINGS_MAX: usize = 16;
/// Files of a recording: more than the largest programs read, and what a reply holds.
const FILES_MAX: usize = 1 << 16;
/// A recording that nobody ended by then is forgotten.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
struct Recording<R> {
    token: u32,
    group: Option<u32>,
    begun: Instant,
    sheet: Sheet<R>,
}

/// The recordings that are under way, the oldest first.
#[derive(Debug)]
pub(super) struct Recordings<R> {
    under_way: Vec<Recording<R>>,
    next_token: u32,
}

impl<R: Rows> Recordings<R> {
    /// Begins with none; tokens count from `first_token`.
    pub(super) const fn new(first_token: u32) -> Self {
        Self { under_way: Vec::new(), next_token: first_token }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Begins a recording of a process group, or of everybody; returns the token that ends it.
    pub(super) fn begin(&mut self, now: Instant, group: Option<u32>) -> u32 {
        self.under_way.retain(|one| now.saturating_duration_since(one.begun) < LONGEST);
        if self.under_way.len() >= RECORDINGS_MAX {
            self.under_way.remove(0);
        }
        let token = self.next_token;
        self.next_token = token.wrapping_add(1);
        self.under_way.push(Recording { token, group, begun: now, sheet: Sheet::new(FILES_MAX) });
        token
    }

    /// Ends a recording; returns what was opened meanwhile, nothing where there is none of that token.
    pub(super) fn end(&mut self, token: u32) -> Option<Sheet<R>> {
        let at = self.under_way.iter().position(|one| one.token == token)?;
        Some(self.under_way.remove(at).sheet)
    }

    /// Takes note of an open.
    pub(super) fn opened(&mut self, caller: Option<&Caller>, file: (&R, u32), is_chunked: bool) {
        for one in &mut self.under_way {
            let belongs = |group| caller.is_some_and(|caller| caller.group == group || caller.session == group);
            if one.group.is_none_or(belongs) {
                one.sheet.note(file.0, file.1, is_chunked);
            }
        }
    }

    /// Takes note of a chunk that is read.
    pub(super) fn chunk(&mut self, key: Key, offset: u64) {
        self.under_way.iter_mut().for_each(|one| one.sheet.note_chunk(key, offset));
    }
}

#[cfg(test)]
mod tests {
    use super::super::sheet::Numbered;
    use super::*;

    fn paths(sheet: Option<Sheet<Numbered>>) -> Option<Vec<String>> {
        Some(sheet?.into_items().iter().map(|item| item.path.to_string()).collect())
    }

    #[test]
    fn a_recording_has_what_its_group_and_session_open_and_another_one_everything() {
        let (mut recordings, now) = (Recordings::new(7), Instant::now());
        let (group, all) = (recordings.begin(now, Some(50)), recordings.begin(now, None));
        let caller = |group, session| Caller { thread: 1, process: 1, parent: 0, group, session };
        let callers = [Some(caller(50, 4)), Some(caller(51, 50)), Some(caller(4, 4)), None];
        for (row, caller) in callers.iter().enumerate() {
            recordings.opened(caller.as_ref(), (&Numbered(1), row as u32), false);
        }
        recordings.opened(callers[0].as_ref(), (&Numbered(1), 1), false);
        assert_eq!(paths(recordings.end(group)).unwrap(), ["/1/0", "/1/1"]);
        assert_eq!(paths(recordings.end(all)).unwrap(), ["/1/0", "/1/1", "/1/2", "/1/3"]);
        assert!(recordings.is_empty() && recordings.end(all).is_none());
    }

    #[test]
    fn recordings_that_nobody_ends_are_forgotten() {
        let (mut recordings, now) = (Recordings::<Numbered>::new(u32::MAX - 3), Instant::now());
        let tokens: Vec<u32> = (0..=RECORDINGS_MAX).map(|_| recordings.begin(now, None)).collect();
        assert!(recordings.end(tokens[0]).is_none() && recordings.end(tokens[1]).is_some());
        let late = recordings.begin(now + LONGEST, None);
        assert!(recordings.end(tokens[2]).is_none() && recordings.end(late).is_some());
    }
}
