//! Tests of bundles.

use proptest::prelude::*;

use super::*;

fn path(path: &str) -> RepoPath {
    RepoPath::parse(path.as_bytes()).unwrap()
}

fn parse(text: &str) -> Result<BundleSpec> {
    BundleSpec::parse(text.as_bytes(), &path("/lib/a"))
}

fn with_dependencies(list: &str) -> Result<BundleSpec> {
    parse(&format!(r#"{{"name": "CVMFS_BUNDLE", "version": "1.0.0", "encoding": "UTF-8", "dependencies": [{list}]}}"#))
}

fn read(list: &str) -> (Vec<String>, usize) {
    let spec = with_dependencies(list).unwrap();
    (spec.dependencies().iter().map(ToString::to_string).collect(), spec.left_out())
}

#[test]
fn what_is_written_is_the_form_of_the_documentation() {
    let spec = BundleSpec::of([path("/lib/b.so"), path("/share/\"d\"")]);
    let expected = "{\n  \"name\": \"CVMFS_BUNDLE\",\n  \"version\": \"1.0.0\",\n  \"encoding\": \"UTF-8\",\n  \
                    \"dependencies\": [\n    \"/lib/b.so\",\n    \"/share/\\\"d\\\"\"\n  ]\n}\n";
    assert_eq!(spec.encode(), expected);
    assert_eq!(parse(expected).unwrap(), spec);
    assert_eq!(parse(&BundleSpec::default().encode()).unwrap().dependencies(), []);
}

#[test]
fn lines_in_front_that_start_with_a_hash_are_skipped() {
    let json = BundleSpec::of([path("/x")]).encode();
    for head in ["#%CVMFS_BUNDLE version=1 encoding=UTF-8\n", "#\n# two\n\n", "", " \n"] {
        assert_eq!(parse(&format!("{head}{json}")).unwrap().dependencies(), [path("/x")], "{head:?}");
    }
    for text in ["#", "# only\n", " # not at the beginning of the line\n{}", ""] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn entries_are_paths_from_the_root_or_from_the_directory() {
    let (paths, left_out) = read(r#""/x/y", "b.so", "./c.so", "d/e", "/x/y", "/lib/a/b.so""#);
    assert_eq!((paths.join(" ").as_str(), left_out), ("/x/y /lib/a/b.so /lib/a/c.so /lib/a/d/e", 0));
    let spec = BundleSpec::parse(BundleSpec::default().encode().as_bytes(), &RepoPath::root()).unwrap();
    assert_eq!(spec.dependencies(), []);
    let text = r#"{"name": "CVMFS_BUNDLE", "dependencies": ["x"]}"#;
    assert_eq!(BundleSpec::parse(text.as_bytes(), &RepoPath::root()).unwrap().dependencies(), [path("/x")]);
}

#[test]
fn entries_that_lead_elsewhere_are_left_out() {
    let long = format!("\"/{}\"", "x".repeat(256));
    let list = format!(r#""", "/", "./", "../x", "/a/../x", "/a//b", "/a/", "././x", "a\u0000b", {long}, "/good""#);
    assert_eq!(read(&list), (vec!["/good".to_string()], 10));
}

#[test]
fn what_is_no_specification_is_refused() {
    for text in [
        "{",
        "null",
        "[]",
        r#"["CVMFS_BUNDLE", "1.0.0", "UTF-8", []]"#,
        r#"{"name": "CVMFS_BUNDLE"}"#,
        r#"{"dependencies": []}"#,
        r#"{"name": "OTHER", "dependencies": []}"#,
        r#"{"name": "CVMFS_BUNDLE", "dependencies": "/a"}"#,
        r#"{"name": "CVMFS_BUNDLE", "dependencies": [1]}"#,
        r#"{"name": "CVMFS_BUNDLE", "dependencies": []} more"#,
        r#"{"name": "CVMFS_BUNDLE", "name": "CVMFS_BUNDLE", "dependencies": []}"#,
    ] {
        assert!(matches!(parse(text), Err(FormatError::Malformed { .. })), "{text}");
    }
    for text in [
        r#"{"name": "CVMFS_BUNDLE", "version": "2.0.0", "dependencies": []}"#,
        r#"{"name": "CVMFS_BUNDLE", "version": "", "dependencies": []}"#,
        r#"{"name": "CVMFS_BUNDLE", "encoding": "latin1", "dependencies": []}"#,
    ] {
        assert!(matches!(parse(text), Err(FormatError::Unsupported { .. })), "{text}");
    }
    let later = r#"{"name": "CVMFS_BUNDLE", "version": "1.2", "encoding": "utf-8", "new": {}, "dependencies": []}"#;
    assert!(parse(later).is_ok());
}

#[test]
fn sizes_are_bounded() {
    let text = format!("{}{}", BundleSpec::default().encode(), " ".repeat(BUNDLE_MAX_BYTES));
    assert!(matches!(parse(&text), Err(FormatError::TooLarge { .. })));
    let many = |count: usize| vec!["\"\""; count].join(",");
    assert!(with_dependencies(&many(BUNDLE_MAX_DEPENDENCIES)).is_ok());
    assert!(with_dependencies(&many(BUNDLE_MAX_DEPENDENCIES + 1)).is_err());
    assert!(with_dependencies(&"[".repeat(200_000)).is_err());
}

#[test]
fn what_a_specification_cannot_hold_is_left_out() {
    let invalid = RepoPath::parse(b"/\xff").unwrap();
    let spec = BundleSpec::of([path("/a"), invalid, RepoPath::root(), path("/a"), path("/b")]);
    assert_eq!((spec.dependencies(), spec.left_out()), (&[path("/a"), path("/b")][..], 2));
    let many = BundleSpec::of((0..BUNDLE_MAX_DEPENDENCIES + 5).map(|number| path(&format!("/{number}"))));
    assert_eq!((many.dependencies().len(), many.left_out()), (BUNDLE_MAX_DEPENDENCIES, 5));
    let long = BundleSpec::of((0..6000).map(|number| path(&format!("/{number:0>200}"))));
    assert!(long.left_out() > 0 && long.encode().len() <= BUNDLE_MAX_BYTES);
    assert_eq!(parse(&long.encode()).unwrap().dependencies(), long.dependencies());
}

#[test]
fn a_specification_and_its_trigger_lead_to_each_other() {
    for trigger in ["/x", "/lib/a.so", "/lib/.cvmfsbundle-x", "/a/ b"] {
        let beside = specification_path(&path(trigger)).unwrap();
        assert_eq!((beside.parent(), trigger_path(&beside)), (path(trigger).parent(), Some(path(trigger))));
    }
    assert_eq!(specification_path(&path("/lib/a.so")).unwrap(), path("/lib/.cvmfsbundle-a.so"));
    assert_eq!(specification_path(&RepoPath::root()), None);
    assert_eq!(specification_path(&path(&format!("/{}", "x".repeat(243)))), None);
    assert!(specification_path(&path(&format!("/{}", "x".repeat(242)))).is_some());
    for name in ["x", ".cvmfsbundle", ".cvmfsbundles", ".cvmfsbundle-", ".cvmfsbundle-.", ".cvmfsbundle-.."] {
        assert_eq!(trigger_name(name.as_bytes()), None, "{name}");
    }
    assert_eq!(trigger_path(&RepoPath::root()), None);
}

proptest! {
    #[test]
    fn what_was_written_is_read(names in proptest::collection::vec("[^/\0]{1,20}", 0..30)) {
        let paths = names.iter().filter_map(|name| path("/d").join(name.as_bytes()).ok());
        let spec = BundleSpec::of(paths);
        prop_assert_eq!(parse(&spec.encode()).unwrap(), spec);
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200), list in "[\",\\[\\]{}a-c/.\\\\]{0,40}") {
        let _ = BundleSpec::parse(&bytes, &path("/d"));
        if let Ok(spec) = with_dependencies(&list) {
            let again = parse(&spec.encode()).unwrap();
            prop_assert_eq!(again.dependencies(), spec.dependencies());
        }
    }
}
