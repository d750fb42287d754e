//! Variables in symlink targets: `$(NAME)` and `$(NAME:-default)`.
//!
//! Owns the syntax; where values come from is the caller's business. Source: format.md 4.13.

use std::borrow::Cow;

use crate::path::PATH_MAX_BYTES;

/// Expands the variables of `target`; `variable` returns the value of a name, `None` when it is not set.
///
/// A value that is set counts even when it is empty; otherwise the default, otherwise nothing. Values are not expanded
/// again. The result is cut at 4095 bytes, the most that readlink(2) can return.
pub fn expand(target: &[u8], variable: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Cow<'_, [u8]> {
    let mut rest = target;
    let mut expanded = Vec::new();
    let mut has_variable = false;
    while let Some((before, name, default, after)) = next_variable(rest) {
        has_variable = true;
        expanded.extend_from_slice(before);
        match variable(name) {
            Some(value) => expanded.extend_from_slice(&value),
            None => expanded.extend_from_slice(default),
        }
        rest = after;
        if expanded.len() >= PATH_MAX_BYTES {
            break;
        }
    }
    if !has_variable {
        return Cow::Borrowed(&target[..target.len().min(PATH_MAX_BYTES)]);
    }
    expanded.extend_from_slice(rest);
    expanded.truncate(PATH_MAX_BYTES);
    Cow::Owned(expanded)
}

type Split<'a> = (&'a [u8], &'a [u8], &'a [u8], &'a [u8]);

// Text before the variable, its name, its default, text after it. Without a closing parenthesis nothing is a variable.
fn next_variable(text: &[u8]) -> Option<Split<'_>> {
    let start = position(text, *b"$(")?;
    let inside = &text[start + 2..];
    let end = inside.iter().position(|b| *b == b')')?;
    let (inner, after) = (&inside[..end], &inside[end + 1..]);
    let (name, default) = match position(inner, *b":-") {
        Some(colon) => (&inner[..colon], &inner[colon + 2..]),
        None => (inner, &b""[..]),
    };
    Some((&text[..start], name, default, after))
}

fn position(text: &[u8], pair: [u8; 2]) -> Option<usize> {
    text.windows(2).position(|window| window == pair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(target: &str) -> String {
        let variable = |name: &[u8]| match name {
            b"ARCH" => Some(b"x86_64".to_vec()),
            b"EMPTY" => Some(Vec::new()),
            b"NESTED" => Some(b"$(ARCH)".to_vec()),
            _ => None,
        };
        String::from_utf8(expand(target.as_bytes(), variable).into_owned()).unwrap()
    }

    #[test]
    fn section_4_13() {
        for (target, result) in [
            ("target/$(VAR:-dflt)/x", "target/dflt/x"),
            ("$(ARCH)", "x86_64"),
            ("a/$(ARCH:-i386)/b/$(ARCH)", "a/x86_64/b/x86_64"),
            ("$(EMPTY:-dflt)", ""),
            ("a$(VAR)b", "ab"),
            ("$(VAR:-)", ""),
            ("$(VAR:-/usr/lib)", "/usr/lib"),
            ("$(VAR:-a:-b)", "a:-b"),
            ("$(NESTED)", "$(ARCH)"),
            ("$(VAR:-$(ARCH))", "$(ARCH)"),
            ("plain", "plain"),
            ("$ARCH", "$ARCH"),
            ("a$", "a$"),
            ("a$(", "a$("),
            ("a$(ARCH", "a$(ARCH"),
            ("$(ARCH)/$(VAR", "x86_64/$(VAR"),
            ("$$(ARCH)", "$x86_64"),
            ("", ""),
        ] {
            assert_eq!(expanded(target), result, "{target}");
        }
    }

    #[test]
    fn the_result_is_bounded() {
        let long = vec![b'x'; 3000];
        let result = expand(b"$(A)$(A)$(A)", |_| Some(long.clone()));
        assert_eq!(result.len(), PATH_MAX_BYTES);
        assert_eq!(expand(&[b'y'; 5000], |_| None).len(), PATH_MAX_BYTES);
    }

    proptest! {
        #[test]
        fn any_target_expands(target in "[$():a-]{0,60}", value: Option<Vec<u8>>) {
            prop_assert!(expand(target.as_bytes(), |_| value.clone()).len() <= PATH_MAX_BYTES);
        }

        #[test]
        fn without_variables_nothing_changes(target in "[a-z(/:)-]{0,200}") {
            let result = expand(target.as_bytes(), |_| None);
            prop_assert_eq!(result.as_ref(), target.as_bytes());
        }
    }
}
