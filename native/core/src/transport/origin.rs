//! Where a repository comes from: hosts, tried by the rules, behind one blocking and one asynchronous face.
//!
//! Joins transport, route and retry. A request ends in bounded time: no attempt begins later than
//! [`OriginOptions::total_time`] after the first one, and every attempt is bounded by its transport.
//!
//! Threads: shared by all. The blocking calls must not be made from a task of the runtime; they run the sink on the
//! calling thread, so hashing, inflating and writing use the thread that wants the object while the runtime's workers
//! only move bytes; between the two, the HTTP client holds a few buffers and no more. The lock around the route is
//! held for one step of the state machine, never across I/O.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::counters::CountersReading;
use super::failure::{Failure, FailureClass};
use super::http::HttpOptions;
use super::proxy::{Proxy, ProxyGroups};
use super::retry::{Retry, RetryPolicy, Step};
use super::route::{Attempt, Route};
use super::scheme::SchemeTransport;
use super::{Fetched, Interrupt, Request, Sink, Transport, url};
use crate::error::{Error, ErrorKind, Result};

/// Memory reserved at most on the word of a host.
const MAX_RESERVED_BYTES: u64 = 1 << 20;

/// How hosts are asked.
#[derive(Debug, Clone)]
pub struct OriginOptions {
    /// Limits of each attempt over HTTP.
    pub http: HttpOptions,
    /// Limits of repeating.
    pub retry: RetryPolicy,
    /// Proxies by which hosts are asked; a host whose URL is no HTTP is asked without.
    pub proxies: ProxyGroups,
    /// The first host is tried again that long after it was left (`CVMFS_HOST_RESET_AFTER`); none for never.
    pub host_reset_after: Option<Duration>,
    /// No attempt of a request begins later than this after its first one.
    pub total_time: Duration,
}

impl Default for OriginOptions {
    fn default() -> Self {
        Self {
            http: HttpOptions::default(),
            retry: RetryPolicy::default(),
            proxies: ProxyGroups::direct(),
            host_reset_after: None,
            total_time: Duration::from_secs(120),
        }
    }
}

/// The hosts of one repository.
#[derive(Debug)]
pub struct Origin {
    transport: Arc<dyn Transport>,
    route: Mutex<Route>,
    retry: RetryPolicy,
    total_time: Duration,
    runtime: Handle,
}

impl Origin {
    /// Builds an origin from a `;` list of base URLs (`CVMFS_SERVER_URL`, `@fqrn@` already replaced). Connects to
    /// nothing. `runtime` is the handle of [`super::runtime`].
    pub fn open(hosts: &str, options: OriginOptions, runtime: Handle) -> Result<Self> {
        let route = Route::new(url::host_list(hosts)?, options.host_reset_after).by(options.proxies);
        let transport = Arc::new(SchemeTransport::new(options.http));
        Ok(Self::new(transport, route, options.retry, options.total_time, runtime))
    }

    /// Builds an origin from its parts.
    pub fn new(
        transport: Arc<dyn Transport>,
        route: Route,
        retry: RetryPolicy,
        total_time: Duration,
        runtime: Handle,
    ) -> Self {
        Self { transport, route: Mutex::new(route), retry, total_time, runtime }
    }

    /// Returns the runtime's handle, for callers that have several requests in flight.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns the base URL of the active host.
    pub fn active_host(&self) -> Arc<str> {
        self.route.lock().active_host().cloned().unwrap_or_else(|| Arc::from(""))
    }

    /// Returns the hosts in the order in which they are asked, the active one first.
    pub fn hosts(&self) -> Vec<Arc<str>> {
        let route = self.route.lock();
        let mut hosts = route.hosts().to_vec();
        let active = route.active_host().and_then(|active| hosts.iter().position(|host| host == active));
        hosts.rotate_left(active.unwrap_or(0));
        hosts
    }

    /// Returns the proxies, group by group.
    pub fn proxies(&self) -> Vec<Vec<Arc<Proxy>>> {
        self.route.lock().proxies().list().to_vec()
    }

    /// Returns the proxy in use.
    pub fn active_proxy(&self) -> Arc<Proxy> {
        self.route.lock().proxies().active().0
    }

    /// Reads the transport's counters.
    pub fn counters(&self) -> CountersReading {
        self.transport.counters().read()
    }

    /// Fetches `request` into `sink` and blocks until it is done or has failed.
    pub fn fetch(&self, request: &Request, sink: &mut (dyn Sink + Send)) -> Result<Fetched> {
        self.blocking(self.fetch_async(request, sink))?
    }

    /// Fetches a small key into memory: at most `limit_bytes`. Blocks.
    pub fn fetch_small(&self, key: &str, limit_bytes: u64, no_cache: bool) -> Result<Vec<u8>> {
        self.blocking(self.fetch_small_async(key, limit_bytes, no_cache))?
    }

    /// Fetches two small keys at the same time, each `(key, limit in bytes)`: one round trip instead of two. Blocks.
    pub fn fetch_two(&self, first: (&str, u64), second: (&str, u64)) -> Result<[Result<Vec<u8>>; 2]> {
        self.blocking(async {
            let first = self.fetch_small_async(first.0, first.1, false);
            let second = self.fetch_small_async(second.0, second.1, false);
            tokio::join!(first, second).into()
        })
    }

    /// Like [`Origin::fetch_small`], for callers on the runtime.
    pub async fn fetch_small_async(&self, key: &str, limit_bytes: u64, no_cache: bool) -> Result<Vec<u8>> {
        let mut sink = MemorySink::default();
        let request = Request { no_cache, ..Request::new(key, limit_bytes) };
        self.fetch_async(&request, &mut sink).await?;
        Ok(sink.bytes)
    }

