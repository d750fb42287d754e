//! Promises of transports: the contract of all of them, and HTTP's faults one by one. No test depends on how fast the machine is: time-outs that must strike are short, all others are long.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_core::transport::http::{HttpOptions, HttpTransport};
use nearfs_core::transport::{
    ByteRange, Counters, Failure, FailureClass, Fetched, Request, SchemeTransport, Sink, Target, Transport,
};
use nearfs_core::{Error, ErrorKind, Result};
use nearfs_testkit::host::{Asked, Reply, ScriptedHost};
use tokio::runtime::Runtime;

/// Struck only by a test that fails.
const LONG: Duration = Duration::from_secs(30);
/// Strikes in tests that wait for it.
const SHORT: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Record {
    begun: bool,
    announced: Option<u64>,
    bytes: Vec<u8>,
    fail_write: bool,
}

impl Sink for Record {
    fn begin(&mut self, content_length: Option<u64>) -> Result<()> {
        (self.begun, self.announced) = (true, content_length);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.fail_write {
            return Err(Error::new(ErrorKind::NoSpace, "write", "test"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.bytes.clear();
        Ok(())
    }
}

fn runtime() -> Runtime {
    nearfs_core::transport::runtime().unwrap()
}

fn options(timeout: Duration) -> HttpOptions {
    HttpOptions { timeout, ..HttpOptions::default() }
}

fn http(options: HttpOptions) -> HttpTransport {
    HttpTransport::new(options, Arc::new(Counters::default()))
}

fn fetch(transport: &dyn Transport, base_url: &str, request: &Request) -> (Result<Fetched, Failure>, Record) {
    let (mut sink, target) = (Record::default(), Target::direct(base_url));
    let outcome = runtime().block_on(transport.fetch(&target, request, &mut sink));
    (outcome, sink)
}

/// Fetches `/x` once and returns the class and kind of the failure and its text.
fn failure(options: HttpOptions, reply: Reply, max_bytes: u64) -> (FailureClass, ErrorKind, String) {
    let host = ScriptedHost::start(move |_| reply.clone()).unwrap();
    let (outcome, _) = fetch(&http(options), &host.url(), &Request::new("x", max_bytes));
    let failure = outcome.unwrap_err();
    (failure.class, failure.error.kind(), failure.error.to_string())
}

/// What every transport promises; `base_url` serves `files`.
fn transport_contract(transport: &dyn Transport, base_url: &str, files: &HashMap<String, Vec<u8>>) {
    for (key, content) in files {
        for _ in 0..2 {
            let (outcome, sink) = fetch(transport, base_url, &Request::new(key.as_str(), content.len() as u64));
            assert_eq!(outcome.unwrap().length, content.len() as u64, "{key}");
            assert_eq!(&sink.bytes, content, "{key}");
            assert_eq!(sink.announced, Some(content.len() as u64), "{key}");
        }
    }
    let big = files["data/ab/big"].len() as u64;
    let refused = |request: Request| {
        let (outcome, sink) = fetch(transport, base_url, &request);
        let failure = outcome.unwrap_err();
        assert!(sink.bytes.is_empty() && !sink.begun, "the answer was begun: {request:?}");
        (failure.class, failure.error.kind())
    };
    assert_eq!(refused(Request::new("data/ab/none", 1)), (FailureClass::Http, ErrorKind::NotFound));
    assert_eq!(refused(Request::new("data/ab/big", big - 1)), (FailureClass::Corrupted, ErrorKind::Corrupt));
    let short = Request { expected_length: Some(big - 1), ..Request::new("data/ab/big", big) };
    assert_eq!(refused(short), (FailureClass::Corrupted, ErrorKind::Corrupt));
    for key in ["../secret", "data/../../secret", "/data/ab/big", ""] {
        assert_eq!(refused(Request::new(key, big)), (FailureClass::Local, ErrorKind::InvalidInput), "{key}");
    }

    let given_up = Request::new("data/ab/big", big);
    given_up.interrupt.cancel();
    let failure = fetch(transport, base_url, &given_up).0.unwrap_err();
    assert_eq!((failure.class, failure.error.kind()), (FailureClass::Cancelled, ErrorKind::Cancelled));

    let mut full = Record { fail_write: true, ..Record::default() };
    let (target, request) = (Target::direct(base_url), Request::new("data/ab/big", big));
    let failure = runtime().block_on(transport.fetch(&target, &request, &mut full)).unwrap_err();
    assert_eq!((failure.class, failure.error.kind()), (FailureClass::Local, ErrorKind::NoSpace));

    let counters = transport.counters().read();
    assert_eq!(counters.requests, 2 * files.len() as u64 + 9);
    assert_eq!(counters.errors, 9);
}

fn contract_files() -> HashMap<String, Vec<u8>> {
    HashMap::from([
        ("data/ab/big".to_owned(), (0..300_000u32).flat_map(u32::to_le_bytes).collect()),
        ("data/ab/empty".to_owned(), Vec::new()),
        (".cvmfspublished".to_owned(), b"manifest".to_vec()),
    ])
}

#[test]
fn http_keeps_the_contract() {
    let files = contract_files();
    let host = ScriptedHost::serving(files.clone()).unwrap();
    transport_contract(&http(options(LONG)), &host.url(), &files);
}

#[test]
fn local_files_keep_the_contract() {
    let (files, dir) = (contract_files(), tempfile::tempdir().unwrap());
    let root = dir.path().join("with space");
    std::fs::create_dir_all(root.join("data/ab")).unwrap();
    std::fs::write(dir.path().join("secret"), "s").unwrap();
    for (key, content) in &files {
        std::fs::write(root.join(key), content).unwrap();
    }
    let url = format!("file://{}", root.display()).replace(' ', "%20");
    transport_contract(&SchemeTransport::new(options(LONG)), &url, &files);
}

#[test]
fn local_links_are_followed_below_the_root_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("data")).unwrap();
    std::fs::write(root.join("data/x"), "inside").unwrap();
    std::fs::write(dir.path().join("secret"), "outside").unwrap();
    std::os::unix::fs::symlink("data/x", root.join(".cvmfsalt-x")).unwrap();
    std::os::unix::fs::symlink("../secret", root.join("evil")).unwrap();
    let (transport, url) = (SchemeTransport::new(options(LONG)), format!("file://{}", root.display()));
    assert_eq!(fetch(&transport, &url, &Request::new(".cvmfsalt-x", 100)).1.bytes, b"inside");
    let failure = fetch(&transport, &url, &Request::new("evil", 100)).0.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(fetch(&transport, &url, &Request::new("data", 100)).0.unwrap_err().error.kind(), ErrorKind::NotFound);
    let part = Request { range: Some(ByteRange { offset: 2, length: 3 }), ..Request::new("data/x", 100) };
    assert_eq!(fetch(&transport, &url, &part).1.bytes, b"sid");
    let beyond = Request { range: Some(ByteRange { offset: 4, length: 3 }), ..Request::new("data/x", 100) };
    assert_eq!(fetch(&transport, &url, &beyond).0.unwrap_err().class, FailureClass::Corrupted);
}

#[test]
fn each_status_has_its_class() {
    use FailureClass::{Busy, Http};
    let cases = [
        (Reply::Status(404), Http, ErrorKind::NotFound),
        (Reply::Status(410), Http, ErrorKind::NotFound),
        (Reply::Status(400), Http, ErrorKind::Unreachable),
        (Reply::Status(403), Http, ErrorKind::PermissionDenied),
        (Reply::Status(429), Busy, ErrorKind::Unreachable),
        (Reply::Status(500), Http, ErrorKind::Unreachable),
        (Reply::Status(503), Http, ErrorKind::Unreachable),
        (Reply::Status(304), Http, ErrorKind::Unreachable),
        (Reply::Redirect("/y".to_owned()), Http, ErrorKind::Unreachable),
    ];
    for (reply, class, kind) in cases {
        let name = format!("{reply:?}");
        let (found_class, found_kind, text) = failure(options(LONG), reply, 10);
        assert_eq!((found_class, found_kind), (class, kind), "{name}: {text}");
        assert!(text.contains("http://127.0.0.1:") && text.contains("/x"), "{text}");
    }
}

#[test]
fn each_broken_answer_has_its_class() {
    use FailureClass::{Corrupted, ShortTransfer};
    let chunks_cut_off = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec();
    let cases = [
        ("announces more than allowed", Reply::Announce(1 << 40, vec![0; 10]), Corrupted),
        ("sends more than allowed without saying so", Reply::Chunked(vec![0; 1000], 7), Corrupted),
        ("ends early", Reply::Announce(100, vec![0; 99]), ShortTransfer),
        ("ends amid chunks", Reply::Raw(chunks_cut_off), ShortTransfer),
        ("closes without answer", Reply::Close, ShortTransfer),
        ("is no HTTP", Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), ShortTransfer),
        ("ends in its head", Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-".to_vec()), ShortTransfer),
    ];
    for (name, reply, class) in cases {
        let (found, kind, text) = failure(options(LONG), reply, 100);
        assert_eq!(found, class, "{name}: {text}");
        assert_eq!(kind, if class == Corrupted { ErrorKind::Corrupt } else { ErrorKind::Unreachable }, "{name}");
    }
}

#[test]
fn an_answer_without_length_is_taken_whole() {
    let content: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let served = content.clone();
    let host = ScriptedHost::start(move |_| Reply::Chunked(served.clone(), 777)).unwrap();
    let (outcome, sink) = fetch(&http(options(LONG)), &host.url(), &Request::new("x", 100_000));
    assert_eq!(outcome.unwrap().length, 100_000);
    assert_eq!((sink.announced, sink.bytes), (None, content));
}

#[test]
fn silence_and_trickles_end_at_the_time_out() {
    let begun = Instant::now();
    let (class, kind, text) = failure(options(SHORT), Reply::Hang, 10);
    assert_eq!((class, kind), (FailureClass::TooSlow, ErrorKind::Unreachable));
    assert!(text.contains("no answer within 0.2 s (CVMFS_TIMEOUT_DIRECT)"), "{text}");
    let trickle = Reply::Trickle(vec![0; 10_000], Duration::from_millis(10));
    let (class, _, text) = failure(options(SHORT), trickle, 10_000);
    assert_eq!(class, FailureClass::TooSlow);
    assert!(text.contains("fewer than 1024 bytes/s"), "{text}");
    let deadline = HttpOptions { deadline: SHORT, low_speed_limit: 0, ..options(LONG) };
    let trickle = Reply::Trickle(vec![0; 10_000], Duration::from_millis(10));
    let (class, _, text) = failure(deadline, trickle, 10_000);
    assert_eq!(class, FailureClass::TooSlow);
    assert!(text.contains("not complete within"), "{text}");
    assert!(begun.elapsed() < LONG);
}

#[test]
fn the_request_is_spelled_as_the_reference_spells_it() {
    let host = ScriptedHost::start(|_| Reply::Body(Vec::new())).unwrap();
    let transport = http(options(LONG));
    fetch(&transport, &format!("{}/cvmfs/x.org", host.url()), &Request::new("a b/ä+~C", 10)).0.unwrap();
    let anew = Request { no_cache: true, ..Request::new("y", 10) };
    fetch(&transport, &host.url(), &anew).0.unwrap();
    let asked = host.asked();
    assert_eq!(asked[0].target, "/cvmfs/x.org/a%20b/%C3%A4+~C");
    assert_eq!(asked[0].header("host"), Some(host.url().trim_start_matches("http://")));
    assert_eq!(asked[0].header("connection"), Some("Keep-Alive"));
    assert!(asked[0].header("user-agent").unwrap().starts_with("cvmfs Fuse 2.12.0 nearfs/"));
    for absent in ["pragma", "cache-control", "accept-encoding", "range"] {
        assert_eq!(asked[0].header(absent), None, "{absent}");
    }
    assert_eq!((asked[1].header("pragma"), asked[1].header("cache-control")), (Some("no-cache"), Some("no-cache")));
}

#[test]
fn a_part_is_asked_for_and_checked() {
    let script = |asked: &Asked| match asked.header("range") {
        Some("bytes=2-4") => {
            Reply::Raw(b"HTTP/1.1 206 P\r\nContent-Range: bytes 2-4/9\r\nContent-Length: 3\r\n\r\nsid".to_vec())
        }
        _ => Reply::Body(b"everything".to_vec()),
    };
    let host = ScriptedHost::start(script).unwrap();
    let transport = http(options(LONG));
    let part = |offset| Request { range: Some(ByteRange { offset, length: 3 }), ..Request::new("x", 10) };
    assert_eq!(fetch(&transport, &host.url(), &part(2)).1.bytes, b"sid");
    assert_eq!(fetch(&transport, &host.url(), &part(3)).0.unwrap_err().error.kind(), ErrorKind::Unsupported);
}

#[test]
fn connections_are_kept_also_over_refusals() {
    let script = |asked: &Asked| if asked.target == "/none" { Reply::Status(404) } else { Reply::Body(vec![1; 5000]) };
    let host = ScriptedHost::start(script).unwrap();
    let (transport, runtime, target) = (http(options(LONG)), runtime(), Target::direct(host.url()));
    for n in 0..20 {
        let request = Request::new(if n % 3 == 0 { "none" } else { "x" }, 5000);
        let outcome = runtime.block_on(transport.fetch(&target, &request, &mut Record::default()));
        assert_eq!(outcome.is_err(), n % 3 == 0);
    }
    assert_eq!(host.connections(), 1);
    assert_eq!(transport.counters().read().connections, 1);
}

#[test]
fn a_kept_connection_that_the_host_closed_is_replaced_unnoticed() {
    // Closes when the second request of a connection comes, or right after an answer, as hosts do.
    for close_after_answer in [false, true] {
        let host = ScriptedHost::start(move |asked| {
            let served = if close_after_answer { Reply::BodyThenClose(vec![1]) } else { Reply::Body(vec![1]) };
            if !close_after_answer && asked.before > 0 && asked.before % 2 == 1 { Reply::Close } else { served }
        })
        .unwrap();
        let (transport, runtime, target) = (http(options(LONG)), runtime(), Target::direct(host.url()));
        for _ in 0..10 {
            let mut sink = Record::default();
            runtime.block_on(transport.fetch(&target, &Request::new("x", 1), &mut sink)).unwrap();
            assert_eq!(sink.bytes, [1]);
        }
        assert_eq!(transport.counters().read().errors, 0);
    }
}

#[test]
fn redirects_are_followed_where_allowed_and_never_for_ever() {
    let script = |asked: &Asked| match asked.target.as_str() {
        "/a/x" => Reply::Redirect("y".to_owned()),
        "/a/y" => Reply::Redirect("/b/z".to_owned()),
        "/b/z" => Reply::Body(b"here".to_vec()),
        "/tls" => Reply::Redirect("https://127.0.0.1:1/x".to_owned()),
        _ => Reply::Redirect("/loop".to_owned()),
    };
    let host = ScriptedHost::start(script).unwrap();
    let transport = http(HttpOptions { follow_redirects: true, ..options(LONG) });
    assert_eq!(fetch(&transport, &host.url(), &Request::new("a/x", 10)).1.bytes, b"here");
    let failure = fetch(&transport, &host.url(), &Request::new("loop", 10)).0.unwrap_err();
    assert!(failure.error.to_string().contains("more than 4 redirects"), "{}", failure.error);
    assert_eq!(host.asked().iter().filter(|asked| asked.target == "/loop").count(), 5);
    let failure = fetch(&transport, &host.url(), &Request::new("tls", 10)).0.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Unreachable);
}
