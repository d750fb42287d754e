//! What follows a failed attempt: the rules of client.md 3.5 items 1, 2 and 4, as pure functions.
//!
//! No clock, no sockets, no randomness of its own: the caller passes a die. One [`Retry`] belongs to one request.

use std::time::Duration;

use super::failure::FailureClass;

/// Limits of repeating, one for all requests of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries on the same path after a transfer error (`CVMFS_MAX_RETRIES`).
    pub max_retries: u32,
    /// Upper end of the first back-off (`CVMFS_BACKOFF_INIT`).
    pub backoff_init: Duration,
    /// No back-off is longer (`CVMFS_BACKOFF_MAX`).
    pub backoff_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_retries: 1, backoff_init: Duration::from_secs(2), backoff_max: Duration::from_secs(10) }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask the same host again after a pause.
    Again(Duration),
    /// Ask the same host again at once, past all caches.
    AgainWithoutCache,
    /// Ask the same host by the next proxy.
    NextProxy,
    /// Ask the next host, with all proxies again.
    NextHost,
    /// Ask whom others have moved to meanwhile.
    NextWay,
    /// Give up.
    Stop,
}

/// The repetitions of one request.
#[derive(Debug, Clone)]
pub struct Retry {
    policy: RetryPolicy,
    always_without_cache: bool,
    without_cache: bool,
    retries_on_path: u32,
    backoff: Duration,
    hosts_left: usize,
    proxies: usize,
    proxies_left: usize,
    moves_left: usize,
}

impl Retry {
    /// Begins a request that may ask `hosts` hosts, each by `proxies` proxies (DIRECT counts as one); `no_cache` says
    /// that it asks past caches from the start.
    pub fn new(policy: RetryPolicy, hosts: usize, proxies: usize, no_cache: bool) -> Self {
        Self {
            policy,
            always_without_cache: no_cache,
            without_cache: no_cache,
            retries_on_path: 0,
            backoff: Duration::ZERO,
            hosts_left: hosts.saturating_sub(1),
            proxies: proxies.saturating_sub(1),
            proxies_left: proxies.saturating_sub(1),
            moves_left: hosts.saturating_mul(proxies),
        }
    }

    /// Says whether the next attempt asks past caches.
    pub const fn is_without_cache(&self) -> bool {
        self.without_cache
    }

    /// Says what follows a failure of `class`, of the proxy or of the host. `die(n)` returns a number in `1..=n`.
    pub fn after(&mut self, class: FailureClass, by_proxy: bool, die: impl FnOnce(u64) -> u64) -> Step {
        if class.is_transfer_error() && !self.without_cache && self.retries_on_path < self.policy.max_retries {
            self.retries_on_path += 1;
            return Step::Again(self.next_backoff(die));
        }
        if class == FailureClass::Corrupted && !self.without_cache {
            self.without_cache = true;
            return Step::AgainWithoutCache;
        }
        // What every host sends wrong is the doing of the proxy between.
        let is_suspect = class == FailureClass::Corrupted && self.hosts_left == 0;
        if (by_proxy || is_suspect) && self.proxies_left > 0 {
            self.proxies_left -= 1;
            self.begin_path();
            return Step::NextProxy;
        }
        self.next_host(class)
    }

    /// Says what follows when no other proxy can be asked: the host is taken to be at fault.
    pub fn without_proxies(&mut self, class: FailureClass) -> Step {
        self.proxies_left = 0;
        self.next_host(class)
    }

    /// Says what follows when the host or the proxy that failed is in use no more.
    pub fn moved(&mut self) -> Step {
        if self.moves_left == 0 {
            return Step::Stop;
        }
        self.moves_left -= 1;
        self.begin_path();
        Step::NextWay
    }

    /// Says what follows when no way works at all: only patience on the same path can help.
    pub fn nowhere_else(&mut self, class: FailureClass, die: impl FnOnce(u64) -> u64) -> Step {
        self.hosts_left = 0;
        self.proxies_left = 0;
        self.after(class, false, die)
    }

    fn next_host(&mut self, class: FailureClass) -> Step {
        if !class.is_host_fault() || self.hosts_left == 0 {
            return Step::Stop;
        }
        self.hosts_left -= 1;
        self.proxies_left = self.proxies;
        self.begin_path();
        Step::NextHost
    }

    fn begin_path(&mut self) {
        self.retries_on_path = 0;
        self.backoff = Duration::ZERO;
        self.without_cache = self.always_without_cache;
    }

