//! Where a repository comes from: hosts, tried by the rules, behind one blocking and one asynchronous face.
//!
//! Joins transport, route, retry and survey. A request ends in bounded time: no attempt begins later than
//! [`OriginOptions::total_time`] after the first one, and every attempt is bounded by its transport.
//!
//! Threads: shared by all. The blocking calls must not be made from a task of the runtime; they run the sink on the
//! calling thread, so hashing, inflating and writing use the thread that wants the object while the runtime's workers
//! only move bytes; between the two, the HTTP client holds a few buffers and no more. The lock around the route is
//! held for one step of the state machine, never across I/O.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::counters::CountersReading;
use super::failure::{Failure, FailureClass};
use super::groups::{ProxyFault, ProxyGroups};
use super::http::HttpOptions;
use super::memory::MemorySink;
use super::proxy::Proxy;
use super::resolver::Nameserver;
use super::retry::{Retry, RetryPolicy, Step};
use super::route::{Attempt, Route};
use super::scheme::SchemeTransport;
use super::survey::Surveyor;
use super::switch::announce;
use super::timeouts::Timeouts;
use super::{Fetched, Interrupt, Request, Sink, Target, Transport, url};
use crate::error::{Error, ErrorKind, Result};

/// A request that has heard nothing for this part of its time-out has the other ways looked at.
const PATIENCE: u32 = 4;

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
    /// Begins again instead of giving up, until hosts are back or the caller gives up (`CVMFS_FAILOVER_INDEFINITELY`).
    pub is_indefinite: bool,
}

impl Default for OriginOptions {
    fn default() -> Self {
        Self {
            http: HttpOptions::default(),
            retry: RetryPolicy::default(),
            proxies: ProxyGroups::direct(),
            host_reset_after: None,
            total_time: Duration::from_secs(120),
            is_indefinite: false,
        }
    }
}

/// The hosts of one repository.
#[derive(Debug)]
pub struct Origin {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) route: Arc<Mutex<Route>>,
    pub(super) surveyor: Arc<Surveyor>,
    pub(super) timeouts: Arc<Timeouts>,
    pub(super) nameserver: Nameserver,
    retry: RetryPolicy,
    total_time: Duration,
    is_indefinite: bool,
    runtime: Handle,
}

impl Origin {
    /// Builds an origin from a `;` list of base URLs (`CVMFS_SERVER_URL`, `@fqrn@` already replaced). Connects to
    /// nothing. `runtime` is the handle of [`super::runtime`].
    pub fn open(hosts: &str, options: OriginOptions, runtime: Handle) -> Result<Self> {
        Ok(Self::with_hosts(url::host_list(hosts)?, options, runtime))
    }

    /// Like [`Origin::open`] for external data (`CVMFS_EXTERNAL_URL`), which a client may have no hosts for until
    /// [`Origin::set_hosts`]: every request fails then.
    pub fn open_external(hosts: &str, options: OriginOptions, runtime: Handle) -> Result<Self> {
        let hosts = if hosts.is_empty() { Vec::new() } else { url::host_list(hosts)? };
        Ok(Self::with_hosts(hosts, options, runtime))
    }

    fn with_hosts(hosts: Vec<Arc<str>>, options: OriginOptions, runtime: Handle) -> Self {
        let OriginOptions { http, retry, proxies, host_reset_after, total_time, is_indefinite } = options;
        let timeouts = Arc::new(Timeouts::new(http.timeout, http.proxy_timeout));
        let proxies = proxies.patient_for(timeouts.by_proxy());
        let route = Arc::new(Mutex::new(Route::new(hosts, host_reset_after).by(proxies)));
        let nameserver = http.dns.server.clone();
        let client = || Arc::new(SchemeTransport::with_timeouts(http.clone(), Arc::clone(&timeouts)));
        let surveyor = Surveyor::new(Arc::clone(&route), client(), Arc::clone(&timeouts), runtime.clone());
        let (transport, surveyor) = (client(), Arc::new(surveyor));
        Self { transport, route, surveyor, timeouts, nameserver, retry, total_time, is_indefinite, runtime }
    }

    /// Returns the runtime's handle, for callers that have several requests in flight.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Reads the transport's counters.
    pub fn counters(&self) -> CountersReading {
        self.transport.counters().read()
    }

    /// Says whether hosts are asked without a proxy now.
    pub fn is_direct(&self) -> bool {
        *self.route.lock().proxies().active().0 == Proxy::Direct
    }

