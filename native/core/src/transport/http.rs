//! One attempt over HTTP/1.1: the request, its time-outs, what the answer's status means.
//!
//! Source: client.md 3.4 (classes), 3.6 (headers). An answer's body is taken as it is: nothing is asked for or undone
//! by `Content-Encoding`, because names hash the stored bytes. Connections are kept and shared by all requests of one
//! [`HttpTransport`]; at most [`HttpOptions::parallel_requests`] are in flight, others wait for their turn within the
//! request's deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CACHE_CONTROL, CONNECTION, HOST, HeaderMap, PRAGMA, RANGE, USER_AGENT};
use hyper::{Response, Uri};
use tokio::sync::Semaphore;

use super::connect::{Connection, Connector, Endpoint};
use super::counters::Counters;
use super::failure::{Failure, FailureClass};
use super::pace::{Pace, TooSlow};
use super::parts::Lines;
use super::pool::Pool;
use super::proxy::Proxy;
use super::resolver::{DnsOptions, Resolver};
use super::timeouts::Timeouts;
use super::tls::{Tls, TlsOptions};
use super::{BoxFuture, Fetched, Request, Sink, Target, Transport, url, verdict};
use crate::error::{Error, ErrorKind, Result};

/// The header that says what a request is for.
const SUBJECT: &str = "cvmfs-info";
/// Redirects that are followed at most, where they are followed.
const MAX_REDIRECTS: usize = 4;
/// The body of an error answer is read up to here in order to keep the connection.
const MAX_DRAIN_BYTES: u64 = 64 << 10;

/// Limits and habits of the HTTP client.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Time-out of connecting, name look-up and TLS included, and the period of the low-speed limit (`CVMFS_TIMEOUT_DIRECT`).
    pub timeout: Duration,
    /// The same for requests by a proxy (`CVMFS_TIMEOUT`).
    pub proxy_timeout: Duration,
    /// Fewer bytes per second over `timeout` are too slow (`CVMFS_LOW_SPEED_LIMIT`).
    pub low_speed_limit: u64,
    /// No attempt takes longer, however steadily bytes come.
    pub deadline: Duration,
    /// Follows redirects (`CVMFS_FOLLOW_REDIRECTS`).
    pub follow_redirects: bool,
    /// Requests in flight at most.
    pub parallel_requests: usize,
    /// A host to which connecting takes as long is sent requests for parts of a large answer, side by side
    /// (`NEARFS_PARALLEL_PARTS`).
    pub long_line: Duration,
    /// Value of `User-Agent`.
    pub user_agent: String,
    /// Further header lines of every request (`CVMFS_HTTP_TRACING_HEADERS`); those that are malformed are left out.
    pub headers: Vec<(String, String)>,
    /// Tells hosts and proxies which path a request is for (`CVMFS_SEND_INFO_HEADER`).
    pub tells_subject: bool,
    /// How names are looked up.
    pub dns: DnsOptions,
    /// Whose certificates are believed.
    pub tls: TlsOptions,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            proxy_timeout: Duration::from_secs(5),
            low_speed_limit: 1024,
            deadline: Duration::from_secs(3600),
            follow_redirects: false,
            parallel_requests: 256,
            long_line: Duration::from_millis(20),
            // Sites filter their logs and shape their proxies by the reference client's name.
            user_agent: format!("cvmfs Fuse 2.12.0 nearfs/{}", env!("CARGO_PKG_VERSION")),
            headers: Vec::new(),
            tells_subject: false,
            dns: DnsOptions::default(),
            tls: TlsOptions::default(),
        }
    }
}

/// Moves bytes over HTTP, with TLS or without.
#[derive(Debug)]
pub struct HttpTransport {
    pub(super) options: HttpOptions,
    pub(super) timeouts: Arc<Timeouts>,
    pub(super) pool: Arc<Pool>,
    pub(super) lines: Lines,
    resolver: Arc<Resolver>,
    connector: Connector,
    headers: HeaderMap,
    pub(super) turns: Semaphore,
    pub(super) counters: Arc<Counters>,
}

/// An answer whose head has come.
pub(super) struct Answer {
    pub(super) endpoint: Endpoint,
    pub(super) connection: Connection,
    pub(super) response: Response<Incoming>,
    pub(super) has_connected: bool,
}

