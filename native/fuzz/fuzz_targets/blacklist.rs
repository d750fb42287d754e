//! Blacklists: any text parses, and merging with itself changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::blacklist::Blacklist;

fuzz_target!(|text: &str| {
    let blacklist = Blacklist::parse(text);
    let mut merged = blacklist.clone();
    merged.merge(&blacklist);
    assert_eq!(merged, blacklist);
});
