//! Which proxy is asked: groups of equal proxies, tried in order, as a pure state machine.
//!
//! Source: client.md 3.2 and 3.5 items 3 and 6. No sockets, no clock, no randomness of its own: the caller passes the
//! time and a die. Differs from the reference system in one rule, on purpose: a proxy that is slow but answers is left
//! for another proxy, never for a direct connection, which a site has a proxy to avoid.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// Port of a proxy that names none.
const DEFAULT_PORT: u16 = 3128;
/// More proxies than any site has; a list that is longer is a mistake.
const MAX_PROXIES: usize = 1024;

/// A way out: a proxy, or none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// The host itself is asked.
    Direct,
    /// A proxy is asked.
    Via {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("DIRECT"),
            Self::Via { host, port } if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Self::Via { host, port } => write!(f, "http://{host}:{port}"),
        }
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self> {
        let refuse = |reason: &str| {
            let subject = format!("`{}`: {reason} (CVMFS_HTTP_PROXY)", text.escape_debug());
            Error::new(ErrorKind::InvalidInput, "use proxy", subject)
        };
        if text.eq_ignore_ascii_case("DIRECT") {
            return Ok(Self::Direct);
        }
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(refuse("proxies are asked over http only")),
            None => text,
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']').ok_or_else(|| refuse("no `]` after the address"))?;
                (host, after.strip_prefix(':'))
            }
            None => match rest.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(is_name) {
            return Err(refuse("no name or address of a proxy"));
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|p| *p > 0).ok_or_else(|| refuse("no port number"))?,
            None => DEFAULT_PORT,
        };
        Ok(Self::Via { host: host.to_owned(), port })
    }
}

/// A proxy of a list, by its place: what an attempt remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyPlace {
    group: usize,
    member: usize,
}

/// The groups, one proxy of which is in use.
#[derive(Debug, Clone)]
pub struct ProxyGroups {
    groups: Vec<Vec<Arc<Proxy>>>,
    active: ProxyPlace,
    /// Members of the active group that failed since it became active.
    burned: Vec<usize>,
    /// When the first choice was left; none while it is in use.
    left_first_at: Option<Instant>,
    reset_after: Option<Duration>,
}

impl ProxyGroups {
    /// Connects directly, always.
    pub fn direct() -> Self {
        Self::of(vec![vec![Arc::new(Proxy::Direct)]], None, |_| 1)
    }

    /// Reads `CVMFS_HTTP_PROXY` and `CVMFS_FALLBACK_PROXY`: `;` between groups, `|` between equals. With a fallback,
    /// DIRECT is taken out of both, and the fallback's groups come last. `die(n)` returns a number in `1..=n`.
    pub fn parse(
        list: &str,
        fallback: &str,
        reset_after: Option<Duration>,
        die: impl FnOnce(u64) -> u64,
    ) -> Result<Self> {
        let mut groups = groups_of(list)?;
        let mut last = groups_of(fallback)?;
        if !last.is_empty() {
            groups.append(&mut last);
            for group in &mut groups {
                group.retain(|proxy| **proxy != Proxy::Direct);
            }
            groups.retain(|group| !group.is_empty());
        }
        if groups.is_empty() {
            let subject = "no proxy, and not DIRECT either (CVMFS_HTTP_PROXY)";
            return Err(Error::new(ErrorKind::InvalidInput, "use proxy", subject));
        }
        if groups.iter().map(Vec::len).sum::<usize>() > MAX_PROXIES {
            let subject = format!("a list of more than {MAX_PROXIES} (CVMFS_HTTP_PROXY)");
            return Err(Error::new(ErrorKind::InvalidInput, "use proxy", subject));
        }
        Ok(Self::of(groups, reset_after, die))
    }

    fn of(groups: Vec<Vec<Arc<Proxy>>>, reset_after: Option<Duration>, die: impl FnOnce(u64) -> u64) -> Self {
        let member = pick(groups.first().map_or(0, Vec::len), &[], die).unwrap_or(0);
        let active = ProxyPlace { group: 0, member };
        Self { groups, active, burned: Vec::new(), left_first_at: None, reset_after }
    }

