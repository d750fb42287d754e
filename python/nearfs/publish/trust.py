"""Whether the manifest in storage is one of this repository's own: a publisher builds on nothing that readers refuse.

Owns: the chain from the master public key over whitelist and certificate to a manifest that this machine did not mount
yet. Does not own: expiry (`revision`), and trust in what comes over a network (the engine).
Threading: reads files only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs import keys, signing
from nearfs.errors import NotFound, Untrusted
from nearfs.publish.repository import MANIFEST, WHITELIST

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from nearfs.publish.repository import Repository

_EXIT_NO_MANIFEST = 5
# Room for a certificate with a long chain of names; those of the reference have 1.2 kB.
_CERTIFICATE_LIMIT_BYTES = 64 << 10


def check_manifest(repository: Repository) -> None:
    """Raises `Untrusted` unless master key, whitelist and certificate vouch for the manifest in storage.

    `NotFound` where a link of that chain is missing. Exit code 5 as for a manifest that cannot be read.
    """
    signed = repository.manifest().signed
    if signed is None or not signing.is_signed_by(signed, _certificate(repository).public_key()):
        raise _untrusted(repository, MANIFEST, "its signature is not that of the certificate that it names")


def _certificate(repository: Repository) -> Certificate:
    """Returns the certificate that the manifest names, if the whitelist lists it."""
    from cryptography.x509 import load_pem_x509_certificate

    from nearfs import _native

    named = repository.manifest().fields.certificate
    if named is None:
        raise _untrusted(repository, MANIFEST, "it names no certificate")
    try:
        content = _native.read_object(str(repository.storage), named, suffix="X", limit=_CERTIFICATE_LIMIT_BYTES)
        certificate = load_pem_x509_certificate(content)
    except NotFound:
        reason = f"the certificate that it names, {named}, is not in the storage"
        raise _untrusted(repository, MANIFEST, reason) from None
    except ValueError as error:
        raise _untrusted(repository, MANIFEST, f"object {named} is no certificate: {error}") from error
    _check_listed(repository, keys.certificate_der(certificate))
    return certificate


def _check_listed(repository: Repository, der: bytes) -> None:
    """Raises `Untrusted` unless the whitelist is signed by the master key and lists a certificate."""
    whitelist = repository.whitelist()
    if whitelist is None:
        message = f"Repository whitelist for {repository.fqrn} is missing: {repository.storage / WHITELIST}"
        raise NotFound(message, operation="check manifest", subject=repository.fqrn, exit_code=_EXIT_NO_MANIFEST)
    master = keys.load_public_key(keys.KeyFiles.of(repository.fqrn, repository.places.keys).public)
    if whitelist.fqrn != repository.fqrn or not whitelist.is_signed_by(master):
        raise _untrusted(repository, WHITELIST, "it is not one for this repository by its master key")
    if not whitelist.lists_certificate(der):
        raise _untrusted(repository, MANIFEST, "the whitelist does not list the certificate that it names")


def _untrusted(repository: Repository, name: str, reason: str) -> Untrusted:
    message = f"{repository.storage / name} is not trusted: {reason}; restore the one that was published last"
    return Untrusted(message, operation="check manifest", subject=repository.fqrn, exit_code=_EXIT_NO_MANIFEST)
