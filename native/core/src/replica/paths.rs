//! Which parts of a repository a partial replica has.
//!
//! Owns the rules, one a line: a path is kept with everything below it, one with `!` before it is left out with
//! everything below it; `*` stands for any letters of a name. Without a path to keep, everything is. Nested catalogs are
//! what can be left out: a catalog that is kept has all of its files. No I/O.

use nearfs_format::path::{RepoPath, check_name};

use crate::error::{Error, ErrorKind, Result};

/// More rules are a mistake: each nested catalog is compared with all of them.
const RULES_MAX: usize = 10_000;

/// The rules. The default keeps everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathRules {
    kept: Vec<Pattern>,
    left_out: Vec<Pattern>,
}

/// A path whose names may have `*` in them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<Vec<u8>>);

impl PathRules {
    /// Reads rules; empty lines and those that begin with `#` say nothing. `InvalidInput` for what is no path.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut rules = Self::default();
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")) {
            let (list, path) = match line.strip_prefix(b"!") {
                Some(path) => (&mut rules.left_out, path.trim_ascii()),
                None => (&mut rules.kept, line),
            };
            if list.len() == RULES_MAX {
                return Err(refused(line, format!("more than {RULES_MAX} rules")));
            }
            list.push(Pattern::parse(path).map_err(|reason| refused(line, reason))?);
        }
        Ok(rules)
    }

    /// Says whether the nested catalog at `mountpoint` is kept: it is in a path to keep or leads to one, and is in none
    /// that is left out.
    pub fn wants(&self, mountpoint: &RepoPath) -> bool {
        let names: Vec<&[u8]> = mountpoint.names().collect();
        let is_left_out = self.left_out.iter().any(|rule| rule.0.len() <= names.len() && rule.agrees(&names));
        !is_left_out && (self.kept.is_empty() || self.kept.iter().any(|rule| rule.agrees(&names)))
    }
}

impl Pattern {
    fn parse(path: &[u8]) -> Result<Self, String> {
        let Some(rest) = path.strip_prefix(b"/") else { return Err("a path begins with /".into()) };
        let names = rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
        names.iter().try_for_each(|name| check_name(name)).map_err(|e| e.to_string())?;
        Ok(Self(names))
    }

    /// Says whether the names that both have agree: one is in the other, then.
    fn agrees(&self, names: &[&[u8]]) -> bool {
        self.0.iter().zip(names).all(|(pattern, name)| matches(pattern, name))
    }
}

/// Says whether a name is what a pattern says. Takes the product of both lengths at the longest.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(letter) if *letter == name[seen] => (at, seen) = (at + 1, seen + 1),
            _ => match star {
                // The last star takes one letter more.
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (at, seen) = (after + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|letter| *letter == b'*'))
}

fn refused(line: &[u8], reason: impl std::fmt::Display) -> Error {
    let subject = format!("`{}`: {reason}", line.escape_ascii());
    Error::new(ErrorKind::InvalidInput, "read paths of a partial replica", subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> PathRules {
        PathRules::parse(text.as_bytes()).unwrap()
    }

    fn wants(rules: &PathRules, path: &str) -> bool {
        rules.wants(&RepoPath::parse(path.as_bytes()).unwrap())
    }

    #[test]
    fn paths_are_kept_with_what_leads_to_them_and_what_is_in_them() {
        let some = rules("# ours\n/sw/x86_64-*/gcc/\n\n  /data\n!/sw/*/gcc/old\n! /data/big*\n");
        for kept in ["/sw", "/sw/x86_64-el9", "/sw/x86_64-el9/gcc/13", "/data", "/data/small", "/data/a/b"] {
            assert!(wants(&some, kept), "{kept}");
        }
        for left in ["/other", "/sw/aarch64", "/sw/x86_64-el9/clang", "/sw/x86_64-el9/gcc/old/1", "/data/bigger/x"] {
            assert!(!wants(&some, left), "{left}");
        }
    }

    #[test]
    fn without_a_path_to_keep_everything_is_but_what_is_left_out() {
        assert!(wants(&PathRules::default(), "/any/thing"));
        let most = rules("!/tmp");
        assert!(wants(&most, "/any") && !wants(&most, "/tmp/x") && wants(&most, "/tmp2"));
    }

    #[test]
    fn stars_stand_for_any_letters_of_one_name() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*", "a", true),
            ("*b*", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("**", "x", true),
            ("a", "ab", false),
            ("ab", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        let long = "a".repeat(250);
        assert!(!matches(format!("{}b", "*a".repeat(100)).as_bytes(), long.as_bytes()));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["relative", "/a/../b", "!x", "/a\0b"] {
            assert_eq!(PathRules::parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput, "{text:?}");
        }
    }
}
