//! Addresses of names: looked up once, kept for their time, renewed while the old ones are still used.
//!
//! Source: client.md 3.7. Where the configuration names a name server, that one is asked ([`super::dns`]), behind the
//! machine's own files; else the system's resolver, which does not tell how long an address holds: it is taken to hold
//! for the least time (`CVMFS_DNS_MIN_TTL`). One look-up of a name runs at a time, in a task of its own, so that a name server that hangs costs one thread and nobody's turn. If a
//! name cannot be looked up any more, its old addresses stay in use.
//!
//! Threads: the lock is held for a copy of a few addresses.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::timeout;

use super::dns::{self, Found};
use super::hosts_file;
use super::origin::roll;

/// More names are not kept: redirects may lead anywhere.
const MAX_NAMES: usize = 1024;
/// More addresses of one name are not kept.
const MAX_ADDRESSES: usize = 64;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The name server in use, which an operator may change; clones share it. None is the system's.
pub type Nameserver = Arc<Mutex<Option<SocketAddr>>>;

/// How names are looked up.
#[derive(Debug, Clone)]
pub struct DnsOptions {
    /// Whom to ask (`CVMFS_DNS_SERVER`).
    pub server: Nameserver,
    /// File of names that stand for others (environment `HOST_ALIASES`); read where `server` names one.
    pub aliases: Option<PathBuf>,
    /// Family that is tried first (`CVMFS_IPFAMILY_PREFER`); the system's order where none is named.
    pub prefer: Option<Family>,
    /// Uses no other family than IPv4 (environment `CVMFS_IPV4_ONLY`).
    pub ipv4_only: bool,
    /// A random choice of so many addresses of a proxy is used (`CVMFS_MAX_IPADDR_PER_PROXY`).
    pub max_per_proxy: Option<usize>,
    /// Addresses hold no shorter (`CVMFS_DNS_MIN_TTL`).
    pub min_ttl: Duration,
    /// Addresses hold no longer (`CVMFS_DNS_MAX_TTL`).
    pub max_ttl: Duration,
    /// How long an answer is waited for (`CVMFS_DNS_TIMEOUT`).
    pub timeout: Duration,
    /// How often it is asked again (`CVMFS_DNS_RETRIES`).
    pub retries: u32,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            server: Nameserver::default(),
            aliases: None,
            prefer: None,
            ipv4_only: false,
            max_per_proxy: None,
            min_ttl: Duration::from_secs(60),
            max_ttl: Duration::from_secs(86_400),
            timeout: Duration::from_secs(3),
            retries: 1,
        }
    }
}

/// Whose name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Party {
    /// A host of repositories.
    Host,
    /// A proxy: its addresses share the load.
    Proxy,
}

type Key = (Party, String);

#[derive(Debug, Default)]
struct Entry {
    addresses: Vec<IpAddr>,
    until: Option<Instant>,
    /// Nobody could be reached there: the next one waits for a fresh look-up.
    is_doubtful: bool,
    /// Why the last look-up failed.
    error: Option<String>,
    running: Option<watch::Receiver<()>>,
}

/// The addresses that are known.
#[derive(Debug)]
pub(super) struct Resolver {
    options: DnsOptions,
    entries: Mutex<HashMap<Key, Entry>>,
}

impl Resolver {
    /// Builds a resolver that knows nothing.
    pub(super) fn new(options: DnsOptions) -> Self {
        Self { options, entries: Mutex::default() }
    }

    /// Returns the addresses of a name, in the order in which they are to be tried; never an empty list.
    pub(super) async fn addresses(self: &Arc<Self>, party: Party, name: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let key = (party, name.to_owned());
        let (known, mut running) = {
            let mut entries = self.entries.lock();
            if entries.len() >= MAX_NAMES && !entries.contains_key(&key) {
                entries.retain(|_, entry| entry.running.is_some());
            }
            let entry = entries.entry(key.clone()).or_default();
            if entry.until.is_some_and(|until| Instant::now() < until) {
                return Ok(entry.addresses.clone());
            }
            let running = self.renew(&key, entry);
            let usable = !entry.addresses.is_empty() && !entry.is_doubtful;
            (usable.then(|| entry.addresses.clone()), running)
        };
        if let Some(known) = known {
            return Ok(known);
        }
        // It ends, or is dropped with its task: an error then, which is as good.
        let _ = running.changed().await;
        let entries = self.entries.lock();
        match entries.get(&key) {
            Some(entry) if !entry.addresses.is_empty() => Ok(entry.addresses.clone()),
            Some(Entry { error: Some(error), .. }) => Err(error.clone()),
            _ => Err("no address".to_owned()),
        }
    }