    /// Returns the number of proxies, DIRECT included.
    pub fn count(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }

    /// Returns the proxies as the configuration lists them.
    pub fn list(&self) -> &[Vec<Arc<Proxy>>] {
        &self.groups
    }

    /// Returns the proxy in use, and its place.
    pub fn active(&self) -> (Arc<Proxy>, ProxyPlace) {
        let proxy = self.groups.get(self.active.group).and_then(|group| group.get(self.active.member));
        (proxy.cloned().unwrap_or_else(|| Arc::new(Proxy::Direct)), self.active)
    }

    /// Applies the reset rule: the first group, with a fresh choice, once the time is over. Once a request.
    pub fn begin_request(&mut self, now: Instant, die: impl FnOnce(u64) -> u64) {
        let Some((left_at, reset_after)) = self.left_first_at.zip(self.reset_after) else { return };
        if now.saturating_duration_since(left_at) > reset_after {
            self.start_over(die);
        }
    }

    /// Gives up a proxy: the next of its group, or of the next group once all of this one failed. `is_slow` says that
    /// it answered, only not fast enough. Returns whether another proxy is in use now than the one that failed.
    pub fn on_failure(
        &mut self,
        failed: ProxyPlace,
        is_slow: bool,
        now: Instant,
        die: impl FnOnce(u64) -> u64,
    ) -> bool {
        if failed != self.active {
            return true;
        }
        let mut burned = self.burned.clone();
        burned.push(failed.member);
        let in_group = self.groups.get(failed.group).map_or(0, Vec::len);
        let next = if let Some(member) = pick(in_group, &burned, die) {
            ProxyPlace { group: failed.group, member }
        } else {
            burned.clear();
            ProxyPlace { group: (failed.group + 1) % self.groups.len().max(1), member: 0 }
        };
        let is_direct = |place: ProxyPlace| {
            self.groups.get(place.group).and_then(|group| group.get(place.member)).is_none_or(|p| **p == Proxy::Direct)
        };
        if next == failed || (is_slow && is_direct(next)) {
            return false;
        }
        self.active = next;
        self.burned = burned;
        self.left_first_at = self.left_first_at.or(Some(now));
        true
    }

    /// Forgets all failures: what every proxy fails at is not the proxies' fault.
    pub fn start_over(&mut self, die: impl FnOnce(u64) -> u64) {
        let member = pick(self.groups.first().map_or(0, Vec::len), &[], die).unwrap_or(0);
        self.active = ProxyPlace { group: 0, member };
        self.burned.clear();
        self.left_first_at = None;
    }
}

fn groups_of(list: &str) -> Result<Vec<Vec<Arc<Proxy>>>> {
    let mut groups = Vec::new();
    for group in list.split(';') {
        let members: Vec<&str> = group.split('|').map(str::trim).filter(|member| !member.is_empty()).collect();
        if !members.is_empty() {
            groups.push(members.into_iter().map(|m| Proxy::parse(m).map(Arc::new)).collect::<Result<Vec<_>>>()?);
        }
    }
    Ok(groups)
}

