//! RSA public keys and the two signatures of the formats.
//!
//! Owns the bounds on foreign keys: whoever serves a key also decides how long we compute, so its size is checked
//! first. Source: format.md 2.4 and 3.2.

use rsa::pkcs1::der::Decode as _;
use rsa::pkcs8::spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned};
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};

use crate::error::{FormatError, Result};

const LEAST_BITS: usize = 1024;
const MOST_BITS: usize = 8192;
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `DigestInfo` of a SHA-1 digest up to the digest itself (RFC 8017, 9.2).
const SHA1_PREFIX: [u8; 15] = [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0, 0x04, 0x14];
const SHA1_BYTES: usize = 20;

/// A public key of bearable size.
#[derive(Debug, Clone)]
pub(crate) struct RsaKey(RsaPublicKey);

impl RsaKey {
    /// Reads a DER SubjectPublicKeyInfo.
    pub(crate) fn from_spki_der(der: &[u8], subject: &'static str) -> Result<Self> {
        let spki = SubjectPublicKeyInfoOwned::from_der(der)
            .map_err(|error| FormatError::malformed(subject, format!("public key: {error}")))?;
        Self::from_spki(&spki, subject)
    }

    /// Reads the key of a parsed SubjectPublicKeyInfo.
    pub(crate) fn from_spki(spki: &SubjectPublicKeyInfoOwned, subject: &'static str) -> Result<Self> {
        if spki.algorithm.oid != RSA_ENCRYPTION {
            let reason = format!("its key has algorithm {}; only RSA keys sign repositories", spki.algorithm.oid);
            return Err(FormatError::Unsupported { subject, reason });
        }
        let malformed = |reason: String| FormatError::malformed(subject, format!("RSA key: {reason}"));
        let bits = spki.subject_public_key.as_bytes().ok_or_else(|| malformed("odd number of bits".into()))?;
        let numbers = rsa::pkcs1::RsaPublicKey::from_der(bits).map_err(|error| malformed(error.to_string()))?;
        // Both numbers are bounded before anything is computed with them.
        let modulus = BigUint::from_bytes_be(numbers.modulus.as_bytes());
        if !(LEAST_BITS..=MOST_BITS).contains(&modulus.bits()) {
            return Err(malformed(format!("{} bits, accepted are {LEAST_BITS} to {MOST_BITS}", modulus.bits())));
        }
        let exponent = BigUint::from_bytes_be(numbers.public_exponent.as_bytes());
        let key = RsaPublicKey::new_with_max_size(modulus, exponent, MOST_BITS);
        key.map(Self).map_err(|error| malformed(error.to_string()))
    }

    /// Says whether recovering `signature` gives exactly `message` (type-1 padding, no digest): the whitelist's form.
    pub(crate) fn recovers(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify(Pkcs1v15Sign::new_unprefixed(), message, signature).is_ok()
    }

    /// Says whether `signature` is RSASSA-PKCS1-v1_5 with SHA-1 over `message`: the manifest's form.
    pub(crate) fn verifies_sha1(&self, message: &[u8], signature: &[u8]) -> bool {
        use sha1::Digest as _;
        let scheme = Pkcs1v15Sign { hash_len: Some(SHA1_BYTES), prefix: Box::new(SHA1_PREFIX) };
        let digest = sha1::Sha1::digest(message);
        signature.len() == self.0.size() && self.0.verify(scheme, &digest, signature).is_ok()
    }
}
