//! Promises of fail-over: what dead, silent and stale hosts and proxies cost, and who is asked then. Every test states
//! the bound that it keeps; time-outs are long enough for a busy machine.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nearfs_core::ErrorKind;
use nearfs_core::transport::http::HttpOptions;
use nearfs_core::transport::retry::RetryPolicy;
use nearfs_core::transport::{Interrupt, Origin, OriginOptions, ProxyGroups, Request};
use nearfs_testkit::host::{Asked, Reply, ScriptedHost};
use tokio::runtime::Runtime;

const TIMEOUT: Duration = Duration::from_millis(800);

fn runtime() -> Runtime {
    nearfs_core::transport::runtime().unwrap()
}

fn options(proxies: &str) -> OriginOptions {
    OriginOptions {
        http: HttpOptions { timeout: TIMEOUT, proxy_timeout: TIMEOUT, ..HttpOptions::default() },
        retry: RetryPolicy { backoff_init: Duration::from_millis(1), ..RetryPolicy::default() },
        proxies: ProxyGroups::parse(proxies, "", None, |_| 1).unwrap(),
        ..OriginOptions::default()
    }
}

fn origin(runtime: &Runtime, hosts: &[String], proxies: &str) -> Origin {
    Origin::open(&hosts.join(";"), options(proxies), runtime.handle().clone()).unwrap()
}

fn silent() -> ScriptedHost {
    ScriptedHost::start(|_| Reply::Hang).unwrap()
}

fn echo() -> ScriptedHost {
    ScriptedHost::start(|asked| Reply::Body(asked.target.clone().into_bytes())).unwrap()
}

fn asked_for(host: &ScriptedHost, key: &str) -> usize {
    host.asked().iter().filter(|asked| asked.target.ends_with(key)).count()
}

/// Fetches `x` and returns whether it came, and how many time-outs that took.
fn timed(origin: &Origin) -> (bool, f64) {
    let begun = Instant::now();
    let has_come = origin.fetch_small("x", 1000, false).is_ok();
    (has_come, begun.elapsed().as_secs_f64() / TIMEOUT.as_secs_f64())
}

#[test]
fn many_dead_proxies_cost_one_time_out_in_all_and_once() {
    let (runtime, works) = (runtime(), echo());
    let dead: Vec<ScriptedHost> = (0..6).map(|_| silent()).collect();
    let mut list: Vec<String> = dead.iter().map(ScriptedHost::url).collect();
    list.push("http://127.0.0.1:1".to_owned());
    list.push(works.url());
    let origin = origin(&runtime, &["http://far.example.org".to_owned()], &list.join(";"));
    let (has_come, time_outs) = timed(&origin);
    assert!(has_come && time_outs < 1.8, "{time_outs} time-outs instead of 12");
    for _ in 0..5 {
        let (has_come, time_outs) = timed(&origin);
        assert!(has_come && time_outs < 0.5, "{time_outs} time-outs");
    }
    assert_eq!(origin.active_proxy().to_string(), works.url());
    assert!(
        dead.iter().map(|host| asked_for(host, "/x")).sum::<usize>() == 1,
        "the object was asked of one dead proxy"
    );
}

#[test]
fn many_dead_hosts_cost_one_time_out_in_all() {
    let (runtime, works) = (runtime(), echo());
    let dead: Vec<ScriptedHost> = (0..6).map(|_| silent()).collect();
    let hosts: Vec<String> = dead.iter().map(ScriptedHost::url).chain([works.url()]).collect();
    let origin = origin(&runtime, &hosts, "DIRECT");
    let (has_come, time_outs) = timed(&origin);
    assert!(has_come && time_outs < 1.8, "{time_outs} time-outs instead of 12");
    assert_eq!(origin.active_host().as_ref(), works.url());
}

