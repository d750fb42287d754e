//! Tags of a repository's history: what a row holds, which names are valid, which tag a date means.
//!
//! Owns the rules, not the database. Source: format.md 6.

use std::cmp::Ordering;

use crate::error::{FormatError, Result};
use crate::hash::ContentHash;
use crate::time::CalendarTime;

/// The tag that always points to the current root catalog.
pub const TRUNK: &str = "trunk";
/// The tag that points to the root catalog before the last publish.
pub const TRUNK_PREVIOUS: &str = "trunk-previous";
/// Description of [`TRUNK`].
pub const TRUNK_DESCRIPTION: &str = "current HEAD";
/// Description of [`TRUNK_PREVIOUS`].
pub const TRUNK_PREVIOUS_DESCRIPTION: &str = "default undo target";
/// Longest tag or branch name that we accept, in bytes; the format knows no limit.
pub const NAME_LIMIT_BYTES: usize = 255;

/// One row of the `tags` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Unique name.
    pub name: String,
    /// Hash of the root catalog.
    pub root_hash: ContentHash,
    /// Revision of the root catalog.
    pub revision: u64,
    /// `last_modified` of the root catalog, Unix seconds.
    pub timestamp: i64,
    /// Free text.
    pub description: String,
    /// Uncompressed size of the root catalog in bytes; 0 where an old schema does not say.
    pub size_bytes: u64,
    /// Branch; empty for the default branch.
    pub branch: String,
    /// Always 0 since 2.1; older releases: 0 trunk, 4 devel, 16 test, 64 production.
    pub channel: i64,
}

impl Tag {
    /// Orders as tags are listed: newest timestamp first, then highest revision, then name.
    pub fn listing_order(&self, other: &Self) -> Ordering {
        let newest_first = (other.timestamp, other.revision).cmp(&(self.timestamp, self.revision));
        newest_first.then_with(|| self.name.cmp(&other.name))
    }
}

/// Returns the tag that a date means: the highest revision on the default branch that is not newer than `unix_s`.
pub fn tag_at(tags: &[Tag], unix_s: i64) -> Option<&Tag> {
    tags.iter().filter(|tag| tag.branch.is_empty() && tag.timestamp <= unix_s).max_by_key(|tag| tag.revision)
}

/// Checks a tag name: characters `a-zA-Z0-9-_./:`, at least one, at most 255 bytes.
pub fn check_tag_name(name: &str) -> Result<()> {
    check_name("tag name", name, b"-_./:", 1)
}

/// Checks a branch name: characters `a-zA-Z0-9-_.@/`; empty is the default branch.
pub fn check_branch_name(name: &str) -> Result<()> {
    check_name("branch name", name, b"-_.@/", 0)
}

fn check_name(subject: &'static str, name: &str, marks: &[u8], least_bytes: usize) -> Result<()> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || marks.contains(&b);
    if (least_bytes..=NAME_LIMIT_BYTES).contains(&name.len()) && name.bytes().all(is_allowed) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_LIMIT_BYTES).collect();
    let reason = format!(
        "`{}`: use {least_bytes} to {NAME_LIMIT_BYTES} of the characters a-z A-Z 0-9 {}",
        shown.escape_debug(),
        marks.escape_ascii()
    );
    Err(FormatError::malformed(subject, reason))
}

/// Says whether users may neither create nor delete a tag of this name.
pub fn is_reserved(name: &str) -> bool {
    name == TRUNK || name == TRUNK_PREVIOUS
}

/// Returns the name of an automatic tag, `generic-YYYY-MM-DDTHH:MM:SSZ`; `collision` is 0 for the first tag of a
/// second, then 1, 2 and so on.
pub fn generic_tag_name(unix_s: i64, collision: u32) -> String {
    let moment = CalendarTime::from_unix(unix_s);
    if collision == 0 { format!("generic-{moment}") } else { format!("generic_{collision}-{moment}") }
}

/// Says whether a tag was made automatically; old releases wrote fractions of a second.
pub fn is_generic_tag_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some((head, date)) = name.split_once('-') else { return false };
    let is_head = head == "generic" || head.strip_prefix("generic_").is_some_and(is_number);
    let is_date = |text: &str| CalendarTime::parse_iso(text.as_bytes()).is_ok();
    let has_fraction = || {
        let (whole, fraction) = date.strip_suffix('Z')?.split_once('.')?;
        Some(fraction.len() == 3 && is_number(fraction) && is_date(&format!("{whole}Z")))
    };
    is_head && (is_date(date) || has_fraction() == Some(true))
}

