//! What a source serves at this moment, verified.
//!
//! Owns the few requests before any object: they are asked side by side, so that a replica with nothing to do takes a
//! connection and one round trip. Belongs to the calling thread and two helpers. Source: format.md 2.5 and 11.1.

use nearfs_format::blacklist::Blacklist;
use nearfs_format::codec;
use nearfs_format::hash::ContentHash;
use nearfs_format::manifest::{ManifestFields, UnverifiedManifest};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::trust::{self, CERTIFICATE_LIMIT_BYTES, Certificate, MasterKeys};
use nearfs_format::whitelist::UnverifiedWhitelist;

use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use crate::store::verify::read_verified;
use crate::transport::Origin;

const MANIFEST: &str = ".cvmfspublished";
const WHITELIST: &str = ".cvmfswhitelist";
const REPLICABLE: &str = ".cvmfs_master_replica";
const MANIFEST_LIMIT_BYTES: u64 = 64 << 10;
const WHITELIST_LIMIT_BYTES: u64 = 1 << 20;
const MARKER_LIMIT_BYTES: u64 = 64 << 10;

/// A source's newest revision. Both files are as they were served: a replica passes them on to the byte.
#[derive(Debug, Clone)]
pub struct SourceHead {
    /// What the manifest says.
    pub fields: ManifestFields,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The whitelist that vouches for it.
    pub whitelist: Vec<u8>,
}

/// Asks a source what it serves, and checks the whole chain of trust. `store` may have the certificate already.
///
/// # Errors
///
/// `NotFound` where it does not permit replicas, `Untrusted` where a signature, a name or a date does not hold.
pub fn head(origin: &Origin, fqrn: &str, keys: &MasterKeys, now_s: i64, store: &dyn Store) -> Result<SourceHead> {
    let fetch = |name, limit| origin.fetch_small(name, limit, true);
    let (marker, manifest, whitelist) = std::thread::scope(|scope| {
        let marker = scope.spawn(|| fetch(REPLICABLE, MARKER_LIMIT_BYTES));
        let whitelist = scope.spawn(|| fetch(WHITELIST, WHITELIST_LIMIT_BYTES));
        let manifest = fetch(MANIFEST, MANIFEST_LIMIT_BYTES);
        (marker.join(), manifest, whitelist.join())
    });
    let died = |_| Error::new(ErrorKind::Internal, "replicate", "a thread that asks the source died");
    let named = |e: Error| Error::new(e.kind(), "replicate", fqrn.to_owned()).with_source(e);
    // The manifest first: where nothing answers, that is to be told, and not that replicas are forbidden.
    let manifest = manifest.map_err(named)?;
    marker.map_err(died)?.map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            let reason = format!("{fqrn}: This is not a CernVM-FS server for replication; it has no {REPLICABLE}");
            Error::new(ErrorKind::NotFound, "replicate", reason)
        }
        _ => named(e),
    })?;
    let whitelist_bytes = whitelist.map_err(died)?.map_err(named)?;
    let unverified = UnverifiedManifest::parse(&manifest).map_err(|e| Error::format("read manifest of", fqrn, e))?;
    let whitelist = UnverifiedWhitelist::parse(&whitelist_bytes)
        .and_then(|whitelist| trust::verify_whitelist(whitelist, keys, fqrn, now_s))
        .map_err(|e| Error::format("verify whitelist of", fqrn, e))?;
    let hash = unverified.fields().certificate.ok_or_else(|| {
        let reason = format!("{fqrn}: it names no certificate; the publisher has to sign it");
        Error::new(ErrorKind::Untrusted, "verify manifest of", reason)
    })?;
    let certificate = certificate(origin, store, fqrn, hash)?;
    let blacklist = Blacklist::default();
    let manifest = trust::verify_manifest(unverified, &whitelist, &certificate, &hash, fqrn, 0, &blacklist)
        .map_err(|e| Error::format("verify manifest of", fqrn, e))?;
    Ok(SourceHead {
        fields: ManifestFields::clone(&manifest),
        manifest: manifest.raw().to_vec(),
        whitelist: whitelist_bytes,
    })
}

fn certificate(origin: &Origin, store: &dyn Store, fqrn: &str, hash: ContentHash) -> Result<Certificate> {
    let id = ObjectId::new(hash, ObjectKind::Certificate);
    let limit = codec::stored_size_limit(CERTIFICATE_LIMIT_BYTES);
    let own = store.size(&id)?.and_then(|_| read_verified(store, &id, limit).ok());
    let stored = match own {
        Some(stored) => stored,
        None => fetched_certificate(origin, fqrn, &id, limit)?,
    };
    let pem = codec::inflate_bounded(&stored, CERTIFICATE_LIMIT_BYTES)
        .map_err(|e| Error::format("inflate", format!("{id} of {fqrn}"), e))?;
    Certificate::parse(&pem).map_err(|e| Error::format("read certificate", format!("{id} of {fqrn}"), e))
}

fn fetched_certificate(origin: &Origin, fqrn: &str, id: &ObjectId, limit_bytes: u64) -> Result<Vec<u8>> {
    let stored = origin.fetch_small(&id.key(), limit_bytes, false)?;
    let actual = id.hash.algorithm().hash(&stored);
    if actual == id.hash {
        return Ok(stored);
    }
    Err(Error::new(ErrorKind::Corrupt, "verify", format!("{id} of {fqrn}: what came has hash {actual}")))
}
