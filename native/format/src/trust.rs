//! The trust chain: master key, whitelist, certificate, manifest.
//!
//! Owns every check between "downloaded" and "proven"; each failure is an error of its own with the way out. The
//! caller fetches, this module judges; it has no clock. Source: format.md 2.4, 2.5 and 3.

use x509_cert::der::Decode as _;

use crate::blacklist::Blacklist;
use crate::error::{FormatError, Result};
use crate::hash::{ContentHash, HashAlgorithm};
use crate::manifest::{Manifest, UnverifiedManifest};
use crate::path::PathHash;
use crate::pem;
use crate::rsa_key::RsaKey;
use crate::whitelist::{self, UnverifiedWhitelist, Whitelist};

/// Largest certificate text that is looked at, in bytes; also the bound for inflating the certificate object.
pub const CERTIFICATE_LIMIT_BYTES: u64 = pem::SIZE_LIMIT_BYTES;

/// The master public keys that a client was configured with.
#[derive(Debug, Clone)]
pub struct MasterKeys {
    keys: Vec<RsaKey>,
    pem_texts: Vec<String>,
}

impl MasterKeys {
    /// Parses the contents of key files, one PEM public key (`-----BEGIN PUBLIC KEY-----`) in each. One unreadable
    /// file is an error, and so is no file at all.
    pub fn parse(pem_files: &[Vec<u8>]) -> Result<Self> {
        if pem_files.is_empty() {
            let reason = "no master key is configured; set CVMFS_PUBLIC_KEY or CVMFS_KEYS_DIR";
            return Err(FormatError::untrusted("master key", reason));
        }
        let blocks = pem_files.iter().map(|file| pem::decode(file, "PUBLIC KEY", "master key"));
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let keys = blocks.iter().map(|block| RsaKey::from_spki_der(&block.der, "master key"));
        Ok(Self { keys: keys.collect::<Result<_>>()?, pem_texts: blocks.iter().map(|b| b.text.clone()).collect() })
    }

    /// Returns the PEM blocks, each with its final newline (`user.pubkeys` joins them).
    pub fn pem_texts(&self) -> &[String] {
        &self.pem_texts
    }
}

/// A certificate: a public key under a fingerprint. Validity dates, issuer and subject mean nothing here.
#[derive(Debug, Clone)]
pub struct Certificate {
    der: Vec<u8>,
    key: RsaKey,
}

impl Certificate {
    /// Parses the PEM text that the certificate object holds.
    pub fn parse(pem_text: &[u8]) -> Result<Self> {
        let der = pem::decode(pem_text, "CERTIFICATE", "certificate")?.der;
        let certificate = x509_cert::Certificate::from_der(&der)
            .map_err(|error| FormatError::malformed("certificate", error.to_string()))?;
        let key = RsaKey::from_spki(&certificate.tbs_certificate.subject_public_key_info, "certificate")?;
        Ok(Self { der, key })
    }

    /// Returns the fingerprint: the hash of the DER encoding.
    pub fn fingerprint(&self, algorithm: HashAlgorithm) -> ContentHash {
        algorithm.hash(&self.der)
    }

    /// Returns the DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    fn is_among(&self, is_listed: impl Fn(&ContentHash) -> bool) -> bool {
        HashAlgorithm::ALL.into_iter().any(|algorithm| is_listed(&self.fingerprint(algorithm)))
    }
}

/// Proves a whitelist: right repository, not expired, signed by one of the master keys.
pub fn verify_whitelist(
    whitelist: UnverifiedWhitelist,
    keys: &MasterKeys,
    fqrn: &str,
    now_unix_s: i64,
) -> Result<Whitelist> {
    let untrusted = |reason: String| Err(FormatError::untrusted("whitelist", reason));
    let fields = whitelist.fields();
    if fields.is_pkcs7 {
        return Err(whitelist::unsupported_pkcs7());
    }
    if fields.needs_ca_chain {
        let reason = "it asks to verify certificates against a CA store (`Wcachain`); ask the publisher for one \
                      that lists fingerprints only";
        return Err(FormatError::Unsupported { subject: "whitelist", reason: reason.into() });
    }
    if fields.fqrn != fqrn {
        return untrusted(format!("it is for {}, not for {fqrn}; check the server URL", fields.fqrn));
    }
    if fields.is_expired(now_unix_s) {
        return untrusted(format!("it expired on {}; ask the publisher of {fqrn} to resign it", fields.expires));
    }
    let text = whitelist.text();
    if !keys.keys.iter().any(|key| key.recovers(text.hash_text(), text.signature())) {
        return untrusted(format!(
            "none of the {} configured master keys signed it; install the public key of {fqrn} (CVMFS_PUBLIC_KEY, \
             CVMFS_KEYS_DIR)",
            keys.keys.len()
        ));
    }
    Ok(Whitelist::proven(whitelist))
}

