//! How hosts are reached, as Python's configuration says it (`nearfs.config.network`).

use std::time::Duration;

use nearfs_core::transport::http::HttpOptions;
use nearfs_core::transport::origin::roll;
use nearfs_core::transport::retry::RetryPolicy;
use nearfs_core::transport::{OriginOptions, ProxyGroups};
use pyo3::prelude::*;

use crate::errors::Raised;

/// Filled by name from a dictionary; times in seconds, 0 for "never" where a time says when to go back.
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
}

impl NetworkRequest {
    /// Returns the engine's options; fails where the proxies are none.
    pub(crate) fn options(&self) -> Result<OriginOptions, Raised> {
        let reset_after = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        let proxies =
            ProxyGroups::parse(&self.proxies, &self.fallback_proxies, reset_after(self.proxy_reset_after_s), roll)?;
        Ok(OriginOptions {
            http: HttpOptions {
                timeout: Duration::from_secs(self.timeout_direct_s),
                proxy_timeout: Duration::from_secs(self.timeout_s),
                low_speed_limit: self.low_speed_limit,
                follow_redirects: self.follow_redirects,
                ..HttpOptions::default()
            },
            retry: RetryPolicy {
                max_retries: self.max_retries,
                backoff_init: Duration::from_secs(self.backoff_init_s),
                backoff_max: Duration::from_secs(self.backoff_max_s),
            },
            proxies,
            host_reset_after: reset_after(self.host_reset_after_s),
            ..OriginOptions::default()
        })
    }
}
