//! How bytes come from a host: requests, time-outs, routes.
//!
//! Owns the way of one key below a repository root to the bytes stored under it: [`http`] and [`file`] move bytes,
//! [`route`] says which host is asked, by which proxy, [`retry`] says what follows a failure, [`origin`] joins the four and is what
//! the rest of the engine uses. Does not own what bytes mean: hashes are checked and objects inflated by a [`Sink`].
//!
//! Threads: everything here is shared between threads. One multi-threaded tokio runtime per process drives the
//! sockets ([`runtime`]); a caller's sink runs on whichever thread polls the fetch, which for the blocking calls of
//! [`Origin`] is the calling thread itself. No lock is held across I/O.

pub mod caller;
mod connect;
pub mod counters;
mod dns;
pub mod failure;
pub mod file;
mod geo;
pub mod groups;
mod hosts_file;
pub mod http;
pub mod interrupt;
mod memory;
pub mod origin;
mod pace;
mod parts;
mod pool;
pub mod proxy;
pub mod resolver;
pub mod retry;
pub mod route;
mod scheme;
mod steering;
mod survey;
mod switch;
mod timeouts;
pub mod tls;
pub mod url;
mod verdict;

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

pub use counters::{Counters, CountersReading};
pub use failure::{Failure, FailureClass};
pub use groups::ProxyGroups;
pub use interrupt::Interrupt;
pub use origin::{Origin, OriginOptions};
pub use proxy::Proxy;
pub use scheme::SchemeTransport;
pub use timeouts::Timeouts;

use crate::error::{Error, Result};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whom an attempt asks: a host, by a proxy or directly.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// Base URL of the repository on that host, without a trailing slash.
    pub base_url: Arc<str>,
    /// The way to it.
    pub proxy: Arc<Proxy>,
}

impl Target {
    /// Builds the target that asks a host without a proxy.
    pub fn direct(base_url: impl Into<Arc<str>>) -> Self {
        Self { base_url: base_url.into(), proxy: Arc::new(Proxy::Direct) }
    }
}

/// A part of what is stored under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes, at least 1.
    pub length: u64,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Key relative to the base URL, for instance `data/ab/cdef...` or `.cvmfspublished`; not escaped.
    pub key: Vec<u8>,
    /// More bytes than this are never passed on; an answer that announces more is refused unread.
    pub max_bytes: u64,
    /// Asks caches on the way to fetch anew.
    pub no_cache: bool,
    /// Asks for a part only.
    pub range: Option<ByteRange>,
    /// Length of the answer in bytes, where it is known; an answer of another length is corrupt.
    pub expected_length: Option<u64>,
    /// About how long the answer is, where somebody knows; a long one may be fetched in parts side by side.
    pub typical_length: Option<u64>,
    /// What it is for; hosts are told where that is wanted (`CVMFS_SEND_INFO_HEADER`). Empty where nobody said.
    pub subject: Arc<str>,
    /// Ends the request early.
    pub interrupt: Interrupt,
    /// Nobody waits for it: it is tried once, says nothing about hosts and proxies, and takes no connection that
    /// somebody who waits might have had.
    pub is_guess: bool,
}

impl Request {
    /// Builds the request for all bytes of `key`, at most `max_bytes`.
    pub fn new(key: impl Into<Vec<u8>>, max_bytes: u64) -> Self {
        Self {
            key: key.into(),
            max_bytes,
            no_cache: false,
            range: None,
            expected_length: None,
            typical_length: None,
            subject: Arc::default(),
            interrupt: Interrupt::default(),
            is_guess: false,
        }
    }
}

/// Where the bytes of a request go.
///
/// The order of calls is `begin write* finish`; `restart` may come anywhere and is followed by another `begin`. An
/// error of the sink ends the attempt: [`crate::ErrorKind::Corrupt`] counts as the host's fault and is answered by
/// fetching again, any other kind ends the request.
pub trait Sink {
    /// An answer begins. `content_length` is what the host announced, at most the request's `max_bytes`.
    fn begin(&mut self, content_length: Option<u64>) -> Result<()>;

    /// The next bytes, in order.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// All bytes were written: the place to check a hash.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    /// The attempt failed and another one follows: forgets everything since `begin`.
    fn restart(&mut self) -> Result<()>;
}

/// What is known about an answer that arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes that were passed to the sink.
    pub length: u64,
    /// Base URL of the host that answered.
    pub base_url: Arc<str>,
    /// A connection was opened for it, which took a round trip of its own.
    pub has_connected: bool,
    /// A cache on the way had it: nothing of it came over the line to the host.
    pub was_nearby: bool,
}

/// Moves the bytes stored under one key of one host into a sink, once.
///
/// * Idempotent: only reads; repeating a request is always allowed.
/// * Bounded: ends within the time-outs that it was built with whatever the host does, passes on at most
///   `max_bytes`, and follows no more than a fixed number of redirects.
/// * One attempt: retries nothing but a kept connection that turns out to be closed. `Sink::finish` and
///   `Sink::restart` are left to the caller.
/// * Temporary are the failures whose class says so ([`FailureClass::is_temporary`]); the kind of their error is
///   [`crate::ErrorKind::Unreachable`]. A missing key is [`crate::ErrorKind::NotFound`].
/// * Dropping the future ends the request and its connection; nothing else is left behind.
pub trait Transport: Send + Sync + Debug {
    /// Fetches `request` from `target` into `sink`.
    fn fetch<'a>(
        &'a self,
        target: &'a Target,
        request: &'a Request,
        sink: &'a mut (dyn Sink + Send),
    ) -> BoxFuture<'a, Result<Fetched, Failure>>;

    /// Opens connections to where requests to `target` go, up to `count` idle ones, where connecting takes long: as soon
    /// as a request has shown that. Nobody waits for it, and its failures are nobody's.
    fn connect_ahead<'a>(&'a self, _target: &'a Target, _count: usize) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    /// Returns how long it takes to connect to where requests to `target` go, if one did: a round trip or two.
    fn connect_time(&self, _target: &Target) -> Option<Duration> {
        None
    }

    /// Returns the counters that every attempt is counted in.
    fn counters(&self) -> &Counters;
}

/// Builds the runtime that drives all sockets of a process.
///
/// The owner keeps it for the life of the process and passes its handle to [`Origin`]. Two to four workers do: they
/// only move bytes, hashing and inflating is done by the threads that ask. End it with `shutdown_background`, because
/// a name look-up that hangs would otherwise be waited for.
pub fn runtime() -> Result<Runtime> {
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
    Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("nearfs-net")
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e: io::Error| Error::io("start", "the network threads", e))
}
