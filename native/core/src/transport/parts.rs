//! One large answer in several parts, over connections side by side.
//!
//! A connection that is new, or was idle, delivers about [`FIRST_BYTES`] in its first round trip and doubles from there,
//! so an object of half a megabyte costs six round trips by itself. Over a line that is long, a host that is asked
//! without a proxy and says that it sends byte ranges is asked for parts of [`FIRST_BYTES`] or more at the same time:
//! the size is not known before the first answer, so a part may lie beyond the end, which costs an empty answer. Never
//! by a proxy: those that sites have keep whole answers only. A failure of a part is the failure of the attempt.
//!
//! Threading: [`Lines`] is shared; its lock is held to look something up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, HeaderMap};
use hyper::{StatusCode, Uri};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connect::Endpoint;
use super::failure::{Failure, FailureClass};
use super::http::HttpTransport;
use super::memory::MemorySink;
use super::pace::Pace;
use super::proxy::Proxy;
use super::{BoxFuture, ByteRange, Fetched, Request, Sink, Target, verdict};

/// What a connection delivers in its first round trip: ten segments, and the head of the answer.
const FIRST_BYTES: u64 = 12_500;
/// No part is larger; each lies in memory until those before it were passed on.
const PART_BYTES_MAX: u64 = 256 << 10;
/// Parts in flight; and beside them, those of what the first answer says there is beyond what was thought.
const WAYS: usize = 16;
const MORE_WAYS: usize = 2;
/// A guess leaves so many connections to whoever waits.
const SPARE: usize = 8;
/// A large guess comes in so many parts at a time: it is paced by whoever makes guesses.
const GUESSED_WAYS: usize = 12;
/// Connections are opened for an answer that is about as large; smaller ones take those that are idle.
const OPENING_BYTES: u64 = 128 << 10;

/// What is known of the lines to hosts.
#[derive(Debug, Default)]
pub(super) struct Lines {
    known: Mutex<HashMap<Endpoint, Line>>,
    connected: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    /// The shortest time in which a connection was opened: a round trip, two with TLS.
    connect: Duration,
    sends_parts: bool,
}

impl Lines {
    /// Takes note of how long it took to connect.
    pub(super) fn connected(&self, endpoint: &Endpoint, took: Duration) {
        let mut known = self.known.lock();
        let line = known.entry(endpoint.clone()).or_insert(Line { connect: took, sends_parts: false });
        line.connect = line.connect.min(took);
        drop(known);
        self.connected.notify_waiters();
    }

    /// Waits until it is known how long it takes to connect.
    pub(super) async fn until_connected(&self, endpoint: &Endpoint) {
        loop {
            // Before the look, or what happens in between would be missed.
            let connected = self.connected.notified();
            if self.connect_time(endpoint).is_some() {
                return;
            }
            connected.await;
        }
    }

    /// Takes note of what the head of a whole answer says about byte ranges.
    pub(super) fn answered(&self, endpoint: &Endpoint, headers: &HeaderMap) {
        let sends_parts =
            headers.get(ACCEPT_RANGES).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"bytes"));
        self.set(endpoint, sends_parts);
    }

    fn set(&self, endpoint: &Endpoint, sends_parts: bool) {
        if let Some(line) = self.known.lock().get_mut(endpoint) {
            line.sends_parts = sends_parts;
        }
    }

    /// Says whether connecting is known to take so long.
    pub(super) fn is_long(&self, endpoint: &Endpoint, long: Duration) -> bool {
        self.connect_time(endpoint).is_some_and(|connect| connect >= long)
    }

    /// Returns the shortest time that it took to connect.
    pub(super) fn connect_time(&self, endpoint: &Endpoint) -> Option<Duration> {
        self.known.lock().get(endpoint).map(|line| line.connect)
    }

    fn is_worth_parts(&self, endpoint: &Endpoint, long: Duration) -> bool {
        self.known.lock().get(endpoint).is_some_and(|line| line.sends_parts && line.connect >= long)
    }
}

/// How long the whole is, as soon as the head of any answer tells.
#[derive(Debug, Default)]
struct Told {
    whole: AtomicU64,
    heard: Notify,
}

impl Told {
    fn tell(&self, whole: u64) {
        self.whole.store(whole, Ordering::Relaxed);
        self.heard.notify_one();
    }

    fn whole(&self) -> Option<u64> {
        Some(self.whole.load(Ordering::Relaxed)).filter(|whole| *whole > 0)
    }
}

/// What came of asking for a part.
enum Part {
    /// Its bytes, and how many the whole has.
    Bytes(Vec<u8>, u64),
    /// It begins after the end.
    Beyond,
    /// The host did not send a part.
    Refused,
}

impl HttpTransport {
    /// Fetches an answer in parts where that pays; nothing where it does not, and nothing was passed on then.
    pub(super) async fn fetch_in_parts(
        &self,
        uri: &Uri,
        target: &Target,
        request: &Request,
        sink: &mut (dyn Sink + Send),
    ) -> Result<Option<Fetched>, Failure> {
        let endpoint = verdict::endpoint(uri, &target.proxy)?;
        let Some(part_bytes) = self.part_bytes(&endpoint, target, request) else { return Ok(None) };
        let fetched = self.join_parts(uri, target, request, part_bytes, sink).await;
        if !matches!(fetched, Ok(Some(_))) {
            // What follows is asked for as a whole, and its answer says again whether parts are to be had.
            self.lines.set(&endpoint, false);
        }
        fetched
    }

