//! Tests of the trust chain with keys made here, from a fixed seed: every link is broken once.

use std::sync::LazyLock;

use super::*;
use crate::manifest::ManifestFields;
use crate::time::CalendarTime;
use crate::whitelist::WhitelistFields;
use proptest::prelude::*;
use rsa::pkcs8::{EncodePublicKey as _, LineEnding};
use rsa::rand_core::{CryptoRng, RngCore, impls};
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use x509_cert::der::asn1::BitString;
use x509_cert::der::{Encode as _, EncodePem as _};
use x509_cert::spki::{AlgorithmIdentifierOwned, ObjectIdentifier, SubjectPublicKeyInfoOwned};

const FQRN: &str = "golden.example.org";
const NOW: i64 = 1_709_164_800;

/// splitmix64: keys for tests need no entropy, but the same result every time.
struct FixedSeed(u64);

impl RngCore for FixedSeed {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        impls::fill_bytes_via_next(self, bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for FixedSeed {}

fn key(seed: u64, bits: usize) -> RsaPrivateKey {
    RsaPrivateKey::new(&mut FixedSeed(seed), bits).unwrap()
}

static MASTER: LazyLock<RsaPrivateKey> = LazyLock::new(|| key(1, 2048));
static SIGNER: LazyLock<RsaPrivateKey> = LazyLock::new(|| key(2, 2048));
static STRANGER: LazyLock<RsaPrivateKey> = LazyLock::new(|| key(3, 1024));

fn public_pem(key: &RsaPrivateKey) -> Vec<u8> {
    RsaPublicKey::from(key).to_public_key_pem(LineEnding::LF).unwrap().into_bytes()
}

fn certificate_pem(spki_der: &[u8]) -> Vec<u8> {
    let algorithm =
        AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"), parameters: None };
    let moment = |text| {
        x509_cert::time::Time::GeneralTime(
            x509_cert::der::asn1::GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(text)).unwrap(),
        )
    };
    let name: x509_cert::name::Name = "CN=golden.example.org CernVM-FS Release Managers".parse().unwrap();
    let tbs_certificate = x509_cert::TbsCertificate {
        version: x509_cert::Version::V3,
        serial_number: x509_cert::serial_number::SerialNumber::new(&[1]).unwrap(),
        signature: algorithm.clone(),
        issuer: name.clone(),
        // Long expired: only the whitelist counts.
        validity: x509_cert::time::Validity { not_before: moment(1), not_after: moment(2) },
        subject: name,
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(spki_der).unwrap(),
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: None,
    };
    let signature = BitString::from_bytes(&[0; 128]).unwrap();
    let certificate = x509_cert::Certificate { tbs_certificate, signature_algorithm: algorithm, signature };
    certificate.to_pem(LineEnding::LF).unwrap().into_bytes()
}

fn certificate(key: &RsaPrivateKey) -> Certificate {
    let spki = RsaPublicKey::from(key).to_public_key_der().unwrap();
    Certificate::parse(&certificate_pem(spki.as_bytes())).unwrap()
}

fn seal(body: &[u8], algorithm: HashAlgorithm, sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let hash = algorithm.hash(body).to_string();
    [body, b"--\n", hash.as_bytes(), b"\n", &sign(hash.as_bytes())].concat()
}

fn sign_raw(key: &RsaPrivateKey) -> impl Fn(&[u8]) -> Vec<u8> {
    |text| key.sign(Pkcs1v15Sign::new_unprefixed(), text).unwrap()
}

// The DigestInfo is spelled out here once more, so that a wrong prefix in the verifier shows.
fn sign_sha1(key: &RsaPrivateKey) -> impl Fn(&[u8]) -> Vec<u8> {
    |text| {
        let mut message = b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14".to_vec();
        message.extend_from_slice(HashAlgorithm::Sha1.hash(text).digest());
        key.sign(Pkcs1v15Sign::new_unprefixed(), &message).unwrap()
    }
}

fn whitelist_fields() -> WhitelistFields {
    WhitelistFields {
        issued: Some(CalendarTime::from_unix(NOW)),
        expires: CalendarTime::from_unix(NOW + 30 * 86_400),
        fqrn: FQRN.into(),
        fingerprints: vec![certificate(&SIGNER).fingerprint(HashAlgorithm::Shake128)],
        is_pkcs7: false,
        needs_ca_chain: false,
    }
}

fn whitelist(fields: &WhitelistFields, key: &RsaPrivateKey) -> UnverifiedWhitelist {
    UnverifiedWhitelist::parse(&seal(&fields.encode(), HashAlgorithm::Rmd160, sign_raw(key))).unwrap()
}

fn proven_whitelist() -> Whitelist {
    let keys = MasterKeys::parse(&[public_pem(&STRANGER), public_pem(&MASTER)]).unwrap();
    verify_whitelist(whitelist(&whitelist_fields(), &MASTER), &keys, FQRN, NOW).unwrap()
}

fn certificate_hash() -> ContentHash {
    HashAlgorithm::Sha1.hash(b"the stored certificate object")
}

fn manifest_fields() -> ManifestFields {
    ManifestFields {
        fqrn: Some(FQRN.into()),
        certificate: Some(certificate_hash()),
        timestamp: Some(1000),
        ..ManifestFields::new(HashAlgorithm::Sha1.hash(b"catalog"), 4096, 7)
    }
}

fn verify(fields: &ManifestFields, blacklist: &str, min_timestamp: u64) -> Result<Manifest> {
    let bytes = seal(&fields.encode(), HashAlgorithm::Sha1, sign_sha1(&SIGNER));
    verify_bytes(&bytes, &certificate(&SIGNER), blacklist, min_timestamp)
}

fn verify_bytes(bytes: &[u8], certificate: &Certificate, blacklist: &str, min_timestamp: u64) -> Result<Manifest> {
    let manifest = UnverifiedManifest::parse(bytes)?;
    let blacklist = Blacklist::parse(blacklist);
    verify_manifest(manifest, &proven_whitelist(), certificate, &certificate_hash(), FQRN, min_timestamp, &blacklist)
}

fn untrusted<T: std::fmt::Debug>(result: Result<T>, words: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, FormatError::Untrusted { .. }), "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_whole_chain_holds() {
    let manifest = verify(&manifest_fields(), "# nothing\n<golden.example.org 7", 1000).unwrap();
    assert_eq!(*manifest, manifest_fields());
    assert_eq!(UnverifiedManifest::parse(manifest.raw()).unwrap().fields(), manifest.fields());
    assert_eq!(proven_whitelist().fields(), &whitelist_fields());
}

