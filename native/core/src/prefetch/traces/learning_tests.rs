//! Learning by runs as programs make them, and what a run is brought afterwards.

use super::super::walk::Walk;
use super::*;

#[derive(Debug, Default)]
struct Kept {
    traces: HashMap<TraceName, Trace>,
    writes: usize,
    reads: usize,
}

impl Memory for Kept {
    fn get(&mut self, name: &TraceName) -> Option<Trace> {
        self.reads += 1;
        self.traces.get(name).cloned()
    }

    fn listing(&mut self, one: &RepoPath, other: &RepoPath) -> Option<Trace> {
        let mut found = self.traces.values().filter(|trace| trace.name().after.is_none() && !trace.is_shared());
        found.find(|trace| trace.has(one) && trace.has(other)).cloned()
    }

    fn unordered(&mut self, path: &RepoPath) -> Option<Trace> {
        let found: Vec<&Trace> =
            self.traces.values().filter(|t| t.listing() == Listing::Unordered && t.has(path)).collect();
        if let [only] = found[..] { Some(only.clone()) } else { None }
    }

    fn put(&mut self, trace: Trace) {
        assert_eq!(Trace::parse(&trace.encode()).unwrap(), trace);
        self.traces.insert(trace.name().clone(), trace);
        self.writes += 1;
    }

    fn confirm(&mut self, name: &TraceName) {
        assert!(self.traces.contains_key(name));
    }
}

fn files(text: &str) -> Vec<TraceItem> {
    let path = |name: &str| RepoPath::parse(format!("/{name}").as_bytes()).unwrap();
    text.split_whitespace().map(|name| TraceItem { path: path(name), offsets: None }).collect()
}

fn numbered(of: &str, numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("{of}/{number:03}")).collect::<Vec<_>>().join(" ")
}

/// `count` files that only this use opens.
fn own(of: &str, count: u32) -> String {
    numbered(of, 0..count)
}

/// An interpreter's first files, then the program's own, with some of the library between them that others use as well.
fn python(program: &str) -> String {
    let start = format!("bin/python3 lib/libpython.so {}", own("start", 60));
    let library = |from, to| numbered("library", from..to);
    match program {
        "version" => "bin/python3 lib/libpython.so".to_owned(),
        "json.tool" => {
            format!("{start} runpy library/001 pkgutil json/init json/decoder {} json/tool argparse", library(2, 20))
        }
        "http.server" => {
            format!("{start} runpy library/001 pkgutil http/init {} http/server socket email", library(2, 25))
        }
        "sympy" => format!("{start} sympy/init {} {} {}", library(10, 90), own("sympy", 900), own("mpmath", 60)),
        "numpy" => format!("{start} numpy/init {} {}", library(30, 70), own("numpy", 150)),
        _ => start,
    }
}

/// Returns how many files a run waits for, one after the other, and what it is brought in vain.
fn replay(memory: &mut Kept, run: &str) -> (usize, Vec<String>) {
    let (mut walk, mut brought, mut waits) = (Walk::default(), HashSet::new(), 0);
    let run = files(run);
    for file in &run {
        waits += usize::from(!brought.contains(&file.path));
        let items = walk.step(file.path.clone(), memory);
        brought.extend(items.into_iter().map(|item| item.path));
    }
    let opened: HashSet<RepoPath> = run.into_iter().map(|file| file.path).collect();
    let mut vain: Vec<String> = brought.difference(&opened).map(ToString::to_string).collect();
    vain.sort_unstable();
    (waits, vain)
}

fn learned(runs: &[&str]) -> Kept {
    let mut memory = Kept::default();
    for run in runs {
        learn(&mut memory, files(run));
    }
    memory
}

#[test]
fn a_program_that_ran_once_waits_for_its_trigger_alone() {
    let run = python("sympy");
    let mut memory = learned(&[&run]);
    assert_eq!(replay(&mut memory, &run), (1, vec![]));
    learn(&mut memory, files(&run));
    assert_eq!((memory.traces.len(), memory.writes), (1, 1), "the same again is no reason to write");
}

#[test]
fn two_uses_of_an_interpreter_bring_what_each_needs_and_nothing_of_the_other() {
    let (json, sympy) = (python("json.tool"), python("sympy"));
    let mut memory = learned(&[&json, &sympy]);
    for _ in 0..3 {
        assert_eq!(replay(&mut memory, &json), (2, vec![]));
        assert_eq!(replay(&mut memory, &sympy), (2, vec![]));
        learn(&mut memory, files(&sympy));
        learn(&mut memory, files(&json));
    }
    assert_eq!(memory.traces.len(), 3);
    let shared = &memory.traces[&TraceName::of(files("bin/python3").remove(0).path)];
    // What comes between them of the library is shared as well, and asked for with the rest.
    assert!(shared.is_shared() && shared.items().len() > 61 && shared.items().len() < 80);
}

#[test]
fn uses_that_begin_alike_are_told_apart_later() {
    let uses = ["json.tool", "http.server", "sympy", "numpy", "version"].map(python);
    let runs: Vec<&str> = uses.iter().chain(&uses).chain(&uses).map(String::as_str).collect();
    let mut memory = learned(&runs);
    let settled = memory.writes;
    for run in &uses {
        let (waits, vain) = replay(&mut memory, run);
        assert!(waits <= 5, "{waits} for {}", &run[..80]);
        assert_eq!(vain.len(), 0, "{vain:?} for {}", &run[run.len() - 80..]);
        learn(&mut memory, files(run));
    }
    assert_eq!(memory.writes, settled, "nothing more is to be learned");
}

