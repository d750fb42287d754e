//! From a URL and keys to a verified snapshot: the only way to learn a root hash that may be trusted.
//!
//! Owns the order of the bootstrap (format.md 2.5): manifest and whitelist are asked for together, certificate and root
//! catalog together as soon as the manifest is parsed; nothing fetched is used before the signature holds. A manifest
//! that names the root hash of the breadcrumb was verified when the breadcrumb was written and costs one request; not
//! where a tag or a date is asked for, since those follow from another field of the manifest, and not where anything is
//! blacklisted, since that may be newer than the note. Where that may be so, the manifest is asked for alone, and the
//! whitelist, if it is needed after all, beside the certificate: no round trip more. Where no host answers, the
//! breadcrumb names the root, too.
//!
//! Threading: one call, which may block as long as its requests may; two short-lived threads run side by side.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nearfs_format::blacklist::Blacklist;
use nearfs_format::hash::ContentHash;
use nearfs_format::manifest::{ManifestFields, UnverifiedManifest};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::trust::{self, CERTIFICATE_LIMIT_BYTES, Certificate, MasterKeys};
use nearfs_format::whitelist::UnverifiedWhitelist;

use super::history::HistoryDb;
use crate::cache::breadcrumb::Breadcrumb;
use crate::cache::fill::ObjectCache;
use crate::cache::{Place, Want};
use crate::catalog::reader::NestedRow;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::Origin;

const MANIFEST: &str = ".cvmfspublished";
const WHITELIST: &str = ".cvmfswhitelist";
/// Manifests are small; the reference reads at most 4096 bytes from disk.
const MANIFEST_LIMIT_BYTES: u64 = 64 << 10;
/// A whitelist may hold many certificates, but not megabytes of them.
const WHITELIST_LIMIT_BYTES: u64 = 1 << 20;
/// Blacklists are lists of names and fingerprints.
const BLACKLIST_LIMIT_BYTES: u64 = 1 << 20;
/// Largest history that is fetched, uncompressed: it passes through memory.
const HISTORY_LIMIT_BYTES: u64 = 256 << 20;
/// Largest catalog that is fetched, uncompressed.
pub const CATALOG_LIMIT_BYTES: u64 = 4 << 30;

/// Returns the want of a catalog that a manifest, a mount or another catalog names.
pub fn catalog_want(fqrn: &str, catalog: &NestedRow, place: Place) -> Want {
    let size_bytes = (catalog.size_bytes > 0).then_some(catalog.size_bytes);
    let id = ObjectId::new(catalog.hash, ObjectKind::Catalog);
    Want { size_bytes, place, ..Want::bounded(id, CATALOG_LIMIT_BYTES) }
        .labelled(format!("file catalog at {fqrn}:{} ({})", catalog.path, catalog.hash))
}

/// Which revision to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// What the manifest names.
    Current,
    /// This root catalog, without asking for a manifest: the caller vouches for the hash.
    RootHash(ContentHash),
    /// The revision with this tag.
    Tag(String),
    /// The newest tagged revision that is not younger than this Unix time, seconds.
    Date(i64),
}

/// What it takes to trust a repository.
#[derive(Debug)]
pub struct Trust {
    /// Fully qualified repository name.
    pub fqrn: String,
    /// Master public keys.
    pub keys: MasterKeys,
    /// Refused certificates and revisions.
    pub blacklist: Blacklist,
    /// Now, Unix seconds.
    pub now_s: i64,
}

/// What trust is made from, each time anew: the blacklist may change while a repository is mounted.
#[derive(Debug, Clone)]
pub struct TrustSource {
    /// Fully qualified repository name.
    pub fqrn: String,
    /// Master public keys.
    pub keys: MasterKeys,
    /// Blacklists, those that exist count together.
    pub blacklist_files: Vec<PathBuf>,
}

impl TrustSource {
    /// Reads the blacklists and the clock.
    pub fn trust(&self) -> Result<Trust> {
        let mut blacklist = Blacklist::default();
        for path in &self.blacklist_files {
            blacklist.merge(&Blacklist::parse(&blacklist_text(path)?));
        }
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        Ok(Trust { fqrn: self.fqrn.clone(), keys: self.keys.clone(), blacklist, now_s })
    }
}

