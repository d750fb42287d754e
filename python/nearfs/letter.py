"""Letters: texts that a repository signs with its certificate, for whoever trusts its whitelist.

A letter is one line of Base64. In it: the text, a line `##`, the lines V (version), N (repository), T (seconds since
1970) and X (the certificate, Base64 again), and then, as in a manifest, `--`, the hash of all that and its signature.
Threading: pure functions.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import envelope, hashes, signing
from nearfs.errors import Corrupt, InvalidInput, Untrusted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

    from nearfs.hashes import HashAlgorithm

_SEPARATOR = b"\n##\n"
_VERSION = "1"
LIMIT_BYTES = 1 << 20
"""A letter is no longer; what it says is shorter by a third and by the certificate."""


@dataclass(frozen=True)
class Letter:
    """What a letter says; its signature fits its certificate, for which nobody has vouched yet."""

    text: bytes
    fqrn: str
    written_s: int
    certificate: Certificate


def seal(
    text: bytes, *, fqrn: str, certificate_pem: bytes, key: RSAPrivateKey, algorithm: HashAlgorithm, now_s: int
) -> str:
    """Returns a letter. Raises `InvalidInput` for a text that could not be told from what follows it."""
    if _SEPARATOR in b"\n" + text + b"\n" or b"\n--\n" in b"\n" + text + b"\n":
        raise InvalidInput("a letter must not contain a line that is just '##' or '--'", operation="sign letter")
    if len(text) > LIMIT_BYTES // 2:
        raise InvalidInput(f"a letter has at most {LIMIT_BYTES // 2} bytes of text", operation="sign letter")
    certificate = base64.b64encode(certificate_pem).decode("ascii")
    envelope_lines = f"V{_VERSION}\nN{fqrn}\nT{now_s}\nX{certificate}\n"
    body = text + _SEPARATOR + envelope_lines.encode()
    hash_text = hashes.hash_text(body, algorithm)
    sealed = envelope.seal(body, hash_text, signing.sign_hash(hash_text, key))
    return base64.b64encode(sealed).decode("ascii")


def open_letter(letter: str) -> Letter:
    """Returns what a letter says. Raises `Corrupt` for what is none, `Untrusted` where the signature does not fit."""
    from cryptography.x509 import load_pem_x509_certificate

    if len(letter) > LIMIT_BYTES:
        raise _corrupt(f"it has more than {LIMIT_BYTES} characters")
    try:
        content = base64.b64decode(letter.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise _corrupt("it is not Base64") from None
    opened = envelope.open_envelope(content, "letter")
    text, separator, rest = opened.body.partition(_SEPARATOR)
    lines = {line[:1]: line[1:] for line in rest.decode("utf-8", "replace").split("\n") if line}
    written = lines.get("T", "")
    if not separator or not (written.isascii() and written.isdigit() and len(written) <= 18):
        raise _corrupt("it does not say when it was written")
    try:
        certificate = load_pem_x509_certificate(base64.b64decode(lines.get("X", ""), validate=True))
        public_key = certificate.public_key()
    except (binascii.Error, ValueError):
        raise _corrupt("it has no certificate") from None
    if not signing.is_signed_by(opened, public_key):
        message = "the letter is not signed with its certificate's key: it was changed, or cut"
        raise Untrusted(message, operation="read letter", subject="letter")
    return Letter(text, lines.get("N", ""), int(written), certificate)


def _corrupt(reason: str) -> Corrupt:
    return Corrupt(f"this is no letter: {reason}", operation="read letter", subject="letter")
