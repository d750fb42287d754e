//! The repositories of the reference implementation are sound, at every tag.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use nearfs_core::replica::PathRules;
use nearfs_core::replica::check::{CheckSettings, check, check_history, check_references};
use nearfs_format::codec::inflate_bounded;
use nearfs_format::hash::ContentHash;
use nearfs_format::manifest::UnverifiedManifest;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;

const NAMES: [&str; 2] = ["golden.example.org", "golden-shake.example.org"];

/// Unpacks a repository; `None`, and why on standard error, where there is none.
fn unpack(name: &str, to: &Path) -> Option<PathBuf> {
    let base = std::env::var_os("NEARFS_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"), PathBuf::from);
    let archive = base.join(name).join("repository.tar.xz");
    if !archive.exists() {
        eprintln!("skipped: no golden repository at {} (set NEARFS_GOLDEN)", archive.display());
        return None;
    }
    let status = Command::new("tar").arg("-C").arg(to).arg("-xJf").arg(archive).status().unwrap();
    assert!(status.success(), "tar: {status}");
    Some(to.join(name))
}

#[test]
fn golden_repositories_are_sound_at_every_tag() {
    for name in NAMES {
        let directory = tempfile::tempdir().unwrap();
        let Some(storage) = unpack(name, directory.path()) else { return };
        let manifest = UnverifiedManifest::parse(&std::fs::read(storage.join(".cvmfspublished")).unwrap()).unwrap();
        let fields = manifest.fields();
        let history = fields.history.unwrap();
        assert_eq!(check_history(&storage, history, name).unwrap(), []);

        let mut revisions = tags(&storage, history, directory.path());
        assert!(revisions.len() >= 4, "{revisions:?}");
        revisions.push(("manifest".into(), fields.root_hash, fields.root_size_bytes));
        for (tag, root_hash, expected_size_bytes) in revisions {
            let settings = CheckSettings {
                fqrn: name.into(),
                root_hash,
                expected_size_bytes,
                check_chunks: true,
                verify_content: true,
                subtree: RepoPath::root(),
                paths: PathRules::default(),
            };
            let report = check(&storage, &settings, &AtomicBool::new(false)).unwrap();
            assert_eq!(report.findings, [], "{name} at {tag}");
            assert!(report.catalogs.len() > 3, "{name} at {tag}: {:?}", report.catalogs);
            assert_eq!(report.catalogs[0], (root_hash.to_string(), "/".to_owned()));
        }
    }
}

#[test]
fn golden_reference_logs_know_what_the_manifest_names() {
    for name in NAMES {
        let directory = tempfile::tempdir().unwrap();
        let Some(storage) = unpack(name, directory.path()) else { return };
        let manifest = UnverifiedManifest::parse(&std::fs::read(storage.join(".cvmfspublished")).unwrap()).unwrap();
        let fields = manifest.fields();
        let references = [
            (fields.root_hash, ObjectKind::Catalog),
            (fields.certificate.unwrap(), ObjectKind::Certificate),
            (fields.history.unwrap(), ObjectKind::History),
            (fields.metainfo.unwrap(), ObjectKind::Metainfo),
        ];
        let checksum = fields.reflog.unwrap().to_string();
        if storage.join(".cvmfsreflog").exists() {
            assert_eq!(check_references(&storage, &checksum, &references).unwrap(), [], "{name}");
        }
    }
}

/// Returns name, root hash and catalog size of all tags.
fn tags(storage: &Path, history: ContentHash, scratch: &Path) -> Vec<(String, ContentHash, u64)> {
    let stored = std::fs::read(storage.join(ObjectId::new(history, ObjectKind::History).key())).unwrap();
    let file = scratch.join("history.db");
    std::fs::write(&file, inflate_bounded(&stored, 1 << 20).unwrap()).unwrap();
    let database = rusqlite::Connection::open(file).unwrap();
    let mut statement = database.prepare("SELECT name, hash, size FROM tags").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)));
    rows.unwrap().map(Result::unwrap).map(|(name, hash, size)| (name, hash.parse().unwrap(), size as u64)).collect()
}