#[test]
fn a_dead_host_behind_good_proxies_is_left_and_not_the_proxies() {
    let runtime = runtime();
    let by_host = |asked: &Asked| {
        if asked.target.contains("dead.example") { Reply::Hang } else { Reply::Body(b"here".to_vec()) }
    };
    let (first, second) = (ScriptedHost::start(by_host).unwrap(), ScriptedHost::start(by_host).unwrap());
    let hosts = ["http://dead.example.org", "http://good.example.org"].map(str::to_owned);
    let origin = origin(&runtime, &hosts, &format!("{};{};DIRECT", first.url(), second.url()));
    let (has_come, time_outs) = timed(&origin);
    assert!(has_come && time_outs < 1.8, "{time_outs} time-outs");
    assert_eq!(origin.active_host().as_ref(), "http://good.example.org");
    assert_eq!(origin.active_proxy().to_string(), first.url());
}

#[test]
fn refusals_cost_no_pause_where_another_way_answers() {
    let (runtime, works) = (runtime(), echo());
    let list = format!("http://127.0.0.1:1|http://127.0.0.1:2;{}", works.url());
    let mut options = options(&list);
    options.retry = RetryPolicy { max_retries: 5, backoff_init: Duration::from_secs(60), ..RetryPolicy::default() };
    let origin = Origin::open("http://far.example.org", options, runtime.handle().clone()).unwrap();
    let (has_come, time_outs) = timed(&origin);
    assert!(has_come && time_outs < 1.0, "{time_outs} time-outs");
}

#[test]
fn where_nothing_answers_a_request_ends_in_bounded_time_and_works_again_later() {
    let runtime = runtime();
    let is_back = Arc::new(AtomicBool::new(false));
    let hosts: Vec<ScriptedHost> = (0..5)
        .map(|_| {
            let is_back = is_back.clone();
            let script = move |_: &Asked| {
                if is_back.load(Ordering::SeqCst) { Reply::Body(b"back".to_vec()) } else { Reply::Hang }
            };
            ScriptedHost::start(script).unwrap()
        })
        .collect();
    let urls: Vec<String> = hosts.iter().map(ScriptedHost::url).collect();
    let origin = origin(&runtime, &urls, "DIRECT");
    for _ in 0..2 {
        let begun = Instant::now();
        assert_eq!(origin.fetch_small("x", 1000, false).unwrap_err().kind(), ErrorKind::Unreachable);
        // The attempt, and its one repetition (CVMFS_MAX_RETRIES).
        let time_outs = begun.elapsed().as_secs_f64() / TIMEOUT.as_secs_f64();
        assert!(time_outs < 3.5, "{time_outs} time-outs for 5 dead hosts");
    }
    is_back.store(true, Ordering::SeqCst);
    let (has_come, time_outs) = timed(&origin);
    assert!(has_come && time_outs < 1.0, "{time_outs} time-outs");
}

#[test]
fn a_proxy_that_trickles_is_never_left_for_a_direct_connection() {
    let runtime = runtime();
    let host = echo();
    let slow = ScriptedHost::start(|asked| {
        if asked.target.ends_with("/x") {
            return Reply::Trickle(vec![0; 1000], Duration::from_millis(20));
        }
        Reply::Body(b"S1".to_vec())
    })
    .unwrap();
    let origin = origin(&runtime, &[host.url()], &format!("{};DIRECT", slow.url()));
    for _ in 0..3 {
        assert!(!timed(&origin).0);
    }
    assert_eq!(origin.active_proxy().to_string(), slow.url());
    assert!(host.asked().is_empty(), "nothing went past the proxy");
}

