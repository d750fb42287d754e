//! What is kept of a run: one list under its trigger, or what all uses of the trigger share and what each adds.
//!
//! Where the files of a run are those of the last one, or nearly so, the newest list takes the place of the one before.
//! Where they are others, the trigger keeps what both have in common, and each goes on under a second trigger: the first
//! file that it has for itself. What comes after that is split in the same way where it has to be. So an interpreter
//! brings what all scripts need, and each script's first own file brings the rest; nothing grows without end, and nobody
//! is brought another one's files for ever. Pure.

use std::collections::{HashMap, HashSet};

use nearfs_format::path::RepoPath;
use nearfs_format::trace::{Listing, OFFSETS_MAX, Trace, TraceItem, TraceName};

/// Lists with so many of ten files in common are of one use.
const ALIKE_OF_TEN: usize = 8;
/// A trace of fewer files than these saves nothing that is worth a file.
const ITEMS_MIN: usize = 2;
/// Triggers one after the other in one run.
const STEPS_MAX: usize = 8;

/// Where traces are kept.
pub(super) trait Memory {
    /// Returns a trace, if there is one that can be read.
    fn get(&mut self, name: &TraceName) -> Option<Trace>;

    /// Returns a trace of one use that lists both files, or lists one and has the other as its trigger.
    fn listing(&mut self, one: &RepoPath, other: &RepoPath) -> Option<Trace>;

    /// Returns the one trace of a program that begins with another file each time which lists that file; nothing where
    /// there are more.
    fn unordered(&mut self, path: &RepoPath) -> Option<Trace>;

    /// Keeps a trace in place of the one of that name.
    fn put(&mut self, trace: Trace);

    /// A trace held good once more.
    fn confirm(&mut self, name: &TraceName);
}

/// Learns from the files of a run, the trigger first.
pub(super) fn learn(memory: &mut impl Memory, run: Vec<TraceItem>) {
    let mut known = HashSet::new();
    let mut files = run.into_iter().filter(|file| known.insert(file.path.clone()));
    let Some(trigger) = files.next() else { return };
    let mut rest: Vec<TraceItem> = files.collect();
    let first = TraceName::of(trigger.path);
    let mut name = first.clone();
    for _ in 0..STEPS_MAX {
        // A trigger alone says nothing: whoever copies a program does not use it.
        if rest.is_empty() {
            return;
        }
        let Some(trace) = memory.get(&name) else {
            if name.after.is_some() || !learn_by_another_trigger(memory, &name.trigger, &rest) {
                keep_whole(memory, name, rest);
            }
            return;
        };
        let (known_as, is_shared) = (trace.listing(), trace.is_shared());
        let kept = trace.into_items();
        let extent = if is_shared { kept.len() } else { kept.len().max(rest.len()) };
        let is_alike = in_common(&kept, &rest) * 10 >= extent * ALIKE_OF_TEN;
        if is_alike && !is_shared {
            let newest = with_chunks_of(rest, &kept);
            renew(memory, Trace::new(name, known_as, newest), known_as, &kept);
            return;
        }
        let shared = if is_alike {
            let same_files = with_chunks_of(kept.clone(), &rest);
            renew(memory, Trace::new(name, known_as, same_files.clone()), known_as, &kept);
            same_files
        } else {
            split(memory, &first, name, kept, &rest)
        };
        // What is not shared goes on under its first file, which is asked for already by whoever opens it.
        let shared: HashSet<&RepoPath> = shared.iter().map(|file| &file.path).collect();
        rest.retain(|file| !shared.contains(&file.path));
        if rest.is_empty() {
            return;
        }
        name = first.after(rest.remove(0).path);
    }
}

