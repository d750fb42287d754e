//! Whitelists: any bytes parse or fail, and an expiry can be judged at any time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::whitelist::{UnverifiedWhitelist, WhitelistFields};

fuzz_target!(|input: (i64, &[u8])| {
    let (now_unix_s, bytes) = input;
    let _ = UnverifiedWhitelist::parse(bytes);
    if let Ok(fields) = WhitelistFields::parse_body(bytes) {
        let _ = fields.is_expired(now_unix_s);
    }
});
