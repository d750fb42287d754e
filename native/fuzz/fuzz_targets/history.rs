//! Tag names, dates and symlink variables: any text is judged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::{history, symlink};

fuzz_target!(|text: &str| {
    let _ = (history::check_tag_name(text), history::check_branch_name(text));
    if history::is_generic_tag_name(text) {
        assert!(history::check_tag_name(text).is_ok());
    }
    if let Ok(unix_s) = history::parse_date(text) {
        assert!(history::is_generic_tag_name(&history::generic_tag_name(unix_s, 0)));
    }
    assert!(symlink::expand(text.as_bytes(), |name| Some(name.to_vec())).len() <= 4095);
});
