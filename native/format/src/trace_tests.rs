//! What traces say survives, and what is no trace is refused.

use proptest::prelude::*;

use super::*;

fn path(text: &[u8]) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

fn file(text: &[u8]) -> TraceItem {
    TraceItem { path: path(text), offsets: None }
}

fn sample() -> Trace {
    let name = TraceName::of(path(b"/sw/bin/python3")).after(path(b"/sw/lib/run py.pyc"));
    let large = TraceItem { path: path(b"/sw/lib/libpython3.so"), offsets: Some(vec![8 << 20, 0, 0]) };
    let untouched = TraceItem { path: path(b"/sw/lib/data"), offsets: Some(Vec::new()) };
    Trace::new(
        name,
        Listing::Shared,
        [large, file(b"/a%\xff\n b"), untouched, file(b"/sw/lib/data"), file(b"/sw/bin/python3")],
    )
}

const SAMPLE: &str = "nearfs-trace 1\ntrigger /sw/bin/python3\nafter /sw/lib/run%20py.pyc\nlist shared\n\
    /sw/lib/libpython3.so 0,8388608\n/a%25%FF%0A%20b\n/sw/lib/data -\nend 3\n";

#[test]
fn a_trace_is_a_text_that_people_can_read() {
    assert_eq!(String::from_utf8(sample().encode()).unwrap(), SAMPLE);
    assert_eq!(Trace::parse(SAMPLE.as_bytes()).unwrap(), sample());
}

#[test]
fn a_name_is_a_file_name_and_one_trigger_begins_alike() {
    let trigger = TraceName::of(path(b"/foo"));
    assert_eq!(trigger.file_name(), HashAlgorithm::Sha1.hash(b"/foo").to_string());
    let names: Vec<String> = [b"/a", b"/b"].map(|after| trigger.after(path(after)).file_name()).to_vec();
    assert!(names.iter().all(|name| name.starts_with(&format!("{}.", trigger.file_name())) && name.len() == 81));
    assert_ne!(names[0], names[1]);
}

#[test]
fn what_is_not_written_as_a_trace_is_none() {
    for (from, to) in [
        ("nearfs-trace 1", "nearfs-trace 01"),
        ("nearfs-trace 1", "another-trace 1"),
        ("trigger /sw/bin/python3\n", ""),
        ("trigger /sw/bin/python3", "trigger sw/bin/python3"),
        ("trigger /sw/bin/python3", "trigger "),
        ("after /sw", "after \n/sw"),
        ("list shared", "list some"),
        ("list shared\n", ""),
        ("end 3\n", ""),
        ("end 3", "end 4"),
        ("end 3\n", "end 3"),
        ("end 3", "end 3\n/more"),
        ("end 3\n", "end 3\nend 3\n"),
        ("0,8388608", "8388608,0"),
        ("0,8388608", "0,0"),
        ("0,8388608", "+0"),
        ("0,8388608", ""),
        ("0,8388608", "18446744073709551616"),
        ("%FF", "%ff"),
        ("%FF", "%F"),
        ("%FF", "%00"),
        ("%FF", "\u{ff}"),
        ("%20", "%61"),
        ("/sw/lib/data", "/sw/../data"),
        ("/sw/lib/data", "/sw//data"),
        ("/sw/lib/data -", "/sw/lib/libpython3.so"),
        ("/sw/lib/data -", "/"),
        ("/sw/lib/data -", ""),
        ("/sw/lib/data -", "/sw/lib/data  -"),
        ("\n", "\r\n"),
    ] {
        let text = SAMPLE.replacen(from, to, 1);
        assert_ne!(text, SAMPLE);
        let refused = Trace::parse(text.as_bytes()).map(|_| text).unwrap_err();
        let is_version = to == "nearfs-trace 01";
        assert_eq!(matches!(refused, FormatError::Unsupported { .. }), is_version, "{from} -> {to}: {refused}");
    }
    assert!((0..SAMPLE.len()).all(|cut| Trace::parse(&SAMPLE.as_bytes()[..cut]).is_err()), "a torn one is none");
    assert!(matches!(Trace::parse(&vec![b'/'; TRACE_MAX_BYTES + 1]), Err(FormatError::TooLarge { .. })));
}

