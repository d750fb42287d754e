//! Runs of realistic shapes, by a clock that the tests wind.

use super::super::sheet::Numbered;
use super::*;

struct Lab {
    recorder: Recorder<Numbered>,
    now: Instant,
}

const fn caller(process: u32, parent: u32, group: u32) -> Caller {
    Caller { thread: process, process, parent, group, session: 1 }
}

impl Lab {
    fn new() -> Self {
        Self { recorder: Recorder::default(), now: Instant::now() }
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
    }

    fn open(&mut self, caller: &Caller, row: u32) -> Option<Noted> {
        self.recorder.opened(self.now, caller, (&Numbered(0), row), false, false)
    }

    fn exec(&mut self, caller: &Caller, row: u32) -> Option<Noted> {
        self.recorder.opened(self.now, caller, (&Numbered(0), row), true, false)
    }

    /// Returns the rows of the runs that ended.
    fn ended(&mut self) -> Vec<Vec<u32>> {
        let row = |found: Found<Numbered>| match found {
            Found::Row(_, row) => row,
            Found::Path(path) => panic!("{path}"),
        };
        let taken = std::iter::from_fn(|| self.recorder.take_ended());
        let mut runs: Vec<Vec<u32>> = taken.map(|sheet| sheet.since(0).into_iter().map(row).collect()).collect();
        runs.sort_unstable();
        runs
    }

    fn ended_at_last(&mut self) -> Vec<Vec<u32>> {
        self.recorder.end_all();
        self.ended()
    }
}

#[test]
fn a_run_lasts_until_nothing_was_opened_for_a_while() {
    let (mut lab, me) = (Lab::new(), caller(10, 1, 10));
    let mut last = lab.now;
    for row in [1, 2, 1, 3] {
        last = lab.now;
        lab.open(&me, row).unwrap();
        lab.pass(4.9);
    }
    assert_eq!(lab.recorder.expire(lab.now), Some(last + QUIET));
    assert_eq!(lab.ended(), [[0; 0]; 0]);
    lab.pass(0.2);
    assert_eq!(lab.recorder.expire(lab.now), None);
    assert_eq!(lab.ended(), [[1, 2, 3]]);
    // Without anybody who looks, the next open ends it as well.
    lab.open(&me, 4);
    lab.pass(5.1);
    lab.open(&me, 5);
    assert_eq!(lab.ended(), [[4]]);
    assert_eq!(lab.ended_at_last(), [[5]]);
}

#[test]
fn what_goes_on_for_long_is_noted_at_its_beginning_only() {
    let (mut lab, me) = (Lab::new(), caller(10, 1, 10));
    for row in 0..100 {
        assert_eq!(lab.open(&me, row).is_some(), row <= 60, "{row}");
        lab.pass(1.0);
    }
    assert_eq!(lab.ended(), [(0..=60).collect::<Vec<_>>()]);
    lab.pass(5.0);
    assert!(lab.open(&me, 200).is_some());
    assert_eq!(lab.ended_at_last(), [[200]]);
}

#[test]
fn an_execution_begins_a_run_with_script_interpreter_and_loader_in_it() {
    let (mut lab, shell, child) = (Lab::new(), caller(10, 1, 10), caller(11, 10, 10));
    lab.open(&shell, 1);
    for row in [20, 21, 22] {
        lab.exec(&child, row);
    }
    lab.open(&child, 20);
    lab.open(&child, 23);
    lab.open(&shell, 2);
    lab.open(&child, 24);
    // It executes something else in its place.
    lab.exec(&child, 30);
    lab.open(&child, 31);
    assert_eq!(lab.ended_at_last(), [vec![1, 2], vec![20, 21, 22, 23, 24], vec![30, 31]]);
}

#[test]
fn a_wrapper_that_opens_nothing_else_is_the_trigger_of_what_it_executes() {
    let (mut lab, me) = (Lab::new(), caller(11, 10, 10));
    for row in [1, 2] {
        lab.exec(&me, row);
        lab.open(&me, row);
    }
    lab.open(&me, 3);
    lab.exec(&me, 1);
    assert_eq!(lab.ended(), [[1, 2, 3]]);
}

#[test]
fn programs_side_by_side_in_one_group_are_kept_apart_with_what_they_fork() {
    let mut lab = Lab::new();
    let programs: Vec<Caller> = (0..10).map(|number| caller(100 + number, 10, 10)).collect();
    let forked: Vec<Caller> = (0..10).map(|number| caller(200 + number, 100 + number, 10)).collect();
    let threads: Vec<Caller> = programs.iter().map(|one| Caller { thread: one.thread + 500, ..*one }).collect();
    for one in &programs {
        lab.exec(one, one.process);
    }
    for step in 1..5 {
        for (number, one) in programs.iter().chain(&forked).chain(&threads).enumerate() {
            lab.open(one, 1000 * (number as u32 / 10 + 1) + 10 * step + number as u32 % 10);
        }
    }
    let runs = lab.ended_at_last();
    assert_eq!((runs.len(), runs[0].len()), (10, 13));
    assert!(runs.iter().all(|run| run[1..].iter().all(|row| row % 10 == run[0] % 10)));
}

