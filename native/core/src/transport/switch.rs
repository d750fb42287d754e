//! How a change of host or proxy is told in the log: in the reference's words, which sites search for (client.md 3.3).

use super::Target;

/// Tells what changed between two targets, and why.
pub(super) fn announce(from: &Target, to: &Target, reason: &str) {
    if from.proxy != to.proxy {
        let host = &to.base_url;
        tracing::warn!(
            "(manager 'standard') switching proxy from {} to {}. Reason: {reason} [Current host: {host}]",
            from.proxy,
            to.proxy
        );
    }
    if from.base_url != to.base_url {
        tracing::warn!("(manager 'standard') switching host from {} to {} ({reason})", from.base_url, to.base_url);
    }
}
