//! Tests of the table of packs.

use proptest::prelude::*;

use super::*;
use crate::hash::HashAlgorithm;
use crate::pack::MEMBER_MAX_BYTES;

fn path(path: &str) -> RepoPath {
    RepoPath::parse(path.as_bytes()).unwrap()
}

fn reference(number: u32) -> PackReference {
    let algorithm = HashAlgorithm::ALL[number as usize % 3];
    PackReference { hash: algorithm.hash(&number.to_le_bytes()), size_bytes: number, members: number / 2 }
}

fn key(name: &str) -> PackKey {
    PackKey::of_trigger(&path(name))
}

fn object(name: &str) -> ContentHash {
    HashAlgorithm::Sha1.hash(name.as_bytes())
}

/// A table of packs, each with the objects and keys of these names.
fn table(packs: &[&[&str]]) -> PackTable {
    let mut table = PackTable::default();
    for (number, names) in packs.iter().enumerate() {
        let members: Vec<_> = names.iter().map(|name| object(name)).collect();
        assert!(table.add(reference(number as u32), &members, &names.iter().map(|name| key(name)).collect()));
    }
    table
}

#[test]
fn the_layout_is_that_of_the_document() {
    let bytes = table(&[&["/a"]]).encode();
    let mut expected = b"NFSptab\n\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0".to_vec();
    expected.extend_from_slice(reference(0).hash.digest());
    expected.extend_from_slice(&[0; 12]);
    // sha1sum, then md5sum of "/a"
    expected.extend_from_slice(&[0x22, 0x56, 0xc6, 0xac, 0, 0, 0, 0]);
    expected.extend_from_slice(&[0x06, 0x39, 0x76, 0x7f, 0x3e, 0x9e, 0xaa, 0xd7, 0, 0, 0, 0]);
    assert_eq!(bytes, expected);
}

#[test]
fn names_are_those_of_the_document() {
    assert_eq!(table_name(&RepoPath::root()), "td41d8cd98f00b204e9800998ecf8427e");
    assert_eq!(packs_name(&path("/a")), "p0639767f3e9eaad729b54037a7e2abf5");
}

#[test]
fn objects_and_keys_lead_to_their_packs_in_order() {
    let bytes = table(&[&["/a", "/b"], &["/b"], &["/c"]]).encode();
    let table = PackTable::parse(&bytes).unwrap();
    for (name, expected) in [("/a", vec![0]), ("/b", vec![0, 1]), ("/c", vec![2]), ("/d", vec![])] {
        assert_eq!(table.of_trigger(key(name)).collect::<Vec<_>>(), expected);
        assert_eq!(table.of_object(&object(name)).collect::<Vec<_>>(), expected);
    }
    assert_eq!((table.packs().len(), table.is_empty(), table.encode()), (3, false, bytes));
}

#[test]
fn every_truncation_and_every_wrong_number_is_refused() {
    let bytes = table(&[&["/a", "/b"], &["/b"]]).encode();
    for length in 0..bytes.len() {
        assert!(PackTable::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
    let with = |at: usize, number: u32| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        PackTable::parse(&bytes)
    };
    assert!(matches!(with(8, 2), Err(FormatError::Unsupported { .. })));
    for (at, what) in [(0, "magic"), (12, "packs"), (16, "members"), (20, "keys"), (24 + 20, "algorithm")] {
        assert!(with(at, u32::MAX).is_err() && with(at, 77).is_err(), "{what}");
    }
    assert!(with(24 + 24, PACK_MAX_BYTES as u32 + 1).is_err(), "size of a pack");
    assert!(with(24 + 2 * 32 + 4, 2).is_err() && with(24 + 2 * 32 + 3 * 8 + 8, 2).is_err(), "number of a pack");
    for (begin, bytes_each) in [(24 + 2 * 32, 8), (24 + 2 * 32 + 3 * 8, 12)] {
        let first_two = |order: [usize; 2]| {
            let mut changed = bytes.clone();
            for (to, from) in order.into_iter().enumerate() {
                let at = |number: usize| begin + number * bytes_each;
                changed[at(to)..at(to + 1)].copy_from_slice(&bytes[at(from)..at(from + 1)]);
            }
            PackTable::parse(&changed)
        };
        assert!(first_two([1, 0]).is_err() && first_two([0, 0]).is_err() && first_two([0, 1]).is_ok());
    }
    assert!(matches!(PackTable::parse(&vec![0; TABLE_MAX_BYTES + 1]), Err(FormatError::TooLarge { .. })));
}

#[test]
fn a_table_takes_what_fits() {
    let mut table = PackTable::default();
    let many: Vec<ContentHash> = (0..80_000_u32).map(|number| object(&number.to_string())).collect();
    assert!(table.add(reference(1), &many, &HashSet::new()));
    assert!(!table.add(reference(2), &many, &HashSet::new()), "no room for as many members again");
    assert!(table.add(reference(3), &many[..2], &HashSet::from([key("/a")])));
    assert_eq!(PackTable::parse(&table.encode()).unwrap().packs().len(), 2);
    assert!(table.encode().len() <= TABLE_MAX_BYTES);
    const { assert!(MEMBER_MAX_BYTES < PACK_MAX_BYTES) };
}

#[test]
fn version_numbers_are_no_kinds() {
    for (name, kind) in [
        ("1.2.3", ""),
        ("1.2.3.lua", ".lua"),
        (".modulerc", ".modulerc"),
        ("README", ""),
        ("", ""),
        ("os.cpython-311.pyc", ".cpython-311.pyc"),
        ("os.cpython-311.opt-2.pyc", ".opt-2.pyc"),
        ("org.example.Viewer.desktop", ".desktop"),
    ] {
        assert_eq!(kind_of(name.as_bytes()), kind.as_bytes(), "{name}");
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(packs in proptest::collection::vec(proptest::collection::vec(0..50_u32, 0..8), 0..20)) {
        let mut table = PackTable::default();
        for (number, keys) in packs.iter().enumerate() {
            let members: Vec<_> = keys.iter().map(|key| object(&key.to_string())).collect();
            let keys = keys.iter().map(|number| key(&format!("/{number}"))).collect();
            prop_assert!(table.add(reference(number as u32), &members, &keys));
        }
        let read = PackTable::parse(&table.encode()).unwrap();
        for number in 0..50_u32 {
            let expected = || packs.iter().enumerate().filter(|(_, keys)| keys.contains(&number)).map(|(at, _)| at);
            let (own, own_key) = (object(&number.to_string()), key(&format!("/{number}")));
            prop_assert!(read.of_trigger(own_key).eq(expected()) && read.of_object(&own).eq(expected()));
        }
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let with_magic = [MAGIC.as_slice(), &1_u32.to_le_bytes(), &bytes].concat();
        for bytes in [bytes, with_magic] {
            if let Ok(table) = PackTable::parse(&bytes) {
                prop_assert_eq!(table.encode(), bytes);
            }
        }
    }
}