impl HttpTransport {
    /// Builds a client without any connection.
    pub fn new(options: HttpOptions, counters: Arc<Counters>) -> Self {
        let timeouts = Arc::new(Timeouts::new(options.timeout, options.proxy_timeout));
        Self::with_timeouts(options, timeouts, counters)
    }

    /// Builds a client whose time-outs are `timeouts` instead of those of `options`.
    pub fn with_timeouts(options: HttpOptions, timeouts: Arc<Timeouts>, counters: Arc<Counters>) -> Self {
        let turns = Semaphore::new(options.parallel_requests.clamp(1, Semaphore::MAX_PERMITS));
        let resolver = Arc::new(Resolver::new(options.dns.clone()));
        let connector = Connector::new(Arc::clone(&resolver), Tls::new(options.tls.clone()));
        let line = |(name, value): &(String, String)| Some((name.parse().ok()?, value.parse().ok()?));
        let headers: HeaderMap = options.headers.iter().filter_map(line).collect();
        Self {
            options,
            timeouts,
            pool: Arc::default(),
            lines: Lines::default(),
            resolver,
            connector,
            headers,
            turns,
            counters,
        }
    }

    async fn attempt(
        &self,
        target: &Target,
        request: &Request,
        sink: &mut (dyn Sink + Send),
    ) -> Result<Fetched, Failure> {
        let url = format!("{}/{}", target.base_url, url::escape(&request.key));
        let deadline = self.options.deadline;
        tokio::select! {
            biased;
            () = request.interrupt.cancelled() => Err(verdict::cancelled(&url)),
            outcome = tokio::time::timeout(deadline, self.exchange(&url, target, request, sink)) => {
                outcome.unwrap_or_else(|_| {
                    let reason = format!("not complete within {} s", deadline.as_secs_f32());
                    Err(Failure::unreachable(FailureClass::TooSlow, &url, reason))
                })
            }
        }
    }

    async fn exchange(
        &self,
        url: &str,
        target: &Target,
        request: &Request,
        sink: &mut (dyn Sink + Send),
    ) -> Result<Fetched, Failure> {
        let mut uri: Uri = url.parse().map_err(|e| {
            Failure::new(FailureClass::Http, Error::new(ErrorKind::InvalidInput, "fetch", url).with_source(e))
        })?;
        if let Some(fetched) = self.fetch_in_parts(&uri, target, request, sink).await? {
            return Ok(fetched);
        }
        // The semaphore is never closed; were it, an unlimited request would be the better failure.
        let _turn = self.turns.acquire().await.ok();
        for _ in 0..=MAX_REDIRECTS {
            let mut pace = Pace::new(self.options.low_speed_limit, self.timeouts.of(&target.proxy));
            let blame = |failure| verdict::blame(failure, &target.proxy);
            let answer = self.answer(&uri, &target.proxy, request, &mut pace).await.map_err(blame)?;
            let status = answer.response.status();
            let by_proxy = *target.proxy != Proxy::Direct && verdict::is_by_proxy(&answer.response);
            if status.is_success() {
                self.lines.answered(&answer.endpoint, answer.response.headers());
                let has_connected = answer.has_connected;
                let was_nearby = verdict::is_of_a_cache(answer.response.headers());
                let length = self.stream(&uri, &target.proxy, answer, request, sink, &mut pace).await.map_err(blame)?;
                return Ok(Fetched { length, base_url: target.base_url.clone(), has_connected, was_nearby });
            }
            let next = verdict::redirect(&uri, &answer.response);
            self.drain(answer, &mut pace).await;
            uri = match next {
                Some(next) if self.options.follow_redirects => next?,
                Some(_) => {
                    let reason =
                        format!("HTTP status {status}; redirects are followed with CVMFS_FOLLOW_REDIRECTS=yes");
                    return Err(Failure::unreachable(FailureClass::Http, url, reason));
                }
                None => return Err(Failure { by_proxy, ..verdict::refused(&uri, status) }),
            };
        }
        let reason = format!("more than {MAX_REDIRECTS} redirects");
        Err(Failure::unreachable(FailureClass::Connection, url, reason))
    }

