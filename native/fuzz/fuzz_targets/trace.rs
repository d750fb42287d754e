//! Traces: any bytes parse or fail, within the limits, and what parses has one form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::trace::{ITEMS_MAX, Trace};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(trace) = Trace::parse(bytes) {
        assert!(trace.items().len() <= ITEMS_MAX);
        assert!(trace.items().iter().all(|item| item.path != trace.name().trigger));
        assert_eq!(trace.encode(), bytes);
    }
});