    /// Fetches `request` into `sink`, host after host, by the rules of client.md 3.5.
    ///
    /// Calls `sink.finish()` when all bytes are there; a sink that then says [`ErrorKind::Corrupt`] makes the object
    /// be fetched again. If hosts fail in different ways, the error is the one that leaves most hope: unreachable
    /// before corrupt before missing, because only all hosts together can say that a key is missing.
    pub async fn fetch_async(&self, request: &Request, sink: &mut (dyn Sink + Send)) -> Result<Fetched> {
        let begun = Instant::now();
        let (mut attempt, hosts, proxies) = self.first_attempt(begun)?;
        let first = attempt.clone();
        let mut retry = Retry::new(self.retry, hosts, proxies, request.no_cache);
        let mut request = request.clone();
        let mut worst: Option<Error> = None;
        loop {
            request.no_cache = retry.is_without_cache();
            let failure = match self.try_once(&attempt, &request, sink).await {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => failure,
            };
            tracing::debug!(error = %failure.error, class = ?failure.class, "attempt failed");
            let mut step = retry.after(failure.class, failure.by_proxy, roll);
            if step == Step::NextProxy {
                match self.next_proxy(&attempt, failure.class)? {
                    Some(next) => attempt = next,
                    None => step = retry.without_proxies(failure.class),
                }
            }
            if begun.elapsed() >= self.total_time {
                step = Step::Stop;
            }
            let (class, by_proxy) = (failure.class, failure.by_proxy);
            worst = Some(hopeful(worst, failure.error));
            match step {
                Step::Again(pause) => rest(pause, &request.interrupt).await,
                Step::AgainWithoutCache | Step::NextProxy => {}
                Step::NextHost => attempt = self.next_host(&attempt, by_proxy)?,
                Step::Stop => {
                    if class.is_host_fault() {
                        self.route.lock().on_exhausted(&first, &attempt, Instant::now());
                    }
                    return Err(worst.unwrap_or_else(no_host));
                }
            }
            sink.restart()?;
        }
    }

    fn first_attempt(&self, now: Instant) -> Result<(Attempt, usize, usize)> {
        let mut route = self.route.lock();
        route.begin_request(now, roll);
        Ok((route.next_attempt().ok_or_else(no_host)?, route.host_count(), route.proxies().count()))
    }

    /// Returns the attempt by another proxy; none where there is no other one to be asked for this failure.
    fn next_proxy(&self, failed: &Attempt, class: FailureClass) -> Result<Option<Attempt>> {
        let mut route = self.route.lock();
        let is_slow = class == FailureClass::TooSlow;
        if !route.on_proxy_failure(failed, is_slow, Instant::now(), roll) {
            return Ok(None);
        }
        let next = route.next_attempt().ok_or_else(no_host)?;
        if next.target.proxy != failed.target.proxy {
            tracing::warn!(from = %failed.target.proxy, to = %next.target.proxy, ?class, "switching proxy");
        }
        Ok(Some(next))
    }

    fn next_host(&self, failed: &Attempt, by_proxy: bool) -> Result<Attempt> {
        let mut route = self.route.lock();
        let moved = route.on_failure(failed, Instant::now());
        if by_proxy {
            // All of them failed at this host: so it is not them.
            route.start_proxies_over(roll);
        }
        let next = route.next_attempt().ok_or_else(no_host)?;
        if moved {
            tracing::warn!(from = %failed.target.base_url, to = %next.target.base_url, "switching host");
        }
        Ok(next)
    }

    async fn try_once(
        &self,
        attempt: &Attempt,
        request: &Request,
        sink: &mut (dyn Sink + Send),
    ) -> Result<Fetched, Failure> {
        let fetched = self.transport.fetch(&attempt.target, request, sink).await?;
        let url = || format!("{}/{}", attempt.target.base_url, url::escape(&request.key));
        sink.finish().map_err(|error| Failure::from_sink(&url(), error))?;
        Ok(fetched)
    }

    /// Runs `work` on the calling thread, the sockets on the runtime's.
    fn blocking<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        if Handle::try_current().is_ok() {
            let reason = "a blocking call from a task of the network runtime; use the async one";
            return Err(Error::new(ErrorKind::Internal, "fetch", reason));
        }
        Ok(self.runtime.block_on(work))
    }
}

async fn rest(pause: Duration, interrupt: &Interrupt) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = interrupt.cancelled() => {}
    }
}

/// Returns a random number in `1..=sides`. Back-off needs no better die than the standard library's hash seed.
pub fn roll(sides: u64) -> u64 {
    RandomState::new().build_hasher().finish() % sides.max(1) + 1
}

fn no_host() -> Error {
    Error::new(ErrorKind::InvalidInput, "fetch", "anything: no host is configured (CVMFS_SERVER_URL)")
}

/// Returns the error that leaves more hope; the later one where both leave the same.
fn hopeful(before: Option<Error>, now: Error) -> Error {
    let rank = |kind: ErrorKind| match kind {
        ErrorKind::NotFound => 0,
        ErrorKind::PermissionDenied | ErrorKind::Unsupported => 1,
        ErrorKind::Corrupt => 2,
        ErrorKind::Unreachable => 3,
        // The caller's or the local disk's doing: what ended the request.
        _ => 4,
    };
    match before {
        Some(before) if rank(before.kind()) > rank(now.kind()) => before,
        _ => now,
    }
}

/// Collects an answer in memory.
#[derive(Debug, Default)]
struct MemorySink {
    bytes: Vec<u8>,
}

impl Sink for MemorySink {
    fn begin(&mut self, content_length: Option<u64>) -> Result<()> {
        self.bytes.clear();
        self.bytes.reserve(content_length.unwrap_or(0).min(MAX_RESERVED_BYTES) as usize);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.bytes.clear();
        Ok(())
    }
}