    /// Sends the request on a kept connection, or else, also if that one turns out to be closed, on a fresh one.
    pub(super) async fn answer(
        &self,
        uri: &Uri,
        proxy: &Proxy,
        request: &Request,
        pace: &mut Pace,
    ) -> Result<Answer, Failure> {
        let endpoint = verdict::endpoint(uri, proxy)?;
        let timeout = self.timeouts.of(proxy);
        let head = self.head(uri, proxy, request).map_err(|e| {
            let error = Error::new(ErrorKind::InvalidInput, "fetch", format!("{uri}: a header is malformed"));
            Failure::new(FailureClass::Local, error.with_source(e))
        })?;
        let is_address = |address| self.resolver.is_address(endpoint.party, &endpoint.host, address);
        if let Some(mut connection) = self.pool.take(&endpoint, is_address, usize::from(request.is_guess)) {
            match pace.wait(connection.sender.send_request(head.clone())).await {
                Ok(Ok(response)) => return Ok(Answer { endpoint, connection, response, has_connected: false }),
                Ok(Err(error)) if verdict::may_repeat(&error) => {}
                Ok(Err(error)) => return Err(verdict::broken(uri, &error)),
                Err(slow) => {
                    // Its neighbours have been silent for as long.
                    self.pool.forget(&endpoint);
                    self.resolver.demote(endpoint.party, &endpoint.host, connection.address);
                    return Err(self.too_slow(uri, proxy, &slow));
                }
            }
        }
        let begun = Instant::now();
        let mut connection = self.connector.open(&endpoint, timeout, &uri.to_string()).await?;
        self.lines.connected(&endpoint, begun.elapsed());
        self.counters.count_connection();
        *pace = Pace::new(self.options.low_speed_limit, timeout);
        let sent = pace.wait(connection.sender.send_request(head)).await.map_err(|slow| {
            self.resolver.demote(endpoint.party, &endpoint.host, connection.address);
            self.too_slow(uri, proxy, &slow)
        })?;
        let response = sent.map_err(|error| verdict::broken(uri, &error))?;
        Ok(Answer { endpoint, connection, response, has_connected: true })
    }

    fn head(&self, uri: &Uri, proxy: &Proxy, request: &Request) -> hyper::http::Result<hyper::Request<Empty<Bytes>>> {
        // A proxy is told the whole URL, a host only what is its own, also through a tunnel.
        let path = || Uri::builder().path_and_query(uri.path_and_query().map_or("/", |p| p.as_str())).build();
        let is_whole = *proxy != Proxy::Direct && uri.scheme_str() != Some("https");
        let target = if is_whole { uri.clone() } else { path()? };
        let mut head = hyper::Request::get(target)
            .header(HOST, uri.authority().map_or("", |a| a.as_str()))
            .header(CONNECTION, "Keep-Alive")
            .header(USER_AGENT, &self.options.user_agent);
        if request.no_cache {
            head = head.header(PRAGMA, "no-cache").header(CACHE_CONTROL, "no-cache");
        }
        if let Some(range) = request.range {
            let last = range.offset.saturating_add(range.length.saturating_sub(1));
            head = head.header(RANGE, format!("bytes={}-{last}", range.offset));
        }
        if self.options.tells_subject && !request.subject.is_empty() {
            head = head.header(SUBJECT, url::escape(&*request.subject));
        }
        if let Some(headers) = head.headers_mut() {
            headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        head.body(Empty::new())
    }

    /// Passes the body to the sink and keeps the connection. Returns the body's length.
    pub(super) async fn stream(
        &self,
        uri: &Uri,
        proxy: &Proxy,
        answer: Answer,
        request: &Request,
        sink: &mut (dyn Sink + Send),
        pace: &mut Pace,
    ) -> Result<u64, Failure> {
        let Answer { endpoint, connection, response, .. } = answer;
        verdict::check_range(uri, &response, request)?;
        let mut body = response.into_body();
        let announced = body.size_hint().exact();
        verdict::check_length(uri, announced, request)?;
        sink.begin(announced).map_err(|e| Failure::from_sink(&uri.to_string(), e))?;
        let mut length = 0;
        while let Some(frame) = pace.wait(body.frame()).await.map_err(|slow| self.too_slow(uri, proxy, &slow))? {
            let frame = frame.map_err(|error| verdict::broken_off(uri, length, &error))?;
            let Ok(bytes) = frame.into_data() else { continue };
            length += bytes.len() as u64;
            if length > request.max_bytes {
                return Err(verdict::too_long(uri, request));
            }
            self.counters.count_bytes(bytes.len() as u64);
            let begun = Instant::now();
            sink.write(&bytes).map_err(|e| Failure::from_sink(&uri.to_string(), e))?;
            pace.count(bytes.len() as u64, begun.elapsed()).map_err(|slow| self.too_slow(uri, proxy, &slow))?;
        }
        verdict::check_length(uri, Some(length), request)?;
        self.keep(&endpoint, connection).await;
        Ok(length)
    }

    /// Reads the rest of a refusal, so that the connection can be kept.
    pub(super) async fn drain(&self, answer: Answer, pace: &mut Pace) {
        let Answer { endpoint, connection, response, .. } = answer;
        let mut body = response.into_body();
        let mut length = 0;
        while length <= MAX_DRAIN_BYTES {
            match pace.wait(body.frame()).await {
                Ok(Some(Ok(frame))) => length += frame.data_ref().map_or(0, |bytes| bytes.len() as u64),
                Ok(None) => return self.keep(&endpoint, connection).await,
                _ => return,
            }
        }
    }

    pub(super) async fn keep(&self, endpoint: &Endpoint, mut connection: Connection) {
        // The connection's own task needs a moment to see the end of the body; without waiting for it, the next
        // request would open a second connection for nothing. It is an error if the host wants to close.
        if let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(100), connection.sender.ready()).await {
            self.pool.put(endpoint, connection);
        }
    }

