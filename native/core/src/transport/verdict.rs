//! What an HTTP answer means: status, redirect, range and length, each as a failure with its class.
//!
//! Pure. Source: client.md 3.4.

use std::fmt::Display;

use hyper::body::Incoming;
use hyper::header::{AGE, CONTENT_RANGE, HeaderMap, LOCATION};
use hyper::{Response, StatusCode, Uri};

use super::connect::Endpoint;
use super::failure::{Failure, FailureClass};
use super::proxy::Proxy;
use super::resolver::Party;
use super::{Request, url};
use crate::error::{Error, ErrorKind};

/// Returns where the connection for a URL leads: to its host, or to the proxy by which it is asked.
pub(super) fn endpoint(uri: &Uri, proxy: &Proxy) -> Result<Endpoint, Failure> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(Failure::new(FailureClass::Unsupported, url::unknown_scheme(&uri.to_string()))),
    };
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let tls = is_tls.then(|| (host.clone(), port));
    Ok(match proxy {
        Proxy::Direct => Endpoint { party: Party::Host, host, port, tls },
        Proxy::Via { host, port } => Endpoint { party: Party::Proxy, host: host.clone(), port: *port, tls },
    })
}

/// Returns where a redirect leads; nothing if the answer is none.
pub(super) fn redirect(from: &Uri, response: &Response<Incoming>) -> Option<Result<Uri, Failure>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let absolute = if location.contains("://") {
        location.to_owned()
    } else {
        let authority = from.authority().map_or("", |a| a.as_str());
        let parent = from.path().rsplit_once('/').map_or("", |(parent, _)| parent);
        let separator = if location.starts_with('/') { "" } else { "/" };
        let parent = if separator.is_empty() { "" } else { parent };
        let scheme = from.scheme_str().unwrap_or("http");
        format!("{scheme}://{authority}{parent}{separator}{location}")
    };
    let astray = |what: &str| {
        let reason = format!("redirects to `{}`, which is {what}", location.escape_debug());
        Failure::unreachable(FailureClass::Http, &from.to_string(), reason)
    };
    let next = absolute.parse().map_err(|e| astray(&format!("no URL: {e}")));
    // The host is at fault, not who wrote the configuration, so its way is one that does not work.
    Some(next.and_then(|next: Uri| match next.scheme_str() {
        Some("http" | "https") => Ok(next),
        _ => Err(astray("neither http:// nor https://")),
    }))
}

/// Says whether an answer other than success is the proxy's own: by its headers, or by a status that no host of a
/// repository has a reason for.
pub(super) fn is_by_proxy(response: &Response<Incoming>) -> bool {
    let headers = response.headers();
    let told = headers.get("proxy-status").and_then(|value| value.to_str().ok()).is_some_and(|s| s.contains("error="));
    let status = response.status();
    let of_host = status.is_server_error() || matches!(status.as_u16(), 400 | 404 | 429);
    told || headers.contains_key("x-squid-error") || !of_host
}

/// Says whether an answer was kept by a cache on the way: it has an age, or says that it was a hit.
pub(super) fn is_of_a_cache(headers: &HeaderMap) -> bool {
    let age = headers.get(AGE).and_then(|value| value.to_str().ok());
    let is_old = age.and_then(|age| age.trim().parse::<u64>().ok()).is_some_and(|seconds| seconds > 0);
    // Squid and most networks of caches say `HIT`, alone or with more about it.
    let told = headers.get("x-cache").and_then(|value| value.to_str().ok());
    is_old || told.is_some_and(|told| told.to_ascii_uppercase().contains("HIT"))
}

/// Puts a failed transfer on the proxy's account where there is one: it is who did not deliver.
pub(super) fn blame(failure: Failure, proxy: &Proxy) -> Failure {
    let is_transfer = failure.class.is_transfer_error() || failure.class == FailureClass::Resolve;
    if *proxy == Proxy::Direct || !is_transfer {
        return failure;
    }
    let error = Error::new(failure.error.kind(), "fetch", format!("by proxy {proxy}")).with_source(failure.error);
    Failure { by_proxy: true, ..Failure::new(failure.class, error) }
}