    /// Has up to `count` connections opened to the host in use, where that takes long: as soon as a request has shown
    /// that. Returns at once.
    pub fn connect_ahead(&self, count: usize) {
        let Some(attempt) = self.route.lock().next_attempt(b"") else { return };
        let transport = Arc::clone(&self.transport);
        self.runtime.spawn(async move { transport.connect_ahead(&attempt.target, count).await });
    }

    /// Returns how long it takes to connect to the host in use, or to the proxy before it, if that was ever done.
    pub fn connect_time(&self) -> Option<Duration> {
        self.transport.connect_time(&self.route.lock().next_attempt(b"")?.target)
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
        Ok(sink.into_bytes())
    }

    /// Fetches `request` into `sink`, host after host, by the rules of client.md 3.5.
    ///
    /// Calls `sink.finish()` when all bytes are there; a sink that then says [`ErrorKind::Corrupt`] makes the object
    /// be fetched again. If hosts fail in different ways, the error is the one that leaves most hope: unreachable
    /// before corrupt before missing, because only all hosts together can say that a key is missing.
    pub async fn fetch_async(&self, request: &Request, sink: &mut (dyn Sink + Send)) -> Result<Fetched> {
        loop {
            // Also amid what is no request: a pause, a survey that is waited for.
            let outcome = tokio::select! {
                biased;
                () = request.interrupt.cancelled() => Err(gave_up(request)),
                outcome = self.go_round(request, sink) => outcome,
            };
            let error = match outcome {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            let is_over = !self.is_indefinite || request.is_guess || request.interrupt.is_cancelled();
            if is_over || error.kind() != ErrorKind::Unreachable {
                return Err(error);
            }
            rest(self.retry.backoff_max, &request.interrupt).await;
            sink.restart()?;
        }
    }

    /// Asks until the rules of repeating are used up.
    async fn go_round(&self, request: &Request, sink: &mut (dyn Sink + Send)) -> Result<Fetched> {
        let begun = Instant::now();
        let (mut attempt, hosts, proxies) = self.first_attempt(&request.key, begun)?;
        let first = attempt.clone();
        let mut retry = Retry::new(self.retry, hosts, proxies, request.no_cache);
        let mut request = request.clone();
        let mut worst: Option<Error> = None;
        loop {
            request.no_cache = retry.is_without_cache();
            let asked_at = Instant::now();
            let failure = match self.try_once(&attempt, &request, sink).await {
                Ok(fetched) => return Ok(fetched),
                Err(failure) if request.is_guess => return Err(failure.error),
                Err(failure) => failure,
            };
            tracing::debug!(error = %failure.error, class = ?failure.class, "attempt failed");
            let mut step = self.next_step(&mut retry, &attempt, &failure, asked_at).await;
            if begun.elapsed() >= self.total_time {
                step = Step::Stop;
            }
            let Failure { class, by_proxy, error, .. } = failure;
            worst = Some(hopeful(worst, error));
            match step {
                Step::Again(pause) => rest(pause, &request.interrupt).await,
                Step::AgainWithoutCache => {}
                Step::NextProxy | Step::NextWay => attempt = self.next_attempt(&request.key)?,
                Step::NextHost => attempt = self.next_host(&attempt, class, by_proxy, &request.key)?,
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

    fn first_attempt(&self, key: &[u8], now: Instant) -> Result<(Attempt, usize, usize)> {
        let mut route = self.route.lock();
        route.begin_request(now, roll);
        Ok((route.next_attempt(key).ok_or_else(no_host)?, route.host_count(), route.proxies().count()))
    }

    fn next_attempt(&self, key: &[u8]) -> Result<Attempt> {
        self.route.lock().next_attempt(key).ok_or_else(no_host)
    }

    /// Says what follows a failure: first by what is known of all ways, then by the rules of one request.
    async fn next_step(&self, retry: &mut Retry, failed: &Attempt, failure: &Failure, asked_at: Instant) -> Step {
        if failure.class.is_silence() {
            self.surveyor.start();
            let has_found = self.surveyor.outcome(asked_at).await;
            if !self.route.lock().is_current(failed) {
                return retry.moved();
            }
            if has_found == Some(false) {
                return retry.nowhere_else(failure.class, roll);
            }
        }
        match retry.after(failure.class, failure.by_proxy, roll) {
            Step::NextProxy if !self.leave_proxy(failed, failure, asked_at) => retry.without_proxies(failure.class),
            step => step,
        }
    }

    /// Says whether there is another proxy to be asked after this failure.
    fn leave_proxy(&self, failed: &Attempt, failure: &Failure, asked_at: Instant) -> bool {
        let mut route = self.route.lock();
        let fault = match failure.class {
            FailureClass::TooSlow if failure.has_begun => ProxyFault::Slow(Instant::now()),
            FailureClass::TooSlow => ProxyFault::Slow(asked_at),
            _ => ProxyFault::Dead,
        };
        let was_current = route.is_current(failed);
        let is_left = route.on_proxy_failure(failed, fault, Instant::now(), roll);
        if is_left && was_current {
            let to = Target { base_url: failed.target.base_url.clone(), proxy: route.proxies().active().0 };
            announce(&failed.target, &to, failure.class.text(true));
        }
        is_left
    }

    fn next_host(&self, failed: &Attempt, class: FailureClass, by_proxy: bool, key: &[u8]) -> Result<Attempt> {
        let mut route = self.route.lock();
        let has_moved = route.on_failure(failed, Instant::now());
        if by_proxy {
            // All of them failed at this host: so it is not them.
            route.start_proxies_over(roll);
        }
        let next = route.next_attempt(key).ok_or_else(no_host)?;
        if has_moved {
            let reason = if by_proxy { "all proxies failed, trying host fail-over" } else { class.text(false) };
            announce(&failed.target, &Target { proxy: failed.target.proxy.clone(), ..next.target.clone() }, reason);
        }
        Ok(next)
    }

    async fn try_once(
        &self,
        attempt: &Attempt,
        request: &Request,
        sink: &mut (dyn Sink + Send),
    ) -> Result<Fetched, Failure> {
        let has_begun = AtomicBool::new(false);
        let mut watched = Watched { sink, has_begun: &has_begun };
        let fetched = {
            let patience = self.timeouts.of(&attempt.target.proxy) / PATIENCE;
            let fetch = self.transport.fetch(&attempt.target, request, &mut watched);
            tokio::pin!(fetch);
            tokio::select! {
                biased;
                fetched = &mut fetch => fetched,
                () = self.grow_impatient(patience, &has_begun), if !request.is_guess => fetch.await,
            }
        };
        let has_begun = has_begun.load(Ordering::Relaxed);
        if has_begun {
            self.route.lock().on_answer(attempt, Instant::now());
        }
        let fetched = fetched.map_err(|failure| Failure { has_begun, ..failure })?;
        let url = || format!("{}/{}", attempt.target.base_url, url::escape(&request.key));
        watched.finish().map_err(|error| Failure::from_sink(&url(), error))?;
        Ok(fetched)
    }

    /// Has the other ways looked at if nothing comes for the length of `patience`, to this request or to any other.
    async fn grow_impatient(&self, patience: Duration, has_begun: &AtomicBool) {
        loop {
            tokio::time::sleep(patience).await;
            if has_begun.load(Ordering::Relaxed) {
                return;
            }
            let answered_at = self.route.lock().answered_at();
            if answered_at.is_none_or(|at| at.elapsed() >= patience) {
                return self.surveyor.start();
            }
        }
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

fn gave_up(request: &Request) -> Error {
    let key = String::from_utf8_lossy(&request.key);
    Error::new(ErrorKind::Cancelled, "fetch", format!("{key}: the caller gave up"))
}

fn no_host() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "fetch",
        "anything: no host is configured (CVMFS_SERVER_URL, for external data CVMFS_EXTERNAL_URL)",
    )
}

/// Returns the error that leaves more hope; the later one where both leave the same.
fn hopeful(before: Option<Error>, now: Error) -> Error {
    let rank = |kind: ErrorKind| match kind {
        ErrorKind::NotFound => 0,
        ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::Untrusted => 1,
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

/// Notes that an answer has begun.
struct Watched<'a> {
    sink: &'a mut (dyn Sink + Send),
    has_begun: &'a AtomicBool,
}

impl Sink for Watched<'_> {
    fn begin(&mut self, content_length: Option<u64>) -> Result<()> {
        self.has_begun.store(true, Ordering::Relaxed);
        self.sink.begin(content_length)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write(bytes)
    }

    fn finish(&mut self) -> Result<()> {
        self.sink.finish()
    }

    fn restart(&mut self) -> Result<()> {
        self.sink.restart()
    }
}
