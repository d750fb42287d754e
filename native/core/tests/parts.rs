//! Promises of large answers in parts: when they are asked for, that what is put together is what the host has, and
//! that a host which does not keep to it costs a repetition and never a wrong byte.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use nearfs_core::transport::http::HttpOptions;
use nearfs_core::transport::{Origin, OriginOptions, ProxyGroups, Request, Sink};
use nearfs_core::{Error, ErrorKind, Result};
use nearfs_testkit::host::{Asked, Reply, ScriptedHost};

#[derive(Debug, Default)]
struct Collected {
    bytes: Vec<u8>,
    expected: Option<Arc<Vec<u8>>>,
}

impl Sink for Collected {
    fn begin(&mut self, _content_length: Option<u64>) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let is_right = self.expected.as_ref().is_none_or(|expected| **expected == self.bytes);
        if is_right { Ok(()) } else { Err(Error::new(ErrorKind::Corrupt, "check", "test")) }
    }

    fn restart(&mut self) -> Result<()> {
        self.bytes.clear();
        Ok(())
    }
}

/// Bytes that show where they belong.
fn content(length: usize) -> Arc<Vec<u8>> {
    Arc::new((0..length).map(|at| (at / 3 * 31 % 251) as u8).collect())
}

struct Far {
    host: ScriptedHost,
    origin: Origin,
    whole: Arc<Vec<u8>>,
    _runtime: tokio::runtime::Runtime,
}

