use super::*;
use crate::store::MemoryStore;

fn hash(text: &str) -> ContentHash {
    HashAlgorithm::Sha1.hash(text.as_bytes())
}

fn tag(name: &str, revision: u64) -> Tag {
    Tag {
        name: name.into(),
        root_hash: hash(&format!("root {revision}")),
        revision,
        timestamp: 1000 + revision as i64,
        description: String::new(),
        size_bytes: 4096,
        branch: String::new(),
        channel: 0,
    }
}

fn names(history: &HistoryDb) -> Vec<String> {
    history.tags().unwrap().into_iter().map(|tag| tag.name).collect()
}

#[test]
fn trunk_follows_the_head_and_survives_storing() {
    let (scratch, store) = (tempfile::tempdir().unwrap(), MemoryStore::new());
    let mut history = HistoryDb::create(scratch.path(), "a.example.org").unwrap();
    assert_eq!(history.previous_revision().unwrap(), None);
    history.advance_trunk(&tag("ignored", 1)).unwrap();
    assert_eq!(names(&history), ["trunk"]);
    let first = history.save(&store, HashAlgorithm::Shake128).unwrap();

    let mut history = HistoryDb::load(&store, scratch.path(), "a.example.org", first.hash).unwrap();
    history.set_previous_revision(first.hash).unwrap();
    history.insert(&tag("v2", 2)).unwrap();
    history.advance_trunk(&tag("", 2)).unwrap();
    assert_eq!(names(&history), ["trunk", "v2", "trunk-previous"]);
    let previous = history.find("trunk-previous").unwrap().unwrap();
    assert_eq!((previous.revision, previous.description.as_str()), (1, "default undo target"));
    assert_eq!(history.find("trunk").unwrap().unwrap().description, "current HEAD");
    assert_eq!(history.find_by_date(1001).unwrap().unwrap().revision, 1);
    assert_eq!(history.find_by_date(1000).unwrap(), None);
    history.advance_trunk(&tag("", 3)).unwrap();
    assert_eq!(history.find("trunk-previous").unwrap().unwrap().revision, 2);
    let second = history.save(&store, HashAlgorithm::Sha1).unwrap();
    let history = HistoryDb::load(&store, scratch.path(), "a.example.org", second.hash).unwrap();
    assert_eq!(history.previous_revision().unwrap(), Some(first.hash));
    let other = HistoryDb::load(&store, scratch.path(), "b.example.org", second.hash);
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Untrusted);
}

#[test]
fn names_in_use_or_invalid_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let mut history = HistoryDb::create(scratch.path(), "a.example.org").unwrap();
    history.insert(&tag("v1", 1)).unwrap();
    for bad in [tag("v1", 2), tag("a b", 2), tag("", 2), Tag { branch: "dev".into(), ..tag("v2", 2) }] {
        assert_eq!(history.insert(&bad).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(history.remove("v1").unwrap() && !history.remove("v1").unwrap());
}

#[test]
fn automatic_tags_get_free_names_and_expire() {
    let scratch = tempfile::tempdir().unwrap();
    let mut history = HistoryDb::create(scratch.path(), "a.example.org").unwrap();
    for expected in ["generic-1970-01-01T00:00:05Z", "generic_1-1970-01-01T00:00:05Z"] {
        let name = history.free_generic_name(5).unwrap();
        assert_eq!(name, expected);
        history.insert(&Tag { timestamp: 5, ..tag(&name, 1) }).unwrap();
    }
    history.insert(&tag("keep", 1)).unwrap();
    assert!(history.remove_generic_before(5).unwrap().is_empty());
    assert_eq!(history.remove_generic_before(6).unwrap().len(), 2);
    assert_eq!(names(&history), ["keep"]);
}

fn old_history(scratch: &Path, revision: i64) -> Vec<u8> {
    let size = if revision >= 1 { ", size INTEGER" } else { "" };
    let bin = if revision >= 2 { CREATE_RECYCLE_BIN } else { "" };
    let path = scratch.join(format!("old-{revision}"));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "{CREATE_PROPERTIES} {bin} CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, \
             channel INTEGER, description TEXT{size}, CONSTRAINT pk_tags PRIMARY KEY (name)); \
             INSERT INTO properties VALUES ('schema', '1.0'), ('schema_revision', '{revision}'), ('fqrn', 'o.org'); \
             INSERT INTO tags (name, hash, revision, timestamp, channel, description) \
             VALUES ('old', '{}', 7, 70, 4, 'd');",
            hash("x")
        ))
        .unwrap();
    connection.close().unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn older_schemas_are_read_and_brought_up_to_date_by_the_first_tag() {
    let (scratch, store) = (tempfile::tempdir().unwrap(), MemoryStore::new());
    for revision in 0..3 {
        let bytes = old_history(scratch.path(), revision);
        let mut history = HistoryDb::open(scratch.path(), "o.org", &bytes).unwrap();
        let old = history.find("old").unwrap().unwrap();
        assert_eq!((old.revision, old.size_bytes, old.branch.as_str(), old.channel), (7, 0, "", 4));
        history.advance_trunk(&tag("", 8)).unwrap();
        let saved = history.save(&store, HashAlgorithm::Sha1).unwrap();
        let history = HistoryDb::load(&store, scratch.path(), "o.org", saved.hash).unwrap();
        assert_eq!(names(&history), ["trunk", "old"]);
        assert_eq!(history.database.property("schema_revision").unwrap().unwrap(), "3");
    }
}

#[test]
fn what_is_no_history_is_corrupt() {
    let scratch = tempfile::tempdir().unwrap();
    let sound = old_history(scratch.path(), 2);
    for bytes in [&b""[..], b"no database", &sound[..200]] {
        let error = HistoryDb::open(scratch.path(), "o.org", bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let mut wal = sound.clone();
    wal[18..20].copy_from_slice(&[2, 2]);
    assert_eq!(HistoryDb::open(scratch.path(), "o.org", &wal).unwrap_err().kind(), ErrorKind::Corrupt);
}