/// Chooses among `0..count` without those that are `burned`.
fn pick(count: usize, burned: &[usize], die: impl FnOnce(u64) -> u64) -> Option<usize> {
    let live: Vec<usize> = (0..count).filter(|member| !burned.contains(member)).collect();
    let sides = live.len() as u64;
    (sides > 0).then(|| live[(die(sides).clamp(1, sides) - 1) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(list: &str, reset_s: Option<u64>) -> ProxyGroups {
        ProxyGroups::parse(list, "", reset_s.map(Duration::from_secs), |_| 1).unwrap()
    }

    fn active(groups: &ProxyGroups) -> String {
        groups.active().0.to_string()
    }

    #[test]
    fn lists_are_read_as_sites_write_them() {
        for (list, fallback, expected) in [
            ("DIRECT", "", "DIRECT"),
            ("http://a:3128;DIRECT", "", "http://a:3128;DIRECT"),
            ("a|b:80 ; http://c:1/|direct", "", "http://a:3128|http://b:80;http://c:1|DIRECT"),
            ("http://[fd00::1]:3128", "", "http://[fd00::1]:3128"),
            (";;a;;", "", "http://a:3128"),
            ("a;DIRECT", "f", "http://a:3128;http://f:3128"),
            ("DIRECT", "f|DIRECT;g", "http://f:3128;http://g:3128"),
        ] {
            let read = ProxyGroups::parse(list, fallback, None, |_| 1).unwrap();
            let text: Vec<String> =
                read.list().iter().map(|g| g.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")).collect();
            assert_eq!(text.join(";"), expected, "{list}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_by_name() {
        for (list, said) in [
            ("", "not DIRECT either"),
            ("socks5://a:1", "over http only"),
            ("http://a:0", "no port number"),
            ("http://a:99999", "no port number"),
            ("http://:3128", "no name or address"),
            ("a b", "no name or address"),
            ("http://[fd00::1:3128", "no `]`"),
        ] {
            let error = ProxyGroups::parse(list, "", None, |_| 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{list}");
            assert!(error.to_string().contains(said), "{list}: {error}");
        }
        let many = "a;".repeat(MAX_PROXIES + 1);
        assert!(ProxyGroups::parse(&many, "", None, |_| 1).is_err());
    }

    #[test]
    fn a_group_is_used_up_before_the_next_one() {
        let start = Instant::now();
        let mut ring = groups("a|b|c;d;DIRECT", None);
        let mut seen = vec![active(&ring)];
        for _ in 0..5 {
            let place = ring.active().1;
            assert!(ring.on_failure(place, false, start, |_| 1));
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
        assert!(ring.on_failure(first, true, now, |_| 1));
        assert_eq!(active(&ring), "http://b:3128");
        let second = ring.active().1;
        assert!(!ring.on_failure(second, true, now, |_| 1));
        assert_eq!(active(&ring), "http://b:3128");
        // One that does not answer at all is.
        assert!(ring.on_failure(second, false, now, |_| 1));
        assert_eq!(active(&ring), "DIRECT");
    }

    #[test]
    fn a_failure_of_a_proxy_that_was_left_moves_nothing() {
        let now = Instant::now();
        let mut ring = groups("a;b;c", None);
        let first = ring.active().1;
        assert!(ring.on_failure(first, false, now, |_| 1));
        assert!(ring.on_failure(first, false, now, |_| 1));
        assert_eq!(active(&ring), "http://b:3128");
    }

    #[test]
    fn the_only_proxy_stays() {
        let mut ring = groups("a", None);
        let place = ring.active().1;
        assert!(!ring.on_failure(place, false, Instant::now(), |_| 1));
        assert_eq!(active(&ring), "http://a:3128");
    }

    #[test]
    fn the_first_group_is_back_after_the_reset_time() {
        let start = Instant::now();
        let mut ring = groups("a;b", Some(60));
        let place = ring.active().1;
        ring.on_failure(place, false, start, |_| 1);
        ring.begin_request(start + Duration::from_secs(60), |_| 1);
        assert_eq!(active(&ring), "http://b:3128");
        ring.begin_request(start + Duration::from_secs(61), |_| 1);
        assert_eq!(active(&ring), "http://a:3128");
    }

    #[test]
    fn load_is_balanced_by_the_die() {
        let read = |face| ProxyGroups::parse("a|b|c", "", None, |_| face).unwrap();
        assert_eq!([1, 2, 3].map(|face| active(&read(face))), ["http://a:3128", "http://b:3128", "http://c:3128"]);
        assert_eq!(active(&read(u64::MAX)), "http://c:3128");
    }
}