    async fn join_parts(
        &self,
        uri: &Uri,
        target: &Target,
        request: &Request,
        part_bytes: u64,
        sink: &mut (dyn Sink + Send),
    ) -> Result<Option<Fetched>, Failure> {
        let guessed_end = request.typical_length.unwrap_or(0);
        let told = Told::default();
        let mut parts: FuturesOrdered<BoxFuture<'_, _>> = FuturesOrdered::new();
        let (mut asked_to, mut written, mut total) = (0, 0, None);
        loop {
            let (end, ways) = told.whole().map_or((guessed_end, WAYS), |whole| (whole, WAYS + MORE_WAYS));
            while asked_to < end && parts.len() < ways {
                let length = part_bytes.min(request.max_bytes - asked_to);
                if length == 0 {
                    break;
                }
                let range = ByteRange { offset: asked_to, length };
                parts.push_back(Box::pin(self.part(uri, target, request, range, &told)));
                asked_to += length;
            }
            let part = tokio::select! {
                biased;
                part = parts.next() => part,
                // What is left over is asked for now, and not when the first part is there.
                () = told.heard.notified(), if end != told.whole().unwrap_or(0) => continue,
            };
            let Some(part) = part else { break };
            match (part?, total) {
                (Part::Bytes(bytes, whole), known) if known.is_none_or(|known| known == whole) => {
                    if known.is_none() {
                        verdict::check_length(uri, Some(whole), request)?;
                        sink.begin(Some(whole)).map_err(|e| Failure::from_sink(&uri.to_string(), e))?;
                        total = Some(whole);
                    }
                    written += bytes.len() as u64;
                    sink.write(&bytes).map_err(|e| Failure::from_sink(&uri.to_string(), e))?;
                }
                (Part::Beyond, Some(known)) if written >= known => {}
                (Part::Refused | Part::Beyond, None) => return Ok(None),
                _ => return Err(not_one_file(uri)),
            }
        }
        match total {
            Some(known) if known == written => {
                let base_url = target.base_url.clone();
                Ok(Some(Fetched { length: written, base_url, has_connected: true, was_nearby: false }))
            }
            _ => Err(not_one_file(uri)),
        }
    }

    /// Returns how large the parts of an answer are to be; nothing where it is better fetched at once.
    fn part_bytes(&self, endpoint: &Endpoint, target: &Target, request: &Request) -> Option<u64> {
        let typical = request.typical_length.unwrap_or(0);
        // What is asked for past all caches was damaged before: the simplest way then.
        let is_plain = *target.proxy == Proxy::Direct && request.range.is_none() && !request.no_cache;
        if !is_plain || typical < 2 * FIRST_BYTES || !self.lines.is_worth_parts(endpoint, self.options.long_line) {
            return None;
        }
        let ways = match self.pool.idle(endpoint) {
            _ if request.is_guess && typical >= OPENING_BYTES => GUESSED_WAYS,
            idle if request.is_guess => idle.saturating_sub(SPARE).min(WAYS),
            _ if typical >= OPENING_BYTES => WAYS,
            idle => idle.min(WAYS),
        };
        // A little more than is thought, or what is left over costs a round trip of its own.
        let bytes = (typical / 8 * 9).div_ceil(ways.max(1) as u64).clamp(FIRST_BYTES, PART_BYTES_MAX);
        (bytes < typical).then_some(bytes)
    }

    async fn part(
        &self,
        uri: &Uri,
        target: &Target,
        request: &Request,
        range: ByteRange,
        told: &Told,
    ) -> Result<Part, Failure> {
        let begun = Instant::now();
        // As for whole answers: the semaphore is never closed.
        let _turn = self.turns.acquire().await.ok();
        let asked = Request { range: Some(range), expected_length: None, ..request.clone() };
        let outcome = self.part_now(uri, target, &asked, range, told).await;
        if range.offset > 0 {
            // The first part is counted as the attempt itself.
            self.counters.count_request(begun.elapsed(), outcome.is_err());
        }
        outcome
    }

    async fn part_now(
        &self,
        uri: &Uri,
        target: &Target,
        asked: &Request,
        range: ByteRange,
        told: &Told,
    ) -> Result<Part, Failure> {
        let mut pace = Pace::new(self.options.low_speed_limit, self.timeouts.of(&target.proxy));
        let answer = self.answer(uri, &target.proxy, asked, &mut pace).await?;
        let status = answer.response.status();
        match status {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.drain(answer, &mut pace).await;
                return Ok(Part::Beyond);
            }
            _ if status.is_success() || status.is_redirection() => return Ok(Part::Refused),
            _ => {
                self.drain(answer, &mut pace).await;
                return Err(verdict::refused(uri, status));
            }
        }
        verdict::check_range(uri, &answer.response, asked).map_err(|_| not_one_file(uri))?;
        let whole = whole_length(answer.response.headers()).filter(|whole| *whole > range.offset);
        let whole = whole.ok_or_else(|| not_one_file(uri))?;
        told.tell(whole);
        let length = range.length.min(whole - range.offset);
        let asked = Request { max_bytes: length, expected_length: Some(length), ..asked.clone() };
        let mut sink = MemorySink::default();
        self.stream(uri, &target.proxy, answer, &asked, &mut sink, &mut pace).await?;
        Ok(Part::Bytes(sink.into_bytes(), whole))
    }
}

/// Returns the length of the whole from `Content-Range: bytes FIRST-LAST/LENGTH`.
fn whole_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}

fn not_one_file(uri: &Uri) -> Failure {
    Failure::unreachable(
        FailureClass::ShortTransfer,
        &uri.to_string(),
        "the parts that the host sent are not those of one file",
    )
}
