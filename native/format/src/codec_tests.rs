//! Tests of both directions and of all bounds.

use super::*;
use crate::hash::HashAlgorithm;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[test]
fn objects_of_section_14() {
    assert_eq!(hex(&deflate(b"")), "789c030000000001");
    let stored = deflate(b"hello world\n");
    assert_eq!(hex(&stored), "789ccb48cdc9c95728cf2fca49e102001e720467");
    assert_eq!(HashAlgorithm::Sha1.hash(&stored).to_string(), "ff049c626904064d641feca0e9936e5b211807c6");
    assert_eq!(inflate_exact(&stored, 12).unwrap(), b"hello world\n");
    assert_eq!(inflate_exact(&deflate(b""), 0).unwrap(), b"");
    assert_eq!(inflate_bounded(&deflate(b""), 0).unwrap(), b"");
}

#[test]
fn announced_sizes_are_held() {
    let stored = deflate(&vec![7; 100_000]);
    assert!(inflate_exact(&stored, 100_000).is_ok());
    assert!(inflate_exact(&stored, 99_999).unwrap_err().to_string().contains("more than 99999"));
    assert!(inflate_exact(&stored, 100_001).unwrap_err().to_string().contains("fewer than 100001"));
    assert!(inflate_exact(&stored, u64::MAX).unwrap_err().to_string().contains("fewer"), "nothing is allocated");
    assert!(matches!(inflate_exact(&vec![0; 2000], 12), Err(FormatError::TooLarge { .. })));
    assert_eq!(inflate_bounded(&stored, 100_000).unwrap().len(), 100_000);
    assert!(matches!(inflate_bounded(&stored, 99_999), Err(FormatError::TooLarge { limit_bytes: 99_999, .. })));
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let bomb = deflate(&vec![0; 64 << 20]);
    let mut seen = 0;
    let mut inflater = Inflater::new(1 << 20);
    let result = inflater.push(&bomb, &mut |piece: &[u8]| {
        seen += piece.len();
        Ok::<(), FormatError>(())
    });
    assert!(matches!(result, Err(FormatError::TooLarge { .. })));
    assert!(seen <= 1 << 20);
    assert!(64 << 20 <= bomb.len() as u64 * LARGEST_EXPANSION);
}

#[test]
fn cut_off_damaged_and_trailing_differ() {
    let stored = deflate(b"hello world\n");
    let text = |result: Result<Vec<u8>>| result.unwrap_err().to_string();
    assert!(text(inflate_bounded(&stored[..stored.len() - 1], 99)).contains("cut off"));
    assert!(text(inflate_bounded(b"", 99)).contains("cut off"));
    assert!(text(inflate_bounded(b"plain text", 99)).contains("damaged"));
    let mut changed = stored.clone();
    changed[5] ^= 1;
    assert!(inflate_exact(&changed, 12).is_err());
    let longer = [stored.as_slice(), b"x"].concat();
    assert!(text(inflate_bounded(&longer, 99)).contains("follow"));
    assert!(text(inflate_exact(&longer, 12)).contains("follow"));
    assert!(inflate_exact(&stored[..stored.len() - 1], 12).is_err());
}

#[test]
fn errors_of_the_sink_come_through() {
    #[derive(Debug, PartialEq)]
    struct Full;
    impl From<FormatError> for Full {
        fn from(_: FormatError) -> Self {
            panic!("the stream is fine")
        }
    }
    assert_eq!(Inflater::new(99).push(&deflate(b"abc"), &mut |_: &[u8]| Err(Full)), Err(Full));
}

proptest! {
    #[test]
    fn any_bytes_survive_and_keep_their_bound(bytes: Vec<u8>) {
        let stored = deflate(&bytes);
        prop_assert!(stored.len() as u64 <= stored_size_limit(bytes.len() as u64));
        prop_assert_eq!(&inflate_exact(&stored, bytes.len() as u64).unwrap(), &bytes);
        prop_assert_eq!(&inflate_bounded(&stored, bytes.len() as u64).unwrap(), &bytes);
    }

    #[test]
    fn pieces_do_not_matter(seed: u32, length in 0usize..300_000, in_step in 1usize..70_000, out_step in 1usize..70_000) {
        // Half noise, half repetition: both paths of the compressor.
        let bytes: Vec<u8> = (0..length as u32)
            .map(|i| if i / 1000 % 2 == 0 { (i.wrapping_mul(seed) >> 13) as u8 } else { b'x' })
            .collect();
        let mut deflater = Deflater::new();
        let mut stored = Vec::new();
        deflater.push(&bytes[..length / 2], &mut stored);
        deflater.reset();
        stored.clear();
        for _ in 0..2 {
            stored.clear();
            bytes.chunks(in_step).for_each(|piece| deflater.push(piece, &mut stored));
            deflater.finish(&mut stored);
            prop_assert_eq!(&stored, &deflate(&bytes));
        }
        let (mut inflater, mut inflated) = (Inflater::new(length as u64), Vec::new());
        for piece in stored.chunks(out_step) {
            inflater.push(piece, &mut |bytes: &[u8]| {
                inflated.extend_from_slice(bytes);
                Ok::<(), FormatError>(())
            }).unwrap();
        }
        prop_assert_eq!(inflater.finish().unwrap(), length as u64);
        prop_assert_eq!(inflated, bytes);
    }

    #[test]
    fn any_stored_bytes_inflate_or_fail(stored: Vec<u8>, size_bytes in 0u64..5000) {
        let _ = inflate_exact(&stored, size_bytes);
        let _ = inflate_bounded(&stored, size_bytes);
        let headed = [&[0x78, 0x9c], stored.as_slice()].concat();
        let _ = inflate_exact(&headed, size_bytes);
        let _ = inflate_bounded(&headed, size_bytes);
    }
}

#[test]
fn the_fast_effort_reads_back_and_stays_within_bounds() {
    let text = b"def value(self): return self.index\n".repeat(4000);
    let mut noise: Vec<u8> = (0..100_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    noise.truncate(99_991);
    let mut deflater = Deflater::with_effort(Effort::Fast);
    for content in [b"".as_slice(), b"x", &text, &noise] {
        let mut stored = b"before".to_vec();
        deflater.whole(content, &mut stored);
        assert_eq!(inflate_exact(&stored[6..], content.len() as u64).unwrap(), content);
        // In pieces it is another stream of the same content.
        let mut streamed = Vec::new();
        content.chunks(1000).for_each(|piece| deflater.push(piece, &mut streamed));
        deflater.finish(&mut streamed);
        assert_eq!(inflate_exact(&streamed, content.len() as u64).unwrap(), content);
    }
    let mut stock = Vec::new();
    Deflater::new().whole(&text, &mut stock);
    assert_eq!(stock, deflate(&text), "the stock effort gives the reference's bytes");
}
