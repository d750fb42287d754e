//! Which proxy is asked: groups of equal proxies, tried in order, as a pure state machine.
//!
//! Source: client.md 3.2 and 3.5 items 3 and 6. No sockets, no clock, no randomness of its own: the caller passes the
//! time and a die. Differs from the reference system in one rule, on purpose: a proxy that is slow but answers is left
//! for another proxy, never for a direct connection, which a site has a proxy to avoid. Only one that has not said a
//! word for [`SILENT_PERIODS`] time-outs, whoever asked, counts as dead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::proxy::{Proxy, lists};
use crate::error::Result;

/// Silence for so many time-outs on end makes a slow proxy a dead one.
pub const SILENT_PERIODS: u32 = 3;

/// A proxy of a list, by its place: what an attempt remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProxyPlace {
    /// Number of the group, from 0.
    pub group: usize,
    /// Number within the group, from 0.
    pub member: usize,
}

/// How a proxy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFault {
    /// It cannot be reached, or refuses in its own name.
    Dead,
    /// It did not answer in time, or not fast enough; the attempt began at this time.
    Slow(Instant),
}

/// The groups, one proxy of which is in use; with sharding, all of one group, each for its share of the objects.
#[derive(Debug, Clone)]
pub struct ProxyGroups {
    groups: Vec<Vec<Arc<Proxy>>>,
    fallbacks: usize,
    active: ProxyPlace,
    /// Members of the active group that failed since it became active.
    burned: Vec<usize>,
    /// When the first choice was left; none while it is in use.
    left_first_at: Option<Instant>,
    /// Begin of the attempt since which the active group has not answered anybody.
    silent_since: Option<Instant>,
    reset_after: Option<Duration>,
    timeout: Duration,
    is_sharded: bool,
}

impl ProxyGroups {
    /// Connects directly, always.
    pub fn direct() -> Self {
        Self::of(vec![vec![Arc::new(Proxy::Direct)]], 0, None, |_| 1)
    }

    /// Reads `CVMFS_HTTP_PROXY` and `CVMFS_FALLBACK_PROXY`: `;` between groups, `|` between equals. With a fallback,
    /// DIRECT is taken out of both, and the fallback's groups come last. `die(n)` returns a number in `1..=n`.
    pub fn parse(list: &str, fallback: &str, reset_after: Option<Duration>, die: impl Fn(u64) -> u64) -> Result<Self> {
        let (groups, fallbacks) = lists(list, fallback)?;
        Ok(Self::of(groups, fallbacks, reset_after, die))
    }

    fn of(
        groups: Vec<Vec<Arc<Proxy>>>,
        fallbacks: usize,
        reset_after: Option<Duration>,
        die: impl Fn(u64) -> u64,
    ) -> Self {
        let member = pick(groups.first().map_or(0, Vec::len), &[], die).unwrap_or(0);
        Self {
            groups,
            fallbacks,
            active: ProxyPlace { group: 0, member },
            burned: Vec::new(),
            left_first_at: None,
            silent_since: None,
            reset_after,
            timeout: Duration::from_secs(5),
            is_sharded: false,
        }
    }

    /// Spreads objects over the proxies of a group, each to the same one always (`CVMFS_PROXY_SHARD`).
    #[must_use]
    pub fn sharded(self, is_sharded: bool) -> Self {
        Self { is_sharded, ..self }
    }

