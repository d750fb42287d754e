//! Kept connections, by where they lead.
//!
//! Our own and not a ready-made pool, because a failed request on a kept connection has to be repeated on a fresh one,
//! and because all kept connections to a host are dropped together once one of them has gone silent.
//!
//! Threads: the map's lock is held for the length of a push or a pop.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connect::{Connection, Endpoint};

/// More idle connections to one host are closed: at once, and when nobody took them for a while.
const MAX_IDLE_PER_HOST: usize = 256;
const MAX_KEPT_PER_HOST: usize = 64;
const SURPLUS_TIME: Duration = Duration::from_secs(5);
/// A connection idle for longer may have been forgotten by a box on the way, which would show only as a time-out.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The kept connections.
#[derive(Default)]
pub(super) struct Pool {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_endpoint: HashMap<Endpoint, Vec<Idle>>,
    /// Somebody closes the surplus after a while.
    is_watched: bool,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} idle)", self.kept.lock().by_endpoint.values().map(Vec::len).sum::<usize>())
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
        let mut pool = self.kept.lock();
        let kept = pool.by_endpoint.get_mut(endpoint)?;
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
        self.kept.lock().by_endpoint.get(endpoint).map_or(0, Vec::len)
    }

    /// Keeps a connection for the next request. What many requests at a time left is closed when they are over.
    pub(super) fn put(self: &Arc<Self>, endpoint: &Endpoint, connection: Connection) {
        let mut pool = self.kept.lock();
        let kept = pool.by_endpoint.entry(endpoint.clone()).or_default();
        if kept.len() >= MAX_IDLE_PER_HOST {
            // The oldest goes: it is the first that the other side would close.
            kept.remove(0);
        }
        kept.push(Idle { connection, since: Instant::now() });
        if kept.len() > MAX_KEPT_PER_HOST && !std::mem::replace(&mut pool.is_watched, true) {
            let pool = Arc::downgrade(self);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(SURPLUS_TIME).await;
                    if pool.upgrade().is_none_or(|pool| pool.trim()) {
                        return;
                    }
                }
            });
        }
    }

    /// Closes surplus connections that nobody took for a while; says whether none is left.
    fn trim(&self) -> bool {
        let mut pool = self.kept.lock();
        let mut is_done = true;
        for kept in pool.by_endpoint.values_mut() {
            // The most recently used one is last.
            let surplus = kept.len().saturating_sub(MAX_KEPT_PER_HOST);
            let old = kept.iter().take(surplus).take_while(|idle| idle.since.elapsed() >= SURPLUS_TIME).count();
            kept.drain(..old);
            is_done &= surplus == old;
        }
        pool.is_watched = !is_done;
        is_done
    }

    /// Closes all idle connections to `endpoint`.
    pub(super) fn forget(&self, endpoint: &Endpoint) {
        self.kept.lock().by_endpoint.remove(endpoint);
    }
}
