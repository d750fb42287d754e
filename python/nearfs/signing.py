"""Manifests as text: writing, signing and reading them; and the raw RSA that both signed texts use.

Owns: the field order of the manifest and the two signature forms (format.md 2 and 3.2). Does not own: key files
(`keys`), the whitelist (`whitelist`), and the decision whether to trust (the engine).
Threading: pure functions, no clock, no files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import envelope, hashes
from nearfs.config import names
from nearfs.errors import Corrupt, InvalidInput, Unsupported

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from nearfs.hashes import HashAlgorithm

# MD5 of the empty path: every repository's root. Readers reject anything else.
ROOT_PATH_HASH = "d41d8cd98f00b204e9800998ecf8427e"
# The reference refuses to load a manifest of this size from disk; changing it breaks the format.
MANIFEST_LIMIT_BYTES = 4096
DEFAULT_TTL_S = 240
_NUMBER = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class ManifestFields:
    """The fields of a manifest, in the order in which they are written. Hashes are in text form; times Unix seconds.

    None (or 0 for `timestamp`) leaves an optional field out.
    """

    root_hash: str
    root_size: int
    revision: int
    name: str
    ttl_s: int = DEFAULT_TTL_S
    garbage_collectable: bool = False
    alternative_paths: bool = False
    certificate: str | None = None
    history: str | None = None
    timestamp: int = 0
    meta_info: str | None = None
    reflog: str | None = None


def manifest_body(fields: ManifestFields) -> bytes:
    """Returns the field lines, each with its newline, in writer order. Raises `InvalidInput` for a bad field."""
    if fields.name:
        names.check_fqrn(fields.name)
    _check_hashes(fields)
    if min(fields.root_size, fields.revision, fields.ttl_s, fields.timestamp) < 0:
        raise InvalidInput("a number in the manifest is negative", operation="write manifest", subject=fields.name)
    lines = [
        ("C", fields.root_hash),
        ("B", str(fields.root_size)),
        ("R", ROOT_PATH_HASH),
        ("D", str(fields.ttl_s)),
        ("S", str(fields.revision)),
        ("G", _yes_no(fields.garbage_collectable)),
        ("A", _yes_no(fields.alternative_paths)),
        ("N", fields.name),
        ("X", fields.certificate),
        ("H", fields.history),
        ("T", str(fields.timestamp) if fields.timestamp else None),
        ("M", fields.meta_info),
        ("Y", fields.reflog),
    ]
    return "".join(f"{letter}{value}\n" for letter, value in lines if value).encode("ascii")


def sign_hash(text: str, key: RSAPrivateKey) -> bytes:
    """Returns the signature of a hash by its text: RSASSA-PKCS1-v1_5 with SHA-1, whatever algorithm named objects."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA1

    try:
        return key.sign(text.encode("ascii"), PKCS1v15(), SHA1())
    except UnsupportedAlgorithm as error:
        message = "this machine's OpenSSL refuses SHA-1 signatures, which the manifest format needs"
        raise Unsupported(message, operation="sign") from error


def is_signed_by(signed: envelope.Envelope, key: object) -> bool:
    """Tells whether a manifest or a letter was signed with the key of a certificate; only RSA keys can have done it."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA1

    if not isinstance(key, RSAPublicKey):
        return False
    try:
        key.verify(signed.signature, signed.hash_text.encode("ascii"), PKCS1v15(), SHA1())
    except InvalidSignature:
        return False
    return True


def sign_manifest(body: bytes, algorithm: HashAlgorithm, key: RSAPrivateKey) -> bytes:
    """Returns the signed manifest (format.md 2.4)."""
    text = hashes.hash_text(body, algorithm)
    signature = sign_hash(text, key)
    signed = envelope.seal(body, text, signature)
    if len(signed) >= MANIFEST_LIMIT_BYTES:
        message = f"the signed manifest has {len(signed)} bytes; readers accept less than {MANIFEST_LIMIT_BYTES}"
        raise InvalidInput(message, operation="sign manifest")
    return signed


def sign_raw(text: bytes, key: RSAPrivateKey) -> bytes:
    """Returns the PKCS#1 v1.5 type-1 block of the bytes themselves: no digest, no DigestInfo (format.md 3.2)."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo

    return key.sign(text, PKCS1v15(), NoDigestInfo())