    /// Says how long the proxies may be silent (`CVMFS_TIMEOUT`); 5 s where nobody says it.
    #[must_use]
    pub fn patient_for(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Takes the lists of `other` and keeps the habits.
    #[must_use]
    pub fn with_lists_of(self, other: Self) -> Self {
        let Self { reset_after, timeout, is_sharded, .. } = self;
        Self { reset_after, timeout, is_sharded, ..other }
    }

    /// Returns the number of proxies, DIRECT included.
    pub fn count(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }

    /// Returns the proxies as the configuration lists them.
    pub fn list(&self) -> &[Vec<Arc<Proxy>>] {
        &self.groups
    }

    /// Returns the number of the first fallback group; none where there is none.
    pub fn first_fallback(&self) -> Option<usize> {
        (self.fallbacks > 0).then(|| self.groups.len().saturating_sub(self.fallbacks))
    }

    /// Returns the proxy in use, and its place; with sharding, one of those in use.
    pub fn active(&self) -> (Arc<Proxy>, ProxyPlace) {
        (self.at(self.active), self.active)
    }

    /// Returns the proxy for an object, by its key, and its place.
    pub fn choose(&self, key: &[u8]) -> (Arc<Proxy>, ProxyPlace) {
        if !self.is_sharded {
            return self.active();
        }
        let group = self.active.group;
        let members = self.groups.get(group).map_or(&[][..], Vec::as_slice).iter().enumerate();
        let best = members
            .filter(|(member, _)| !self.burned.contains(member))
            .max_by_key(|(_, proxy)| weight(key, proxy))
            .map_or(self.active, |(member, _)| ProxyPlace { group, member });
        (self.at(best), best)
    }

    /// Returns every place, the active one first, then the rest of its group, then the groups after it.
    pub fn places(&self) -> Vec<ProxyPlace> {
        let count = self.groups.len().max(1);
        let in_order = (0..count).map(|step| (self.active.group + step) % count);
        let mut places: Vec<ProxyPlace> = in_order
            .flat_map(|group| (0..self.groups.get(group).map_or(0, Vec::len)).map(move |m| (group, m)))
            .map(|(group, member)| ProxyPlace { group, member })
            .collect();
        places.sort_by_key(|place| *place != self.active);
        places
    }

    /// Returns the proxy at a place; DIRECT where there is none.
    pub fn at(&self, place: ProxyPlace) -> Arc<Proxy> {
        let proxy = self.groups.get(place.group).and_then(|group| group.get(place.member));
        proxy.cloned().unwrap_or_else(|| Arc::new(Proxy::Direct))
    }

    /// Says whether a failure at `place` is news: false once others have moved on from there.
    pub fn is_in_use(&self, place: ProxyPlace) -> bool {
        if self.is_sharded {
            place.group == self.active.group && !self.burned.contains(&place.member)
        } else {
            place == self.active
        }
    }

    /// Applies the reset rule: the first group, with a fresh choice, once the time is over. Once a request.
    pub fn begin_request(&mut self, now: Instant, die: impl Fn(u64) -> u64) {
        let Some((left_at, reset_after)) = self.left_first_at.zip(self.reset_after) else { return };
        if now.saturating_duration_since(left_at) > reset_after {
            self.start_over(die);
        }
    }

    /// A proxy answered: it is not silent.
    pub fn on_answer(&mut self, place: ProxyPlace) {
        if place.group == self.active.group {
            self.silent_since = None;
        }
    }

    /// Gives up a proxy: the next of its group, or of the next group once all of this one failed. Returns whether
    /// another proxy is in use now than the one that failed.
    pub fn on_failure(
        &mut self,
        failed: ProxyPlace,
        fault: ProxyFault,
        now: Instant,
        die: impl Fn(u64) -> u64,
    ) -> bool {
        if !self.is_in_use(failed) {
            return true;
        }
        let mut burned = self.burned.clone();
        burned.push(failed.member);
        let in_group = self.groups.get(failed.group).map_or(0, Vec::len);
        let next = if let Some(member) = pick(in_group, &burned, &die) {
            ProxyPlace { group: failed.group, member }
        } else {
            burned.clear();
            let group = (failed.group + 1) % self.groups.len().max(1);
            let member = pick(self.groups.get(group).map_or(0, Vec::len), &[], &die).unwrap_or(0);
            ProxyPlace { group, member }
        };
        if next == failed || (*self.at(next) == Proxy::Direct && !self.may_go_direct(fault, now)) {
            return false;
        }
        self.activate(next, now);
        self.burned = burned;
        true
    }

    /// Says whether `fault` is a reason to go past the proxies; counts the silence.
    pub fn may_go_direct(&mut self, fault: ProxyFault, now: Instant) -> bool {
        match fault {
            ProxyFault::Dead => true,
            ProxyFault::Slow(begun) => {
                let since = *self.silent_since.get_or_insert(begun);
                now.saturating_duration_since(since) >= self.timeout * SILENT_PERIODS
            }
        }
    }

    /// Uses the proxy at `place` from now on.
    pub fn activate(&mut self, place: ProxyPlace, now: Instant) {
        if place.group != self.active.group {
            self.burned.clear();
            self.silent_since = None;
        }
        self.active = place;
        self.left_first_at = self.left_first_at.or(Some(now));
    }

    /// Forgets all failures: what every proxy fails at is not the proxies' fault.
    pub fn start_over(&mut self, die: impl Fn(u64) -> u64) {
        let member = pick(self.groups.first().map_or(0, Vec::len), &[], die).unwrap_or(0);
        self.active = ProxyPlace { group: 0, member };
        self.burned.clear();
        self.left_first_at = None;
    }

    /// Chooses anew within the group in use (`proxy rebalance`).
    pub fn rebalance(&mut self, die: impl Fn(u64) -> u64) {
        let count = self.groups.get(self.active.group).map_or(0, Vec::len);
        self.burned.clear();
        self.active.member = pick(count, &[], die).unwrap_or(0);
    }

    /// Uses the next group (`proxy group switch`).
    pub fn next_group(&mut self, now: Instant, die: impl Fn(u64) -> u64) {
        let group = (self.active.group + 1) % self.groups.len().max(1);
        self.activate(ProxyPlace { group, member: 0 }, now);
        self.rebalance(die);
    }
}

/// Returns the weight of a proxy for a key: the same on every machine, so that a site's clients agree.
fn weight(key: &[u8], proxy: &Proxy) -> u64 {
    // FNV-1a, then a finalizer, because names of proxies differ in one digit only.
    let text = proxy.to_string();
    let folded = text
        .bytes()
        .chain([0])
        .chain(key.iter().copied())
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (folded ^ (folded >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// Chooses among `0..count` without those that are `burned`.
fn pick(count: usize, burned: &[usize], die: impl Fn(u64) -> u64) -> Option<usize> {
    let live: Vec<usize> = (0..count).filter(|member| !burned.contains(member)).collect();
    let sides = live.len() as u64;
    (sides > 0).then(|| live[(die(sides).clamp(1, sides) - 1) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: ProxyFault = ProxyFault::Dead;

    fn groups(list: &str, reset_s: Option<u64>) -> ProxyGroups {
        ProxyGroups::parse(list, "", reset_s.map(Duration::from_secs), |_| 1).unwrap()
    }

    fn active(groups: &ProxyGroups) -> String {
        groups.active().0.to_string()
    }

    #[test]
    fn a_group_is_used_up_before_the_next_one() {
        let start = Instant::now();
        let mut ring = groups("a|b|c;d;DIRECT", None);
        let mut seen = vec![active(&ring)];
        for _ in 0..5 {
            let place = ring.active().1;
            assert!(ring.on_failure(place, DEAD, start, |_| 1));
            seen.push(active(&ring));
        }
        let expected = ["http://a:3128", "http://b:3128", "http://c:3128", "http://d:3128", "DIRECT", "http://a:3128"];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_slow_proxy_is_never_left_for_a_direct_connection() {
        let now = Instant::now();
        let mut ring = groups("a|b;DIRECT", None);
        let first = ring.active().1;
        assert!(ring.on_failure(first, ProxyFault::Slow(now), now, |_| 1));
        assert_eq!(active(&ring), "http://b:3128");
        let second = ring.active().1;
        // Slow for a hundred time-outs, but it answers now and then.
        for n in 0..100 {
            let begun = now + Duration::from_secs(5 * n);
            assert!(!ring.on_failure(second, ProxyFault::Slow(begun), begun + Duration::from_secs(5), |_| 1));
            assert_eq!(active(&ring), "http://b:3128");
            if n % 2 == 1 {
                ring.on_answer(second);
            }
        }
        // One that does not answer at all is left.
        assert!(ring.on_failure(second, DEAD, now, |_| 1));
        assert_eq!(active(&ring), "DIRECT");
    }

    #[test]
    fn a_proxy_silent_for_three_time_outs_is_dead() {
        let start = Instant::now();
        let mut ring = groups("a;DIRECT", None).patient_for(Duration::from_secs(5));
        let place = ring.active().1;
        for (begun_s, now_s, left) in [(0, 5, false), (5, 10, false), (10, 15, true)] {
            let at = |s| start + Duration::from_secs(s);
            assert_eq!(ring.on_failure(place, ProxyFault::Slow(at(begun_s)), at(now_s), |_| 1), left, "{now_s} s");
        }
        assert_eq!(active(&ring), "DIRECT");
    }

    #[test]
    fn a_failure_of_a_proxy_that_was_left_moves_nothing() {
        let now = Instant::now();
        let mut ring = groups("a;b;c", None);
        let first = ring.active().1;
        assert!(ring.on_failure(first, DEAD, now, |_| 1));
        assert!(ring.on_failure(first, DEAD, now, |_| 1));
        assert_eq!(active(&ring), "http://b:3128");
    }

    #[test]
    fn the_only_proxy_stays() {
        let mut ring = groups("a", None);
        let place = ring.active().1;
        assert!(!ring.on_failure(place, DEAD, Instant::now(), |_| 1));
        assert_eq!(active(&ring), "http://a:3128");
    }

    #[test]
    fn the_first_group_is_back_after_the_reset_time() {
        let start = Instant::now();
        let mut ring = groups("a;b", Some(60));
        let place = ring.active().1;
        ring.on_failure(place, DEAD, start, |_| 1);
        ring.begin_request(start + Duration::from_secs(60), |_| 1);
        assert_eq!(active(&ring), "http://b:3128");
        ring.begin_request(start + Duration::from_secs(61), |_| 1);
        assert_eq!(active(&ring), "http://a:3128");
    }

    #[test]
    fn load_is_balanced_by_the_die() {
        let read = |face| ProxyGroups::parse("a|b|c", "", None, move |_| face).unwrap();
        assert_eq!([1, 2, 3].map(|face| active(&read(face))), ["http://a:3128", "http://b:3128", "http://c:3128"]);
        assert_eq!(active(&read(u64::MAX)), "http://c:3128");
    }

    fn shares(ring: &ProxyGroups) -> Vec<String> {
        (0..300).map(|n| ring.choose(format!("data/ab/{n}").as_bytes()).0.to_string()).collect()
    }

    #[test]
    fn shards_are_even_and_only_those_of_a_dead_proxy_move() {
        let now = Instant::now();
        let mut ring = groups("a|b|c;d", None).sharded(true);
        let before = shares(&ring);
        for proxy in ["http://a:3128", "http://b:3128", "http://c:3128"] {
            let share = before.iter().filter(|chosen| *chosen == proxy).count();
            assert!((60..140).contains(&share), "{proxy} has {share} of 300");
        }
        let b = ProxyPlace { group: 0, member: 1 };
        assert!(ring.on_failure(b, DEAD, now, |_| 1));
        for (was, is) in before.iter().zip(shares(&ring)) {
            assert!(is != "http://b:3128" && (was == "http://b:3128" || *was == is), "{was} became {is}");
        }
        for member in [0, 2] {
            assert!(ring.on_failure(ProxyPlace { group: 0, member }, DEAD, now, |_| 1));
        }
        assert!(shares(&ring).iter().all(|chosen| chosen == "http://d:3128"));
    }

    #[test]
    fn an_operator_moves_within_and_between_groups() {
        let mut ring = groups("a|b;c|d", None);
        ring.rebalance(|n| n);
        assert_eq!(active(&ring), "http://b:3128");
        ring.next_group(Instant::now(), |n| n);
        assert_eq!(active(&ring), "http://d:3128");
        ring.next_group(Instant::now(), |_| 1);
        assert_eq!(active(&ring), "http://a:3128");
        let other = groups("x;y", None);
        assert_eq!(active(&ring.with_lists_of(other)), "http://x:3128");
    }

    #[test]
    fn the_active_place_comes_first_then_its_group() {
        let mut ring = groups("a|b;c;d", None);
        ring.activate(ProxyPlace { group: 1, member: 0 }, Instant::now());
        let places: Vec<String> = ring.places().into_iter().map(|place| ring.at(place).to_string()).collect();
        assert_eq!(places, ["http://c:3128", "http://d:3128", "http://a:3128", "http://b:3128"]);
    }
}