#[test]
fn a_list_that_changes_a_little_is_replaced_by_the_newest() {
    let before = format!("t {} {}", own("same", 90), own("old", 10));
    let after = format!("t {} {}", own("same", 90), own("new", 10));
    let mut memory = learned(&[&before, &after]);
    assert_eq!((memory.traces.len(), replay(&mut memory, &after)), (1, (1, vec![])));
    // In another order, it is the same.
    let reversed: Vec<&str> = after.split_whitespace().skip(1).collect();
    let reversed = format!("t {}", reversed.into_iter().rev().collect::<Vec<_>>().join(" "));
    learn(&mut memory, files(&reversed));
    assert_eq!((memory.writes, replay(&mut memory, &reversed)), (2, (1, vec![])));
}

#[test]
fn a_release_that_moves_everything_costs_one_wait_more() {
    let (old, new) = (format!("bin/tool {}", own("v1", 80)), format!("bin/tool {}", own("v2", 80)));
    let mut memory = learned(&[&old, &new]);
    assert_eq!(replay(&mut memory, &new), (2, vec![]));
    assert_eq!(replay(&mut memory, &old), (2, vec![]));
}

#[test]
fn a_run_that_is_cut_short_takes_nothing_away_for_good() {
    let whole = format!("t {}", own("f", 100));
    let cut = format!("t {}", own("f", 30));
    let mut memory = learned(&[&whole, &cut, &whole]);
    assert_eq!(replay(&mut memory, &whole), (2, vec![]));
    assert_eq!(replay(&mut memory, &cut), (1, vec![]));
    learn(&mut memory, files("t"));
    assert_eq!(memory.writes, 3, "a program that was copied was not used");
}

#[test]
fn reading_here_and_there_never_grows_without_end() {
    let mut memory = Kept::default();
    for seed in 0_u32..60 {
        let name = |step: u32| format!("data/{}", seed.wrapping_mul(2_654_435_761).wrapping_add(step * 7_919) % 977);
        let run = format!("t {}", (0..40).map(name).collect::<Vec<_>>().join(" "));
        learn(&mut memory, files(&run));
        let (_, vain) = replay(&mut memory, &run);
        assert!(vain.len() <= 40, "{}", vain.len());
    }
    assert!(memory.traces.len() <= 61 + STEPS_MAX);
    assert!(memory.writes <= 60 * 2 * STEPS_MAX);
}

#[test]
fn chunks_that_the_kernel_had_in_memory_are_not_forgotten() {
    let with = |offsets: &[u64]| {
        let mut run = files("t lib other");
        run[1].offsets = Some(offsets.to_vec());
        run
    };
    let name = TraceName::of(files("t").remove(0).path);
    let chunks = |memory: &Kept| memory.traces[&name].items()[0].offsets.clone().unwrap();
    let mut memory = Kept::default();
    learn(&mut memory, with(&[0, 8]));
    learn(&mut memory, with(&[]));
    assert_eq!((chunks(&memory), memory.writes), (vec![0, 8], 1));
    learn(&mut memory, with(&[8, 16]));
    assert_eq!(chunks(&memory), [0, 8, 16]);
    learn(&mut memory, with(&[32, 40, 48, 56]));
    assert_eq!(chunks(&memory), [32, 40, 48, 56], "another part of the file");
}

#[test]
fn a_walk_gives_up_on_a_run_like_none_before() {
    let mut memory = learned(&["t a b c", "t d e f"]);
    let (mut walk, before) = (Walk::default(), memory.reads);
    for file in files(&format!("t {} d", own("new", 100))) {
        assert!(walk.step(file.path, &mut memory).is_empty());
    }
    assert_eq!(memory.reads - before, 65);
}

#[test]
fn a_program_that_begins_with_another_file_each_time_is_known_by_any_of_them() {
    let modules = |from: u32| format!("{} {}", numbered("m", from..100), numbered("m", 0..from));
    let mut memory = learned(&[&modules(0)]);
    assert_eq!(replay(&mut memory, &modules(55)), (2, Vec::new()), "after one run, two files tell");
    let (waits, vain) = replay(&mut memory, "m/007 other/1 m/008");
    assert_eq!((waits, vain.len()), (3, 0));
    for (from, writes) in [(40, 2), (70, 2), (0, 2)] {
        learn(&mut memory, files(&modules(from)));
        assert_eq!((memory.traces.len(), memory.writes), (1, writes), "one list, whatever it begins with");
    }
    assert_eq!(replay(&mut memory, &modules(55)), (1, Vec::new()));
    // Where two programs of that kind have the file, it takes a second one again.
    for from in [0, 50] {
        learn(&mut memory, files(&format!("{} {} m/055", numbered("n", from..100), numbered("n", 0..from))));
    }
    assert_eq!(replay(&mut memory, &modules(56)), (1, Vec::new()));
    assert_eq!(replay(&mut memory, &modules(55)), (2, Vec::new()));
}

#[test]
fn a_run_goes_as_it_was_learned_until_too_much_surprises() {
    let run = python("json.tool");
    let mut memory = learned(&[&run]);
    let mut walk = Walk::default();
    let mut step = |name: &str| {
        walk.step(files(name).remove(0).path, &mut memory);
        walk.is_as_learned()
    };
    assert!(run.split_whitespace().take(50).all(&mut step));
    assert!((0..4).all(|number| step(&format!("odd/{number}"))) && step("runpy"));
    assert!(!(4..20).all(|number| step(&format!("odd/{number}"))));
    assert!(!step("odd/last"));
    let mut unknown = Walk::default();
    for file in files("other new/1 new/2") {
        unknown.step(file.path, &mut memory);
        assert!(!unknown.is_as_learned());
    }
}
