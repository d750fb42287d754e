//! What to fetch in a run that somebody waits in: what its trace says, and what the traces after it say as the run shows
//! which use of the trigger it is. Where a trigger has none, it may be a file of a program that is known to begin with another
//! one each time, or the second file shows what both are of. Pure but for where the traces come from.

use std::collections::HashSet;

use nearfs_format::path::RepoPath;
use nearfs_format::trace::{Trace, TraceItem, TraceName};

use super::learning::Memory;

/// So often is looked for a trace of a file that no trace led to; a run that has more of them is like none before.
const SURPRISES_MAX: u32 = 64;
/// A run goes by its traces as long as no more files surprise than these, and no more than a part of those that were said.
const ODD_MAX: usize = 4;
const ODD_PART: usize = 16;

/// One run on its way through the traces.
#[derive(Debug, Default)]
pub(super) struct Walk {
    trigger: Option<TraceName>,
    /// No trace is known of the trigger.
    is_unknown: bool,
    /// A trace said what follows.
    is_guided: bool,
    expected: HashSet<RepoPath>,
    surprises: u32,
    /// Files that nothing led to.
    odd: usize,
    is_over: bool,
}

impl Walk {
    /// The run opened one more file, the trigger first; returns what is going to be opened after it, as far as that was
    /// not said before.
    pub(super) fn step(&mut self, path: RepoPath, memory: &mut impl Memory) -> Vec<TraceItem> {
        if !self.expected.insert(path.clone()) {
            return Vec::new();
        }
        if self.is_over {
            self.odd += 1;
            return Vec::new();
        }
        if let Some(trigger) = self.trigger.as_ref().filter(|_| self.is_unknown) {
            let trace = memory.listing(&trigger.trigger, &path);
            return self.whole(trace);
        }
        let name = match &self.trigger {
            None => self.trigger.insert(TraceName::of(path.clone())).clone(),
            Some(trigger) => {
                self.surprises += 1;
                self.is_over = self.surprises >= SURPRISES_MAX;
                trigger.after(path.clone())
            }
        };
        let trace = memory.get(&name);
        if name.after.is_none() {
            if trace.is_none()
                && let Some(trace) = memory.unordered(&path)
            {
                return self.whole(Some(trace));
            }
            self.is_unknown = trace.is_none();
            // All uses are one: nothing tells them apart.
            self.is_over = trace.as_ref().is_some_and(|trace| !trace.is_shared());
        }
        self.new_of(trace)
    }

    /// Returns all that is in a list under another trigger, which is a file like the others here; nothing comes after it.
    fn whole(&mut self, trace: Option<Trace>) -> Vec<TraceItem> {
        self.is_over = true;
        let begins_with = trace.as_ref().map(|trace| trace.name().trigger.clone());
        let mut items = self.new_of(trace);
        let trigger = begins_with.filter(|path| self.expected.insert(path.clone()));
        items.extend(trigger.map(|path| TraceItem { path, offsets: None }));
        items
    }

    fn new_of(&mut self, trace: Option<Trace>) -> Vec<TraceItem> {
        self.odd += usize::from(trace.is_none());
        self.is_guided |= trace.as_ref().is_some_and(|trace| !trace.items().is_empty());
        let mut items = trace.map(Trace::into_items).unwrap_or_default();
        items.retain(|item| self.expected.insert(item.path.clone()));
        items
    }

    /// Says whether the run opens what its traces say: then that is what to fetch, and nothing has to be guessed.
    pub(super) fn is_as_learned(&self) -> bool {
        self.is_guided && self.odd <= ODD_MAX.max(self.expected.len() / ODD_PART)
    }
}