    pub(super) fn too_slow(&self, uri: &Uri, proxy: &Proxy, slow: &TooSlow) -> Failure {
        let period = self.timeouts.of(proxy).as_secs_f32();
        let parameter = if *proxy == Proxy::Direct { "CVMFS_TIMEOUT_DIRECT" } else { "CVMFS_TIMEOUT" };
        let reason = if slow.silent {
            format!("no answer within {period} s ({parameter})")
        } else {
            let limit = self.options.low_speed_limit;
            format!("fewer than {limit} bytes/s over {period} s (CVMFS_LOW_SPEED_LIMIT, {parameter})")
        };
        Failure::unreachable(FailureClass::TooSlow, &uri.to_string(), reason)
    }
}

impl Transport for HttpTransport {
    fn fetch<'a>(
        &'a self,
        target: &'a Target,
        request: &'a Request,
        sink: &'a mut (dyn Sink + Send),
    ) -> BoxFuture<'a, Result<Fetched, Failure>> {
        Box::pin(async move {
            let begun = Instant::now();
            let outcome = match url::check_key(&request.key) {
                Ok(()) => self.attempt(target, request, sink).await,
                Err(error) => Err(Failure::new(FailureClass::Local, error)),
            };
            self.counters.count_request(begun.elapsed(), outcome.is_err());
            outcome
        })
    }

    fn connect_ahead<'a>(&'a self, target: &'a Target, count: usize) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Ok(uri) = target.base_url.parse::<Uri>() else { return };
            let Ok(endpoint) = verdict::endpoint(&uri, &target.proxy) else { return };
            let (timeout, subject) = (self.timeouts.of(&target.proxy), uri.to_string());
            let is_known = tokio::time::timeout(timeout, self.lines.until_connected(&endpoint)).await.is_ok();
            if !is_known || !self.lines.is_long(&endpoint, self.options.long_line) {
                return;
            }
            let missing = count.saturating_sub(self.pool.idle(&endpoint));
            let opened = (0..missing).map(|_| self.connector.open(&endpoint, timeout, &subject));
            for connection in join_all(opened).await.into_iter().flatten() {
                self.counters.count_connection();
                self.pool.put(&endpoint, connection);
            }
        })
    }

    fn connect_time(&self, target: &Target) -> Option<Duration> {
        let endpoint = verdict::endpoint(&target.base_url.parse().ok()?, &target.proxy).ok()?;
        self.lines.connect_time(&endpoint)
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
