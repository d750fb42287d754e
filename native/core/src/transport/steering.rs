//! What an operator sees and moves while a repository is in use: hosts, proxies, time-outs (`cvmfs_talk`).
//!
//! The other face of [`Origin`]; requests have nothing to do with it. Any thread; nothing here waits for the network
//! except where it says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::groups::{ProxyFault, ProxyGroups};
use super::origin::{Origin, roll};
use super::proxy::Proxy;
use super::route::HostState;
use super::url;
use crate::error::{Error, ErrorKind, Result};

impl Origin {
    /// Returns the base URL of the active host.
    pub fn active_host(&self) -> Arc<str> {
        self.route.lock().active_host().cloned().unwrap_or_else(|| Arc::from(""))
    }

    /// Returns the hosts in the order in which they are asked, the active one first.
    pub fn hosts(&self) -> Vec<Arc<str>> {
        let route = self.route.lock();
        let mut hosts = route.hosts().to_vec();
        let active = route.active_host().and_then(|active| hosts.iter().position(|host| host == active));
        hosts.rotate_left(active.unwrap_or(0));
        hosts
    }

    /// Returns the hosts in order of preference, and the number of the active one.
    pub fn host_chain(&self) -> (Vec<Arc<str>>, usize) {
        let route = self.route.lock();
        let active = route.active_host().and_then(|active| route.hosts().iter().position(|host| host == active));
        (route.hosts().to_vec(), active.unwrap_or(0))
    }

    /// Returns the proxies, group by group.
    pub fn proxies(&self) -> Vec<Vec<Arc<Proxy>>> {
        self.route.lock().proxies().list().to_vec()
    }

    /// Returns the proxy in use; with sharding, one of them.
    pub fn active_proxy(&self) -> Arc<Proxy> {
        self.route.lock().proxies().active().0
    }

    /// Returns the number of the proxy group in use, and that of the first fallback group.
    pub fn proxy_group(&self) -> (usize, Option<usize>) {
        let route = self.route.lock();
        (route.proxies().active().1.group, route.proxies().first_fallback())
    }

    /// Returns the time-outs by a proxy and without one.
    pub fn timeouts(&self) -> (Duration, Duration) {
        (self.timeouts.by_proxy(), self.timeouts.direct())
    }

    /// Changes the time-outs by a proxy and without one, for attempts from now on.
    pub fn set_timeouts(&self, by_proxy: Duration, direct: Duration) {
        self.timeouts.set(direct, by_proxy);
        let mut route = self.route.lock();
        let proxies = route.proxies_mut();
        *proxies = proxies.clone().patient_for(by_proxy);
    }

    /// Returns the name server that the configuration or an operator named.
    pub fn nameserver(&self) -> Option<SocketAddr> {
        *self.nameserver.lock()
    }

    /// Asks this name server from now on; none is the system's.
    pub fn set_nameserver(&self, server: Option<SocketAddr>) {
        *self.nameserver.lock() = server;
    }

    /// Uses the next host.
    pub fn switch_host(&self) {
        self.route.lock().use_host(None, Instant::now());
    }

    /// Leaves the host with this base URL for the next one, if it is the active one and not the only one. Returns
    /// whether it was left: for those who learn from its answers that it is stale.
    pub fn leave_host(&self, base_url: &str) -> bool {
        let mut route = self.route.lock();
        let is_active = route.active_host().is_some_and(|active| active.as_ref() == base_url);
        let is_left = is_active && route.host_count() > 1 && route.use_host(None, Instant::now());
        if is_left {
            tracing::warn!("(manager 'standard') switching host from {base_url} (it is stale)");
        }
        is_left
    }

    /// Believes no revision that the host with this base URL claims, for a while: its manifest did not hold. Leaves it
    /// if it is the active one. Returns whether there is another one to ask.
    pub fn distrust_host(&self, base_url: &str) -> bool {
        let mut route = self.route.lock();
        route.distrust(base_url, Instant::now());
        let is_active = route.active_host().is_some_and(|active| active.as_ref() == base_url);
        if is_active && route.host_count() > 1 && route.use_host(None, Instant::now()) {
            tracing::warn!("(manager 'standard') switching host from {base_url} (its manifest cannot be trusted)");
        }
        route.host_count() > 1
    }