/// Says what a status other than success means.
pub(super) fn refused(uri: &Uri, status: StatusCode) -> Failure {
    let subject = format!("{uri}: HTTP status {status}");
    let (class, kind) = match status.as_u16() {
        404 | 410 => (FailureClass::Http, ErrorKind::NotFound),
        401 | 403 => (FailureClass::Http, ErrorKind::PermissionDenied),
        429 => (FailureClass::Busy, ErrorKind::Unreachable),
        _ => (FailureClass::Http, ErrorKind::Unreachable),
    };
    Failure::new(class, Error::new(kind, "fetch", subject))
}

/// Checks that the answer holds the part that was asked for.
pub(super) fn check_range(uri: &Uri, response: &Response<Incoming>, request: &Request) -> Result<(), Failure> {
    let wrong = |reason: &str| {
        let error = Error::new(ErrorKind::Unsupported, "fetch", format!("{uri}: {reason}"));
        Err(Failure::new(FailureClass::Http, error))
    };
    match (request.range, response.status()) {
        (None, StatusCode::PARTIAL_CONTENT) => {
            let reason = "the host sent a part although the whole was asked for";
            Err(Failure::unreachable(FailureClass::Http, &uri.to_string(), reason))
        }
        (Some(range), StatusCode::PARTIAL_CONTENT) => {
            let sent = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if sent.starts_with(&format!("bytes {}-", range.offset)) {
                return Ok(());
            }
            wrong("the host sent another part than the one that was asked for")
        }
        (Some(_), _) => wrong("the host does not send parts of files (byte ranges)"),
        (None, _) => Ok(()),
    }
}

/// Checks a length that is announced or was counted.
pub(super) fn check_length(uri: &Uri, length: Option<u64>, request: &Request) -> Result<(), Failure> {
    let Some(length) = length else { return Ok(()) };
    if length > request.max_bytes {
        return Err(too_long(uri, request));
    }
    match request.expected_length {
        Some(expected) if expected != length => {
            Err(corrupted(uri, format!("the answer has {length} bytes instead of {expected}")))
        }
        _ => Ok(()),
    }
}

/// Builds the failure of an answer longer than it may be.
pub(super) fn too_long(uri: &Uri, request: &Request) -> Failure {
    corrupted(uri, format!("the answer is longer than {} bytes, which is all that it may hold", request.max_bytes))
}

fn corrupted(uri: &Uri, reason: impl Display) -> Failure {
    Failure::new(FailureClass::Corrupted, Error::new(ErrorKind::Corrupt, "fetch", format!("{uri}: {reason}")))
}

/// Builds the failure of an exchange that ended before an answer came.
pub(super) fn broken(uri: &Uri, error: &hyper::Error) -> Failure {
    let reason = if error.is_parse() {
        format!("the answer is no HTTP: {error}")
    } else {
        format!("the connection broke before an answer came: {error}")
    };
    Failure::unreachable(FailureClass::ShortTransfer, &uri.to_string(), reason)
}

/// Builds the failure of an answer that ended too early.
pub(super) fn broken_off(uri: &Uri, length: u64, error: &hyper::Error) -> Failure {
    let reason = format!("the answer broke off after {length} bytes: {error}");
    Failure::unreachable(FailureClass::ShortTransfer, &uri.to_string(), reason)
}

/// Says whether a request that failed so on a kept connection may simply not have been seen by the host.
pub(super) fn may_repeat(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_user()
}

/// Builds the failure of a request that its caller gave up.
pub(super) fn cancelled(url: &str) -> Failure {
    Failure::new(
        FailureClass::Cancelled,
        Error::new(ErrorKind::Cancelled, "fetch", format!("{url}: the caller gave up")),
    )
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn caches_on_the_way_are_known_by_what_they_say() {
        let says = |name: &'static str, value: &'static str| {
            let headers = [(HeaderName::from_static(name), HeaderValue::from_static(value))];
            is_of_a_cache(&headers.into_iter().collect())
        };
        assert!(
            says("age", "12")
                && says("x-cache", "HIT from near")
                && says("x-cache", "TCP_HIT")
                && says("x-cache", "hit")
        );
        assert!(!says("age", "0") && !says("age", "old") && !says("x-cache", "MISS from near") && !says("etag", "HIT"));
    }
}