/// Takes a run that begins with another file each time, as of a program that reads directories in no order, for one more
/// run of what is known already; says whether it is.
fn learn_by_another_trigger(memory: &mut impl Memory, first: &RepoPath, rest: &[TraceItem]) -> bool {
    let Some(known) = rest.first().and_then(|second| memory.listing(first, &second.path)) else { return false };
    let (name, known_as, kept) = (known.name().clone(), known.listing(), known.into_items());
    // The first file of the run is one of the list, and the trigger of the list one of the run.
    let is_alike = (in_common(&kept, rest) + 2) * 10 >= kept.len().max(rest.len()) * ALIKE_OF_TEN;
    if is_alike {
        let first = TraceItem { path: first.clone(), offsets: None };
        let newest: Vec<TraceItem> =
            std::iter::once(first).chain(rest.iter().cloned()).filter(|file| file.path != name.trigger).collect();
        renew(memory, Trace::new(name, Listing::Unordered, with_chunks_of(newest, &kept)), known_as, &kept);
    }
    is_alike
}

/// Leaves under a name what a list and a run have in common, in the order of the run, and what the list has for itself
/// under the first file of that; returns what they have in common.
fn split(
    memory: &mut impl Memory,
    first: &TraceName,
    name: TraceName,
    kept: Vec<TraceItem>,
    run: &[TraceItem],
) -> Vec<TraceItem> {
    let listed: HashSet<&RepoPath> = kept.iter().map(|file| &file.path).collect();
    let shared: Vec<TraceItem> = run.iter().filter(|file| listed.contains(&file.path)).cloned().collect();
    let shared = with_chunks_of(shared, &kept);
    memory.put(Trace::new(name, Listing::Shared, shared.iter().cloned()));
    let opened: HashSet<&RepoPath> = run.iter().map(|file| &file.path).collect();
    let mut left = kept.into_iter().filter(|file| !opened.contains(&file.path));
    if let Some(second) = left.next() {
        let name = first.after(second.path);
        if memory.get(&name).is_none() {
            keep_whole(memory, name, left.collect());
        }
    }
    shared
}

fn keep_whole(memory: &mut impl Memory, name: TraceName, files: Vec<TraceItem>) {
    if files.len() >= ITEMS_MIN {
        memory.put(Trace::new(name, Listing::Whole, files));
    }
}

/// Keeps a trace in place of one with those files. The same ones in another order are no reason to write.
fn renew(memory: &mut impl Memory, trace: Trace, known_as: Listing, kept: &[TraceItem]) {
    let offsets: HashMap<&RepoPath, _> = kept.iter().map(|file| (&file.path, &file.offsets)).collect();
    let is_same = |file: &TraceItem| offsets.get(&file.path).is_some_and(|known| **known == file.offsets);
    if trace.listing() == known_as && trace.items().len() == kept.len() && trace.items().iter().all(is_same) {
        memory.confirm(trace.name());
    } else {
        memory.put(trace);
    }
}

/// Adds to the chunks of files those that were read of them at another time: what the kernel still has in memory is read
/// without anybody hearing of it. Where a file was mostly read elsewhere, its chunks stay as they are: that is chance.
fn with_chunks_of(mut files: Vec<TraceItem>, others: &[TraceItem]) -> Vec<TraceItem> {
    let others: HashMap<&RepoPath, &Vec<u64>> =
        others.iter().filter_map(|file| Some((&file.path, file.offsets.as_ref()?))).collect();
    for TraceItem { path, offsets } in &mut files {
        let Some((own, other)) = offsets.as_mut().zip(others.get(path)) else { continue };
        let both = own.iter().filter(|offset| other.contains(offset)).count();
        if both * 2 >= own.len().min(other.len()) {
            own.extend_from_slice(other);
            own.sort_unstable();
            own.dedup();
            own.truncate(OFFSETS_MAX);
        }
    }
    files
}

fn in_common(one: &[TraceItem], other: &[TraceItem]) -> usize {
    let paths: HashSet<&RepoPath> = one.iter().map(|file| &file.path).collect();
    other.iter().filter(|file| paths.contains(&file.path)).count()
}

#[cfg(test)]
#[path = "learning_tests.rs"]
mod tests;