#[test]
fn whitelists_fail_one_by_one() {
    let keys = MasterKeys::parse(&[public_pem(&MASTER)]).unwrap();
    let verify = |fields: &WhitelistFields, now| verify_whitelist(whitelist(fields, &MASTER), &keys, FQRN, now);
    let good = whitelist_fields();
    assert!(verify(&good, NOW).is_ok());
    untrusted(verify(&good, NOW + 30 * 86_400), "expired on 2024-03-30T00:00:00Z; ask the publisher");
    untrusted(verify(&WhitelistFields { fqrn: "other.example.org".into(), ..good.clone() }, NOW), "other.example.org");
    untrusted(verify_whitelist(whitelist(&good, &STRANGER), &keys, FQRN, NOW), "none of the 1 configured master keys");
    for fields in
        [WhitelistFields { is_pkcs7: true, ..good.clone() }, WhitelistFields { needs_ca_chain: true, ..good.clone() }]
    {
        assert!(matches!(verify(&fields, NOW), Err(FormatError::Unsupported { .. })));
    }
    let digested = seal(&good.encode(), HashAlgorithm::Sha1, sign_sha1(&MASTER));
    untrusted(
        verify_whitelist(UnverifiedWhitelist::parse(&digested).unwrap(), &keys, FQRN, NOW),
        "master keys signed it",
    );
}

#[test]
fn manifests_fail_one_by_one() {
    let good = manifest_fields();
    let changed = |change: fn(&mut ManifestFields)| {
        let mut fields = good.clone();
        change(&mut fields);
        verify(&fields, "", 0)
    };
    untrusted(changed(|f| f.fqrn = Some("other.example.org".into())), "names other.example.org instead of");
    untrusted(changed(|f| f.fqrn = None), "names no repository");
    untrusted(changed(|f| f.certificate = None), "names no certificate");
    untrusted(changed(|f| f.certificate = Some(f.root_hash)), "was signed with certificate");
    assert!(matches!(changed(|f| f.root_path = PathHash::NULL), Err(FormatError::Malformed { .. })));
    untrusted(verify(&good, "", 1001), "older than what was last seen");
    assert!(changed(|f| f.timestamp = None).is_ok());
    untrusted(verify(&ManifestFields { timestamp: None, ..good.clone() }, "", 1), "older than what was last seen");
    untrusted(verify(&good, "<golden.example.org 8", 0), "revision 7 is blacklisted");
    assert!(verify(&good, "<golden.example.org 7\n<other.example.org 99", 0).is_ok());
}

#[test]
fn certificates_fail_one_by_one() {
    let bytes = seal(&manifest_fields().encode(), HashAlgorithm::Sha1, sign_sha1(&SIGNER));
    untrusted(verify_bytes(&bytes, &certificate(&STRANGER), "", 0), "not on the whitelist");
    // Listed by one algorithm, blacklisted by another: still the same certificate.
    let fingerprint = crate::fingerprint::to_text(&certificate(&SIGNER).fingerprint(HashAlgorithm::Sha1));
    untrusted(verify_bytes(&bytes, &certificate(&SIGNER), &fingerprint, 0), "blacklisted");
}

