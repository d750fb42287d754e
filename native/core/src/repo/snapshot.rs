//! From a URL and keys to a verified snapshot: the only way to learn a root hash that may be trusted.
//!
//! Owns the order of the bootstrap (format.md 2.5): manifest and whitelist are asked for together, certificate and root
//! catalog together as soon as the manifest is parsed; nothing fetched is used before the signature holds. A manifest
//! that names the root hash of the breadcrumb was verified when the breadcrumb was written and costs one request; not
//! where a tag or a date is asked for, since those follow from another field of the manifest.
//!
//! Threading: one call, which may block as long as its requests may; two short-lived threads run side by side.

use std::sync::Arc;

use nearfs_format::blacklist::Blacklist;
use nearfs_format::hash::ContentHash;
use nearfs_format::manifest::{ManifestFields, UnverifiedManifest};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::trust::{self, CERTIFICATE_LIMIT_BYTES, Certificate, MasterKeys};
use nearfs_format::whitelist::UnverifiedWhitelist;

use super::history::HistoryDb;
use crate::cache::breadcrumb::Breadcrumb;
use crate::cache::fill::{ObjectCache, Want};
use crate::error::{Error, ErrorKind, Result};

/// Manifests are small; the reference reads at most 4096 bytes from disk.
const MANIFEST_LIMIT_BYTES: u64 = 64 << 10;
/// A whitelist may hold many certificates, but not megabytes of them.
const WHITELIST_LIMIT_BYTES: u64 = 1 << 20;
/// Largest history that is fetched, uncompressed: it passes through memory.
const HISTORY_LIMIT_BYTES: u64 = 256 << 20;
/// Largest catalog that is fetched, uncompressed.
pub const CATALOG_LIMIT_BYTES: u64 = 4 << 30;

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
}

impl Snapshot {
    /// Opens a revision of the repository at `origin`.
    pub fn open(cache: &ObjectCache, trust: &Trust, selection: &Selection) -> Result<Self> {
        if let Selection::RootHash(root_hash) = selection {
            return Ok(Self { root_hash: *root_hash, root_size_bytes: 0, manifest: None, is_fixed: true });
        }
        let manifest = verified_manifest(cache, trust, selection)?;
        match selection {
            Selection::Current | Selection::RootHash(_) => Ok(Self {
                root_hash: manifest.root_hash,
                root_size_bytes: manifest.root_size_bytes,
                manifest: Some(manifest),
                is_fixed: false,
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
        alternative: manifest.has_alternative_paths,
        ..Want::bounded(ObjectId::new(hash, ObjectKind::History), HISTORY_LIMIT_BYTES)
    };
    let content = cache.open(&want)?.read_all(HISTORY_LIMIT_BYTES)?;
    let history = HistoryDb::open(&cache.disk().scratch_dir(), &trust.fqrn, &content)?;
    let tag = find(&history)?;
    Ok(Snapshot { root_hash: tag.root_hash, root_size_bytes: tag.size_bytes, manifest: Some(manifest), is_fixed: true })
}

/// Fetches the manifest and checks the whole chain of trust, then remembers it in the breadcrumb.
fn verified_manifest(cache: &ObjectCache, trust: &Trust, selection: &Selection) -> Result<Arc<ManifestFields>> {
    let seen = cache.disk().read_breadcrumb(&trust.fqrn)?;
    let name_it = |e: Error| Error::new(e.kind(), "open repository", trust.fqrn.as_str()).with_source(e);
    let (unverified, whitelist) = latest(cache, trust, seen.as_ref())?;
    // The breadcrumb vouches for the root hash and nothing else: a tag's revision follows from the history that the
    // manifest names, so there the signature counts.
    if *selection == Selection::Current
        && let Some(seen) = &seen
        && seen.root_hash == unverified.fields().root_hash
        && unverified.fields().fqrn.as_deref() == Some(trust.fqrn.as_str())
        && cache.is_cached(&ObjectId::new(seen.root_hash, ObjectKind::Catalog))
    {
        return Ok(Arc::new(unverified.fields().clone()));
    }
    let certificate = fetch_certificate(cache, trust, unverified.fields())?;
    let verify = || {
        let whitelist = UnverifiedWhitelist::parse(&whitelist.map_err(name_it)?)
            .and_then(|w| trust::verify_whitelist(w, &trust.keys, &trust.fqrn, trust.now_s))
            .map_err(|e| Error::format("verify whitelist of", trust.fqrn.as_str(), e))?;
        let minimum = seen.as_ref().map_or(0, |s| s.published_s);
        let (certificate, hash) = &certificate;
        trust::verify_manifest(unverified, &whitelist, certificate, hash, &trust.fqrn, minimum, &trust.blacklist)
            .map_err(|e| Error::format("verify manifest of", trust.fqrn.as_str(), e))
    };
    let manifest = verify()?;
    let fields = Arc::new(ManifestFields::clone(&manifest));
    let breadcrumb = Breadcrumb {
        root_hash: fields.root_hash,
        published_s: fields.timestamp.unwrap_or(0),
        revision: Some(fields.revision),
    };
    cache.disk().write_breadcrumb(&trust.fqrn, &breadcrumb)?;
    Ok(fields)
}

/// Fetches manifest and whitelist, from the next host where one is older than what this client has already seen.
fn latest(
    cache: &ObjectCache,
    trust: &Trust,
    seen: Option<&Breadcrumb>,
) -> Result<(UnverifiedManifest, Result<Vec<u8>>)> {
    let origin = cache.origin();
    let seen_revision = seen.and_then(|seen| seen.revision).unwrap_or(0);
    for hosts_left in (0..origin.hosts().len()).rev() {
        let host = origin.active_host();
        let [manifest, whitelist] =
            origin.fetch_two((".cvmfspublished", MANIFEST_LIMIT_BYTES), (".cvmfswhitelist", WHITELIST_LIMIT_BYTES))?;
        let bytes =
            manifest.map_err(|e| Error::new(e.kind(), "open repository", trust.fqrn.as_str()).with_source(e))?;
        let manifest =
            UnverifiedManifest::parse(&bytes).map_err(|e| Error::format("read manifest of", trust.fqrn.as_str(), e))?;
        let is_stale = manifest.fields().revision < seen_revision;
        if hosts_left == 0 || !is_stale || !origin.leave_host(&host) {
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
    let alternative = fields.has_alternative_paths;
    let want = |hash, kind, limit| Want { alternative, ..Want::bounded(ObjectId::new(hash, kind), limit) };
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
