//! How hosts are reached, as Python's configuration says it (`nearfs.config.network`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nearfs_core::transport::http::HttpOptions;
use nearfs_core::transport::origin::roll;
use nearfs_core::transport::resolver::{DnsOptions, Family};
use nearfs_core::transport::retry::RetryPolicy;
use nearfs_core::transport::tls::TlsOptions;
use nearfs_core::transport::{Origin, OriginOptions, ProxyGroups};
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use crate::errors::Raised;

/// Filled by name from a dictionary; times in seconds, 0 for "never" where a time says when to go back, and
/// for "all" where hosts are counted. A `uuid` has the hosts sorted by distance.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct NetworkRequest {
    proxies: String,
    fallback_proxies: String,
    timeout_s: u64,
    timeout_direct_s: u64,
    max_retries: u32,
    backoff_init_s: u64,
    backoff_max_s: u64,
    proxy_reset_after_s: u64,
    host_reset_after_s: u64,
    low_speed_limit: u64,
    follow_redirects: bool,
    is_sharded: bool,
    is_indefinite: bool,
    max_hosts: usize,
    uuid: Option<String>,
    place: Option<String>,
    dns_server: Option<(String, u16)>,
    host_aliases: Option<PathBuf>,
    dns_timeout_s: u64,
    dns_retries: u32,
    dns_min_ttl_s: u64,
    dns_max_ttl_s: u64,
    ip_family: Option<u8>,
    ipv4_only: bool,
    max_addresses_per_proxy: Option<usize>,
    headers: Vec<(String, String)>,
    agent_suffix: String,
    system_authorities: bool,
    authorities_dir: Option<PathBuf>,
    authorities_file: Option<PathBuf>,
    tells_subject: bool,
    parallel_parts: bool,
    external: ExternalRequest,
}

/// What is different for external data.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ExternalRequest {
    server_urls: Vec<String>,
    proxies: String,
    fallback_proxies: String,
    timeout_s: u64,
    timeout_direct_s: u64,
    max_hosts: usize,
}

impl NetworkRequest {
    /// Opens the way to external data.
    pub(crate) fn external(&self, runtime: &Runtime) -> Result<Origin, Raised> {
        let own = &self.external;
        let reset_after = (self.proxy_reset_after_s > 0).then(|| Duration::from_secs(self.proxy_reset_after_s));
        let mut options = self.options()?;
        options.proxies = ProxyGroups::parse(&own.proxies, &own.fallback_proxies, reset_after, roll)?;
        options.http.timeout = Duration::from_secs(own.timeout_direct_s);
        options.http.proxy_timeout = Duration::from_secs(own.timeout_s);
        let origin = Origin::open_external(&own.server_urls.join(";"), options, runtime.handle().clone())?;
        origin.keep_hosts(own.max_hosts);
        Ok(origin)
    }

    /// Returns the engine's options; fails where the proxies are none.
    pub(crate) fn options(&self) -> Result<OriginOptions, Raised> {
        let reset_after = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        let proxies =
            ProxyGroups::parse(&self.proxies, &self.fallback_proxies, reset_after(self.proxy_reset_after_s), roll)?;
        let defaults = HttpOptions::default();
        Ok(OriginOptions {
            http: HttpOptions {
                timeout: Duration::from_secs(self.timeout_direct_s),
                proxy_timeout: Duration::from_secs(self.timeout_s),
                low_speed_limit: self.low_speed_limit,
                follow_redirects: self.follow_redirects,
                user_agent: format!("{}{}", defaults.user_agent, self.agent_suffix),
                headers: self.headers.clone(),
                tells_subject: self.tells_subject,
                long_line: if self.parallel_parts { defaults.long_line } else { Duration::MAX },
                dns: self.dns()?,
                tls: TlsOptions {
                    use_system: self.system_authorities,
                    directory: self.authorities_dir.clone(),
                    bundle: self.authorities_file.clone(),
                },
                ..defaults
            },
            retry: RetryPolicy {
                max_retries: self.max_retries,
                backoff_init: Duration::from_secs(self.backoff_init_s),
                backoff_max: Duration::from_secs(self.backoff_max_s),
            },
            proxies: proxies.sharded(self.is_sharded),
            is_indefinite: self.is_indefinite,
            host_reset_after: reset_after(self.host_reset_after_s),
            ..OriginOptions::default()
        })
    }

    fn dns(&self) -> Result<DnsOptions, Raised> {
        let address = |(address, port): &(String, u16)| match address.parse() {
            Ok(ip) => Ok(SocketAddr::new(ip, *port)),
            Err(_) => Err(Raised::invalid("use name server", format!("`{address}`: no address (CVMFS_DNS_SERVER)"))),
        };
        let server = self.dns_server.as_ref().map(address).transpose()?;
        Ok(DnsOptions {
            prefer: match self.ip_family {
                Some(4) => Some(Family::V4),
                Some(6) => Some(Family::V6),
                _ => None,
            },
            ipv4_only: self.ipv4_only,
            max_per_proxy: self.max_addresses_per_proxy,
            server: Arc::new(Mutex::new(server)),
            aliases: self.host_aliases.clone(),
            min_ttl: Duration::from_secs(self.dns_min_ttl_s),
            max_ttl: Duration::from_secs(self.dns_max_ttl_s),
            timeout: Duration::from_secs(self.dns_timeout_s),
            retries: self.dns_retries,
        })
    }

    /// Puts the hosts in the order of their distance, where that is wanted, and keeps as many as are wanted.
    pub(crate) fn arrange_hosts(&self, origin: &Origin) {
        if let Some(uuid) = &self.uuid {
            // What is wrong with it is in the log; a mount does not fail for an order.
            let _ = origin.sort_hosts_by_distance(uuid, self.place.as_deref());
        }
        origin.keep_hosts(self.max_hosts);
    }
}
