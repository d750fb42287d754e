//! Base URLs and keys: what may be asked for, and how it is spelled on the wire.
//!
//! Pure. Source: client.md 3.1 (escaping) and 3.3 (the `;` list of base URLs).

use std::fmt::Write as _;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// Splits a `;` list of base URLs (`CVMFS_SERVER_URL`) and checks each; trailing slashes are dropped.
///
/// Accepts `http://`, `https://` and `file://`.
pub fn host_list(list: &str) -> Result<Vec<Arc<str>>> {
    let hosts: Vec<_> =
        list.split(';').map(str::trim).filter(|url| !url.is_empty()).map(base_url).collect::<Result<_>>()?;
    if hosts.is_empty() {
        return Err(invalid(list, "it names no host; CVMFS_SERVER_URL has to"));
    }
    Ok(hosts)
}

fn base_url(url: &str) -> Result<Arc<str>> {
    let url = url.trim_end_matches('/');
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(invalid(url, "it has no scheme; it has to begin with http://, https:// or file://"));
    };
    match scheme {
        "http" | "https" => {
            let parsed: hyper::Uri = url.parse().map_err(|e| invalid(url, "it is malformed").with_source(e))?;
            if parsed.host().is_none_or(str::is_empty) || parsed.query().is_some() {
                return Err(invalid(url, "it has to name a host and must not hold a query"));
            }
            Ok(url.into())
        }
        "file" if rest.starts_with('/') => Ok(url.into()),
        "file" => Err(invalid(url, "file:// has to be followed by an absolute directory")),
        _ => Err(unknown_scheme(url)),
    }
}

/// Returns the error for a URL of another scheme.
pub(super) fn unknown_scheme(url: &str) -> Error {
    let subject = format!("{url}: its scheme is unknown; use http://, https:// or file://");
    Error::new(ErrorKind::Unsupported, "use host", subject)
}

fn invalid(url: &str, reason: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "use host", format!("`{url}`: {reason}"))
}

/// Checks that `key` stays below the repository root: relative, no empty, `.` or `..` component, no NUL.
pub fn check_key(key: impl AsRef<[u8]>) -> Result<()> {
    let key = key.as_ref();
    let stays_below =
        !key.contains(&0) && key.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if stays_below {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        "fetch",
        format!("`{}`: it is no key below a repository root", key.escape_ascii()),
    ))
}

/// Escapes a path: bytes outside `[0-9A-Za-z/:.@+-_~[],]` become `%XX`, upper-case.
pub fn escape(path: impl AsRef<[u8]>) -> String {
    let path = path.as_ref();
    let mut escaped = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"/:.@+-_~[],".contains(byte) {
            escaped.push(*byte as char);
        } else {
            // Writing into a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Undoes percent-escapes, byte by byte; a lone `%` stands for itself.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if let (b'%', Some(high), Some(low)) = (*byte, digit(at + 1), digit(at + 2)) {
            plain.push((high << 4 | low) as u8);
            at += 3;
        } else {
            plain.push(*byte);
            at += 1;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_and_trimmed() {
        let hosts = host_list("http://a/cvmfs/x/; http://b:8000/cvmfs/x ;;https://c;file:///srv/cvmfs/x").unwrap();
        assert_eq!(
            hosts,
            ["http://a/cvmfs/x", "http://b:8000/cvmfs/x", "https://c", "file:///srv/cvmfs/x"].map(Arc::from)
        );
    }

    #[test]
    fn unusable_base_urls_are_refused_with_their_kind() {
        let cases = [
            ("", ErrorKind::InvalidInput),
            (" ; ", ErrorKind::InvalidInput),
            ("host/cvmfs", ErrorKind::InvalidInput),
            ("http://", ErrorKind::InvalidInput),
            ("http://a b/c", ErrorKind::InvalidInput),
            ("http://a/c?x=1", ErrorKind::InvalidInput),
            ("file://relative", ErrorKind::InvalidInput),
            ("https:///cvmfs/x", ErrorKind::InvalidInput),
            ("http://a/cvmfs/x;ftp://b/c", ErrorKind::Unsupported),
        ];
        for (list, kind) in cases {
            assert_eq!(host_list(list).unwrap_err().kind(), kind, "{list}");
        }
    }

    #[test]
    fn keys_cannot_leave_the_root() {
        for key in ["data/ab/cdC", ".cvmfspublished", "a/..b/c d"] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        for key in ["", "/a", "a//b", "a/", "..", "a/../b", "./a", "a\0b"] {
            assert!(check_key(key).is_err(), "{key}");
        }
    }

    #[test]
    fn escaping_keeps_exactly_the_characters_of_the_specification() {
        assert_eq!(escape("data/ab/0-9_A~Z@[x],+:."), "data/ab/0-9_A~Z@[x],+:.");
        assert_eq!(escape("a b%c?d#e&ä"), "a%20b%25c%3Fd%23e%26%C3%A4");
        assert_eq!(unescape("a%20b%25c%C3%A4%"), "a b%cä%".as_bytes());
    }
}
