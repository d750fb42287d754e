//! Which host is asked, and by which proxy: a ring of base URLs and groups of proxies, as a pure state machine.
//!
//! No sockets and no clock: the caller passes the time. Rules: client.md 3.3 and 3.5 items 4 and 6. A failure moves
//! the ring only if the host that failed is still the active one; a request that used an older one just asks again.
//! The same holds for proxies ([`ProxyGroups`]). What a survey of all ways found ([`super::survey`]) moves both at once.
//!
//! Threads: one [`Route`] is shared by all requests behind a lock that is held for the length of one call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Target;
use super::groups::{ProxyFault, ProxyGroups, ProxyPlace};
use super::proxy::Proxy;

/// One try of a request: whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The host to ask.
    pub target: Target,
    host: usize,
    place: ProxyPlace,
}

impl Attempt {
    /// Says whether it asks by the proxy at `place`.
    pub(super) fn is_by(&self, place: ProxyPlace) -> bool {
        self.place == place
    }
}

/// The ring of hosts.
#[derive(Debug, Clone)]
pub struct Route {
    hosts: Vec<Arc<str>>,
    active: usize,
    /// When the ring left the first host; none while that one is active.
    left_first_at: Option<Instant>,
    reset_after: Option<Duration>,
    /// When the active host, or one that was active then, answered last.
    answered_at: Option<Instant>,
    /// Hosts whose manifests did not hold, and when that was found.
    distrusted: Vec<(Arc<str>, Instant)>,
    /// What is known of the hosts, in their order; shorter where nothing is.
    states: Vec<HostState>,
    proxies: ProxyGroups,
}

/// What was last found out about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// Nothing was.
    Unprobed,
    /// It did not answer when it was probed.
    Down,
    /// Its place in the list is that of its distance.
    ByDistance,
    /// It answered after this time.
    Answered(Duration),
}

/// How long a host is distrusted where no time is configured after which hosts are tried again.
const DISTRUST: Duration = Duration::from_secs(1800);

/// What came of one way in a survey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The host's manifest came; its revision, where it could be read.
    Answered {
        /// The revision that the manifest names; not verified.
        revision: Option<u64>,
    },
    /// Nothing came in time.
    Slow,
    /// It cannot be reached, or does not have the repository.
    Dead,
}

