//! Extended attributes: any blob parses or fails, and what parsed survives writing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::xattr::XattrList;

fuzz_target!(|blob: &[u8]| {
    if let Some(again) = XattrList::parse(blob).ok().and_then(|list| Some((list.encode()?, list))) {
        assert_eq!(XattrList::parse(&again.0), Ok(again.1));
    }
});