/// Proves a manifest.
///
/// `certificate_object_hash` is the hash under which `certificate` was fetched and checked; `min_timestamp` the newest
/// signing time seen so far (Unix seconds, 0 for none).
pub fn verify_manifest(
    manifest: UnverifiedManifest,
    whitelist: &Whitelist,
    certificate: &Certificate,
    certificate_object_hash: &ContentHash,
    fqrn: &str,
    min_timestamp: u64,
    blacklist: &Blacklist,
) -> Result<Manifest> {
    check_identity(&manifest, whitelist, fqrn)?;
    check_freshness(&manifest, fqrn, min_timestamp, blacklist)?;
    check_certificate(&manifest, whitelist, certificate, certificate_object_hash, blacklist)?;
    let text = manifest.text();
    if !certificate.key.verifies_sha1(text.hash_text(), text.signature()) {
        let reason = "the key of its certificate did not sign it; it was changed, or the publisher has to sign again";
        return Err(FormatError::untrusted("manifest", reason));
    }
    Ok(Manifest::proven(manifest))
}

fn check_identity(manifest: &UnverifiedManifest, whitelist: &Whitelist, fqrn: &str) -> Result<()> {
    let fields = manifest.fields();
    if fields.fqrn.as_deref() != Some(fqrn) {
        let named = fields.fqrn.as_deref().unwrap_or("no repository");
        let reason = format!("it names {named} instead of {fqrn}; check the server URL");
        return Err(FormatError::untrusted("manifest", reason));
    }
    if whitelist.fqrn != fqrn {
        let reason = format!("it is for {}, not for {fqrn}", whitelist.fqrn);
        return Err(FormatError::untrusted("whitelist", reason));
    }
    if fields.root_path != PathHash::of(b"") {
        let reason = format!("root path hash {} is not that of the empty path", fields.root_path.hex());
        return Err(FormatError::malformed("manifest", reason));
    }
    Ok(())
}

fn check_freshness(manifest: &UnverifiedManifest, fqrn: &str, min_timestamp: u64, blacklist: &Blacklist) -> Result<()> {
    let fields = manifest.fields();
    let timestamp = fields.timestamp.unwrap_or(0);
    if timestamp < min_timestamp {
        let reason = format!(
            "signed at {timestamp}, it is older than what was last seen ({min_timestamp}); the server is behind or \
             replays an old state, try another one"
        );
        return Err(FormatError::untrusted("manifest", reason));
    }
    let minimum = blacklist.minimum_revision(fqrn);
    if fields.revision < minimum {
        let reason = format!(
            "revision {} is blacklisted, as all of {fqrn} below {minimum}; wait for a newer one or edit the blacklist",
            fields.revision
        );
        return Err(FormatError::untrusted("manifest", reason));
    }
    Ok(())
}

fn check_certificate(
    manifest: &UnverifiedManifest,
    whitelist: &Whitelist,
    certificate: &Certificate,
    object_hash: &ContentHash,
    blacklist: &Blacklist,
) -> Result<()> {
    let Some(named) = manifest.fields().certificate else {
        return Err(FormatError::untrusted("manifest", "it names no certificate; the publisher has to sign it"));
    };
    if named != *object_hash {
        let reason = format!("it was signed with certificate {named}, not with {object_hash}; fetch that one");
        return Err(FormatError::untrusted("manifest", reason));
    }
    if certificate.is_among(|fingerprint| blacklist.has_fingerprint(fingerprint)) {
        let reason = "its fingerprint is blacklisted; the publisher needs a new certificate";
        return Err(FormatError::untrusted("certificate", reason));
    }
    if !certificate.is_among(|fingerprint| whitelist.fingerprints.contains(fingerprint)) {
        let reason = "its fingerprint is not on the whitelist; fetch the whitelist again or ask the publisher to \
                      resign it";
        return Err(FormatError::untrusted("certificate", reason));
    }
    Ok(())
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
