//! Tests of packs: what was written comes back, and every lie about it is found.

use proptest::prelude::*;

use super::*;

fn object(number: u32, size: usize) -> (ContentHash, Vec<u8>) {
    let bytes: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(size).collect();
    (HashAlgorithm::ALL[number as usize % 3].hash(&bytes), bytes)
}

fn pack_of(objects: &[(ContentHash, Vec<u8>)]) -> Vec<u8> {
    let mut writer = PackWriter::new();
    for (hash, bytes) in objects {
        assert!(writer.add(*hash, bytes));
    }
    let size = writer.size_bytes();
    let bytes = writer.finish();
    assert_eq!(bytes.len(), size);
    bytes
}

fn three() -> (Vec<(ContentHash, Vec<u8>)>, Vec<u8>) {
    let objects: Vec<_> = (1..=3).map(|number| object(number, 10 * number as usize)).collect();
    let bytes = pack_of(&objects);
    (objects, bytes)
}

fn with_number(bytes: &[u8], at: usize, number: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bytes
}

#[test]
fn the_layout_is_that_of_the_document() {
    let (hash, stored) = object(3, 5);
    let bytes = pack_of(&[(hash, stored.clone())]);
    let mut expected = stored;
    expected.extend_from_slice(hash.digest());
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
    expected.extend_from_slice(b"NFSpack\n\x01\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\0");
    assert_eq!(bytes, expected);
}

#[test]
fn members_come_back_and_others_do_not() {
    let (objects, bytes) = three();
    let pack = Pack::parse(&bytes).unwrap();
    assert_eq!((pack.len(), pack.is_empty()), (3, false));
    for (hash, stored) in &objects {
        assert_eq!(pack.get(hash).unwrap(), Some(stored.as_slice()));
        assert!(pack.hashes().any(|member| member == (*hash, stored.len())));
    }
    assert_eq!(pack.get(&object(4, 1).0), Ok(None));
    let same_digest = ContentHash::new(HashAlgorithm::Sha1, *objects[0].0.digest());
    assert_eq!(pack.get(&same_digest), Ok(None), "the algorithm is part of a hash");
}

#[test]
fn an_empty_pack_has_no_members() {
    let bytes = PackWriter::new().finish();
    assert_eq!(bytes.len(), TRAILER_BYTES);
    assert!(Pack::parse(&bytes).unwrap().is_empty());
}

#[test]
fn a_pack_takes_what_fits_once() {
    let mut writer = PackWriter::new();
    let (hash, bytes) = object(1, MEMBER_MAX_BYTES);
    assert!(!writer.add(object(7, 0).0, b""), "an empty member");
    assert!(!writer.add(hash, &vec![0; MEMBER_MAX_BYTES + 1]), "a large member");
    assert!(writer.add(hash, &bytes) && !writer.add(hash, &bytes), "twice");
    let mut number = 2;
    while writer.add(object(number, MEMBER_MAX_BYTES).0, &object(number, MEMBER_MAX_BYTES).1) {
        number += 1;
    }
    assert_eq!(writer.len(), 63, "64 objects of 64 KiB leave no room for an index");
    let room = PACK_MAX_BYTES - writer.size_bytes() - RECORD_BYTES;
    let (hash, bytes) = object(99, room);
    assert!(!writer.add(hash, &[bytes.as_slice(), b"x"].concat()));
    assert!(writer.add(hash, &bytes));
    let bytes = writer.finish();
    assert_eq!(bytes.len(), PACK_MAX_BYTES);
    assert_eq!(Pack::parse(&bytes).unwrap().len(), 64);
    let beyond = [&[0], bytes.as_slice()].concat();
    assert!(matches!(Pack::parse(&beyond), Err(FormatError::TooLarge { .. })));
}

#[test]
fn every_truncation_is_refused() {
    let (_, bytes) = three();
    for length in 0..bytes.len() {
        assert!(Pack::parse(&bytes[..length]).is_err(), "{length} bytes");
        assert!(Pack::parse(&bytes[bytes.len() - length..]).is_err(), "last {length} bytes");
    }
}

