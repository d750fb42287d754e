"""Content hashes and their text forms (format.md 1.3): sha1, rmd160, shake128.

Owns: hashing bytes, writing and reading the text of a hash. Does not own: object keys (the engine names objects).
Threading: pure functions.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum

from nearfs.errors import Unsupported

_DIGEST_BYTES = 20
_TEXT = re.compile(r"([0-9a-f]{40})(-rmd160|-shake128)?")


class HashAlgorithm(StrEnum):
    """The algorithms that may name content, by their configuration names. MD5 only hashes paths and is not here."""

    SHA1 = "sha1"
    RMD160 = "rmd160"
    SHAKE128 = "shake128"

    @property
    def tag(self) -> str:
        """Returns what follows the hex digits in the text form; nothing for SHA-1."""
        return "" if self is HashAlgorithm.SHA1 else f"-{self.value}"


def digest(content: bytes, algorithm: HashAlgorithm) -> bytes:
    """Returns the 20 bytes of the hash. Raises `Unsupported` where this Python's OpenSSL has no RIPEMD-160."""
    # None of these protects a secret here; the format prescribes them, so a FIPS build must not refuse.
    if algorithm is HashAlgorithm.SHA1:
        return hashlib.sha1(content, usedforsecurity=False).digest()
    if algorithm is HashAlgorithm.SHAKE128:
        return hashlib.shake_128(content, usedforsecurity=False).digest(_DIGEST_BYTES)
    try:
        return hashlib.new("ripemd160", content, usedforsecurity=False).digest()
    except ValueError as error:
        message = (
            "RIPEMD-160 is not available in this Python's OpenSSL; enable OpenSSL's legacy provider, "
            "or use sha1 or shake128"
        )
        raise Unsupported(message, operation="hash", subject="rmd160") from error


def hash_text(content: bytes, algorithm: HashAlgorithm) -> str:
    """Returns the text form: 40 lower-case hex digits and the algorithm's tag."""
    return digest(content, algorithm).hex() + algorithm.tag


def algorithm_of(text: str) -> HashAlgorithm | None:
    """Returns the algorithm of a hash text, or None if it is no content hash."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    return HashAlgorithm(match[2][1:]) if match[2] else HashAlgorithm.SHA1