    /// Says whether a connection to `address` is still one to `name`; has the name looked up again once it is time.
    pub(super) fn is_address(self: &Arc<Self>, party: Party, name: &str, address: IpAddr) -> bool {
        if name.parse::<IpAddr>().is_ok() {
            return true;
        }
        let key = (party, name.to_owned());
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&key) else { return true };
        if entry.until.is_some_and(|until| Instant::now() >= until) {
            drop(self.renew(&key, entry));
        }
        entry.addresses.contains(&address)
    }

    /// Puts an address last: it is silent while others may answer.
    pub(super) fn demote(&self, party: Party, name: &str, address: IpAddr) {
        if let Some(entry) = self.entries.lock().get_mut(&(party, name.to_owned())) {
            entry.addresses.sort_by_key(|known| *known == address);
        }
    }

    /// No address of the name could be reached: it may have moved.
    pub(super) fn doubt(&self, party: Party, name: &str) {
        if let Some(entry) = self.entries.lock().get_mut(&(party, name.to_owned())) {
            (entry.until, entry.is_doubtful) = (Some(Instant::now()), true);
        }
    }

    fn renew(self: &Arc<Self>, key: &Key, entry: &mut Entry) -> watch::Receiver<()> {
        if let Some(running) = &entry.running {
            return running.clone();
        }
        let (done, running) = watch::channel(());
        entry.running = Some(running.clone());
        let (resolver, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move {
            let looked_up = resolver.options.look_up(&key.1).await;
            resolver.keep(&key, looked_up);
            // Who waits wakes up only now, and finds what was kept; that nobody does is no error.
            let _ = done.send(());
        });
        running
    }

    fn keep(&self, key: &Key, looked_up: Result<Found, String>) {
        let holds = looked_up.as_ref().ok().and_then(|found| found.holds).unwrap_or(self.options.min_ttl);
        let holds = holds.max(self.options.min_ttl).min(self.options.max_ttl.max(self.options.min_ttl));
        let found = looked_up.map(|found| self.options.choose(key.0, found.addresses, roll));
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_default();
        entry.running = None;
        entry.is_doubtful = false;
        match found {
            Ok(found) if !found.is_empty() => {
                let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<HashSet<_>>();
                if entry.addresses.is_empty() {
                    entry.addresses = found;
                } else if set(&entry.addresses) != set(&found) {
                    tracing::warn!("DNS entries for {} changed, adjusting", key.1);
                    entry.addresses = found;
                }
                entry.error = None;
            }
            Ok(_) => entry.error = Some("it has no address of a usable family".to_owned()),
            Err(error) => entry.error = Some(error),
        }
        entry.until = (!entry.addresses.is_empty()).then(|| Instant::now() + holds);
    }
}

impl DnsOptions {
    async fn look_up(&self, name: &str) -> Result<Found, String> {
        let server = *self.server.lock();
        let Some(server) = server else { return self.ask_system(name).await };
        let (own, aliases) = (name.to_owned(), self.aliases.clone());
        let files = tokio::task::spawn_blocking(move || hosts_file::look_up(&own, aliases.as_deref())).await;
        let (name, addresses) = files.map_err(|e| e.to_string())?;
        if !addresses.is_empty() {
            return Ok(Found { addresses, holds: None });
        }
        dns::ask(server, &name, self.timeout, self.retries).await
    }

