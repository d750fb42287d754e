//! Proxies as a site writes them: one by its URL, and lists of groups (client.md 3.2).
//!
//! Pure. Which of them is asked is [`super::groups`]' business.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// Port of a proxy that names none.
const DEFAULT_PORT: u16 = 3128;
/// More proxies than any site has; a list that is longer is a mistake.
pub(super) const MAX_PROXIES: usize = 1024;

/// A way out: a proxy, or none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// The host itself is asked.
    Direct,
    /// A proxy is asked.
    Via {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("DIRECT"),
            Self::Via { host, port } if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Self::Via { host, port } => write!(f, "http://{host}:{port}"),
        }
    }
}

impl Proxy {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let refuse = |reason: &str| {
            let subject = format!("`{}`: {reason} (CVMFS_HTTP_PROXY)", text.escape_debug());
            Error::new(ErrorKind::InvalidInput, "use proxy", subject)
        };
        if text.eq_ignore_ascii_case("DIRECT") {
            return Ok(Self::Direct);
        }
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(refuse("proxies are asked over http only")),
            None => text,
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']').ok_or_else(|| refuse("no `]` after the address"))?;
                (host, after.strip_prefix(':'))
            }
            None => match rest.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(is_name) {
            return Err(refuse("no name or address of a proxy"));
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|p| *p > 0).ok_or_else(|| refuse("no port number"))?,
            None => DEFAULT_PORT,
        };
        Ok(Self::Via { host: host.to_owned(), port })
    }
}

/// Reads `CVMFS_HTTP_PROXY` and `CVMFS_FALLBACK_PROXY`: `;` between groups, `|` between equals. With a fallback, DIRECT
/// is taken out of both. Returns the groups, those of the fallback last, and the number of those.
pub(super) fn lists(list: &str, fallback: &str) -> Result<(Vec<Vec<Arc<Proxy>>>, usize)> {
    let refuse = |subject: String| Err(Error::new(ErrorKind::InvalidInput, "use proxy", subject));
    let (mut groups, mut last) = (groups_of(list)?, groups_of(fallback)?);
    if !last.is_empty() {
        for groups in [&mut groups, &mut last] {
            for group in groups.iter_mut() {
                group.retain(|proxy| **proxy != Proxy::Direct);
            }
            groups.retain(|group| !group.is_empty());
        }
    }
    let fallbacks = last.len();
    groups.append(&mut last);
    if groups.is_empty() {
        return refuse("no proxy, and not DIRECT either (CVMFS_HTTP_PROXY)".to_owned());
    }
    if groups.iter().map(Vec::len).sum::<usize>() > MAX_PROXIES {
        return refuse(format!("a list of more than {MAX_PROXIES} (CVMFS_HTTP_PROXY)"));
    }
    Ok((groups, fallbacks))
}

fn groups_of(list: &str) -> Result<Vec<Vec<Arc<Proxy>>>> {
    let mut groups = Vec::new();
    for group in list.split(';') {
        let members: Vec<&str> = group.split('|').map(str::trim).filter(|member| !member.is_empty()).collect();
        if !members.is_empty() {
            groups.push(members.into_iter().map(|m| Proxy::parse(m).map(Arc::new)).collect::<Result<Vec<_>>>()?);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_sites_write_them() {
        for (list, fallback, expected, fallbacks) in [
            ("DIRECT", "", "DIRECT", 0),
            ("http://a:3128;DIRECT", "", "http://a:3128;DIRECT", 0),
            ("a|b:80 ; http://c:1/|direct", "", "http://a:3128|http://b:80;http://c:1|DIRECT", 0),
            ("http://[fd00::1]:3128", "", "http://[fd00::1]:3128", 0),
            (";;a;;", "", "http://a:3128", 0),
            ("a;DIRECT", "f", "http://a:3128;http://f:3128", 1),
            ("DIRECT", "f|DIRECT;g", "http://f:3128;http://g:3128", 2),
        ] {
            let (groups, last) = lists(list, fallback).unwrap();
            let text: Vec<String> =
                groups.iter().map(|g| g.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")).collect();
            assert_eq!((text.join(";").as_str(), last), (expected, fallbacks), "{list}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_by_name() {
        for (list, said) in [
            ("", "not DIRECT either"),
            ("socks5://a:1", "over http only"),
            ("http://a:0", "no port number"),
            ("http://a:99999", "no port number"),
            ("http://:3128", "no name or address"),
            ("a b", "no name or address"),
            ("http://[fd00::1:3128", "no `]`"),
        ] {
            let error = lists(list, "").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{list}");
            assert!(error.to_string().contains(said), "{list}: {error}");
        }
        assert!(lists(&"a;".repeat(MAX_PROXIES + 1), "").is_err());
    }
}