fn blacklist_text(path: &Path) -> Result<String> {
    // Whatever is wrong with the list, nothing can be trusted without it.
    let failed = |e: io::Error| Error::new(ErrorKind::Untrusted, "read blacklist", format!("{}: {e}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(BLACKLIST_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BLACKLIST_LIMIT_BYTES {
        let reason = format!("{} is larger than {BLACKLIST_LIMIT_BYTES} bytes; check the path", path.display());
        return Err(Error::new(ErrorKind::Untrusted, "read blacklist", reason));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A verified revision of a repository.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Root catalog.
    pub root_hash: ContentHash,
    /// Size of the uncompressed root catalog, bytes; 0 where unknown.
    pub root_size_bytes: u64,
    /// The manifest it came from; `None` for a fixed root hash.
    pub manifest: Option<Arc<ManifestFields>>,
    /// True where it must not follow new revisions.
    pub is_fixed: bool,
    /// True where no host answered, and the last known root was taken.
    pub is_offline: bool,
}

/// What a client shows, for [`Snapshot::newer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Its root catalog.
    pub root_hash: ContentHash,
    /// Its revision.
    pub revision: u64,
}

impl Snapshot {
    /// Opens a revision of the repository at `origin`.
    pub fn open(cache: &ObjectCache, trust: &Trust, selection: &Selection) -> Result<Self> {
        if let Selection::RootHash(root_hash) = selection {
            return Ok(Self {
                root_hash: *root_hash,
                root_size_bytes: 0,
                manifest: None,
                is_fixed: true,
                is_offline: false,
            });
        }
        let manifest = match verified_manifest(cache, trust, selection) {
            Ok(manifest) => manifest,
            Err(error) if *selection == Selection::Current && is_absence(&error) => {
                return last_known(cache, trust)?.ok_or(error);
            }
            Err(error) => return Err(error),
        };
        match selection {
            Selection::Current | Selection::RootHash(_) => Ok(Self {
                root_hash: manifest.root_hash,
                root_size_bytes: manifest.root_size_bytes,
                manifest: Some(manifest),
                is_fixed: false,
                is_offline: false,
            }),
            Selection::Tag(name) => tagged(cache, trust, manifest, |history| {
                history.find(name)?.ok_or_else(|| no_tag(trust, format!("no such tag: {name}")))
            }),
            Selection::Date(until_s) => tagged(cache, trust, manifest, |history| {
                history
                    .find_by_date(*until_s)?
                    .ok_or_else(|| no_tag(trust, format!("no repository state as early as utc timestamp {until_s}")))
            }),
        }
    }
}

/// Says whether hosts had no answer, rather than a wrong one.
fn is_absence(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::NotFound)
}

/// Returns the root that the breadcrumb names, where its catalog is in the cache.
fn last_known(cache: &ObjectCache, trust: &Trust) -> Result<Option<Snapshot>> {
    let Some(seen) = cache.disk().read_breadcrumb(&trust.fqrn)? else { return Ok(None) };
    refuse_blacklisted(trust, seen.revision.unwrap_or(u64::MAX))?;
    let is_cached = cache.is_cached(&ObjectId::new(seen.root_hash, ObjectKind::Catalog));
    let offline = || Snapshot {
        root_hash: seen.root_hash,
        root_size_bytes: 0,
        manifest: None,
        is_fixed: false,
        is_offline: true,
    };
    Ok(is_cached.then(offline))
}

/// Fails where the blacklist refuses a revision.
pub fn refuse_blacklisted(trust: &Trust, revision: u64) -> Result<()> {
    let minimum = trust.blacklist.minimum_revision(&trust.fqrn);
    if revision >= minimum {
        return Ok(());
    }
    let reason = format!(
        "{}: revision {revision} is blacklisted, as all below {minimum}; wait for a newer one or edit the blacklist",
        trust.fqrn
    );
    Err(Error::new(ErrorKind::Untrusted, "check blacklist of", reason))
}

