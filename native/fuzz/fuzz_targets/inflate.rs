//! Inflate: any bytes inflate or fail, within the limit, and both ways agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::codec::{inflate_bounded, inflate_exact, stored_size_limit};

const LIMIT_BYTES: u64 = 1 << 20;

fuzz_target!(|input: (u32, &[u8])| {
    let (size_bytes, stored) = (u64::from(input.0) % (2 * LIMIT_BYTES), input.1);
    let _ = inflate_exact(stored, size_bytes);
    if let Ok(bytes) = inflate_bounded(stored, LIMIT_BYTES) {
        assert!(bytes.len() as u64 <= LIMIT_BYTES);
        if stored.len() as u64 <= stored_size_limit(bytes.len() as u64) {
            assert_eq!(inflate_exact(stored, bytes.len() as u64), Ok(bytes));
        }
    }
});