    fn next_backoff(&mut self, die: impl FnOnce(u64) -> u64) -> Duration {
        let longest = self.policy.backoff_max;
        self.backoff = if self.backoff.is_zero() {
            let range_ms = u64::try_from(self.policy.backoff_init.as_millis()).unwrap_or(u64::MAX).max(1);
            Duration::from_millis(die(range_ms).clamp(1, range_ms)).min(longest)
        } else {
            self.backoff.saturating_mul(2).min(longest)
        };
        self.backoff
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureClass as F;

    fn policy(max_retries: u32) -> RetryPolicy {
        RetryPolicy { max_retries, backoff_init: Duration::from_secs(2), backoff_max: Duration::from_secs(10) }
    }

    /// Feeds `classes` and returns the steps; the die always shows `roll`.
    fn steps(mut retry: Retry, roll: u64, classes: &[F]) -> Vec<Step> {
        classes.iter().map(|class| retry.after(*class, false, |_| roll)).collect()
    }

    fn again(ms: u64) -> Step {
        Step::Again(Duration::from_millis(ms))
    }

    #[test]
    fn table_of_steps() {
        // Name, retries on the path, hosts, past caches from the start, failures, steps.
        type Case<'a> = (&'a str, u32, usize, bool, &'a [F], &'a [Step]);
        let cases: &[Case<'_>] = &[
            ("a transfer error is retried once by default", 1, 1, false, &[F::TooSlow; 2], &[again(1500), Step::Stop]),
            ("no retries allowed", 0, 1, false, &[F::Connection], &[Step::Stop]),
            (
                "the pause doubles up to its limit",
                5,
                1,
                false,
                &[F::ShortTransfer; 6],
                &[again(1500), again(3000), again(6000), again(10_000), again(10_000), Step::Stop],
            ),
            ("HTTP errors are not retried on the path", 3, 2, false, &[F::Http; 2], &[Step::NextHost, Step::Stop]),
            ("nor names without address", 3, 2, false, &[F::Resolve; 2], &[Step::NextHost, Step::Stop]),
            (
                "corruption is retried once past caches",
                3,
                1,
                false,
                &[F::Corrupted; 2],
                &[Step::AgainWithoutCache, Step::Stop],
            ),
            (
                "then the next host is asked, with caches again",
                0,
                2,
                false,
                &[F::Corrupted; 4],
                &[Step::AgainWithoutCache, Step::NextHost, Step::AgainWithoutCache, Step::Stop],
            ),
            ("a request past caches is not retried", 3, 1, true, &[F::TooSlow], &[Step::Stop]),
            ("nor is its corruption", 3, 2, true, &[F::Corrupted; 2], &[Step::NextHost, Step::Stop]),
            ("a failing disk stops at once", 3, 3, false, &[F::Local], &[Step::Stop]),
            ("so does a caller that gave up", 3, 3, false, &[F::Cancelled], &[Step::Stop]),
            (
                "every host has its own retries",
                1,
                2,
                false,
                &[F::TooSlow; 4],
                &[again(1500), Step::NextHost, again(1500), Step::Stop],
            ),
        ];
        for (name, retries, hosts, no_cache, classes, expected) in cases {
            let retry = Retry::new(policy(*retries), *hosts, 1, *no_cache);
            assert_eq!(&steps(retry, 1500, classes), expected, "{name}");
        }
    }

    #[test]
    fn every_proxy_is_tried_for_every_host() {
        let mut retry = Retry::new(policy(0), 2, 3, false);
        let steps: Vec<Step> = (0..6).map(|_| retry.after(F::Connection, true, |n| n)).collect();
        let of_a_host = [Step::NextProxy, Step::NextProxy];
        assert_eq!(steps[..2], of_a_host);
        assert_eq!(steps[2], Step::NextHost);
        assert_eq!(steps[3..5], of_a_host);
        assert_eq!(steps[5], Step::Stop);
    }

    #[test]
    fn what_all_hosts_send_wrong_is_asked_for_by_another_proxy() {
        let mut retry = Retry::new(policy(0), 2, 2, false);
        let steps: Vec<Step> = (0..6).map(|_| retry.after(F::Corrupted, false, |n| n)).collect();
        let (anew, host, proxy) = (Step::AgainWithoutCache, Step::NextHost, Step::NextProxy);
        assert_eq!(steps, [anew, host, anew, proxy, anew, Step::Stop]);
    }

    #[test]
    fn a_way_that_others_left_is_left_without_a_pause_but_not_for_ever() {
        let mut retry = Retry::new(policy(3), 2, 1, false);
        assert_eq!([retry.moved(), retry.moved(), retry.moved()], [Step::NextWay, Step::NextWay, Step::Stop]);
    }

    #[test]
    fn where_nothing_works_only_the_path_is_repeated() {
        let mut retry = Retry::new(policy(1), 4, 3, false);
        assert_eq!(retry.nowhere_else(F::TooSlow, |_| 5), again(5));
        assert_eq!(retry.nowhere_else(F::TooSlow, |_| 5), Step::Stop);
    }

    #[test]
    fn the_first_pause_stays_in_its_range_whatever_the_die_shows() {
        for (roll, ms) in [(0, 1), (1, 1), (2000, 2000), (u64::MAX, 2000)] {
            assert_eq!(steps(Retry::new(policy(1), 1, 1, false), roll, &[F::TooSlow]), [again(ms)]);
        }
    }

    #[test]
    fn every_sequence_of_failures_ends() {
        for class in F::ALL {
            for by_proxy in [false, true] {
                let mut retry = Retry::new(policy(3), 4, 3, false);
                let steps = (0..1000).take_while(|_| retry.after(class, by_proxy, |n| n) != Step::Stop).count();
                assert!(steps <= 4 * 3 * 4, "{class:?} took {steps} steps");
            }
        }
    }
}
