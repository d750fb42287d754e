"""The chain of trust: master key, whitelist, certificate, manifest (format sections 2.4, 2.5, 3.2 and 3.4).

Owns signature checks; the texts themselves are parsed elsewhere. Pure functions beside reading the certificate
object.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from .errors import FormatError
from .hashes import digest_of
from .manifest import Manifest
from .store import MAX_CERTIFICATE_BYTES, ObjectStore, object_name
from .whitelist import Whitelist, whitelist_problems


def recovers(public_key_pem: bytes, signature: bytes, message: bytes) -> bool:
    """Returns whether the raw RSA signature holds exactly the message under a master public key."""
    try:
        key = load_pem_public_key(public_key_pem)
        return isinstance(key, RSAPublicKey) and (
            key.recover_data_from_signature(signature, PKCS1v15(), None) == message
        )
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False


def whitelist_trust_problems(whitelist: Whitelist, public_keys: list[bytes], fqrn: str, now: datetime) -> Iterator[str]:
    """Yields what keeps a whitelist from being trusted."""
    envelope = whitelist.envelope
    if not any(recovers(key, envelope.signature, envelope.message) for key in public_keys):
        yield f"whitelist signature is of none of the {len(public_keys)} master keys"
    yield from whitelist_problems(whitelist, fqrn, now)


def load_certificate(store: ObjectStore, manifest: Manifest) -> x509.Certificate:
    """Returns the certificate that a manifest names; raises FormatError when missing, corrupt or no certificate."""
    content_hash = manifest.hash("X")
    if content_hash is None:
        raise FormatError("manifest names no certificate (field X)")
    content = store.load(content_hash, "X", limit=MAX_CERTIFICATE_BYTES)
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise FormatError(f"object {object_name(content_hash, 'X')} is no PEM certificate: {error}") from error


def manifest_trust_problems(
    manifest: Manifest, certificate: x509.Certificate, whitelist: Whitelist | None
) -> Iterator[str]:
    """Yields what keeps a manifest from being trusted: its signature, and the certificate's absence in the list."""
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        yield "certificate holds no RSA key"
        return
    try:
        key.verify(manifest.envelope.signature, manifest.envelope.message, PKCS1v15(), SHA1())
    except InvalidSignature:
        yield "manifest signature is not by its certificate"
    encoded = certificate.public_bytes(Encoding.DER)
    listed = whitelist.fingerprints if whitelist is not None else ()
    if not any(digest_of(entry.algorithm, encoded) == entry for entry in listed):
        yield f"certificate with SHA-1 fingerprint {digest_of('sha1', encoded).text} is not on the whitelist"
