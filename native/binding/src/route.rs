//! Hosts, proxies and time-outs of a mount as an object: what an operator sees and moves (`cvmfs_talk`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nearfs_core::client::Client;
use nearfs_core::transport::Origin;
use nearfs_core::transport::route::HostState;
use pyo3::prelude::*;

use crate::errors::Raised;

/// Port of name servers.
const DNS_PORT: u16 = 53;

/// Groups of proxies, number of the group in use, the proxy in use, number of the first fallback group.
type Proxies = (Vec<Vec<String>>, usize, String, Option<usize>);

/// The ways of one mount to its hosts.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct Route(Arc<Origin>);

impl Route {
    pub(crate) fn of(client: &Client) -> Self {
        Self(Arc::clone(client.origin()))
    }

    /// Returns the ways to external data, which every mount has, if only without hosts.
    pub(crate) fn to_external(client: &Client) -> Result<Self, Raised> {
        let external = client.cache().external().map(|origin| Self(Arc::clone(origin)));
        external
            .ok_or_else(|| Raised::invalid("find route", "external data: the client was opened without one".to_owned()))
    }
}

#[pymethods]
impl Route {
    /// Returns the hosts in order of preference, and the number of the active one.
    fn hosts(&self) -> (Vec<String>, usize) {
        let (hosts, active) = self.0.host_chain();
        (hosts.iter().map(ToString::to_string).collect(), active)
    }

    /// Returns what is known of the hosts, in the order of `hosts`.
    fn host_states(&self) -> Vec<String> {
        let text = |state| match state {
            HostState::Unprobed => "unprobed".to_owned(),
            HostState::Down => "host down".to_owned(),
            HostState::ByDistance => "geographically ordered".to_owned(),
            HostState::Answered(took) => format!("{} ms", took.as_millis()),
        };
        self.0.host_states().into_iter().map(text).collect()
    }

    /// Waits for one time-out at most.
    fn probe_hosts(&self, py: Python<'_>) -> Result<(), Raised> {
        Ok(py.detach(|| self.0.probe_hosts())?)
    }

    fn switch_host(&self) {
        self.0.switch_host();
    }

    fn set_hosts(&self, hosts: &str) -> Result<(), Raised> {
        Ok(self.0.set_hosts(hosts)?)
    }

    /// Waits for one time-out at most.
    fn sort_hosts(&self, py: Python<'_>, uuid: &str, place: Option<&str>) -> Result<(), Raised> {
        Ok(py.detach(|| self.0.sort_hosts_by_distance(uuid, place))?)
    }

    fn proxies(&self) -> Proxies {
        let text = |group: &Vec<_>| group.iter().map(ToString::to_string).collect();
        let (group, first_fallback) = self.0.proxy_group();
        (self.0.proxies().iter().map(text).collect(), group, self.0.active_proxy().to_string(), first_fallback)
    }

    fn rebalance_proxies(&self) {
        self.0.rebalance_proxies();
    }

    fn switch_proxy_group(&self) {
        self.0.switch_proxy_group();
    }

    fn set_proxies(&self, proxies: &str) -> Result<(), Raised> {
        Ok(self.0.set_proxies(proxies)?)
    }

    fn set_fallback_proxies(&self, proxies: &str) -> Result<(), Raised> {
        Ok(self.0.set_fallback_proxies(proxies)?)
    }

    /// Returns the time-outs by a proxy and without one, seconds.
    fn timeouts(&self) -> (u64, u64) {
        let (by_proxy, direct) = self.0.timeouts();
        (by_proxy.as_secs(), direct.as_secs())
    }

    fn set_timeouts(&self, by_proxy_s: u64, direct_s: u64) {
        self.0.set_timeouts(Duration::from_secs(by_proxy_s), Duration::from_secs(direct_s));
    }

    /// Returns the address of the name server that was named; None for the system's.
    fn nameserver(&self) -> Option<String> {
        self.0.nameserver().map(|server| server.ip().to_string())
    }

    fn set_nameserver(&self, address: &str) -> Result<(), Raised> {
        let invalid = |_| Raised::invalid("use name server", format!("`{}`: no address", address.escape_debug()));
        let ip: IpAddr = address.parse().map_err(invalid)?;
        self.0.set_nameserver(Some(SocketAddr::new(ip, DNS_PORT)));
        Ok(())
    }
}
