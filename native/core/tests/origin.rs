//! Promises of an origin: what it makes of what its transports meet, over hosts, proxies and kept connections. No test
//! depends on how fast the machine is: time-outs that must strike are short, all others are long.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_core::transport::http::HttpOptions;
use nearfs_core::transport::retry::RetryPolicy;
use nearfs_core::transport::{Interrupt, Origin, OriginOptions, ProxyGroups, Request, Sink};
use nearfs_core::{Error, ErrorKind, Result};
use nearfs_testkit::host::{Asked, Reply, ScriptedHost};
use tokio::runtime::Runtime;

/// Struck only by a test that fails.
const LONG: Duration = Duration::from_secs(30);
/// Strikes in tests that wait for it.
const SHORT: Duration = Duration::from_millis(200);

fn runtime() -> Runtime {
    nearfs_core::transport::runtime().unwrap()
}

fn options(timeout: Duration) -> HttpOptions {
    HttpOptions { timeout, ..HttpOptions::default() }
}

#[test]
fn no_more_requests_are_in_flight_than_allowed() {
    let host = ScriptedHost::start(|_| Reply::After(Duration::from_millis(5), Box::new(Reply::Body(vec![7])))).unwrap();
    let options =
        OriginOptions { http: HttpOptions { parallel_requests: 4, ..options(LONG) }, ..OriginOptions::default() };
    let runtime = runtime();
    let origin = Origin::open(&host.url(), options, runtime.handle().clone()).unwrap();
    std::thread::scope(|scope| {
        for n in 0..40 {
            let origin = &origin;
            scope.spawn(move || assert_eq!(origin.fetch_small(&format!("k{n}"), 1, false).unwrap(), [7]));
        }
    });
    assert!(host.connections() <= 4, "{} connections", host.connections());
    assert_eq!(origin.counters().requests, 40);
}

#[test]
fn what_many_requests_at_a_time_left_is_closed_when_they_are_over() {
    const MANY: usize = 100;
    // Each waits for all others, so that each has a connection of its own.
    let all = Arc::new(std::sync::Barrier::new(MANY));
    let script = move |asked: &Asked| {
        if asked.target != "/last" {
            all.wait();
        }
        Reply::Body(vec![7])
    };
    let host = ScriptedHost::start(script).unwrap();
    let runtime = runtime();
    let origin = origin(&runtime, &[&host.url()], LONG);
    std::thread::scope(|scope| {
        for n in 0..MANY {
            let origin = &origin;
            scope.spawn(move || assert_eq!(origin.fetch_small(&format!("k{n}"), 1, false).unwrap(), [7]));
        }
    });
    assert_eq!((host.connections(), host.open_connections()), (MANY, MANY));
    let until = Instant::now() + Duration::from_secs(30);
    while host.open_connections() > 64 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(host.open_connections(), 64);
    assert_eq!(origin.fetch_small("last", 1, false).unwrap(), [7]);
    assert_eq!(host.connections(), MANY);
}

fn origin(runtime: &Runtime, hosts: &[&str], timeout: Duration) -> Origin {
    let retry = RetryPolicy { backoff_init: Duration::from_millis(1), ..RetryPolicy::default() };
    let options = OriginOptions { http: options(timeout), retry, ..OriginOptions::default() };
    Origin::open(&hosts.join(";"), options, runtime.handle().clone()).unwrap()
}

/// Returns the URL of a port where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn an_unreachable_host_is_reported_in_bounded_time() {
    let (runtime, nobody) = (runtime(), nobody());
    let hanging = ScriptedHost::start(|_| Reply::Hang).unwrap();
    let begun = Instant::now();
    for (host, reason) in [(nobody, "cannot connect"), (hanging.url(), "no answer within 0.2 s")] {
        let origin = origin(&runtime, &[&host], SHORT);
        let error = origin.fetch_small(".cvmfspublished", 10, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        let text = error.to_string();
        assert!(text.contains(&format!("{host}/.cvmfspublished")) && text.contains(reason), "{text}");
        assert_eq!(origin.counters().requests, 2, "one retry on the same path");
    }
    assert!(begun.elapsed() < LONG);
}

