//! Bundle specifications: any bytes parse or fail, and what was parsed is read again as it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::bundle::{BUNDLE_MAX_DEPENDENCIES, BundleSpec};
use nearfs_format::path::RepoPath;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(spec) = BundleSpec::parse(bytes, &RepoPath::root()) {
        assert!(spec.dependencies().len() + spec.left_out() <= BUNDLE_MAX_DEPENDENCIES);
        let written = BundleSpec::of(spec.dependencies().iter().cloned());
        let read = BundleSpec::parse(written.encode().as_bytes(), &RepoPath::root()).expect("what was written is read");
        assert_eq!(read.dependencies(), written.dependencies());
    }
});
