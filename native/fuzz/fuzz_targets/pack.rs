//! Packs and their tables: any bytes parse or fail, and no member comes out but under its own hash.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::pack::Pack;
use nearfs_format::pack_table::PackTable;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pack) = Pack::parse(bytes) {
        let mut total = 0;
        for (hash, size_bytes) in pack.hashes() {
            total += size_bytes;
            if let Ok(Some(stored)) = pack.get(&hash) {
                assert_eq!((stored.len(), hash.algorithm().hash(stored)), (size_bytes, hash));
            }
        }
        assert!(total < bytes.len());
    }
    if let Ok(table) = PackTable::parse(bytes) {
        assert_eq!(table.encode(), bytes);
    }
});
