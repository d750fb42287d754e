//! The engine's one error: a kind, the operation, the subject, and what lies below.
//!
//! The kinds are what a caller does about a failure. Missing, corrupt, unreachable and untrusted are four different
//! things from the wire to the exit code; errno, Python exception and exit code each map [`ErrorKind`] in one
//! exhaustive table elsewhere. The strings of [`ErrorKind::as_str`] are append-only.

use std::fmt;
use std::io;

use nearfs_format::FormatError;

/// What kind of failure it is: what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing does not exist, and whoever said so had the authority.
    NotFound,
    /// The bytes are not what their hash, their signature's text or their format says.
    Corrupt,
    /// Nobody could be reached, or not within the time allowed; trying again later may help.
    Unreachable,
    /// The chain of trust does not hold: wrong key, expired whitelist, roll-back.
    Untrusted,
    /// Somebody else holds it: a lock, a mount point, a transaction.
    Busy,
    /// A write to something that is only read.
    ReadOnly,
    /// The caller asked for something that makes no sense; nothing was done.
    InvalidInput,
    /// The operating system, or the repository's owner, forbids it.
    PermissionDenied,
    /// A disk or a quota is full.
    NoSpace,
    /// The caller gave up.
    Cancelled,
    /// A form that this version does not know.
    Unsupported,
    /// The local disk failed us.
    LocalIo,
    /// A broken promise inside nearfs: a bug.
    Internal,
}

impl ErrorKind {
    /// Every kind, in the order of their strings' introduction.
    pub const ALL: [Self; 13] = [
        Self::NotFound,
        Self::Corrupt,
        Self::Unreachable,
        Self::Untrusted,
        Self::Busy,
        Self::ReadOnly,
        Self::InvalidInput,
        Self::PermissionDenied,
        Self::NoSpace,
        Self::Cancelled,
        Self::Unsupported,
        Self::LocalIo,
        Self::Internal,
    ];

    /// Returns the stable string that crosses the language boundary.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Corrupt => "corrupt",
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted",
            Self::Busy => "busy",
            Self::ReadOnly => "read-only",
            Self::InvalidInput => "invalid-input",
            Self::PermissionDenied => "permission-denied",
            Self::NoSpace => "no-space",
            Self::Cancelled => "cancelled",
            Self::Unsupported => "unsupported",
            Self::LocalIo => "local-io",
            Self::Internal => "internal",
        }
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A failure of the engine.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    source: Option<Source>,
}

/// Shorthand for results of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Builds an error: `operation` is a verb phrase ("open catalog"), `subject` names the object and says the reason.
    pub fn new(kind: ErrorKind, operation: &'static str, subject: impl Into<String>) -> Self {
        Self { kind, operation, subject: subject.into(), source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Wraps a failure of the operating system; the kind follows from the error number.
    pub fn io(operation: &'static str, subject: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            io::ErrorKind::ResourceBusy => ErrorKind::Busy,
            _ => ErrorKind::LocalIo,
        };
        Self::new(kind, operation, subject).with_source(source)
    }

    /// Wraps a parser's refusal of what lay in `subject`.
    pub fn format(operation: &'static str, subject: impl Into<String>, source: FormatError) -> Self {
        let kind = match source {
            FormatError::Untrusted { .. } => ErrorKind::Untrusted,
            FormatError::Unsupported { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Corrupt,
        };
        Self::new(kind, operation, subject).with_source(source)
    }

    /// Returns the same once more, for the next one who asks: of what lies below, the words.
    #[must_use]
    pub fn again(&self) -> Self {
        let again = Self::new(self.kind, self.operation, self.subject.clone());
        let words = self.causes().map(ToString::to_string).collect::<Vec<_>>();
        if words.is_empty() { again } else { again.with_source(words.join(": ")) }
    }

    /// Returns what lies below, outermost first, as far as each does not name the next itself.
    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(std::error::Error::source(self), |cause| {
            // An engine error's own text already names its causes.
            if cause.is::<Self>() { None } else { cause.source() }
        })
    }

    /// Returns the kind.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the operation that failed.
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns what it failed on.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {} {}", self.operation, self.subject)?;
        self.causes().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_distinct_strings() {
        let strings: std::collections::HashSet<_> = ErrorKind::ALL.iter().map(|k| k.as_str()).collect();
        assert_eq!(strings.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn text_names_operation_subject_and_every_cause() {
        let inner = Error::io("read", "object ab", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(inner.kind(), ErrorKind::NoSpace);
        let outer = Error::new(ErrorKind::Corrupt, "open catalog", "/x").with_source(inner);
        assert_eq!(outer.to_string(), "failed to open catalog /x: failed to read object ab: no storage space");
        let again = outer.again();
        assert_eq!((again.kind(), again.to_string()), (outer.kind(), outer.to_string()));
        let bare = Error::new(ErrorKind::NotFound, "open", "x");
        assert_eq!(bare.again().to_string(), bare.to_string());
    }
}