#[test]
fn a_slow_answer_is_waited_for_while_others_are_looked_at() {
    let runtime = runtime();
    let slow = ScriptedHost::start(|asked| {
        let body = Box::new(Reply::Body(b"late".to_vec()));
        if asked.target.ends_with("/x") { Reply::After(TIMEOUT / 2, body) } else { *body }
    })
    .unwrap();
    let other = echo();
    let origin = origin(&runtime, &[slow.url(), other.url()], "DIRECT");
    assert_eq!(origin.fetch_small("x", 1000, false).unwrap(), b"late");
    assert_eq!(origin.active_host().as_ref(), slow.url());
    assert_eq!((asked_for(&slow, "/x"), asked_for(&other, "/x")), (1, 0));
}

fn at_revision(revision: u64) -> ScriptedHost {
    let hash = "a".repeat(40);
    let manifest = format!("C{hash}\nB1\nRd41d8cd98f00b204e9800998ecf8427e\nD240\nS{revision}\nNx.org\n--\n{hash}\n");
    ScriptedHost::start(move |_| Reply::Body(manifest.clone().into_bytes())).unwrap()
}

#[test]
fn a_stale_host_is_noticed_and_left_within_one_time_out() {
    let (runtime, old, new, dead) = (runtime(), at_revision(6), at_revision(7), silent());
    let origin = origin(&runtime, &[old.url(), dead.url(), new.url()], "DIRECT");
    let begun = Instant::now();
    assert_eq!(origin.compare_hosts().unwrap().as_deref(), Some(new.url().as_str()));
    assert!(begun.elapsed() < TIMEOUT * 2);
    assert_eq!(origin.active_host().as_ref(), new.url());
    assert_eq!(origin.compare_hosts().unwrap(), None);
    assert!(!origin.leave_host(&old.url()), "it is not the active one");
    assert!(origin.leave_host(&new.url()));
    assert_eq!(origin.active_host().as_ref(), old.url());
}

#[test]
fn who_never_gives_up_ends_when_interrupted_or_when_hosts_are_back() {
    let runtime = runtime();
    let fails =
        ScriptedHost::start(|asked| if asked.before < 5 { Reply::Close } else { Reply::Body(vec![1]) }).unwrap();
    let mut patient = options("DIRECT");
    patient.is_indefinite = true;
    patient.retry.backoff_max = Duration::from_millis(20);
    let open = |url: &str| Origin::open(url, patient.clone(), runtime.handle().clone()).unwrap();
    assert_eq!(open(&fails.url()).fetch_small("x", 1, false).unwrap(), [1]);

    let origin = open("http://127.0.0.1:1");
    let request = Request { interrupt: Interrupt::new(), ..Request::new("x", 1) };
    let interrupt = request.interrupt.clone();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let fetch = scope.spawn(|| runtime.block_on(origin.fetch_async(&request, &mut Nothing)).unwrap_err());
        std::thread::sleep(Duration::from_millis(300));
        assert!(!fetch.is_finished(), "gave up");
        interrupt.cancel();
        fetch.join().unwrap()
    });
    assert!(begun.elapsed() < Duration::from_secs(10));
}

struct Nothing;

impl nearfs_core::transport::Sink for Nothing {
    fn begin(&mut self, _: Option<u64>) -> nearfs_core::Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &[u8]) -> nearfs_core::Result<()> {
        Ok(())
    }

    fn restart(&mut self) -> nearfs_core::Result<()> {
        Ok(())
    }
}

#[test]
fn objects_are_spread_over_the_proxies_of_a_group_each_to_one() {
    let runtime = runtime();
    let proxies = [echo(), echo(), echo()];
    let list = proxies.iter().map(ScriptedHost::url).collect::<Vec<_>>().join("|");
    let mut options = options(&list);
    options.proxies = options.proxies.sharded(true);
    let origin = Origin::open("http://far.example.org", options, runtime.handle().clone()).unwrap();
    for _ in 0..2 {
        for n in 0..30 {
            origin.fetch_small(&format!("data/{n}"), 1000, false).unwrap();
        }
    }
    for proxy in &proxies {
        assert!(proxy.asked().len() >= 4, "{} of 60", proxy.asked().len());
        assert!(proxy.asked().iter().all(|asked| asked_for(proxy, &asked.target) % 2 == 0), "twice or never");
    }
}