impl Route {
    /// Builds the ring from base URLs in order of preference. With `reset_after` (`CVMFS_HOST_RESET_AFTER`), the
    /// first host is tried again that long after it was left.
    ///
    /// An empty list is taken as a caller's mistake by [`Route::next_attempt`], which then has nobody to ask.
    pub fn new(hosts: Vec<Arc<str>>, reset_after: Option<Duration>) -> Self {
        let (answered_at, distrusted, states, proxies) = (None, Vec::new(), Vec::new(), ProxyGroups::direct());
        Self { hosts, active: 0, left_first_at: None, reset_after, answered_at, distrusted, states, proxies }
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
    pub fn begin_request(&mut self, now: Instant, die: impl Fn(u64) -> u64) {
        self.proxies.begin_request(now, die);
        let Some((left_at, reset_after)) = self.left_first_at.zip(self.reset_after) else { return };
        if now.saturating_duration_since(left_at) > reset_after {
            self.activate(0, now);
        }
    }

    /// Returns whom to ask for the object with this key now, or nothing if there is no host.
    pub fn next_attempt(&self, key: impl AsRef<[u8]>) -> Option<Attempt> {
        let (proxy, place) = self.proxies.choose(key.as_ref());
        let target = Target { base_url: self.active_host()?.clone(), proxy };
        Some(Attempt { target, host: self.active, place })
    }

    /// Returns the ways in two parts: those to be tried side by side, and those past the proxies, which are not to be
    /// touched before all proxies failed.
    pub fn ways_apart(&self, limit: usize) -> (Vec<Attempt>, Vec<Attempt>) {
        let is_direct = *self.proxies.active().0 == Proxy::Direct;
        self.ways(limit).into_iter().partition(|way| is_direct || *way.target.proxy != Proxy::Direct)
    }

    /// Returns when the active host answered last.
    pub fn answered_at(&self) -> Option<Instant> {
        self.answered_at
    }

    /// Says whether the host and the proxy of `attempt` are still in use.
    pub fn is_current(&self, attempt: &Attempt) -> bool {
        attempt.host == self.active && self.proxies.is_in_use(attempt.place)
    }

    /// Gives up the proxy of `attempt`. Returns whether there is another one to ask by.
    pub fn on_proxy_failure(
        &mut self,
        attempt: &Attempt,
        fault: ProxyFault,
        now: Instant,
        die: impl Fn(u64) -> u64,
    ) -> bool {
        self.proxies.on_failure(attempt.place, fault, now, die)
    }

    /// An answer began to come by the proxy of `attempt`.
    pub fn on_answer(&mut self, attempt: &Attempt, now: Instant) {
        self.proxies.on_answer(attempt.place);
        if attempt.host == self.active {
            self.answered_at = Some(now);
        }
    }

    /// Forgets the failures of proxies.
    pub fn start_proxies_over(&mut self, die: impl Fn(u64) -> u64) {
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

    /// Returns at most `limit` ways to ask, all pairs of a host and a proxy, the active one first: by each proxy for
    /// the active host, then for the next one, and every direct way last.
    pub fn ways(&self, limit: usize) -> Vec<Attempt> {
        let places = self.proxies.places();
        let hosts = (0..self.hosts.len()).map(|step| (self.active + step) % self.hosts.len());
        let mut ways: Vec<Attempt> = hosts
            .flat_map(|host| places.iter().map(move |place| (host, *place)))
            .filter_map(|(host, place)| {
                let target = Target { base_url: self.hosts.get(host)?.clone(), proxy: self.proxies.at(place) };
                Some(Attempt { target, host, place })
            })
            .collect();
        ways.sort_by_key(|way| *way.target.proxy == Proxy::Direct && way.place != self.proxies.active().1);
        ways.truncate(limit);
        ways
    }

    /// Moves to the first way that answered, unless the active one did, or has since the survey began at `begun`.
    /// `found` says of each way, in the order of [`Route::ways`], what came of it. Returns whether it moved.
    pub fn on_survey(&mut self, found: &[(Attempt, Verdict)], begun: Instant, now: Instant) -> bool {
        let is_alive = |verdict: &Verdict| matches!(verdict, Verdict::Answered { .. });
        for (way, _) in found.iter().filter(|(_, verdict)| is_alive(verdict)) {
            self.proxies.on_answer(way.place);
        }
        if self.answered_at.is_some_and(|at| at >= begun)
            || found.iter().any(|(way, verdict)| self.is_current(way) && is_alive(verdict))
        {
            return false;
        }
        let by_proxy = |way: &Attempt| *way.target.proxy != Proxy::Direct;
        let Some((best, _)) = found.iter().find(|(_, verdict)| is_alive(verdict)) else { return false };
        // Past the proxies only where none of them is merely slow.
        let slow = found.iter().any(|(way, verdict)| by_proxy(way) && *verdict == Verdict::Slow);
        if by_proxy(best) || *self.proxies.active().0 == Proxy::Direct {
            // No detour, or no more of one than there is already.
        } else if slow && !self.proxies.may_go_direct(ProxyFault::Slow(begun), now) {
            return false;
        }
        if best.place != self.proxies.active().1 {
            self.proxies.activate(best.place, now);
        }
        if best.host != self.active {
            self.activate(best.host, now);
        }
        true
    }

    /// Leaves the active host if another one has a newer revision. Returns that one's base URL if it did.
    pub fn leave_stale(&mut self, found: &[(Attempt, Verdict)], now: Instant) -> Option<Arc<str>> {
        let revision = |verdict: &Verdict| match verdict {
            Verdict::Answered { revision } => *revision,
            _ => None,
        };
        let own = found.iter().filter(|(way, _)| way.host == self.active).filter_map(|(_, v)| revision(v)).max()?;
        let is_trusted = |way: &Attempt| !self.is_distrusted(&way.target.base_url, now);
        let trusted = || found.iter().filter(|(way, _)| is_trusted(way));
        let newest = trusted().filter_map(|(_, verdict)| revision(verdict)).max()?;
        let (best, _) = trusted().find(|(_, verdict)| revision(verdict) == Some(newest))?;
        if newest <= own {
            return None;
        }
        self.activate(best.host, now);
        Some(best.target.base_url.clone())
    }

    /// Believes no revision that this host claims, for a while: its manifest did not hold.
    pub fn distrust(&mut self, base_url: &str, now: Instant) {
        self.distrusted.retain(|(host, _)| host.as_ref() != base_url && self.hosts.contains(host));
        self.distrusted.push((base_url.into(), now));
    }

    fn is_distrusted(&self, base_url: &str, now: Instant) -> bool {
        let mut found = self.distrusted.iter().filter(|(host, _)| host.as_ref() == base_url);
        found.any(|(_, since)| now.saturating_duration_since(*since) < self.reset_after.unwrap_or(DISTRUST))
    }

    /// Uses the host with this base URL, or without one the next host. Returns whether there is one.
    pub fn use_host(&mut self, base_url: Option<&str>, now: Instant) -> bool {
        let next = || (!self.hosts.is_empty()).then(|| (self.active + 1) % self.hosts.len());
        let chosen = base_url.map_or_else(next, |url| self.hosts.iter().position(|host| host.as_ref() == url));
        if let Some(host) = chosen {
            self.activate(host, now);
        }
        chosen.is_some()
    }

    /// Replaces the hosts; the first one is active.
    pub fn set_hosts(&mut self, hosts: Vec<Arc<str>>) {
        (self.hosts, self.active, self.left_first_at) = (hosts, 0, None);
        self.states.clear();
    }

    /// Replaces the hosts by the same ones in another order, with what made the order.
    pub fn set_probed_hosts(&mut self, hosts: impl IntoIterator<Item = (Arc<str>, HostState)>) {
        let (hosts, states) = hosts.into_iter().unzip();
        self.set_hosts(hosts);
        self.states = states;
    }

    /// Returns what is known of the hosts, in their order.
    pub fn host_states(&self) -> Vec<HostState> {
        let known = self.states.iter().copied().chain(std::iter::repeat(HostState::Unprobed));
        known.take(self.hosts.len()).collect()
    }

    /// Returns the proxies, to move between them.
    pub fn proxies_mut(&mut self) -> &mut ProxyGroups {
        &mut self.proxies
    }

    /// Ends a request that every host failed, the last one being that of `last`: goes back to the host that the
    /// request began with, because what all hosts lack is no host's fault.
    pub fn on_exhausted(&mut self, first: &Attempt, last: &Attempt, now: Instant) {
        if last.host == self.active && first.host < self.hosts.len() {
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
                        let attempt = route.next_attempt("x").unwrap();
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
        let first = route.next_attempt("x").unwrap();
        route.on_failure(&first, now);
        let second = route.next_attempt("x").unwrap();
        route.on_failure(&second, now);
        let last = route.next_attempt("x").unwrap();
        route.on_exhausted(&first, &last, now);
        assert_eq!(route.next_attempt("x").unwrap(), first);
    }

    #[test]
    fn nobody_is_asked_where_there_is_no_host() {
        assert_eq!(route(0, None).next_attempt("x"), None);
    }

    const ALIVE: Verdict = Verdict::Answered { revision: None };

    #[test]
    fn table_of_surveys() {
        use Verdict::{Dead, Slow};
        // Name, proxies, what came by each of them from h0 and then from h1, the way that is active then.
        type Case<'a> = (&'a str, &'a str, &'a [Verdict], &'a str);
        let cases: &[Case<'_>] = &[
            ("all is well", "a;b", &[ALIVE; 4], "h0 by a"),
            ("a dead proxy is left", "a;b;c", &[Dead, Slow, ALIVE, Dead, Slow, ALIVE], "h0 by c"),
            ("a dead host is left, not the proxies", "a;b", &[Slow, Slow, ALIVE, ALIVE], "h1 by a"),
            ("both may be dead", "a;b", &[Slow, Slow, Slow, ALIVE], "h1 by b"),
            ("the active way is kept while it answers", "a;b", &[ALIVE, Slow, ALIVE, Slow], "h0 by a"),
            ("nothing is left for nothing", "a;b", &[Slow, Dead, Slow, Dead], "h0 by a"),
            ("any host by a proxy is better than direct", "a;DIRECT", &[Dead, ALIVE, ALIVE, ALIVE], "h1 by a"),
            ("a slow proxy is not left for direct", "a;DIRECT", &[Slow, Slow, ALIVE, ALIVE], "h0 by a"),
            ("dead proxies are", "a;DIRECT", &[Dead, Dead, ALIVE, ALIVE], "h0 by DIRECT"),
            ("hosts alone", "DIRECT", &[Slow, ALIVE], "h1 by DIRECT"),
        ];
        let start = Instant::now();
        for (name, proxies, verdicts, expected) in cases {
            let mut route = route(2, None).by(ProxyGroups::parse(proxies, "", None, |_| 1).unwrap());
            let ways = route.ways(100);
            assert_eq!(ways.len(), verdicts.len(), "{name}");
            let found: Vec<_> = ways.into_iter().zip(verdicts.iter().copied()).collect();
            route.on_survey(&found, start, start + Duration::from_secs(4));
            let now = route.next_attempt("x").unwrap().target;
            let proxy = now.proxy.to_string().replace("http://", "").replace(":3128", "");
            assert_eq!(format!("{} by {proxy}", now.base_url.replace("http://", "")), *expected, "{name}");
        }
    }

    #[test]
    fn direct_ways_are_listed_last() {
        let route = route(2, None).by(ProxyGroups::parse("a;DIRECT", "", None, |_| 1).unwrap());
        let direct: Vec<bool> = route.ways(9).iter().map(|way| *way.target.proxy == Proxy::Direct).collect();
        assert_eq!(direct, [false, false, true, true]);
        assert_eq!(route.ways(3).len(), 3);
    }

    #[test]
    fn a_way_that_answered_meanwhile_is_kept() {
        let (mut route, start) = (route(2, None), Instant::now());
        let found: Vec<_> = route.ways(9).into_iter().zip([Verdict::Slow, ALIVE]).collect();
        let later = start + Duration::from_secs(1);
        route.on_answer(&found[0].0.clone(), later);
        assert!(!route.on_survey(&found, start, later));
        assert!(route.on_survey(&found, later + Duration::from_secs(1), later + Duration::from_secs(2)));
    }

    #[test]
    fn a_stale_host_is_left() {
        let answered = |revision| Verdict::Answered { revision };
        let cases = [
            ([Some(7), Some(7), Some(7)], None),
            ([Some(7), Some(6), None], None),
            ([Some(6), Some(7), Some(8)], Some("http://h2")),
            ([Some(6), Some(7), Some(7)], Some("http://h1")),
            ([None, Some(7), Some(7)], None),
        ];
        for (revisions, expected) in cases {
            let mut route = route(3, None);
            let found: Vec<_> = route.ways(9).into_iter().zip(revisions.map(answered)).collect();
            assert_eq!(route.leave_stale(&found, Instant::now()).as_deref(), expected, "{revisions:?}");
            assert_eq!(route.active_host().map(AsRef::as_ref), Some(expected.unwrap_or("http://h0")));
        }
    }

    #[test]
    fn what_a_liar_claims_does_not_count() {
        let (mut route, now) = (route(3, Some(60)), Instant::now());
        let answered = |revision| Verdict::Answered { revision: Some(revision) };
        let found: Vec<_> = route.ways(9).into_iter().zip([answered(5), answered(999), answered(6)]).collect();
        route.distrust("http://h1", now);
        assert_eq!(route.leave_stale(&found, now).as_deref(), Some("http://h2"));
        assert!(route.use_host(Some("http://h0"), now));
        let later = now + Duration::from_secs(61);
        assert_eq!(route.leave_stale(&found, later).as_deref(), Some("http://h1"), "not for ever");
    }

    #[test]
    fn an_operator_moves_and_replaces_hosts() {
        let (mut route, now) = (route(3, None), Instant::now());
        assert!(route.use_host(None, now));
        assert_eq!(route.active_host().unwrap().as_ref(), "http://h1");
        assert!(route.use_host(Some("http://h0"), now));
        assert!(!route.use_host(Some("http://other"), now));
        assert_eq!(route.active_host().unwrap().as_ref(), "http://h0");
        route.set_hosts(vec!["http://new".into()]);
        assert_eq!(route.active_host().unwrap().as_ref(), "http://new");
    }
}