#[test]
fn programs_of_the_local_disk_are_known_by_their_group_and_its_first_file() {
    let mut lab = Lab::new();
    // `module avail` twice, by a shell whose children are of its group.
    for interpreter in [21, 22] {
        let lua = caller(interpreter, 20, 20);
        for row in 1..4 {
            lab.open(&lua, row);
        }
        lab.pass(6.0);
    }
    lab.open(&caller(30, 20, 30), 9);
    assert_eq!(lab.ended_at_last(), [vec![1, 2, 3], vec![1, 2, 3], vec![9]]);
}

#[test]
fn a_job_of_a_shell_from_the_repository_is_not_the_shell() {
    let (mut lab, shell) = (Lab::new(), caller(10, 1, 10));
    lab.exec(&shell, 1);
    lab.open(&shell, 2);
    lab.open(&caller(11, 10, 11), 3);
    lab.open(&caller(12, 10, 10), 4);
    assert_eq!(lab.ended_at_last(), [vec![1, 2, 4], vec![3]]);
}

#[test]
fn who_follows_a_run_sees_what_came_before_and_after() {
    let (mut lab, me) = (Lab::new(), caller(10, 1, 10));
    let rows = |steps: Vec<Found<Numbered>>| steps.len();
    let noted = lab.exec(&me, 1).unwrap();
    assert!(!noted.is_step && !lab.open(&me, 2).unwrap().is_step);
    assert!(lab.recorder.follow(noted.run) && !lab.recorder.follow(noted.run));
    assert_eq!(lab.recorder.steps(noted.run).map(rows), Some(2));
    assert!(lab.open(&me, 3).unwrap().is_step && !lab.open(&me, 3).unwrap().is_step);
    assert_eq!(lab.recorder.steps(noted.run).map(rows), Some(1));
    lab.exec(&me, 1);
    assert_eq!(lab.recorder.steps(noted.run).map(rows), None, "its home has another run");
    assert!(!lab.recorder.follow(noted.run));
    assert_eq!(lab.ended(), [[1, 2, 3]]);
}

#[test]
fn a_run_to_which_nothing_comes_does_not_go_by_its_list() {
    let (mut lab, me) = (Lab::new(), caller(10, 1, 10));
    let run = lab.exec(&me, 1).unwrap().run;
    assert!(!lab.recorder.is_as_learned(run));
    lab.recorder.goes_as_learned(run, true);
    assert!(lab.recorder.is_as_learned(run) && lab.open(&me, 2).unwrap().is_as_learned);
    for number in 0..100 {
        lab.recorder.helped(run, number % 3 != 0);
        assert!(lab.recorder.is_as_learned(run), "most of it comes");
    }
    (0..17).for_each(|_| lab.recorder.helped(run, false));
    assert!(!lab.recorder.is_as_learned(run));
}

#[test]
fn chunks_belong_to_the_run_that_opened_their_file() {
    let (mut lab, me) = (Lab::new(), caller(10, 1, 10));
    let noted = lab.recorder.opened(lab.now, &me, (&Numbered(0), 1), true, true).unwrap();
    lab.recorder.chunk(noted.run, (0, 1), 4096);
    lab.exec(&me, 2);
    lab.open(&me, 3);
    lab.exec(&me, 1);
    lab.recorder.chunk(noted.run, (0, 1), 8192);
    let items = lab.recorder.take_ended().unwrap().into_items();
    assert_eq!((items.len(), &items[0].offsets), (3, &Some(vec![4096])));
}

#[test]
fn memory_has_a_bound_whatever_runs() {
    let mut lab = Lab::new();
    for number in 0..20_000 {
        let one = caller(1000 + number, 1, 1000 + number);
        lab.exec(&one, number);
        lab.open(&one, number + 1);
        lab.open(&caller(1000 + number, 1, 5), number);
    }
    assert!(lab.recorder.runs.len() <= RUNS_MAX && lab.recorder.homes.len() <= PROCESSES_MAX);
    for number in 0..20 {
        for row in 0..2 * ITEMS_MAX as u32 {
            lab.open(&caller(50_000 + number, 1, 50_000 + number), row);
        }
    }
    let runs = lab.ended_at_last();
    let files: usize = runs.iter().map(Vec::len).sum();
    assert!(files > FILES_MAX / 2 && files <= FILES_MAX && lab.recorder.files == 0);
    assert_eq!(runs.iter().map(Vec::len).max(), Some(ITEMS_MAX + 1));
}
