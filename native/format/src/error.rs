//! The one error of this crate: what was being read, and what is wrong with it.
//!
//! Owns no policy: whether a malformed object means "corrupt" or "untrusted" is decided by the engine, except for the
//! trust chain, whose failures are their own variant.

use thiserror::Error;

/// Why bytes could not become a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes do not have the form that the format asks for.
    #[error("malformed {subject}: {reason}")]
    Malformed {
        /// What was being read, for instance `manifest` or `whitelist`.
        subject: &'static str,
        /// What is wrong, in words.
        reason: String,
    },
    /// The bytes are larger than anything legitimate, or than what was announced.
    #[error("{subject} is too large: more than {limit_bytes} bytes")]
    TooLarge {
        /// What was being read.
        subject: &'static str,
        /// The limit that was exceeded, in bytes.
        limit_bytes: u64,
    },
    /// The content does not have the hash that names it.
    #[error("{subject} has hash {actual} instead of {expected}")]
    HashMismatch {
        /// What was being read.
        subject: &'static str,
        /// The hash that the reference asked for.
        expected: String,
        /// The hash that the bytes have.
        actual: String,
    },
    /// The bytes are well formed, but the chain of trust does not hold.
    #[error("{subject} is not trusted: {reason}")]
    Untrusted {
        /// Which link of the chain, for instance `whitelist`.
        subject: &'static str,
        /// Why it does not hold, with the way out where there is one.
        reason: String,
    },
    /// The bytes use a form that this version cannot read.
    #[error("unsupported {subject}: {reason}")]
    Unsupported {
        /// What was being read.
        subject: &'static str,
        /// What it asks for.
        reason: String,
    },
}

impl FormatError {
    /// Builds a [`FormatError::Malformed`].
    pub fn malformed(subject: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed { subject, reason: reason.into() }
    }

    /// Builds a [`FormatError::Untrusted`].
    pub fn untrusted(subject: &'static str, reason: impl Into<String>) -> Self {
        Self::Untrusted { subject, reason: reason.into() }
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;
