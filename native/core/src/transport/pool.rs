//! Kept connections, by where they lead.
//!
//! Our own and not a ready-made pool, because a failed request on a kept connection has to be repeated on a fresh one,
//! and because all kept connections to a host are dropped together once one of them has gone silent.
//!
//! Threads: the map's lock is held for the length of a push or a pop.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connect::{Connection, Endpoint};

/// More idle connections to one host are closed.
const MAX_IDLE_PER_HOST: usize = 64;
/// A connection idle for longer may have been forgotten by a box on the way, which would show only as a time-out.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

struct Idle {
    connection: Connection,
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
    /// Takes the most recently used connection that is still open, and whose address still is one of the endpoint's.
    /// Leaves `spare` connections for others.
    pub(super) fn take(
        &self,
        endpoint: &Endpoint,
        is_address: impl Fn(IpAddr) -> bool,
        spare: usize,
    ) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(endpoint)?;
        if kept.len() <= spare {
            return None;
        }
        while let Some(Idle { connection, since }) = kept.pop() {
            if connection.sender.is_ready() && since.elapsed() < MAX_IDLE_TIME && is_address(connection.address) {
                return Some(connection);
            }
        }
        None
    }

    /// Returns how many connections are kept for `endpoint`.
    pub(super) fn idle(&self, endpoint: &Endpoint) -> usize {
        self.idle.lock().get(endpoint).map_or(0, Vec::len)
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, endpoint: &Endpoint, connection: Connection) {
        let mut idle = self.idle.lock();
        let kept = idle.entry(endpoint.clone()).or_default();
        if kept.len() >= MAX_IDLE_PER_HOST {
            // The oldest goes: it is the first that the other side would close.
            kept.remove(0);
        }
        kept.push(Idle { connection, since: Instant::now() });
    }

    /// Closes all idle connections to `endpoint`.
    pub(super) fn forget(&self, endpoint: &Endpoint) {
        self.idle.lock().remove(endpoint);
    }
}
