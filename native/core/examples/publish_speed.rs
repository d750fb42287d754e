//! Measures publishing: 30,000 small files in 50 nested catalogs (120 MB), then one changed file.
//!
//! `cargo run --release -p nearfs-core --example publish_speed [DIRECTORY [TREE]]`; DIRECTORY (default: the system's
//! temporary one) receives the tree and the storage, which vanish at the end. TREE is published instead of the
//! generated tree where it is given.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use nearfs_core::progress::Progress;
use nearfs_core::publish::{BaseRevision, NewRepository, PublishSettings, Source, create_repository, plan, publish};
use nearfs_core::store::{LocalStore, ObjectWrite as _};
use nearfs_format::hash::HashAlgorithm;

const DIRECTORIES: u64 = 50;
const FILES_EACH: u64 = 600;
const FILE_BYTES: u64 = 4000;

/// Text that deflates about as well as source code does (to a third).
fn text(seed: u64) -> String {
    const WORDS: [&str; 16] = [
        "return", "self.", "value", "import", "    def ", "(other)", " = ", "None\n", "for ", "index", " in ",
        "range(", "if ", "not ", "class ", ":\n",
    ];
    let (mut state, mut text) = (seed, String::new());
    while (text.len() as u64) < FILE_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(state >> 60) as usize]);
        if (state >> 40) % 4 == 0 {
            let _ = write!(text, "{:x}", state >> 44 & 0xffff);
        }
    }
    text
}

fn show(root: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for directory in 0..DIRECTORIES {
        let top = root.join(format!("package{directory:02}"));
        fs::create_dir_all(&top)?;
        fs::write(top.join(".cvmfscatalog"), b"")?;
        for file in 0..FILES_EACH {
            let sub = top.join(format!("module{}", file / 50));
            if file % 50 == 0 {
                fs::create_dir(&sub)?;
            }
            let content = text(directory << 32 | file);
            bytes += content.len() as u64;
            fs::write(sub.join(format!("file{file}.py")), content)?;
        }
    }
    Ok(bytes)
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let directory = tempfile::tempdir_in(parent)?;
    let path = std::env::args_os().nth(2).map_or_else(|| directory.path().join("tree"), Into::into);
    if !path.exists() {
        let bytes = show(&path)?;
        println!("tree: {} files, {bytes} bytes", DIRECTORIES * FILES_EACH);
    }
    let store = LocalStore::create_skeleton(directory.path().join("storage"))?;
    let new = NewRepository {
        fqrn: "speed.example.org".into(),
        hash_algorithm: HashAlgorithm::Sha1,
        uid: 0,
        gid: 0,
        volatile: false,
        voms_authz: None,
        now: 1,
    };
    let head = create_repository(&store, &new)?;
    let base = BaseRevision { root_hash: head.root_hash };
    store.sync()?;
    let settings = PublishSettings::new(2);

    let start = Instant::now();
    let source = Source::Overlay { upper: path.clone() };
    let listed = plan(&store, &base, &source, &settings)?;
    println!("scan alone: {:.3} s, {} changes", start.elapsed().as_secs_f64(), listed.changes.len());
    let start = Instant::now();
    let head = publish(&store, &base, &source, &settings, &Progress::new())?;
    println!(
        "publish: {:.3} s, {} objects, {} bytes, {} catalogs, root catalog {} bytes",
        start.elapsed().as_secs_f64(),
        head.stored.objects_new,
        head.stored.bytes_new,
        head.catalogs_new,
        head.root_size_bytes
    );

    let upper = directory.path().join("upper");
    let changed = listed.changes.iter().rfind(|change| change.path.name().starts_with(b"f")).ok_or("no file")?;
    let changed = upper.join(changed.path.to_string().trim_start_matches('/'));
    fs::create_dir_all(changed.parent().ok_or("no parent")?)?;
    fs::write(changed, "changed")?;
    let base = BaseRevision { root_hash: head.root_hash };
    for _ in 0..3 {
        let start = Instant::now();
        let source = Source::Overlay { upper: upper.clone() };
        let head = publish(&store, &base, &source, &settings, &Progress::new())?;
        println!("one file: {:.1} ms, {} catalogs", start.elapsed().as_secs_f64() * 1e3, head.catalogs_new);
    }
    Ok(())
}
