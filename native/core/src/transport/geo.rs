//! Hosts by distance: asked of the hosts themselves, which know where clients and hosts are.
//!
//! Source: client.md 3.8. Whatever is wrong with an answer leaves the configured order: it is a matter of speed alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::memory::MemorySink;
use super::origin::{Origin, roll};
use super::proxy::Proxy;
use super::route::HostState;
use super::{Request, Target};
use crate::error::{Error, ErrorKind, Result};

/// So many hosts are asked at once; the first answer counts.
const ASKED: usize = 3;
/// A longer answer is none.
const LIMIT_BYTES: u64 = 64 << 10;

impl Origin {
    /// Puts the hosts in the order of their distance, the nearest first, and keeps at most `max_hosts` of them. Where
    /// no proxy is in use, `uuid` stands for this client's place; `place` stands for it always, if it is given
    /// (`CVMFS_PROXY_TEMPLATE`). Blocks for one time-out at most; not for tasks of the runtime.
    pub fn sort_hosts_by_distance(&self, uuid: &str, place: Option<&str>) -> Result<()> {
        let (hosts, active) = (self.host_chain().0, self.active_proxy());
        if hosts.len() < 2 || hosts.iter().any(|host| host.starts_with("file:")) {
            return Ok(());
        }
        let seen_from = match (place, &*active) {
            (Some(place), _) => place,
            (None, Proxy::Via { host, .. }) => host,
            (None, Proxy::Direct) => uuid,
        };
        let question = Question::new(&hosts, seen_from);
        let limit = self.timeouts().0.max(self.timeouts().1);
        let asked = self.runtime().block_on(self.ask_for_order(&question, &hosts, &active, limit));
        let order = asked.inspect_err(|error| {
            tracing::warn!("failed to sort hosts by distance, keeping their order: {error}");
        })?;
        let sorted: Vec<Arc<str>> = order.into_iter().filter_map(|n| hosts.get(n).cloned()).collect();
        tracing::info!("hosts by distance: {}", sorted.join(";"));
        self.route.lock().set_probed_hosts(sorted.into_iter().map(|host| (host, HostState::ByDistance)));
        Ok(())
    }

    /// Keeps the first `count` hosts only (`CVMFS_MAX_SERVERS`).
    pub fn keep_hosts(&self, count: usize) {
        let mut hosts = self.host_chain().0;
        if count > 0 && count < hosts.len() {
            hosts.truncate(count);
            let mut route = self.route.lock();
            let states = route.host_states();
            route.set_probed_hosts(hosts.into_iter().zip(states));
        }
    }

    async fn ask_for_order(
        &self,
        question: &Question,
        hosts: &[Arc<str>],
        proxy: &Arc<Proxy>,
        limit: Duration,
    ) -> Result<Vec<usize>> {
        let deadline = Instant::now() + limit;
        let mut left = hosts.to_vec();
        let mut asking = JoinSet::new();
        while asking.len() < ASKED && !left.is_empty() {
            let base_url = left.swap_remove((roll(left.len() as u64) - 1) as usize % left.len());
            let (transport, target) = (self.transport.clone(), Target { base_url, proxy: proxy.clone() });
            let request = Request::new(question.key.clone(), LIMIT_BYTES);
            asking.spawn(async move {
                let mut sink = MemorySink::default();
                transport.fetch(&target, &request, &mut sink).await.map(|_| sink.into_bytes()).map_err(|f| f.error)
            });
        }
        let mut error = Error::new(ErrorKind::Unreachable, "sort", "hosts by distance: no answer in time");
        while let Ok(Some(answer)) = timeout_at(deadline, asking.join_next()).await {
            match answer.unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal, "sort", "hosts").with_source(e))) {
                Ok(bytes) => match question.read(&bytes) {
                    Some(order) => return Ok(order),
                    None => error = Error::new(ErrorKind::Corrupt, "sort", "hosts by distance: it is no order of them"),
                },
                Err(e) => error = e,
            }
        }
        Err(error)
    }
}

/// What is asked, and what an answer to it means.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    key: String,
    /// Numbers of the hosts in the order in which they are sent.
    sent: Vec<usize>,
}

impl Question {
    fn new(hosts: &[Arc<str>], seen_from: &str) -> Self {
        let name = |host: &Arc<str>| {
            let uri = host.parse::<hyper::Uri>().ok();
            uri.and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default()
        };
        let mut named: Vec<(String, usize)> = hosts.iter().map(name).zip(0..).collect();
        named.sort();
        let (names, sent): (Vec<String>, Vec<usize>) = named.into_iter().unzip();
        // A name with a slash in it would be two parts of a path.
        let seen_from = seen_from.replace('/', "_");
        Self { key: format!("api/v1.0/geo/{seen_from}/{}", names.join(",")), sent }
    }

    /// Returns the numbers of the hosts in the order of an answer: a permutation of `1..=n`, or nothing.
    fn read(&self, answer: &[u8]) -> Option<Vec<usize>> {
        let text = std::str::from_utf8(answer).ok()?.trim();
        let order: Vec<usize> = text.split(',').map(|n| n.trim().parse().ok()).collect::<Option<_>>()?;
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(1..=self.sent.len()) {
            return None;
        }
        order.into_iter().map(|n| self.sent.get(n - 1).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_sent_sorted_and_read_back_in_the_configured_numbers() {
        let hosts = ["http://c.org:8000/cvmfs/x", "https://a.org/cvmfs/x", "http://b.org/cvmfs/x"].map(Arc::from);
        let question = Question::new(&hosts, "proxy.site.org");
        assert_eq!(question.key, "api/v1.0/geo/proxy.site.org/a.org,b.org,c.org");
        assert_eq!(question.read(b"3,1,2\n"), Some(vec![0, 1, 2]));
        assert_eq!(question.read(b"2, 3, 1"), Some(vec![2, 0, 1]));
        for wrong in ["", "1,2", "1,2,2", "0,1,2", "1,2,3,4", "a,b,c", "<html>"] {
            assert_eq!(question.read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
