//! Tests of the manifest's fields; its signature is tested with the trust chain.

use super::*;
use crate::hash::HashAlgorithm;
use proptest::prelude::*;

fn hash(content: &str) -> ContentHash {
    HashAlgorithm::Sha1.hash(content.as_bytes())
}

fn full() -> ManifestFields {
    ManifestFields {
        ttl_s: 900,
        is_collectable: true,
        has_alternative_paths: true,
        micro_catalog: Some(hash("L")),
        fqrn: Some("golden.example.org".into()),
        certificate: Some(hash("X")),
        history: Some(hash("H")),
        timestamp: Some(1_709_164_800),
        metainfo: Some(hash("M")),
        reflog: Some(HashAlgorithm::Shake128.hash(b"Y")),
        ..ManifestFields::new(hash("C"), 17_408, 42)
    }
}

#[test]
fn fields_are_written_in_the_order_of_section_2_2() {
    let text = String::from_utf8(full().encode()).unwrap();
    let letters: String = text.lines().filter_map(|line| line.chars().next()).collect();
    assert_eq!(letters, "CBRDSGALNXHTMY");
    assert!(text.contains("\nRd41d8cd98f00b204e9800998ecf8427e\nD900\nS42\nGyes\nAyes\n"));
    assert!(text.ends_with("-shake128\n"));
    let plain = String::from_utf8(ManifestFields::new(hash("C"), 0, 0).encode()).unwrap();
    assert_eq!(plain.lines().map(|line| &line[..1]).collect::<String>(), "CBRDSGA");
}

#[test]
fn fields_survive_and_order_does_not_matter() {
    let body = full().encode();
    assert_eq!(ManifestFields::parse_body(&body).unwrap(), full());
    let mut lines: Vec<&[u8]> = body.split_inclusive(|b| *b == b'\n').collect();
    lines.reverse();
    assert_eq!(ManifestFields::parse_body(&lines.concat()).unwrap(), full());
}

#[test]
fn readers_are_tolerant_where_section_2_2_says_so() {
    let body = [b"S1\n\nQunknown\nZa\nZb\n", full().encode().as_slice(), b"Gtrue\n--\nS7\n"].concat();
    let fields = ManifestFields::parse_body(&body).unwrap();
    assert_eq!(fields.revision, 42, "the last line wins, and the separator ends the fields");
    assert!(!fields.is_collectable, "only `yes` is yes");
    let zeros = [full().encode().as_slice(), b"L0000000000000000000000000000000000000000\nT0\n"].concat();
    let fields = ManifestFields::parse_body(&zeros).unwrap();
    assert_eq!((fields.micro_catalog, fields.timestamp), (None, None));
}

#[test]
fn mandatory_fields_and_their_values_are_checked() {
    let body = String::from_utf8(full().encode()).unwrap();
    for letter in ["C", "R", "D", "S"] {
        let rest: String = body.split_inclusive('\n').filter(|line| !line.starts_with(letter)).collect();
        let error = ManifestFields::parse_body(rest.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&format!("`{letter}`")), "{error}");
    }
    for line in [
        "S-1",
        "S+1",
        "S",
        "S 1",
        "S0x1",
        "S9223372036854775808",
        "Cd41d8cd98f00b204e9800998ecf8427e",
        "C0000000000000000000000000000000000000000",
        "R00",
        "Xabc",
        "Na\u{1}b",
    ] {
        let bad = format!("{body}{line}\n");
        assert!(ManifestFields::parse_body(bad.as_bytes()).is_err(), "{line}");
    }
    let nameless = ManifestFields::parse_body(format!("{body}N").as_bytes()).unwrap();
    assert_eq!(nameless.fqrn, None, "an empty name is no name, as the writer omits it");
    let latin = [body.as_bytes(), b"N\xff\n"].concat();
    assert!(ManifestFields::parse_body(&latin).is_err());
    assert!(matches!(ManifestFields::parse_body(&vec![b'\n'; 65_537]), Err(FormatError::TooLarge { .. })));
}

fn any_hash() -> impl Strategy<Value = Option<ContentHash>> {
    let hash = (0..3u32, any::<[u8; 20]>())
        .prop_map(|(id, digest)| ContentHash::new(HashAlgorithm::from_flag_id(id).unwrap_or_default(), digest));
    prop::option::of(hash.prop_filter("null is none", |hash| !hash.is_null()))
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail(bytes: Vec<u8>, line in "[A-Z][0-9a-z-]{0,50}") {
        let _ = ManifestFields::parse_body(&bytes);
        let _ = UnverifiedManifest::parse(&bytes);
        let mut body = full().encode();
        body.extend_from_slice(line.as_bytes());
        let _ = ManifestFields::parse_body(&body);
    }

    #[test]
    fn any_fields_survive(
        hashes in prop::collection::vec(any_hash(), 5),
        numbers in prop::collection::vec(0..=i64::MAX as u64, 3),
        timestamp in prop::option::of(1..=i64::MAX as u64),
        fqrn in prop::option::of("[a-z][a-z0-9.-]{0,59}"),
        flags: (bool, bool),
    ) {
        let fields = ManifestFields {
            ttl_s: numbers[2],
            is_collectable: flags.0,
            has_alternative_paths: flags.1,
            micro_catalog: hashes[0],
            fqrn,
            certificate: hashes[1],
            history: hashes[2],
            timestamp,
            metainfo: hashes[3],
            reflog: hashes[4],
            ..ManifestFields::new(hash("C"), numbers[0], numbers[1])
        };
        prop_assert_eq!(ManifestFields::parse_body(&fields.encode()).unwrap(), fields);
    }
}
