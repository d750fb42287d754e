//! Why an attempt failed: the class that retry and fail-over rules go by, beside the error for the caller.
//!
//! Source: client.md 3.4. A class speaks of the host, unless [`Failure::by_proxy`] says that it is the proxy's.

use crate::error::{Error, ErrorKind};

/// The class of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The host's name has no address.
    Resolve,
    /// No connection.
    Connection,
    /// The host asked to come back later.
    Busy,
    /// The host's certificate is not believed, or its TLS not understood.
    Tls,
    /// The host answered with an HTTP error, or says that the key does not exist.
    Http,
    /// No answer within the time-out, or fewer bytes than the low-speed limit.
    TooSlow,
    /// The answer ended early.
    ShortTransfer,
    /// The bytes are not what was asked for.
    Corrupted,
    /// The answer could not be kept here; no other host would help.
    Local,
    /// The caller gave up.
    Cancelled,
    /// The URL's scheme, or what the host wants, is unknown to this version.
    Unsupported,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 11] = [
        Self::Resolve,
        Self::Connection,
        Self::Busy,
        Self::Tls,
        Self::Http,
        Self::TooSlow,
        Self::ShortTransfer,
        Self::Corrupted,
        Self::Local,
        Self::Cancelled,
        Self::Unsupported,
    ];

    /// Says whether the same host may do better a moment later (a transfer error of client.md 3.4).
    pub const fn is_transfer_error(self) -> bool {
        matches!(self, Self::Connection | Self::Busy | Self::TooSlow | Self::ShortTransfer)
    }

    /// Says whether another host may do better.
    pub const fn is_host_fault(self) -> bool {
        !matches!(self, Self::Local | Self::Cancelled)
    }

    /// Says whether the failure may pass by itself.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Resolve | Self::Connection | Self::Busy | Self::TooSlow | Self::ShortTransfer)
    }
}

impl FailureClass {
    /// Returns the reference's words for the class, of a proxy or a host; scripts look for them in logs.
    pub const fn text(self, by_proxy: bool) -> &'static str {
        match (self, by_proxy) {
            (Self::Resolve, true) => "failed to resolve proxy address",
            (Self::Resolve, false) => "failed to resolve host address",
            (Self::Connection | Self::Busy, true) => "proxy connection problem",
            (Self::Connection | Self::Busy, false) | (Self::Tls, _) => "host connection problem",
            (Self::Http, true) => "proxy returned HTTP error",
            (Self::Http, false) => "host returned HTTP error",
            (Self::TooSlow, true) => "proxy serving data too slowly",
            (Self::TooSlow, false) => "host serving data too slowly",
            (Self::ShortTransfer, true) => "proxy data transfer cut short",
            (Self::ShortTransfer, false) => "host data transfer cut short",
            (Self::Corrupted, _) => "corrupted data received",
            (Self::Local, _) => "local I/O failure",
            (Self::Cancelled, _) => "request canceled",
            (Self::Unsupported, _) => "Unsupported URL in protocol",
        }
    }

    /// Says whether nothing came over the network at all, so that other ways are worth a look.
    pub const fn is_silence(self) -> bool {
        matches!(self, Self::Resolve | Self::Connection | Self::TooSlow)
    }
}

/// A failed attempt.
#[derive(Debug)]
pub struct Failure {
    /// What rules go by.
    pub class: FailureClass,
    /// The proxy failed, not the host behind it.
    pub by_proxy: bool,
    /// An answer had begun: whoever failed is there.
    pub has_begun: bool,
    /// What the caller is told.
    pub error: Error,
}

impl Failure {
    /// Builds a failure.
    pub fn new(class: FailureClass, error: Error) -> Self {
        Self { class, by_proxy: false, has_begun: false, error }
    }

    /// Builds a failure of reaching the host: kind [`ErrorKind::Unreachable`], naming `url` and the reason.
    pub fn unreachable(class: FailureClass, url: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(class, Error::new(ErrorKind::Unreachable, "fetch", format!("{url}: {reason}")))
    }

    /// Wraps an error of the sink. One that blames the bytes gets `url`: the sink knows the object, not who sent it.
    pub fn from_sink(url: &str, error: Error) -> Self {
        match error.kind() {
            ErrorKind::Corrupt => {
                Self::new(FailureClass::Corrupted, Error::new(ErrorKind::Corrupt, "fetch", url).with_source(error))
            }
            ErrorKind::Cancelled => Self::new(FailureClass::Cancelled, error),
            _ => Self::new(FailureClass::Local, error),
        }
    }
}