impl Far {
    /// A host at the end of a line that counts as long, which sends `x` as `script` says and all else as it is.
    fn new(length: usize, script: impl Fn(&Asked, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        Self::by("DIRECT", Duration::ZERO, length, script)
    }

    fn by(
        proxy: &str,
        long_line: Duration,
        length: usize,
        script: impl Fn(&Asked, &[u8]) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let whole = content(length);
        let served = Arc::clone(&whole);
        let host = ScriptedHost::start(move |asked| {
            if asked.target.ends_with("/x") { script(asked, &served) } else { Reply::ranged(asked, b"small") }
        })
        .unwrap();
        let runtime = nearfs_core::transport::runtime().unwrap();
        let proxies = if proxy == "DIRECT" { proxy.to_owned() } else { host.url() };
        let options = OriginOptions {
            http: HttpOptions { timeout: Duration::from_secs(30), long_line, ..HttpOptions::default() },
            proxies: ProxyGroups::parse(&proxies, "", None, |_| 1).unwrap(),
            ..OriginOptions::default()
        };
        let origin = Origin::open(&host.url(), options, runtime.handle().clone()).unwrap();
        // What hosts say about byte ranges is learned from an answer.
        origin.fetch_small("first", 100, false).unwrap();
        Self { host, origin, whole, _runtime: runtime }
    }

    fn fetch(&self, typical: u64, max_bytes: u64) -> Result<Vec<u8>> {
        let mut sink = Collected { expected: Some(Arc::clone(&self.whole)), ..Collected::default() };
        let request = Request { typical_length: Some(typical), ..Request::new("x", max_bytes) };
        self.origin.fetch(&request, &mut sink)?;
        Ok(sink.bytes)
    }

    /// Returns the ranges that were asked for; `None` for a whole answer.
    fn asked(&self) -> Vec<Option<String>> {
        let asked = self.host.asked().into_iter().filter(|asked| asked.target.ends_with("/x"));
        asked.map(|asked| asked.header("range").map(str::to_owned)).collect()
    }
}

#[test]
fn a_large_answer_comes_in_parts_whatever_was_thought_of_its_size() {
    for typical in [150_000, 300_000, 900_000, 20_000_000] {
        let far = Far::new(777_777, Reply::ranged);
        assert!(far.fetch(typical, 1 << 30).unwrap() == *far.whole, "{typical}");
        let asked = far.asked();
        assert!(asked.len() > 3 && asked.iter().all(Option::is_some), "{asked:?}");
        assert!(far.host.connections() <= 19, "{}", far.host.connections());
        assert_eq!(far.origin.counters().requests as usize, asked.len() + 1);
        assert_eq!(far.origin.counters().bytes as usize, far.whole.len() + 5);
    }
}

#[test]
fn what_is_left_over_is_asked_for_while_the_first_part_is_on_its_way() {
    let (is_tail_asked, asked_for_it) = (Mutex::new(false), Condvar::new());
    let far = Far::new(350_000, move |asked, whole| {
        let range = asked.header("range").unwrap_or_default();
        let mut is_asked = is_tail_asked.lock().unwrap();
        if range.starts_with("bytes=0-") {
            // As a line does that is slow to begin with: the heads of the other parts say first how long the whole is.
            let wait = asked_for_it.wait_timeout_while(is_asked, Duration::from_secs(3), |is_asked| !*is_asked);
            return if *wait.unwrap().0 { Reply::ranged(asked, whole) } else { Reply::Close };
        }
        let first = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')?.0.parse::<usize>().ok());
        if first.is_some_and(|first| first >= 300_000 / 8 * 9) {
            *is_asked = true;
            asked_for_it.notify_all();
        }
        Reply::ranged(asked, whole)
    });
    assert!(far.fetch(300_000, 1 << 20).unwrap() == *far.whole);
    assert!(far.asked().iter().all(Option::is_some), "nothing had to be repeated");
}

#[test]
fn a_limit_holds_for_the_whole_and_is_never_asked_beyond() {
    let far = Far::new(200_000, Reply::ranged);
    assert!(far.fetch(400_000, 200_000).is_ok());
    let last = far.asked().iter().flatten().filter_map(|range| range.rsplit_once('-')?.1.parse::<u64>().ok()).max();
    assert_eq!(last, Some(199_999));
    let far = Far::new(200_001, Reply::ranged);
    assert_eq!(far.fetch(400_000, 200_000).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn whole_answers_are_asked_for_where_parts_do_not_pay() {
    let small = Far::new(20_000, Reply::ranged);
    assert!(small.fetch(20_000, 1 << 20).is_ok());
    let near = Far::by("DIRECT", Duration::from_secs(3600), 400_000, Reply::ranged);
    assert!(near.fetch(400_000, 1 << 20).is_ok());
    let by_proxy = Far::by("the host itself", Duration::ZERO, 400_000, Reply::ranged);
    assert!(by_proxy.fetch(400_000, 1 << 20).is_ok());
    for far in [small, near, by_proxy] {
        assert_eq!(far.asked(), [None]);
    }
}

#[test]
fn a_host_that_sends_all_of_it_instead_is_asked_for_all_of_it() {
    let far = Far::new(500_000, |_, whole| Reply::Body(whole.to_vec()));
    assert!(far.fetch(500_000, 1 << 20).unwrap() == *far.whole);
    // By the client's own count: the host may note parts that were given up after the whole had arrived.
    let before = far.origin.counters().requests;
    assert!(far.fetch(500_000, 1 << 20).is_ok());
    assert_eq!(far.origin.counters().requests - before, 1, "and not for parts again");
    assert_eq!(far.asked().iter().filter(|range| range.is_none()).count(), 2);
}

#[test]
fn a_host_that_lies_about_parts_costs_a_repetition_and_no_wrong_byte() {
    type Lie = fn(&Asked, &[u8]) -> Reply;
    let lies: [(&str, Lie); 5] = [
        ("another part", |asked, whole| match asked.header("range") {
            Some(range) if !range.starts_with("bytes=0-") => {
                let head = format!("206 P\r\nContent-Range: bytes 0-9/{}", whole.len());
                Reply::Head(head, whole[..10].to_vec())
            }
            _ => Reply::ranged(asked, whole),
        }),
        ("other sizes", |asked, whole| match asked.header("range") {
            Some(range) if !range.starts_with("bytes=0-") => Reply::ranged(asked, &whole[..whole.len() - 1000]),
            _ => Reply::ranged(asked, whole),
        }),
        ("wrong bytes", |asked, whole| {
            let is_part = asked.header("range").is_some();
            Reply::ranged(asked, &whole.iter().map(|byte| byte ^ u8::from(is_part)).collect::<Vec<_>>())
        }),
        ("too few bytes", |asked, whole| match asked.header("range") {
            Some(_) => Reply::Raw(
                format!("HTTP/1.1 206 P\r\nContent-Range: bytes 0-9/{}\r\nContent-Length: 3\r\n\r\nabc", whole.len())
                    .into_bytes(),
            ),
            None => Reply::ranged(asked, whole),
        }),
        (
            "nothing, at times",
            |asked, whole| {
                if asked.before == 5 { Reply::Close } else { Reply::ranged(asked, whole) }
            },
        ),
    ];
    for (what, lie) in lies {
        let far = Far::new(500_000, lie);
        let got = far.fetch(500_000, 1 << 20);
        assert!(got.unwrap_or_else(|error| panic!("{what}: {error}")) == *far.whole, "{what}");
    }
}

#[test]
fn an_object_that_is_not_there_is_missing() {
    let far = Far::new(500_000, |_, _| Reply::Status(404));
    assert_eq!(far.fetch(500_000, 1 << 20).unwrap_err().kind(), ErrorKind::NotFound);
}
