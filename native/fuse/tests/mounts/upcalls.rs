//! What the kernel answers without us: the counts of requests of common walks, cold and warm. `--nocapture` shows them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use nearfs_core::client::Ino;
use nearfs_fuse::{MountSettings, Operation};

use crate::fixture::{Mounted, run};
use crate::model::{Content, LARGE, Model, sample};

/// Runs a program at the root of a mount; returns the requests that it cost, by operation.
fn cost(mounted: &Mounted, program: &str, arguments: &[&str]) -> Vec<(&'static str, u64)> {
    let before = mounted.upcalls().snapshot();
    let start = Instant::now();
    run(program, arguments, &mounted.point.path());
    let elapsed = start.elapsed();
    let after = mounted.upcalls().snapshot();
    let cost: Vec<_> = before.iter().zip(&after).map(|(b, a)| (a.0, a.1 - b.1)).filter(|c| c.1 > 0).collect();
    println!("{program} {arguments:?}: {elapsed:.2?} {cost:?}");
    cost
}

/// Repeats a program and returns the cheapest run: listings and pages lie in the page cache, and the kernel may reclaim
/// some of it between any two runs.
fn warm_cost(mounted: &Mounted, program: &str, arguments: &[&str]) -> Vec<(&'static str, u64)> {
    (0..5).map(|_| cost(mounted, program, arguments)).min_by_key(|cost| total(cost)).unwrap()
}

