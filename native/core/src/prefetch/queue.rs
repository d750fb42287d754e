//! Guesses that wait for their turn: in lanes, one for each place that somebody reads in.
//!
//! Within a lane, what was guessed first is fetched first: it is nearest to what was read. Of the lanes, the one that was
//! added to last goes first: it is where somebody reads now. Each guess says when it may begin; who takes it looks. Pure.

use std::collections::VecDeque;
use std::time::Instant;

use super::ledger::Mechanism;

/// Lanes beside each other; what is in more of them shares the oldest one.
const LANES_MAX: usize = 64;

/// Which lane: who guesses, and the catalog and row around which it guesses.
pub(super) type Lane = (Mechanism, u64, u32);

/// The lanes; the one that was added to last is last. None is empty. Each thing with the moment when it may begin.
#[derive(Debug)]
pub(super) struct Queue<T> {
    lanes: Vec<(Lane, VecDeque<(T, Instant)>)>,
    length: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { lanes: Vec::new(), length: 0 }
    }
}

impl<T> Queue<T> {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds to the end of a lane, which is the first one from now on.
    pub(super) fn push(&mut self, lane: Lane, errand: T, begins_at: Instant) {
        let known = self.lanes.iter().rposition(|(key, _)| *key == lane);
        let mut own = known.map_or_else(|| (lane, VecDeque::new()), |at| self.lanes.remove(at));
        own.1.push_back((errand, begins_at));
        if self.lanes.len() >= LANES_MAX {
            let (_, oldest) = self.lanes.remove(0);
            self.lanes[0].1.extend(oldest);
        }
        self.lanes.push(own);
        self.length += 1;
    }

    /// Returns what is to be fetched next from lanes of these mechanisms, and when it may begin.
    pub(super) fn front(&self, may: impl Fn(Mechanism) -> bool) -> Option<(&T, Instant)> {
        let (_, lane) = self.lanes.iter().rfind(|((mechanism, ..), _)| may(*mechanism))?;
        lane.front().map(|(errand, begins_at)| (errand, *begins_at))
    }

    /// Takes what is to be fetched next from lanes of these mechanisms, and says whose it is.
    pub(super) fn pop(&mut self, may: impl Fn(Mechanism) -> bool) -> Option<(Mechanism, T)> {
        let at = self.lanes.iter().rposition(|((mechanism, ..), _)| may(*mechanism))?;
        let ((mechanism, ..), lane) = &mut self.lanes[at];
        let (mechanism, (errand, _)) = (*mechanism, lane.pop_front()?);
        if lane.is_empty() {
            self.lanes.remove(at);
        }
        self.length -= 1;
        Some((mechanism, errand))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(queue: &mut Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(|_| true)).map(|(_, size)| size).collect()
    }

    #[test]
    fn the_place_that_is_read_now_goes_first_and_each_in_its_order() {
        let mut queue = Queue::default();
        let lane = |row| (Mechanism::Neighbours, 1, row);
        for (row, size) in [(1, 10), (1, 11), (2, 20), (3, 30), (2, 21)] {
            queue.push(lane(row), size, Instant::now());
        }
        assert_eq!((queue.len(), queue.front(|_| true).map(|(size, _)| *size)), (5, Some(20)));
        assert_eq!(sizes(&mut queue), [20, 21, 30, 10, 11]);
        assert_eq!((queue.len(), queue.pop(|_| true).is_none()), (0, true));
    }

    #[test]
    fn a_mechanism_that_has_enough_lets_others_pass() {
        let mut queue = Queue::default();
        for (mechanism, size) in [(Mechanism::Neighbours, 1), (Mechanism::Bundles, 2), (Mechanism::Bundles, 3)] {
            queue.push((mechanism, 1, 1), size, Instant::now());
        }
        let others = |mechanism| mechanism != Mechanism::Bundles;
        assert_eq!(queue.front(others).map(|(size, _)| *size), Some(1));
        assert_eq!(queue.pop(others), Some((Mechanism::Neighbours, 1)));
        assert!(queue.front(others).is_none());
        assert_eq!((queue.pop(others), queue.len()), (None, 2));
        assert_eq!(sizes(&mut queue), [2, 3]);
    }

    #[test]
    fn lanes_have_a_bound_and_nothing_is_lost() {
        let mut queue = Queue::default();
        let count = LANES_MAX as u32 * 3;
        (0..count).for_each(|row| queue.push((Mechanism::Catalogs, 7, row), row, Instant::now()));
        assert_eq!((queue.lanes.len(), queue.len()), (LANES_MAX, count as usize));
        let mut all = sizes(&mut queue);
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<_>>());
    }
}