#[test]
fn signatures_of_the_wrong_kind_or_key_are_refused() {
    let body = manifest_fields().encode();
    let words = "did not sign it";
    let verify = |bytes: Vec<u8>| verify_bytes(&bytes, &certificate(&SIGNER), "", 0);
    untrusted(verify(seal(&body, HashAlgorithm::Sha1, sign_sha1(&MASTER))), words);
    untrusted(verify(seal(&body, HashAlgorithm::Sha1, sign_raw(&SIGNER))), words);
    untrusted(verify(seal(&body, HashAlgorithm::Sha1, |_| vec![0; 256])), words);
    untrusted(verify(seal(&body, HashAlgorithm::Sha1, |_| vec![0xff; 256])), words);
    let good = seal(&body, HashAlgorithm::Sha1, sign_sha1(&SIGNER));
    untrusted(verify([good.as_slice(), b"\n"].concat()), words);
    untrusted(verify(good[..good.len() - 1].to_vec()), words);
    let mut other_body = manifest_fields();
    other_body.revision += 1;
    let moved = seal(&other_body.encode(), HashAlgorithm::Sha1, |_| good[good.len() - 256..].to_vec());
    untrusted(verify(moved), words);
}

#[test]
fn foreign_keys_are_bounded() {
    let tiny = key(4, 512);
    let error = MasterKeys::parse(&[public_pem(&tiny)]).unwrap_err().to_string();
    assert!(error.contains("512 bits"), "{error}");
    // 2^16384 + 1 is no product of primes, but a key all the same as far as the encoding goes.
    let modulus = (rsa::BigUint::from(1u8) << 16_384usize) + rsa::BigUint::from(1u8);
    let huge = RsaPublicKey::new_unchecked(modulus, rsa::BigUint::from(65_537u32));
    let pem = huge.to_public_key_pem(LineEnding::LF).unwrap().into_bytes();
    let error = MasterKeys::parse(&[pem]).unwrap_err().to_string();
    assert!(error.contains("16385 bits"), "{error}");
    let error = Certificate::parse(&certificate_pem(huge.to_public_key_der().unwrap().as_bytes())).unwrap_err();
    assert!(error.to_string().contains("16385 bits"), "{error}");
    assert!(matches!(Certificate::parse(&vec![b'x'; 65_537]), Err(FormatError::TooLarge { .. })));
}

#[test]
fn keys_of_other_kinds_are_unsupported() {
    // id-ecPublicKey with a made-up point.
    let spki = SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            oid: ObjectIdentifier::new_unwrap("1.2.840.10045.2.1"),
            parameters: None,
        },
        subject_public_key: BitString::from_bytes(&[4; 65]).unwrap(),
    };
    let result = Certificate::parse(&certificate_pem(&spki.to_der().unwrap()));
    assert!(matches!(result, Err(FormatError::Unsupported { .. })));
}

#[test]
fn master_keys_are_handed_out_as_pem() {
    let file = [b"comment\n".as_slice(), &public_pem(&MASTER)].concat();
    let keys = MasterKeys::parse(&[file, public_pem(&STRANGER)]).unwrap();
    let texts: Vec<&[u8]> = keys.pem_texts().iter().map(String::as_bytes).collect();
    assert_eq!(texts, [public_pem(&MASTER).as_slice(), &public_pem(&STRANGER)]);
    untrusted(MasterKeys::parse(&[]), "no master key is configured");
    assert!(MasterKeys::parse(&[public_pem(&MASTER), b"garbage".to_vec()]).is_err(), "one bad file is an error");
}

proptest! {
    #[test]
    fn any_der_is_a_certificate_or_an_error(at in 0usize..2000, value: u8) {
        let der = certificate(&STRANGER).der().to_vec();
        let mut changed = der.clone();
        let index = at % der.len();
        changed[index] = value;
        let text = x509_cert::der::pem::encode_string("CERTIFICATE", LineEnding::LF, &changed).unwrap();
        let _ = Certificate::parse(text.as_bytes());
        let text = x509_cert::der::pem::encode_string("CERTIFICATE", LineEnding::LF, &der[..index]).unwrap();
        prop_assert!(Certificate::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn any_bytes_are_a_key_or_an_error(bytes: Vec<u8>) {
        let text = x509_cert::der::pem::encode_string("PUBLIC KEY", LineEnding::LF, &bytes).unwrap();
        let _ = MasterKeys::parse(&[text.into_bytes()]);
        let _ = Certificate::parse(&bytes);
    }
}