fn of(cost: &[(&'static str, u64)], operation: Operation) -> u64 {
    cost.iter().find(|(name, _)| *name == operation.name()).map_or(0, |(_, count)| *count)
}

fn total(cost: &[(&'static str, u64)]) -> u64 {
    cost.iter().map(|(_, count)| count).sum()
}

const FIND: &[&str] = &[".", "-size", "+1"];

#[test]
fn a_first_walk_costs_a_few_listings_and_a_second_one_nothing() {
    let mounted = Mounted::new(sample());
    let first = cost(&mounted, "find", FIND);
    assert_eq!(of(&first, Operation::Lookup), 0, "attributes come with the listings: {first:?}");
    assert!(total(&first) < LARGE as u64 / 50, "{first:?}");
    assert_eq!(warm_cost(&mounted, "find", FIND), []);
    assert_eq!(warm_cost(&mounted, "ls", &["-R"]), []);
}

#[test]
fn the_kernels_guess_about_attributes_costs_a_look_up_an_entry() {
    let mounted = Mounted::with(sample(), |settings| settings.always_readdirplus = false);
    let first = cost(&mounted, "find", FIND);
    assert!(of(&first, Operation::Lookup) > LARGE as u64 / 2, "{first:?}; then this setting needs no default");
}

#[test]
fn opened_directories_are_kept_too_but_cost_two_requests_each_time() {
    let mounted = Mounted::with(sample(), |settings| settings.stateless_directories = false);
    cost(&mounted, "find", FIND);
    let second = warm_cost(&mounted, "find", FIND);
    assert_eq!(of(&second, Operation::Readdirplus) + of(&second, Operation::Readdir), 0);
    assert!(of(&second, Operation::Opendir) >= 4, "one for each of the four directories: {second:?}");
}

#[test]
fn a_warm_long_listing_costs_two_questions_an_entry_for_attributes() {
    let mounted = Mounted::new(sample());
    cost(&mounted, "ls", &["-lR"]);
    let second = warm_cost(&mounted, "ls", &["-lR"]);
    // `security.selinux` and `system.posix_acl_access`, which no kernel keeps for us; stat and listing are free.
    assert!(of(&second, Operation::Getxattr) <= 2 * mounted.model.nodes.len() as u64 + 10, "{second:?}");
    assert_eq!(total(&second), of(&second, Operation::Getxattr), "{second:?}");
}

#[test]
fn a_second_read_costs_open_and_release_only() {
    let mounted = Mounted::new(sample());
    cost(&mounted, "cat", &["marked", "big"]);
    let second = warm_cost(&mounted, "cat", &["marked", "big"]);
    // Releases are not waited for: one of the first time may count here.
    assert_eq!(total(&second), of(&second, Operation::Open) + of(&second, Operation::Release), "{second:?}");
    assert_eq!(of(&second, Operation::Open), 2);
}

#[test]
fn a_long_read_costs_requests_of_a_mebibyte() {
    let mounted = Mounted::new(sample());
    let first = cost(&mounted, "cat", &["big"]);
    // 20 MB, and the first ones are smaller while read-ahead grows.
    assert!(of(&first, Operation::Read) <= 32, "{first:?}");
}

#[test]
fn a_second_readlink_costs_nothing() {
    let mounted = Mounted::new(sample());
    let mut links = mounted.model.paths();
    links.retain(|(_, ino)| matches!(mounted.model.node(*ino).unwrap().content, Content::Symlink(_)));
    let path = |i: usize| mounted.point.path().join(OsStr::from_bytes(&links[i].0));
    let readlink = || mounted.upcalls().get(Operation::Readlink);
    for _ in 0..3 {
        fs::read_link(path(0)).unwrap();
        fs::read_link(path(1)).unwrap();
    }
    assert_eq!(readlink(), 2);
}

#[test]
fn entering_and_testing_directories_costs_nothing_when_warm() {
    let mounted = Mounted::new(sample());
    let script = &["-c", "cd bin && test -r tool && test -x . && cd ../large && test ! -e none"][..];
    cost(&mounted, "sh", script);
    assert_eq!(warm_cost(&mounted, "sh", script), []);
}

/// A notification makes the kernel ask again; nothing else does before the timeout.
#[test]
fn what_is_invalidated_is_asked_again() {
    let mounted = Mounted::new(sample());
    let count = |operation| mounted.upcalls().get(operation);
    let look = || (fs::metadata(mounted.path("marked")).unwrap(), fs::metadata(mounted.path("none")).unwrap_err());
    look();
    let before = (count(Operation::Lookup), count(Operation::Getattr));
    look();
    assert_eq!((count(Operation::Lookup), count(Operation::Getattr)), before);
    mounted.notifier().invalidate_entry(Ino::ROOT, b"marked").unwrap();
    mounted.notifier().invalidate_entry(Ino::ROOT, b"none").unwrap();
    look();
    assert_eq!(count(Operation::Lookup), before.0 + 2);

    let list = || fs::read_dir(mounted.point.path()).unwrap().count();
    let listed = || count(Operation::Readdirplus) + count(Operation::Readdir);
    list();
    let before = listed();
    list();
    assert_eq!(listed(), before);
    mounted.notifier().invalidate_inode(Ino::ROOT).unwrap();
    list();
    assert!(listed() > before);
    // Nothing that the kernel knows.
    mounted.notifier().invalidate_inode(Ino(99_999)).unwrap();
    mounted.notifier().invalidate_entry(Ino(99_999), b"x").unwrap();
}

#[test]
fn all_names_can_be_expired_at_once() {
    let mounted = Mounted::new(sample());
    cost(&mounted, "find", FIND);
    let lookups = || mounted.upcalls().get(Operation::Lookup);
    let look = || (fs::metadata(mounted.path("bin/tool")).unwrap(), fs::metadata(mounted.path("none")).is_err());
    look();
    let before = lookups();
    look();
    assert_eq!(lookups(), before);
    let understood = mounted.notifier().expire_all_names().unwrap();
    println!("the kernel understands: {understood}");
    look();
    // `bin`, `tool` and `none`, where the kernel is new enough.
    assert_eq!(lookups() - before, if understood { 3 } else { 0 });
}

/// Not a promise, a measurement: `--ignored --nocapture`.
#[test]
#[ignore = "a measurement: look-ups and opens by number of workers"]
fn requests_by_number_of_workers() {
    for (workers, clone_fd) in [(1, false), (4, false), (4, true), (16, false), (16, true), (64, false)] {
        let mut model = Model::new();
        model.timeout = Duration::ZERO;
        model.add(Ino::ROOT, b"file", Content::File(vec![1; 4096]));
        let change = |settings: &mut MountSettings| {
            settings.workers = Some(workers);
            settings.clone_fd = clone_fd;
        };
        let mounted = Mounted::with(model, change);
        let path = mounted.path("file");
        let time = |rounds: u32, work: &dyn Fn()| {
            let start = Instant::now();
            (0..rounds).for_each(|_| work());
            start.elapsed() / rounds
        };
        let lookup = time(20_000, &|| assert!(fs::symlink_metadata(&path).is_ok()));
        let read = time(5_000, &|| assert!(fs::read(&path).is_ok()));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..5_000).for_each(|_| assert!(fs::symlink_metadata(&path).is_ok())));
            }
        });
        let parallel = start.elapsed() / 40_000;
        println!(
            "{workers:3} workers, clone_fd {clone_fd:5}: stat {lookup:?}, open+read+close {read:?}, 8 threads' stat {parallel:?}"
        );
    }
}
