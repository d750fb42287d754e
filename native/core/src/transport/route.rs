//! Which host is asked, and by which proxy: a ring of base URLs and groups of proxies, as a pure state machine.
//!
//! No sockets and no clock: the caller passes the time. Rules: client.md 3.3 and 3.5 items 4 and 6. A failure moves
//! the ring only if the host that failed is still the active one; a request that used an older one just asks again.
//! The same holds for proxies ([`ProxyGroups`]).
//!
//! Threads: one [`Route`] is shared by all requests behind a lock that is held for the length of one call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Target;
use super::proxy::{ProxyGroups, ProxyPlace};

/// One try of a request: whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The host to ask.
    pub target: Target,
    host: usize,
    place: ProxyPlace,
}

/// The ring of hosts.
#[derive(Debug, Clone)]
pub struct Route {
    hosts: Vec<Arc<str>>,
    active: usize,
    /// When the ring left the first host; none while that one is active.
    left_first_at: Option<Instant>,
    reset_after: Option<Duration>,
    proxies: ProxyGroups,
}

impl Route {
    /// Builds the ring from base URLs in order of preference. With `reset_after` (`CVMFS_HOST_RESET_AFTER`), the
    /// first host is tried again that long after it was left.
    ///
    /// An empty list is taken as a caller's mistake by [`Route::next_attempt`], which then has nobody to ask.
    pub fn new(hosts: Vec<Arc<str>>, reset_after: Option<Duration>) -> Self {
        Self { hosts, active: 0, left_first_at: None, reset_after, proxies: ProxyGroups::direct() }
    }

    /// Asks by these proxies.
    #[must_use]
    pub fn by(self, proxies: ProxyGroups) -> Self {
        Self { proxies, ..self }
    }

    /// Returns the hosts in order of preference.
    pub fn hosts(&self) -> &[Arc<str>] {
        &self.hosts
    }

    /// Returns the proxies.
    pub fn proxies(&self) -> &ProxyGroups {
        &self.proxies
    }

    /// Returns the number of hosts.
    pub fn host_count(&self) -> usize {
        self.hosts.len()
    }

    /// Returns the base URL of the active host.
    pub fn active_host(&self) -> Option<&Arc<str>> {
        self.hosts.get(self.active)
    }

    /// Applies the reset rules; called once at the start of each request. `die(n)` returns a number in `1..=n`.
    pub fn begin_request(&mut self, now: Instant, die: impl FnOnce(u64) -> u64) {
        self.proxies.begin_request(now, die);
        let Some((left_at, reset_after)) = self.left_first_at.zip(self.reset_after) else { return };
        if now.saturating_duration_since(left_at) > reset_after {
            self.activate(0, now);
        }
    }

    /// Returns whom to ask now, or nothing if there is no host.
    pub fn next_attempt(&self) -> Option<Attempt> {
        let (proxy, place) = self.proxies.active();
        let target = Target { base_url: self.active_host()?.clone(), proxy };
        Some(Attempt { target, host: self.active, place })
    }

    /// Gives up the proxy of `attempt`. Returns whether there is another one to ask by.
    pub fn on_proxy_failure(
        &mut self,
        attempt: &Attempt,
        is_slow: bool,
        now: Instant,
        die: impl FnOnce(u64) -> u64,
    ) -> bool {
        self.proxies.on_failure(attempt.place, is_slow, now, die)
    }

    /// Forgets the failures of proxies.
    pub fn start_proxies_over(&mut self, die: impl FnOnce(u64) -> u64) {
        self.proxies.start_over(die);
    }

    /// Gives up the host of `attempt`. Returns whether the ring moved: not if another request moved it before.
    pub fn on_failure(&mut self, attempt: &Attempt, now: Instant) -> bool {
        if attempt.host != self.active || self.hosts.len() < 2 {
            return false;
        }
        self.activate((self.active + 1) % self.hosts.len(), now);
        true
    }

    /// Ends a request that every host failed, the last one being that of `last`: goes back to the host that the
    /// request began with, because what all hosts lack is no host's fault.
    pub fn on_exhausted(&mut self, first: &Attempt, last: &Attempt, now: Instant) {
        if last.host == self.active {
            self.activate(first.host, now);
        }
    }

    fn activate(&mut self, host: usize, now: Instant) {
        self.active = host;
        self.left_first_at = if host == 0 { None } else { self.left_first_at.or(Some(now)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hosts: usize, reset_s: Option<u64>) -> Route {
        let hosts = (0..hosts).map(|n| Arc::from(format!("http://h{n}"))).collect();
        Route::new(hosts, reset_s.map(Duration::from_secs))
    }

    enum Event {
        /// A request begins this many seconds after the start.
        Begin(u64),
        /// The active host fails.
        Fail(u64),
        /// A host fails that may not be the active one any more.
        FailOld(usize, u64),
    }

    #[test]
    fn table_of_moves() {
        use Event::{Begin, Fail, FailOld};
        // Name, hosts, reset time in seconds, events, the host that is active then.
        type Case<'a> = (&'a str, usize, Option<u64>, &'a [Event], usize);
        let cases: &[Case<'_>] = &[
            ("the first host is preferred", 3, None, &[Begin(0)], 0),
            ("a failure moves on", 3, None, &[Fail(0)], 1),
            ("the ring closes", 3, None, &[Fail(0), Fail(1), Fail(2)], 0),
            ("a single host stays", 1, None, &[Fail(0), Fail(1)], 0),
            ("a failure of an old host moves nothing", 3, None, &[Fail(0), FailOld(0, 1)], 1),
            ("without a reset time the ring stays", 2, None, &[Fail(0), Begin(9999)], 1),
            ("it stays until the reset time", 2, Some(60), &[Fail(10), Begin(70)], 1),
            ("then the first host is back", 2, Some(60), &[Fail(10), Begin(71)], 0),
            ("time counts from leaving the first host", 3, Some(60), &[Fail(0), Fail(50), Begin(61)], 0),
            (
                "coming round to the first host ends the count",
                2,
                Some(60),
                &[Fail(0), Fail(50), Fail(55), Begin(70)],
                1,
            ),
        ];
        let start = Instant::now();
        for (name, hosts, reset_s, events, expected) in cases {
            let mut route = route(*hosts, *reset_s);
            for event in *events {
                let at = |s: &u64| start + Duration::from_secs(*s);
                match event {
                    Begin(s) => route.begin_request(at(s), |_| 1),
                    Fail(s) => {
                        let attempt = route.next_attempt().unwrap();
                        route.on_failure(&attempt, at(s));
                    }
                    FailOld(host, s) => {
                        let attempt = Attempt {
                            target: Target::direct("http://old"),
                            host: *host,
                            place: route.proxies.active().1,
                        };
                        assert!(!route.on_failure(&attempt, at(s)), "{name}");
                    }
                }
            }
            assert_eq!(route.active_host().unwrap().as_ref(), format!("http://h{expected}"), "{name}");
        }
    }

    #[test]
    fn an_object_that_no_host_has_leaves_the_ring_where_it_was() {
        let (mut route, now) = (route(3, None), Instant::now());
        let first = route.next_attempt().unwrap();
        route.on_failure(&first, now);
        let second = route.next_attempt().unwrap();
        route.on_failure(&second, now);
        let last = route.next_attempt().unwrap();
        route.on_exhausted(&first, &last, now);
        assert_eq!(route.next_attempt().unwrap(), first);
    }

    #[test]
    fn nobody_is_asked_where_there_is_no_host() {
        assert_eq!(route(0, None).next_attempt(), None);
    }
}