    async fn ask_system(&self, name: &str) -> Result<Found, String> {
        let limit = self.timeout * (1 + self.retries);
        match timeout(limit, lookup_host((name, 0))).await {
            Ok(Ok(found)) => Ok(Found { addresses: found.map(|address| address.ip()).collect(), holds: None }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s (CVMFS_DNS_TIMEOUT, CVMFS_DNS_RETRIES)", limit.as_secs_f32())),
        }
    }

    /// Chooses among `found` and orders them. `die(n)` returns a number in `1..=n`.
    fn choose(&self, party: Party, mut found: Vec<IpAddr>, die: impl Fn(u64) -> u64) -> Vec<IpAddr> {
        let mut seen = HashSet::new();
        found.retain(|address| (address.is_ipv4() || !self.ipv4_only) && seen.insert(*address));
        found.truncate(MAX_ADDRESSES);
        // Proxies are asked by IPv4 where they have it; for hosts the system knows better.
        let first = match (self.prefer, party) {
            (Some(Family::V6), _) => Some(IpAddr::is_ipv6 as fn(&IpAddr) -> bool),
            (Some(Family::V4), _) | (None, Party::Proxy) => Some(IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
            (None, Party::Host) => None,
        };
        if party == Party::Proxy {
            for place in (1..found.len()).rev() {
                found.swap(place, (die(place as u64 + 1) - 1) as usize % (place + 1));
            }
        }
        if let Some(is_first) = first {
            found.sort_by_key(|address| !is_first(address));
        }
        if let (Party::Proxy, Some(most)) = (party, self.max_per_proxy) {
            found.truncate(most.max(1));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn found(addresses: Vec<IpAddr>, holds_s: Option<u64>) -> Found {
        Found { addresses, holds: holds_s.map(Duration::from_secs) }
    }

    #[test]
    fn times_to_live_are_kept_within_their_limits() {
        let resolver = Resolver::new(DnsOptions { max_ttl: Duration::from_secs(600), ..DnsOptions::default() });
        for (ttl_s, expected_s) in [(None, 60), (Some(0), 60), (Some(300), 300), (Some(u64::from(u32::MAX)), 600)] {
            let key = (Party::Proxy, format!("{ttl_s:?}"));
            resolver.keep(&key, Ok(found(ips(&["10.0.0.1"]), ttl_s)));
            let until = resolver.entries.lock()[&key].until.unwrap();
            let left_s = until.saturating_duration_since(Instant::now()).as_secs_f64();
            assert!((left_s - f64::from(expected_s)).abs() < 5.0, "{ttl_s:?}: {left_s} s");
        }
    }

    #[test]
    fn table_of_choices() {
        use Party::{Host, Proxy};
        let both = &["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2"][..];
        let plain = DnsOptions::default();
        let v6 = DnsOptions { prefer: Some(Family::V6), ..plain.clone() };
        let v4 = DnsOptions { prefer: Some(Family::V4), ..plain.clone() };
        let only = DnsOptions { ipv4_only: true, ..plain.clone() };
        let few = DnsOptions { max_per_proxy: Some(1), ..plain.clone() };
        let cases: [(&str, &DnsOptions, Party, &[&str]); 6] = [
            ("hosts in the system's order", &plain, Host, both),
            ("proxies by IPv4 first", &plain, Proxy, &["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]),
            ("IPv6 preferred", &v6, Proxy, &["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"]),
            ("IPv4 preferred", &v4, Host, &["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]),
            ("nothing but IPv4", &only, Host, &["10.0.0.1", "10.0.0.2"]),
            ("a few of a proxy", &few, Proxy, &["10.0.0.1"]),
        ];
        for (name, options, party, expected) in cases {
            // A die that always shows its last side shuffles nothing.
            assert_eq!(options.choose(party, ips(both), |n| n), ips(expected), "{name}");
        }
        assert_eq!(plain.choose(Proxy, ips(&["10.0.0.1", "10.0.0.2"]), |_| 1), ips(&["10.0.0.2", "10.0.0.1"]));
        assert_eq!(few.choose(Host, ips(both), |n| n).len(), 4);
        assert_eq!(few.choose(Proxy, ips(&["fd00::1"]), |n| n), ips(&["fd00::1"]), "no IPv4: IPv6 will do");
        assert_eq!(plain.choose(Host, ips(&["10.0.0.1", "10.0.0.1"]), |n| n).len(), 1);
    }

    #[tokio::test]
    async fn old_addresses_stay_in_use_when_a_name_cannot_be_looked_up_any_more() {
        let resolver = Arc::new(Resolver::new(DnsOptions::default()));
        let key = (Party::Host, "gone.invalid".to_owned());
        resolver.keep(&key, Ok(found(ips(&["10.0.0.1", "10.0.0.2"]), None)));
        resolver.doubt(Party::Host, "gone.invalid");
        let known = resolver.addresses(Party::Host, "gone.invalid").await;
        assert_eq!(known, Ok(ips(&["10.0.0.1", "10.0.0.2"])));
        resolver.demote(Party::Host, "gone.invalid", ips(&["10.0.0.1"])[0]);
        let known = resolver.addresses(Party::Host, "gone.invalid").await;
        assert_eq!(known, Ok(ips(&["10.0.0.2", "10.0.0.1"])));
    }

    #[tokio::test]
    async fn a_change_of_addresses_is_seen_by_kept_connections() {
        let resolver = Arc::new(Resolver::new(DnsOptions::default()));
        let (key, [old, new]) = ((Party::Proxy, "p".to_owned()), ["10.0.0.1", "10.0.0.2"].map(|a| ips(&[a])));
        assert!(resolver.is_address(Party::Proxy, "p", old[0]), "nothing is known yet");
        resolver.keep(&key, Ok(found(old.clone(), None)));
        assert!(resolver.is_address(Party::Proxy, "p", old[0]));
        resolver.keep(&key, Ok(found(new, None)));
        assert!(!resolver.is_address(Party::Proxy, "p", old[0]));
        assert!(resolver.is_address(Party::Proxy, "192.0.2.1", old[0]), "an address is its own name");
    }

    #[tokio::test]
    async fn names_and_addresses_are_found_and_what_is_no_name_is_not() {
        let resolver = Arc::new(Resolver::new(DnsOptions::default()));
        assert_eq!(resolver.addresses(Party::Host, "192.0.2.7").await, Ok(ips(&["192.0.2.7"])));
        assert!(resolver.addresses(Party::Host, "localhost").await.unwrap().iter().all(IpAddr::is_loopback));
        assert!(resolver.addresses(Party::Host, "no-such-host.invalid").await.is_err());
    }
}