#[test]
fn a_name_without_address_is_unreachable_too() {
    let runtime = runtime();
    let origin = origin(&runtime, &["http://no-such-host.invalid/x"], LONG);
    let error = origin.fetch_small("y", 10, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[test]
fn the_next_host_steps_in_and_stays() {
    let runtime = runtime();
    let broken = ScriptedHost::start(|_| Reply::Status(500)).unwrap();
    let good = ScriptedHost::start(|_| Reply::Body(vec![1])).unwrap();
    let origin = origin(&runtime, &[&broken.url(), &good.url()], LONG);
    for _ in 0..3 {
        assert_eq!(origin.fetch_small("x", 1, false).unwrap(), [1]);
    }
    assert_eq!(origin.active_host().as_ref(), good.url());
    assert_eq!((broken.asked().len(), good.asked().len()), (1, 3));
}

#[test]
fn only_all_hosts_together_can_say_that_a_key_is_missing() {
    let runtime = runtime();
    let empty = ScriptedHost::start(|_| Reply::Status(404)).unwrap();
    let too = ScriptedHost::start(|_| Reply::Status(404)).unwrap();
    let both = origin(&runtime, &[&empty.url(), &too.url()], LONG);
    assert_eq!(both.fetch_small("x", 1, false).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(too.asked().len(), 1);
    assert_eq!(both.active_host().as_ref(), empty.url(), "what all lack is no host's fault");
    for hosts in [[&*empty.url(), &*nobody()], [&*nobody(), &*empty.url()]] {
        let error = origin(&runtime, &hosts, LONG).fetch_small("x", 1, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    }
}

/// Accepts one content only.
#[derive(Debug, Default)]
struct Picky(Vec<u8>);

impl Sink for Picky {
    fn begin(&mut self, _content_length: Option<u64>) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let is_right = self.0 == b"right";
        if is_right { Ok(()) } else { Err(Error::new(ErrorKind::Corrupt, "verify", "object")) }
    }

    fn restart(&mut self) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}

#[test]
fn corrupt_bytes_are_fetched_again_past_caches_and_then_from_the_next_host() {
    let runtime = runtime();
    let heals = ScriptedHost::start(|asked| match asked.header("pragma") {
        Some("no-cache") => Reply::Body(b"right".to_vec()),
        _ => Reply::Body(b"wrong".to_vec()),
    })
    .unwrap();
    let lies = ScriptedHost::start(|_| Reply::Body(b"wrong".to_vec())).unwrap();
    let request = Request::new("x", 10);
    for (hosts, requests) in [(vec![heals.url()], 2), (vec![lies.url(), heals.url()], 4)] {
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let (origin, mut sink) = (origin(&runtime, &hosts, LONG), Picky::default());
        assert_eq!(origin.fetch(&request, &mut sink).unwrap().base_url.as_ref(), heals.url());
        assert_eq!(origin.counters().requests, requests);
    }
    let error = origin(&runtime, &[&lies.url()], LONG).fetch(&request, &mut Picky::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&format!("{}/x", lies.url())), "{error}");
}

#[test]
fn a_caller_that_gives_up_is_released_at_once() {
    let runtime = runtime();
    let host = ScriptedHost::start(|_| Reply::Hang).unwrap();
    let origin = origin(&runtime, &[&host.url()], LONG);
    let interrupt = Interrupt::new();
    let request = Request { interrupt: interrupt.clone(), ..Request::new("x", 1) };
    let begun = Instant::now();
    let error = std::thread::scope(|scope| {
        let fetch = scope.spawn(|| origin.fetch(&request, &mut Picky::default()).unwrap_err());
        std::thread::sleep(Duration::from_millis(50));
        interrupt.cancel();
        fetch.join().unwrap()
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(begun.elapsed() < LONG / 2);
}

#[test]
fn two_keys_come_side_by_side() {
    let runtime = runtime();
    let host = ScriptedHost::start(|asked| Reply::Body(asked.target.clone().into_bytes())).unwrap();
    let origin = origin(&runtime, &[&host.url()], LONG);
    let [first, second] = origin.fetch_two((".cvmfspublished", 100), (".cvmfswhitelist", 3)).unwrap();
    assert_eq!(first.unwrap(), b"/.cvmfspublished");
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Corrupt, "over its limit");
}

#[test]
fn a_blocking_call_on_the_runtime_is_an_error_and_no_panic() {
    let runtime = runtime();
    let origin = Arc::new(origin(&runtime, &["http://127.0.0.1:1"], LONG));
    let there = origin.clone();
    let task = runtime.spawn(async move { there.fetch_small("x", 1, false) });
    assert_eq!(runtime.block_on(task).unwrap().unwrap_err().kind(), ErrorKind::Internal);
}

/// A proxy of its own kind: answers every URL with the URL, and says who asked for it.
fn proxy() -> ScriptedHost {
    ScriptedHost::start(|asked| Reply::Body(asked.target.clone().into_bytes())).unwrap()
}

fn by(runtime: &Runtime, hosts: &[&str], proxies: &str, timeout: Duration) -> Origin {
    let options = OriginOptions {
        http: HttpOptions { timeout, proxy_timeout: timeout, ..HttpOptions::default() },
        retry: RetryPolicy { max_retries: 0, ..RetryPolicy::default() },
        proxies: ProxyGroups::parse(proxies, "", None, |_| 1).unwrap(),
        ..OriginOptions::default()
    };
    Origin::open(&hosts.join(";"), options, runtime.handle().clone()).unwrap()
}

#[test]
fn a_proxy_is_told_the_whole_url_over_kept_connections() {
    let (runtime, proxy) = (runtime(), proxy());
    let origin = by(&runtime, &["http://far.example.org:8000/cvmfs/x"], &proxy.url(), LONG);
    for _ in 0..3 {
        let body = origin.fetch_small(".cvmfspublished", 1000, false).unwrap();
        assert_eq!(body, b"http://far.example.org:8000/cvmfs/x/.cvmfspublished");
    }
    let asked = proxy.asked();
    assert_eq!(asked[0].header("host"), Some("far.example.org:8000"));
    assert!(asked.iter().all(|a| a.connection == 0), "one connection serves all");
    assert_eq!(origin.active_proxy().to_string(), proxy.url());
}

#[test]
fn a_dead_proxy_is_left_once_and_not_asked_again() {
    let (runtime, works) = (runtime(), proxy());
    let silent = ScriptedHost::start(|_| Reply::Hang).unwrap();
    let list = format!("{};{}", silent.url(), works.url());
    let origin = by(&runtime, &["http://far.example.org"], &list, SHORT);
    for _ in 0..5 {
        origin.fetch_small("x", 1000, false).unwrap();
    }
    let asked_for_x = |host: &ScriptedHost| host.asked().iter().filter(|a| a.target.ends_with("/x")).count();
    assert_eq!((asked_for_x(&silent), asked_for_x(&works)), (1, 5));
}

#[test]
fn refusing_proxies_end_in_a_direct_connection_where_the_site_allows_it() {
    let runtime = runtime();
    let host = ScriptedHost::start(|_| Reply::Body(b"direct".to_vec())).unwrap();
    let origin = by(&runtime, &[&host.url()], "http://127.0.0.1:1|http://127.0.0.1:2;DIRECT", LONG);
    assert_eq!(origin.fetch_small("x", 10, false).unwrap(), b"direct");
    let targets: Vec<String> = host.asked().into_iter().map(|a| a.target).collect();
    assert_eq!(targets, ["/.cvmfspublished", "/x"], "looked at once, and told its own part only");
    assert_eq!(origin.active_proxy().to_string(), "DIRECT");
    let origin = by(&runtime, &[&host.url()], "http://127.0.0.1:1|http://127.0.0.1:2", LONG);
    let error = origin.fetch_small("x", 10, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("by proxy http://127.0.0.1:"), "{error}");
    assert_eq!(host.asked().len(), 2, "nothing went past the proxies");
}

#[test]
fn a_slow_proxy_is_not_exchanged_for_a_direct_connection() {
    let runtime = runtime();
    let host = ScriptedHost::start(|_| Reply::Body(b"direct".to_vec())).unwrap();
    let slow = ScriptedHost::start(|_| Reply::Hang).unwrap();
    let origin = by(&runtime, &[&host.url()], &format!("{};DIRECT", slow.url()), SHORT);
    assert_eq!(origin.fetch_small("x", 10, false).unwrap_err().kind(), ErrorKind::Unreachable);
    assert!(host.asked().is_empty());
}

#[test]
fn whose_error_it_is_decides_who_is_left() {
    let runtime = runtime();
    let works = proxy();
    // Who answers how, and whether the second proxy is asked after it.
    let cases: [(&str, Reply, bool); 5] = [
        ("a status only proxies give", Reply::Status(407), true),
        (
            "the proxy says so",
            Reply::Raw(b"HTTP/1.1 503 x\r\nX-Squid-Error: ERR 0\r\nContent-Length: 0\r\n\r\n".to_vec()),
            true,
        ),
        ("a missing object", Reply::Status(404), false),
        ("a host in trouble", Reply::Status(502), false),
        ("a host that is asked too often", Reply::Status(429), false),
    ];
    for (what, reply, by_proxy) in cases {
        let first = ScriptedHost::start(move |_| reply.clone()).unwrap();
        let before = works.asked().len();
        let list = format!("{};{}", first.url(), works.url());
        let origin = by(&runtime, &["http://far.example.org"], &list, LONG);
        assert_eq!(origin.fetch_small("x", 1000, false).is_ok(), by_proxy, "{what}");
        assert_eq!(works.asked().len() - before, usize::from(by_proxy), "{what}");
    }
}
