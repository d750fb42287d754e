//! Manifests: any bytes parse or fail, and what parsed survives writing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::manifest::{ManifestFields, UnverifiedManifest};

fuzz_target!(|bytes: &[u8]| {
    let _ = UnverifiedManifest::parse(bytes);
    if let Ok(fields) = ManifestFields::parse_body(bytes) {
        assert_eq!(ManifestFields::parse_body(&fields.encode()).as_ref(), Ok(&fields));
    }
});