/// Parses `CVMFS_REPOSITORY_DATE`, `YYYY-MM-DDTHH:MM:SSZ`, to Unix seconds.
pub fn parse_date(text: &str) -> Result<i64> {
    CalendarTime::parse_iso(text.as_bytes()).map(CalendarTime::to_unix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashAlgorithm;
    use proptest::prelude::*;

    fn tag(name: &str, revision: u64, timestamp: i64, branch: &str) -> Tag {
        Tag {
            name: name.into(),
            root_hash: HashAlgorithm::Sha1.hash(name.as_bytes()),
            revision,
            timestamp,
            description: String::new(),
            size_bytes: 0,
            branch: branch.into(),
            channel: 0,
        }
    }

    #[test]
    fn a_date_means_the_highest_revision_up_to_it() {
        let tags = [
            tag("a", 1, 100, ""),
            tag("b", 3, 200, ""),
            tag("rolled-back", 2, 250, ""),
            tag("branched", 9, 150, "dev"),
            tag("c", 4, 300, ""),
        ];
        for (unix_s, name) in [(99, None), (100, Some("a")), (260, Some("b")), (300, Some("c")), (i64::MAX, Some("c"))]
        {
            assert_eq!(tag_at(&tags, unix_s).map(|t| t.name.as_str()), name, "{unix_s}");
        }
    }

    #[test]
    fn listings_begin_with_the_newest() {
        let mut tags = [tag("a", 1, 100, ""), tag("b", 3, 200, ""), tag("c", 4, 200, ""), tag("aa", 4, 200, "")];
        tags.sort_by(Tag::listing_order);
        assert_eq!(tags.map(|t| t.name), ["aa", "c", "b", "a"]);
    }

    #[test]
    fn names_of_section_6_1() {
        for name in ["v1.0", "a/b:c_d-e", "trunk", &"x".repeat(255)] {
            assert!(check_tag_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a@b", "é", "a\n", "$(x)", &"x".repeat(256)] {
            assert!(check_tag_name(name).is_err(), "{name}");
        }
        assert!(check_branch_name("").is_ok() && check_branch_name("a@b/c").is_ok());
        assert!(check_branch_name("a:b").is_err());
        assert!(is_reserved("trunk") && is_reserved("trunk-previous") && !is_reserved("trunk2"));
    }

    #[test]
    fn generic_names_are_known_again() {
        assert_eq!(generic_tag_name(1_709_164_800, 0), "generic-2024-02-29T00:00:00Z");
        assert_eq!(generic_tag_name(1_709_164_800, 2), "generic_2-2024-02-29T00:00:00Z");
        for name in
            ["generic-2024-02-29T00:00:00Z", "generic_12-2024-02-29T00:00:00Z", "generic-2015-01-01T00:00:00.123Z"]
        {
            assert!(is_generic_tag_name(name), "{name}");
        }
        for name in [
            "generic",
            "generic-",
            "generic_-2024-02-29T00:00:00Z",
            "generic_x-2024-02-29T00:00:00Z",
            "generic-2015-01-01T00:00:00.12Z",
            "generic-2015-01-01T00:00:00.12xZ",
            "mygeneric-2024-02-29T00:00:00Z",
            "generic-2024-02-29T00:00:00Z-keep",
        ] {
            assert!(!is_generic_tag_name(name), "{name}");
        }
    }

    #[test]
    fn dates_become_unix_seconds() {
        assert_eq!(parse_date("2024-02-29T00:00:00Z").unwrap(), 1_709_164_800);
        assert!(parse_date("2024-02-29").unwrap_err().to_string().contains("YYYY-MM-DDTHH:MM:SSZ"));
    }

    proptest! {
        #[test]
        fn every_generic_name_matches_and_is_valid(unix_s in 0i64..253_402_300_800, collision: u32) {
            let name = generic_tag_name(unix_s, collision);
            prop_assert!(is_generic_tag_name(&name) && check_tag_name(&name).is_ok());
        }

        #[test]
        fn any_text_is_judged(name: String) {
            let _ = (check_tag_name(&name), check_branch_name(&name), is_generic_tag_name(&name), parse_date(&name));
        }
    }
}
