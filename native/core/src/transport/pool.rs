//! Kept connections, by host and port, and the opening of new ones.
//!
//! Our own and not a ready-made pool, because a failed request on a kept connection has to be repeated on a fresh one,
//! and because all kept connections to a host are dropped together once one of them has gone silent.
//!
//! Threads: the map's lock is held for the length of a push or a pop.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::failure::{Failure, FailureClass};

/// A connection that takes one request at a time.
pub(super) type Sender = http1::SendRequest<Empty<Bytes>>;

/// More idle connections to one host are closed.
const MAX_IDLE_PER_HOST: usize = 64;
/// A connection idle for longer may have been forgotten by a box on the way, which would show only as a time-out.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    /// Name or address, IPv6 without brackets.
    pub(super) host: String,
    /// TCP port.
    pub(super) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

struct Idle {
    sender: Sender,
    since: Instant,
}

/// The kept connections.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Endpoint, Vec<Idle>>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} idle)", self.idle.lock().values().map(Vec::len).sum::<usize>())
    }
}

impl Pool {
    /// Takes the most recently used connection that is still open.
    pub(super) fn take(&self, endpoint: &Endpoint) -> Option<Sender> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(endpoint)?;
        while let Some(Idle { sender, since }) = kept.pop() {
            if sender.is_ready() && since.elapsed() < MAX_IDLE_TIME {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, endpoint: &Endpoint, sender: Sender) {
        let mut idle = self.idle.lock();
        let kept = idle.entry(endpoint.clone()).or_default();
        if kept.len() >= MAX_IDLE_PER_HOST {
            // The oldest goes: it is the first that the other side would close.
            kept.remove(0);
        }
        kept.push(Idle { sender, since: Instant::now() });
    }

    /// Closes all idle connections to `endpoint`.
    pub(super) fn forget(&self, endpoint: &Endpoint) {
        self.idle.lock().remove(endpoint);
    }
}

/// Opens a connection within `limit`, name look-up included. `url` is for messages.
pub(super) async fn connect(endpoint: &Endpoint, limit: Duration, url: &str) -> Result<Sender, Failure> {
    let deadline = Instant::now() + limit;
    let too_slow = || {
        let reason = format!("no connection to {endpoint} within {} s (CVMFS_TIMEOUT_DIRECT)", limit.as_secs_f32());
        Failure::unreachable(FailureClass::Connection, url, reason)
    };
    let resolved = timeout(limit, lookup_host((endpoint.host.as_str(), endpoint.port))).await;
    let addresses: Vec<SocketAddr> = resolved
        .map_err(|_| too_slow())?
        .map_err(|e| {
            Failure::unreachable(FailureClass::Resolve, url, format!("host {} has no address: {e}", endpoint.host))
        })?
        .collect();
    let mut last: Option<io::Error> = None;
    for (tried, address) in addresses.iter().enumerate() {
        // Every address gets its share of what is left, so that one black hole does not starve the others.
        let share = deadline.saturating_duration_since(Instant::now()) / (addresses.len() - tried) as u32;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return handshake(stream, url).await,
            Ok(Err(e)) => last = Some(e),
            Err(_) => {}
        }
    }
    Err(last.map_or_else(too_slow, |e| {
        Failure::unreachable(FailureClass::Connection, url, format!("cannot connect to {endpoint}: {e}"))
    }))
}

async fn handshake(stream: TcpStream, url: &str) -> Result<Sender, Failure> {
    let broken = |e: &dyn fmt::Display| {
        Failure::unreachable(FailureClass::Connection, url, format!("the connection broke at once: {e}"))
    };
    stream.set_nodelay(true).map_err(|e| broken(&e))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    // Ends by itself when the sender is dropped or the host closes; its errors reach the request over the sender.
    tokio::spawn(connection);
    Ok(sender)
}