    /// Leaves the proxy in use, if there is one, for those who learn that what came by it does not hold whatever host is
    /// asked. Returns whether there is another one to ask by.
    pub fn doubt_proxy(&self) -> bool {
        let mut route = self.route.lock();
        let Some(attempt) = route.next_attempt("").filter(|way| *way.target.proxy != Proxy::Direct) else {
            return false;
        };
        let is_left = route.on_proxy_failure(&attempt, ProxyFault::Dead, Instant::now(), roll);
        if is_left {
            let proxy = &attempt.target.proxy;
            tracing::warn!("(manager 'standard') switching proxy from {proxy}. Reason: what came by it does not hold");
        }
        is_left
    }

    /// Returns how many ways there are to doubt: each host, and each proxy.
    pub fn doubtful_ways(&self) -> usize {
        let route = self.route.lock();
        route.host_count() + route.proxies().count()
    }

    /// Replaces the hosts by a `;` list of base URLs.
    pub fn set_hosts(&self, list: &str) -> Result<()> {
        let hosts = url::host_list(list)?;
        self.route.lock().set_hosts(hosts);
        Ok(())
    }

    /// Replaces the proxies (`proxy set`), without fallbacks.
    pub fn set_proxies(&self, list: &str) -> Result<()> {
        self.replace_proxies(ProxyGroups::parse(list, "", None, roll)?);
        Ok(())
    }

    /// Replaces the fallback proxies (`proxy fallback`).
    pub fn set_fallback_proxies(&self, list: &str) -> Result<()> {
        let regular = {
            let route = self.route.lock();
            let groups = route.proxies().list();
            let count = route.proxies().first_fallback().unwrap_or(groups.len());
            let text = |group: &Vec<Arc<Proxy>>| group.iter().map(ToString::to_string).collect::<Vec<_>>().join("|");
            groups.iter().take(count).map(text).collect::<Vec<_>>().join(";")
        };
        self.replace_proxies(ProxyGroups::parse(&regular, list, None, roll)?);
        Ok(())
    }

    /// Chooses anew within the proxy group in use.
    pub fn rebalance_proxies(&self) {
        self.route.lock().proxies_mut().rebalance(roll);
    }

    /// Uses the next proxy group.
    pub fn switch_proxy_group(&self) {
        self.route.lock().proxies_mut().next_group(Instant::now(), roll);
    }

    /// Asks all hosts for their manifests side by side, within one time-out, and leaves the active host if another has
    /// a newer revision. Returns the base URL of that one if it did. Blocks; not for tasks of the runtime.
    pub fn compare_hosts(&self) -> Result<Option<Arc<str>>> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(Error::new(ErrorKind::Internal, "compare hosts", "a blocking call from the network runtime"));
        }
        Ok(self.runtime().block_on(self.surveyor.compare()))
    }

    /// Does [`Origin::compare_hosts`] while the caller goes on; does nothing where there is one host only.
    pub fn compare_hosts_soon(&self) {
        if self.route.lock().host_count() > 1 {
            let surveyor = Arc::clone(&self.surveyor);
            self.runtime().spawn(async move { surveyor.compare().await });
        }
    }

    /// Asks all hosts side by side, within one time-out, and puts them in the order in which they answered (`host
    /// probe`); those that did not come last. Blocks; not for tasks of the runtime.
    pub fn probe_hosts(&self) -> Result<()> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(Error::new(ErrorKind::Internal, "probe hosts", "a blocking call from the network runtime"));
        }
        let mut probed = self.runtime().block_on(self.surveyor.probe());
        probed.sort_by_key(|(_, took)| (took.is_none(), *took));
        let state = |took: Option<Duration>| took.map_or(HostState::Down, HostState::Answered);
        self.route.lock().set_probed_hosts(probed.into_iter().map(|(host, took)| (host, state(took))));
        Ok(())
    }

    /// Returns what is known of the hosts, in the order of [`Origin::host_chain`].
    pub fn host_states(&self) -> Vec<HostState> {
        self.route.lock().host_states()
    }

    fn replace_proxies(&self, other: ProxyGroups) {
        let mut route = self.route.lock();
        let proxies = route.proxies_mut();
        *proxies = proxies.clone().with_lists_of(other);
    }
}