#[test]
fn what_is_listed_is_seen_from_the_beginning() {
    let head = SAMPLE.find("list shared\n").unwrap() + "list shared\n".len();
    assert_eq!(Trace::peek(&SAMPLE.as_bytes()[..head]), Some(Listing::Shared));
    let other = SAMPLE.replace("nearfs-trace 1", "nearfs-trace 2");
    let late = SAMPLE.replacen("list shared\n", "", 1) + "list whole\n";
    for none in ["", "list whole\n", &SAMPLE[..head - 3], &other, &late] {
        assert_eq!(Trace::peek(none.as_bytes()), None, "{none}");
    }
}

#[test]
fn limits_hold_whatever_was_recorded() {
    let name = TraceName::of(path(b"/t"));
    let many = (0..ITEMS_MAX + 9).map(|number| file(format!("/f{number}").as_bytes()));
    let trace = Trace::new(name.clone(), Listing::Unordered, many);
    assert_eq!(trace.items().len(), ITEMS_MAX);
    assert_eq!(Trace::parse(&trace.encode()).unwrap(), trace);
    let more = String::from_utf8(trace.encode()).unwrap().replace("end 4096", "/more\nend 4097");
    assert!(Trace::parse(more.as_bytes()).is_err());
    // Names that need three bytes a byte.
    let long = |number: u32| {
        let names: Vec<String> = (0..15).map(|at| format!("{number:04}{at}{}", "\u{1}".repeat(240))).collect();
        TraceItem { path: path(format!("/{}", names.join("/")).as_bytes()), offsets: Some((0..999).collect()) }
    };
    let trace = Trace::new(name.after(long(9999).path), Listing::Shared, (0..4000).map(long));
    assert!(trace.items().len() > 50 && trace.items()[0].offsets.as_ref().is_some_and(|o| o.len() == OFFSETS_MAX));
    let bytes = trace.encode();
    assert!(bytes.len() <= TRACE_MAX_BYTES && bytes.len() > TRACE_MAX_BYTES - 16_384);
    assert_eq!(Trace::parse(&bytes).unwrap(), trace);
}

fn any_path() -> impl Strategy<Value = RepoPath> {
    let name = proptest::collection::vec(any::<u8>().prop_filter("no slash, no NUL", |b| !b"/\0".contains(b)), 1..9);
    proptest::collection::vec(name, 1..4)
        .prop_filter_map("a path", |names| RepoPath::parse(&[&b"/"[..], &names.join(&b'/')].concat()).ok())
}

proptest! {
    #[test]
    fn every_trace_comes_back(
        trigger in any_path(),
        after in proptest::option::of(any_path()),
        listing in proptest::sample::select(&Listing::ALL[..]),
        items in proptest::collection::vec(
            (any_path(), proptest::option::of(proptest::collection::vec(any::<u64>(), 0..5))), 0..20),
    ) {
        let items = items.into_iter().map(|(path, offsets)| TraceItem { path, offsets });
        let trace = Trace::new(TraceName { trigger, after }, listing, items);
        prop_assert_eq!(Trace::peek(&trace.encode()), Some(listing));
        prop_assert_eq!(Trace::parse(&trace.encode()).unwrap(), trace);
    }

    #[test]
    fn any_bytes_parse_or_fail_and_what_parses_has_one_form(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0..SAMPLE.len(),
        byte: u8,
    ) {
        let mut damaged = SAMPLE.as_bytes().to_vec();
        damaged[at] = byte;
        for bytes in [bytes, damaged] {
            if let Ok(trace) = Trace::parse(&bytes) {
                prop_assert_eq!(trace.encode(), bytes);
            }
        }
    }
}