def certificate_fingerprint(der: bytes, algorithm: HashAlgorithm) -> str:
    """Returns the fingerprint of a DER certificate as the whitelist writes it: `AB:CD:...`, `-SHAKE128` behind."""
    pairs = ":".join(f"{byte:02X}" for byte in hashes.digest(der, algorithm))
    return pairs + algorithm.tag.upper()


@dataclass(frozen=True)
class Manifest:
    """A manifest that is intact, but whose signature nobody has checked. `signed` is None for an unsigned body."""

    fields: ManifestFields
    signed: envelope.Envelope | None


def parse_manifest(content: bytes, *, signed: bool = True) -> Manifest:
    """Returns the fields of a manifest; with `signed=False` of a body without separator (the publisher's own file).

    Raises `Corrupt` if a mandatory field (C, R, D, S) is missing or a field is malformed. Unknown letters are ignored.
    """
    opened = envelope.open_envelope(content, "manifest") if signed else None
    body = content if opened is None else opened.body
    if len(body) > envelope.MAX_SIGNED_TEXT_BYTES:
        raise _corrupt_field("size", f"more than {envelope.MAX_SIGNED_TEXT_BYTES} bytes")
    lines = [line for line in body.decode("utf-8", "replace").split("\n") if line]
    found = {line[0]: line[1:] for line in lines}  # of duplicates the last one wins
    for letter in "CRDS":
        if letter not in found:
            raise _corrupt_field(letter, "missing")
    if found["R"] != ROOT_PATH_HASH:
        raise _corrupt_field("R", f"{found['R']!r} is not the root path")
    fields = ManifestFields(
        root_hash=_hash(found, "C") or "",
        root_size=_number(found, "B"),
        revision=_number(found, "S"),
        name=found.get("N", ""),
        ttl_s=_number(found, "D"),
        garbage_collectable=found.get("G") == "yes",
        alternative_paths=found.get("A") == "yes",
        certificate=_hash(found, "X"),
        history=_hash(found, "H"),
        timestamp=_number(found, "T"),
        meta_info=_hash(found, "M"),
        reflog=_hash(found, "Y"),
    )
    if fields.name and not names.is_valid_name(fields.name):
        raise _corrupt_field("N", f"{fields.name!r} is no repository name")
    return Manifest(fields, opened)


def _check_hashes(fields: ManifestFields) -> None:
    optional = (fields.certificate, fields.history, fields.meta_info, fields.reflog)
    for text in (fields.root_hash, *(entry for entry in optional if entry is not None)):
        if hashes.algorithm_of(text) is None:
            raise InvalidInput(f"{text!r} is no content hash", operation="write manifest", subject=fields.name)


def _yes_no(value: bool) -> str:  # noqa: FBT001 - the format's two words for it
    return "yes" if value else "no"


def _number(found: dict[str, str], letter: str) -> int:
    text = found.get(letter, "0")
    if _NUMBER.fullmatch(text) is None:
        raise _corrupt_field(letter, f"{text!r} is no decimal number")
    return int(text)


def _hash(found: dict[str, str], letter: str) -> str | None:
    text = found.get(letter)
    if text is not None and hashes.algorithm_of(text) is None:
        raise _corrupt_field(letter, f"{text!r} is no content hash")
    return text


def _corrupt_field(letter: str, reason: str) -> Corrupt:
    return Corrupt(f"manifest is corrupt: field {letter}: {reason}", operation="read manifest", subject=letter)
