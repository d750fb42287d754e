"""Content hashes, their text form, and path hashes (format sections 1.3 and 4.4).

Owns names of algorithms, their sizes and tags; knows no files. Values are immutable and free to share.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from .errors import FormatError

DIGEST_BYTES = 20
ALGORITHMS = ("sha1", "rmd160", "shake128")
"""Content hash algorithms; the position is the value of the algorithm bits in a catalog row's flags (4.5)."""
NULL_HASH_TEXT = "0" * 40
PathHash = tuple[int, int]
"""(md5path_1, md5path_2), both signed 64-bit."""
NULL_PATH_HASH: PathHash = (0, 0)


def tag_of(algorithm: str) -> str:
    """Returns what follows the hex digits in the text form: nothing for sha1."""
    return "" if algorithm == "sha1" else "-" + algorithm


class ContentHash(NamedTuple):
    """A digest with its algorithm; never carries the suffix letter, which context implies (1.2)."""

    algorithm: str
    digest: bytes

    @property
    def text(self) -> str:
        """The text form: 40 lower-case hex digits and the algorithm tag."""
        return self.digest.hex() + tag_of(self.algorithm)

    @property
    def is_null(self) -> bool:
        """Whether all digest bytes are zero."""
        return not any(self.digest)


def parse_hash(text: str, where: str) -> ContentHash:
    """Returns the content hash of its text form. MD5, upper case and unknown tags are refused, as 1.3 recommends."""
    digits, tag = text[:40], text[40:]
    if len(digits) == 40 and all(c in "0123456789abcdef" for c in digits):
        for algorithm in ALGORITHMS:
            if tag == tag_of(algorithm):
                return ContentHash(algorithm, bytes.fromhex(digits))
    raise FormatError(f"{where}: {text[:80]!r} is not the text of a content hash")


def digest_of(algorithm: str, content: bytes) -> ContentHash:
    """Returns the hash of bytes under one of ALGORITHMS."""
    if algorithm == "sha1":
        return ContentHash(algorithm, hashlib.sha1(content, usedforsecurity=False).digest())
    if algorithm == "shake128":
        return ContentHash(algorithm, hashlib.shake_128(content, usedforsecurity=False).digest(DIGEST_BYTES))
    if algorithm == "rmd160":
        return ContentHash(algorithm, hashlib.new("ripemd160", content, usedforsecurity=False).digest())
    raise FormatError(f"hash algorithm {algorithm!r} is unknown")


def path_hash(path: bytes) -> PathHash:
    """Returns the MD5 of an absolute path ('' is the root) as the two columns of a catalog row."""
    first, second = struct.unpack("<qq", hashlib.md5(path, usedforsecurity=False).digest())
    return int(first), int(second)