impl Snapshot {
    /// Returns the repository's newest revision if it is another one than what is shown; one request where it is not.
    ///
    /// Where no host answers, another client that shares the cache may have been luckier: then it is the revision of the
    /// breadcrumb. [`ErrorKind::Unreachable`] where all hosts are behind what is shown.
    pub fn newer(cache: &ObjectCache, trust: &Trust, shown: &Shown) -> Result<Option<Self>> {
        match newer_manifest(cache, trust, shown) {
            Ok(manifest) => Ok(manifest.map(|manifest| Self {
                root_hash: manifest.root_hash,
                root_size_bytes: manifest.root_size_bytes,
                manifest: Some(manifest),
                is_fixed: false,
                is_offline: false,
            })),
            Err(error) => {
                let seen = cache.disk().read_breadcrumb(&trust.fqrn)?;
                let is_newer = seen.and_then(|seen| seen.revision).is_some_and(|revision| revision > shown.revision);
                if is_newer && let Some(snapshot) = last_known(cache, trust)? { Ok(Some(snapshot)) } else { Err(error) }
            }
        }
    }
}

/// What a host has, measured by what is shown.
enum Standing {
    Same,
    Newer(Arc<ManifestFields>),
    Behind,
}

fn newer_manifest(cache: &ObjectCache, trust: &Trust, shown: &Shown) -> Result<Option<Arc<ManifestFields>>> {
    let origin = cache.origin();
    let mut first = None;
    for turn in 1..=origin.doubtful_ways() {
        let host = origin.active_host();
        match standing(cache, trust, shown) {
            Ok(Standing::Same) => return Ok(None),
            Ok(Standing::Newer(fields)) => return Ok(Some(fields)),
            Ok(Standing::Behind) if origin.leave_host(&host) => {}
            Ok(Standing::Behind) => break,
            Err(error) if is_a_lie(&error) && leave(origin, &host, &error, turn) => first = first.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    let reason = format!("{}: the hosts are behind revision {}, which is shown", trust.fqrn, shown.revision);
    Err(first.unwrap_or_else(|| Error::new(ErrorKind::Unreachable, "look for a revision of", reason)))
}

fn standing(cache: &ObjectCache, trust: &Trust, shown: &Shown) -> Result<Standing> {
    let name_it = |e: Error| Error::new(e.kind(), "look for a revision of", trust.fqrn.as_str()).with_source(e);
    let bytes = cache.origin().fetch_small(MANIFEST, MANIFEST_LIMIT_BYTES, false).map_err(name_it)?;
    let manifest =
        UnverifiedManifest::parse(&bytes).map_err(|e| Error::format("read manifest of", trust.fqrn.as_str(), e))?;
    if manifest.fields().root_hash == shown.root_hash {
        return Ok(Standing::Same);
    }
    if manifest.fields().revision <= shown.revision {
        return Ok(Standing::Behind);
    }
    let seen = cache.disk().read_breadcrumb(&trust.fqrn)?;
    verify(cache, trust, manifest, None, seen.as_ref()).map(Standing::Newer)
}

fn no_tag(trust: &Trust, reason: String) -> Error {
    Error::new(ErrorKind::NotFound, "find revision of", format!("{}: {reason}", trust.fqrn))
}

fn tagged(
    cache: &ObjectCache,
    trust: &Trust,
    manifest: Arc<ManifestFields>,
    find: impl FnOnce(&HistoryDb) -> Result<nearfs_format::history::Tag>,
) -> Result<Snapshot> {
    let hash = manifest.history.ok_or_else(|| no_tag(trust, "No history".to_owned()))?;
    let want = Want {
        place: Place::in_repository(manifest.has_alternative_paths),
        ..Want::bounded(ObjectId::new(hash, ObjectKind::History), HISTORY_LIMIT_BYTES)
    };
    let content = cache.open(&want)?.read_all(HISTORY_LIMIT_BYTES)?;
    let history = HistoryDb::open(&cache.disk().scratch_dir(), &trust.fqrn, &content)?;
    let tag = find(&history)?;
    Ok(Snapshot {
        root_hash: tag.root_hash,
        root_size_bytes: tag.size_bytes,
        manifest: Some(manifest),
        is_fixed: true,
        is_offline: false,
    })
}

/// Fetches the manifest and checks the whole chain of trust, then remembers it in the breadcrumb. A host whose manifest
/// does not hold is left for the next one.
fn verified_manifest(cache: &ObjectCache, trust: &Trust, selection: &Selection) -> Result<Arc<ManifestFields>> {
    let seen = cache.disk().read_breadcrumb(&trust.fqrn)?;
    let origin = cache.origin();
    // What the first host did is the error to be told, whatever the others do.
    let mut first = None;
    for turn in 1..=origin.doubtful_ways() {
        let mut asked = origin.active_host();
        match manifest_of_a_host(cache, trust, selection, seen.as_ref(), &mut asked) {
            Err(error) if is_a_lie(&error) && leave(origin, &asked, &error, turn) => first = first.or(Some(error)),
            Err(error) => return Err(first.unwrap_or(error)),
            Ok(fields) => return Ok(fields),
        }
    }
    let no_host = || Error::new(ErrorKind::InvalidInput, "open repository", format!("{}: it has no host", trust.fqrn));
    Err(first.unwrap_or_else(no_host))
}

/// `asked` becomes the host whose manifest it is: what follows may have moved on to others.
fn manifest_of_a_host(
    cache: &ObjectCache,
    trust: &Trust,
    selection: &Selection,
    seen: Option<&Breadcrumb>,
    asked: &mut Arc<str>,
) -> Result<Arc<ManifestFields>> {
    let may_be_known = known_root(cache, trust, selection, seen).is_some();
    let (manifest, whitelist) = latest(cache, trust, seen, asked, !may_be_known)?;
    // The breadcrumb vouches for the root hash and nothing else: a tag's revision follows from the history that the
    // manifest names, so there the signature counts.
    if known_root(cache, trust, selection, seen) == Some(manifest.fields().root_hash)
        && manifest.fields().fqrn.as_deref() == Some(trust.fqrn.as_str())
    {
        return Ok(Arc::new(manifest.fields().clone()));
    }
    verify(cache, trust, manifest, whitelist, seen)
}

/// Returns the root that needs no signature any more, where there is one: its catalog is in the cache.
fn known_root(
    cache: &ObjectCache,
    trust: &Trust,
    selection: &Selection,
    seen: Option<&Breadcrumb>,
) -> Option<ContentHash> {
    let is_enough = *selection == Selection::Current && trust.blacklist.is_empty();
    let seen = seen.filter(|_| is_enough)?;
    cache.is_cached(&ObjectId::new(seen.root_hash, ObjectKind::Catalog)).then_some(seen.root_hash)
}

/// Leaves the way by which something came that does not hold, at this turn (counted from 1); returns whether there is
/// another one. It is the host's doing unless all hosts had their turn: then what is damaged, and not just signed by a
/// stranger, may be the doing of the proxy.
fn leave(origin: &Origin, host: &str, error: &Error, turn: usize) -> bool {
    let is_other_host = origin.distrust_host(host);
    if turn % origin.hosts().len().max(1) == 0 {
        return error.kind() == ErrorKind::Corrupt && origin.doubt_proxy();
    }
    is_other_host
}

/// Says whether a host gave something that does not hold.
fn is_a_lie(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Untrusted | ErrorKind::Corrupt)
}

/// Checks the chain of trust from the keys to the manifest, and remembers the manifest in the breadcrumb. A whitelist
/// that was not asked for yet is asked for beside the certificate.
fn verify(
    cache: &ObjectCache,
    trust: &Trust,
    unverified: UnverifiedManifest,
    whitelist: Option<Result<Vec<u8>>>,
    seen: Option<&Breadcrumb>,
) -> Result<Arc<ManifestFields>> {
    refuse_blacklisted(trust, unverified.fields().revision)?;
    let check = |text: Result<Vec<u8>>| {
        let text = text.map_err(|e| Error::new(e.kind(), "open repository", trust.fqrn.as_str()).with_source(e))?;
        UnverifiedWhitelist::parse(&text)
            .and_then(|w| trust::verify_whitelist(w, &trust.keys, &trust.fqrn, trust.now_s))
            .map_err(|e| Error::format("verify whitelist of", trust.fqrn.as_str(), e))
    };
    let fetch = || cache.origin().fetch_small(WHITELIST, WHITELIST_LIMIT_BYTES, false);
    let certified = || fetch_certificate(cache, trust, unverified.fields());
    let (whitelist, (certificate, hash)) = if let Some(text) = whitelist {
        (check(text)?, certified()?)
    } else {
        let (text, certified) = std::thread::scope(|scope| {
            let text = scope.spawn(fetch);
            let certified = certified();
            let died = |_| Err(Error::new(ErrorKind::Internal, "fetch", format!("{WHITELIST}: its thread died")));
            (text.join().unwrap_or_else(died), certified)
        });
        // What is wrong with the whitelist comes first: without it, no certificate means anything.
        (check(text)?, certified?)
    };
    let minimum = seen.map_or(0, |seen| seen.published_s);
    let manifest =
        trust::verify_manifest(unverified, &whitelist, &certificate, &hash, &trust.fqrn, minimum, &trust.blacklist)
            .map_err(|e| Error::format("verify manifest of", trust.fqrn.as_str(), e))?;
    let fields = Arc::new(ManifestFields::clone(&manifest));
    let breadcrumb = Breadcrumb {
        root_hash: fields.root_hash,
        published_s: fields.timestamp.unwrap_or(0),
        revision: Some(fields.revision),
    };
    cache.disk().write_breadcrumb(&trust.fqrn, &breadcrumb)?;
    Ok(fields)
}

/// Fetches the manifest, and the whitelist if it is to come along, from the next host where one is older than what this
/// client has already seen.
fn latest(
    cache: &ObjectCache,
    trust: &Trust,
    seen: Option<&Breadcrumb>,
    asked: &mut Arc<str>,
    with_whitelist: bool,
) -> Result<(UnverifiedManifest, Option<Result<Vec<u8>>>)> {
    let origin = cache.origin();
    let seen_revision = seen.and_then(|seen| seen.revision).unwrap_or(0);
    for hosts_left in (0..origin.hosts().len()).rev() {
        *asked = origin.active_host();
        let (manifest, whitelist) = if with_whitelist {
            let [manifest, whitelist] =
                origin.fetch_two((MANIFEST, MANIFEST_LIMIT_BYTES), (WHITELIST, WHITELIST_LIMIT_BYTES))?;
            (manifest, Some(whitelist))
        } else {
            (origin.fetch_small(MANIFEST, MANIFEST_LIMIT_BYTES, false), None)
        };
        let bytes =
            manifest.map_err(|e| Error::new(e.kind(), "open repository", trust.fqrn.as_str()).with_source(e))?;
        let manifest =
            UnverifiedManifest::parse(&bytes).map_err(|e| Error::format("read manifest of", trust.fqrn.as_str(), e))?;
        let is_stale = manifest.fields().revision < seen_revision;
        if hosts_left == 0 || !is_stale || !origin.leave_host(asked) {
            return Ok((manifest, whitelist));
        }
    }
    Err(Error::new(ErrorKind::InvalidInput, "open repository", format!("{}: it has no host", trust.fqrn)))
}

/// Fetches the certificate; the root catalog is warmed at the same time, since it will be wanted if all is well.
fn fetch_certificate(
    cache: &ObjectCache,
    trust: &Trust,
    fields: &ManifestFields,
) -> Result<(Certificate, ContentHash)> {
    let hash = fields.certificate.ok_or_else(|| {
        let reason = format!("{}: it names no certificate; the publisher has to sign it", trust.fqrn);
        Error::new(ErrorKind::Untrusted, "verify manifest of", reason)
    })?;
    let place = || Place::in_repository(fields.has_alternative_paths);
    let want = |hash, kind, limit| Want { place: place(), ..Want::bounded(ObjectId::new(hash, kind), limit) };
    let pem = std::thread::scope(|scope| {
        let size_bytes = (fields.root_size_bytes > 0).then_some(fields.root_size_bytes);
        let root = Want { size_bytes, ..want(fields.root_hash, ObjectKind::Catalog, CATALOG_LIMIT_BYTES) }
            .labelled(format!("file catalog at {}:/ ({})", trust.fqrn, fields.root_hash));
        // Its failure shows again, with its own error, when the root catalog is opened.
        scope.spawn(move || drop(cache.open(&root)));
        cache.read_small(&want(hash, ObjectKind::Certificate, CERTIFICATE_LIMIT_BYTES))
    })
    .map_err(|e| Error::new(e.kind(), "load certificate", format!("{hash} of {}", trust.fqrn)).with_source(e))?;
    let certificate = Certificate::parse(&pem)
        .map_err(|e| Error::format("read certificate", format!("{hash} of {}", trust.fqrn), e))?;
    Ok((certificate, hash))
}