#[test]
fn an_operator_sees_and_moves_what_is_in_use() {
    let runtime = runtime();
    let hosts = ["http://h0".to_owned(), "http://h1".to_owned()];
    let origin = origin(&runtime, &hosts, "http://a:1|http://b:1;http://c:1");
    origin.switch_host();
    assert_eq!(origin.host_chain(), (hosts.iter().map(|h| h.as_str().into()).collect(), 1));
    origin.set_hosts("http://h2").unwrap();
    assert_eq!(origin.active_host().as_ref(), "http://h2");
    origin.switch_proxy_group();
    assert_eq!((origin.active_proxy().to_string().as_str(), origin.proxy_group()), ("http://c:1", (1, None)));
    origin.set_fallback_proxies("http://f:1").unwrap();
    assert_eq!(origin.proxy_group(), (0, Some(2)));
    origin.set_proxies("http://z:1").unwrap();
    assert_eq!((origin.active_proxy().to_string().as_str(), origin.proxy_group()), ("http://z:1", (0, None)));
    assert_eq!(origin.set_proxies("socks://z").unwrap_err().kind(), ErrorKind::InvalidInput);
    origin.set_timeouts(Duration::from_secs(7), Duration::from_secs(9));
    assert_eq!(origin.timeouts(), (Duration::from_secs(7), Duration::from_secs(9)));
}

#[test]
fn hosts_are_sorted_by_distance_where_one_of_them_says_so() {
    let runtime = runtime();
    let near = ScriptedHost::start(|asked| match asked.target.as_str() {
        "/api/v1.0/geo/me/127.0.0.1,localhost" => Reply::Body(b"2,1\n".to_vec()),
        _ => Reply::Status(404),
    })
    .unwrap();
    let port = near.url().rsplit(':').next().unwrap().to_owned();
    let hosts = [near.url(), format!("http://localhost:{port}")];
    let origin = origin(&runtime, &hosts, "DIRECT");
    origin.sort_hosts_by_distance("me", None).unwrap();
    assert_eq!(origin.host_chain().0.first().unwrap().as_ref(), hosts[1]);
    assert!(origin.sort_hosts_by_distance("me", Some("elsewhere")).is_err());
    assert_eq!(origin.host_chain().0.first().unwrap().as_ref(), hosts[1], "no answer leaves the order");
    origin.keep_hosts(1);
    assert_eq!(origin.host_chain().0.len(), 1);
}

#[derive(Default)]
struct Picky(Vec<u8>);

impl nearfs_core::transport::Sink for Picky {
    fn begin(&mut self, _: Option<u64>) -> nearfs_core::Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> nearfs_core::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> nearfs_core::Result<()> {
        let is_right = self.0 == b"right";
        if is_right { Ok(()) } else { Err(nearfs_core::Error::new(ErrorKind::Corrupt, "verify", "object")) }
    }

    fn restart(&mut self) -> nearfs_core::Result<()> {
        self.0.clear();
        Ok(())
    }
}

#[test]
fn a_proxy_that_corrupts_is_left_when_no_host_helps() {
    let runtime = runtime();
    let bad = ScriptedHost::start(|_| Reply::Body(b"wrong".to_vec())).unwrap();
    let good = ScriptedHost::start(|_| Reply::Body(b"right".to_vec())).unwrap();
    let hosts = ["http://h0.example.org", "http://h1.example.org"].map(str::to_owned);
    let origin = origin(&runtime, &hosts, &format!("{};{}", bad.url(), good.url()));
    let mut sink = Picky::default();
    origin.fetch(&Request::new("x", 10), &mut sink).unwrap();
    assert_eq!((sink.0.as_slice(), bad.asked().len()), (&b"right"[..], 4));
    assert_eq!(origin.active_proxy().to_string(), good.url());
}
