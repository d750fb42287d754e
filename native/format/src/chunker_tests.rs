//! Tests of the cut marks: the vectors of section 14, a plain re-statement of 5.3, and block sizes.

// Offsets are written as section 14 writes them.
#![allow(clippy::unreadable_literal)]

use super::*;
use proptest::prelude::*;

// The rule of section 5.3 as it is written, index by index.
fn restated(bytes: &[u8], sizes: &ChunkSizes) -> Vec<u64> {
    let (n, threshold) = (bytes.len() as u64, 4_294_967_295 / sizes.avg());
    let (mut last, mut cuts) = (0, Vec::new());
    loop {
        let mut x = 0u32;
        for i in (last + sizes.min() - 32)..(last + sizes.min()).min(n) {
            x = (x << 1) ^ u32::from(bytes[i as usize]);
        }
        let mut cut = None;
        for i in (last + sizes.min())..(last + sizes.max()).min(n) {
            x = (x << 1) ^ u32::from(bytes[i as usize]);
            if u64::from(x.abs_diff(2_147_483_647)) < threshold || x == u32::MAX {
                cut = Some(i);
                break;
            }
        }
        if cut.is_none() && last + sizes.max() <= n {
            cut = Some(last + sizes.max());
        }
        match cut {
            Some(at) if at < n => cuts.push(at),
            _ => return cuts,
        }
        last = cuts[cuts.len() - 1];
    }
}

fn in_blocks(bytes: &[u8], block_bytes: usize, sizes: &ChunkSizes) -> Vec<u64> {
    let (mut chunker, mut cuts) = (Chunker::new(*sizes), Vec::new());
    for block in bytes.chunks(block_bytes) {
        let mut rest = block;
        while let Some(length) = chunker.next_cut(rest) {
            cuts.push(chunker.chunk_start());
            rest = &rest[length..];
        }
    }
    assert_eq!(chunker.offset(), bytes.len() as u64);
    cuts
}

// The byte generator of section 14.
fn generated(seed: u64, length: usize, byte: impl Fn(u64) -> u8) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        byte(state)
    })
    .take(length)
    .collect()
}

#[test]
fn vectors_of_64_mib() {
    let vectors: [(u64, &[u64]); 2] = [
        (1, &[4929237, 10636169, 18409735, 25618460, 32128071, 40937885, 47013309, 58036806, 64880544]),
        (2, &[6517727, 11225825, 16451092, 28214414, 36526267, 44746347, 56469461, 62471871]),
    ];
    for (seed, cuts) in vectors {
        let bytes = generated(seed, 67_108_864, |s| (s >> 56) as u8);
        assert_eq!(cut_marks(&bytes, &ChunkSizes::default()), cuts);
        assert_eq!(in_blocks(&bytes, 1 << 20, &ChunkSizes::default()), cuts);
    }
}

#[test]
fn vector_of_104_cuts() {
    let byte = |s: u64| ((s as f64 * 256.0 / 18_446_744_073_709_551_616.0).floor() as u64 % 256) as u8;
    let bytes = generated(42, 104_857_600, byte);
    let cuts = cut_marks(&bytes, &ChunkSizes::new(512_000, 1_024_000, 2_048_000).unwrap());
    assert_eq!(cuts.len(), 104);
    assert_eq!(
        cuts[..12],
        [742752, 2790752, 3521796, 4188893, 4940543, 5884591, 7131564, 8520617, 9159233, 9999783, 11202120, 11778185]
    );
    assert_eq!(cuts[101..], [101755336, 103405168, 104269441]);
}

#[test]
fn zeros_are_cut_at_the_maximum_and_never_at_the_end() {
    let sizes = ChunkSizes::default();
    assert_eq!(cut_marks(&vec![0; 40 << 20], &sizes), [16 << 20, 32 << 20]);
    assert_eq!(cut_marks(&vec![0; 32 << 20], &sizes), [16 << 20]);
    assert!(cut_marks(&vec![0; (4 << 20) + 1], &sizes).is_empty());
    assert!(cut_marks(&[], &sizes).is_empty());
}

#[test]
fn sizes_are_checked() {
    assert!(ChunkSizes::new(32, 33, 34).is_ok());
    for (min, avg, max) in [(31, 64, 128), (64, 64, 128), (32, 128, 128), (32, 31, 128), (0, 0, 0)] {
        assert!(ChunkSizes::new(min, avg, max).is_err());
    }
    let huge = ChunkSizes::new(u64::MAX - 2, u64::MAX - 1, u64::MAX).unwrap();
    assert!(cut_marks(&[0; 1000], &huge).is_empty());
}

// Small sizes and few byte values, so that marks, hard cuts and the value 0xFFFFFFFF all occur.
fn any_file() -> impl Strategy<Value = (Vec<u8>, ChunkSizes)> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000),
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..3000),
    ];
    let sizes = (32u64..80, 1u64..200, 1u64..300)
        .prop_map(|(min, more, most)| ChunkSizes::new(min, min + more, min + more + most).unwrap());
    (bytes, sizes)
}

proptest! {
    #[test]
    fn cuts_are_those_of_the_restated_rule((bytes, sizes) in any_file()) {
        prop_assert_eq!(cut_marks(&bytes, &sizes), restated(&bytes, &sizes));
    }

    #[test]
    fn the_block_size_does_not_matter((bytes, sizes) in any_file(), block_bytes in 1usize..400) {
        prop_assert_eq!(in_blocks(&bytes, block_bytes, &sizes), cut_marks(&bytes, &sizes));
    }

    #[test]
    fn chunks_keep_their_limits((bytes, sizes) in any_file()) {
        let mut last = 0;
        for cut in cut_marks(&bytes, &sizes) {
            prop_assert!((sizes.min()..=sizes.max()).contains(&(cut - last)) && cut < bytes.len() as u64);
            last = cut;
        }
    }
}