#[test]
fn no_changed_bit_gives_a_wrong_member() {
    let (objects, bytes) = three();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(pack) = Pack::parse(&changed) else { continue };
        for (hash, stored) in &objects {
            match pack.get(hash) {
                Ok(Some(found)) => assert_eq!(found, stored, "bit {bit}"),
                Ok(None) | Err(FormatError::HashMismatch { .. }) => {}
                Err(other) => panic!("bit {bit}: {other}"),
            }
        }
    }
}

#[test]
fn lies_of_the_trailer_are_refused() {
    let (_, bytes) = three();
    let numbers = bytes.len() - 16;
    assert!(matches!(Pack::parse(&with_number(&bytes, numbers, 2)), Err(FormatError::Unsupported { .. })));
    for number in [0, 2, 4, 0x7fff_ffff, u32::MAX] {
        assert!(Pack::parse(&with_number(&bytes, numbers + 4, number)).is_err(), "{number} members");
    }
    for number in [0, 59, 61, 92, u32::MAX] {
        assert!(Pack::parse(&with_number(&bytes, numbers + 8, number)).is_err(), "index at {number}");
    }
    assert!(Pack::parse(&with_number(&bytes, numbers + 12, 1)).is_err());
}

#[test]
fn lies_of_the_index_are_refused() {
    let (_, bytes) = three();
    // Ten, twenty and thirty bytes of objects come before it.
    let record = |number: usize| 60 + number * RECORD_BYTES;
    for number in 0..3 {
        for (what, at, values) in [
            ("algorithm", 20, vec![3, 7, 256, u32::MAX]),
            ("offset", 24, vec![1, 59, 60, u32::MAX]),
            ("length", 28, vec![0, 1, 31, 65_537, u32::MAX]),
        ] {
            for value in values {
                let changed = with_number(&bytes, record(number) + at, value);
                assert!(Pack::parse(&changed).is_err(), "{what} {value} of member {number}");
            }
        }
    }
    let mut swapped = bytes.clone();
    let (one, two) = (record(0)..record(1), record(1)..record(2));
    swapped[one.start..one.end].copy_from_slice(&bytes[two.clone()]);
    swapped[two].copy_from_slice(&bytes[one.clone()]);
    assert!(Pack::parse(&swapped).is_err(), "out of order");
    let mut twice = bytes.clone();
    twice[record(1)..record(1) + 24].copy_from_slice(&bytes[one.start..one.start + 24]);
    assert!(Pack::parse(&twice).is_err(), "one hash twice");
}

#[test]
fn members_that_lead_to_each_others_bytes_are_found_by_their_hash() {
    let objects: Vec<_> = (1..=2).map(|number| object(3 * number, 8)).collect();
    let mut bytes = pack_of(&objects);
    let offsets = [16 + 24, 16 + RECORD_BYTES + 24];
    let (one, two) = (number_at(&bytes, offsets[0]), number_at(&bytes, offsets[1]));
    bytes = with_number(&with_number(&bytes, offsets[0], two), offsets[1], one);
    let pack = Pack::parse(&bytes).expect("nothing is wrong with the index itself");
    for (hash, _) in &objects {
        assert!(matches!(pack.get(hash), Err(FormatError::HashMismatch { .. })));
    }
}

proptest! {
    #[test]
    fn whatever_goes_in_comes_out(contents in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..300), 0..40
    )) {
        let mut writer = PackWriter::new();
        let mut members = std::collections::BTreeMap::new();
        for (number, stored) in contents.into_iter().enumerate() {
            let hash = HashAlgorithm::ALL[number % 3].hash(&stored);
            let is_new = !stored.is_empty() && !members.contains_key(&hash);
            prop_assert_eq!(writer.add(hash, &stored), is_new);
            if is_new {
                members.insert(hash, stored);
            }
        }
        let bytes = writer.finish();
        let pack = Pack::parse(&bytes).unwrap();
        prop_assert!(pack.hashes().eq(members.iter().map(|(hash, stored)| (*hash, stored.len()))));
        for (hash, stored) in &members {
            prop_assert_eq!(pack.get(hash).unwrap(), Some(stored.as_slice()));
        }
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(pack) = Pack::parse(&bytes) {
            prop_assert!(pack.hashes().all(|(hash, _)| pack.get(&hash) != Ok(None)));
        }
    }
}
