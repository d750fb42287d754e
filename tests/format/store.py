"""The object store of a repository directory (format sections 1.1 to 1.4): finding, verifying, inflating objects.

Owns the way from a hash and suffix to trusted bytes; knows nothing of who refers to an object. One store per
check; not shared between threads.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from .errors import FormatError, MissingObject
from .hashes import ContentHash, digest_of

MAX_STORED_BYTES = 4 << 30
MAX_DATABASE_BYTES = 2 << 30
"""Bounds of what is read at all, so that an absurd object does not take the machine's memory."""
MAX_CERTIFICATE_BYTES = 1 << 20
MAX_METAINFO_BYTES = 1 << 20


def object_name(content_hash: ContentHash, suffix: str) -> str:
    """Returns the path of an object below the repository root, such as data/6e/d3d4...C."""
    text = content_hash.text
    return f"data/{text[:2]}/{text[2:]}{suffix}"


def inflate(stored: bytes, limit: int, subject: str) -> bytes:
    """Returns the content of one complete zlib stream of at most `limit` bytes, with nothing behind it."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(stored, limit + 1)
    except zlib.error as error:
        raise FormatError(f"{subject} does not inflate: {error}") from error
    if len(content) > limit:
        raise FormatError(f"{subject} inflates to more than {limit} bytes")
    if not stream.eof:
        raise FormatError(f"{subject} is a truncated zlib stream")
    if stream.unused_data:
        raise FormatError(f"{subject} has {len(stream.unused_data)} bytes behind its zlib stream")
    return content


class ObjectStore:
    """Reads objects of one repository directory; everything that it returns has been verified."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._content_bytes: dict[tuple[ContentHash, str, bool], int] = {}

    def exists(self, content_hash: ContentHash, suffix: str) -> bool:
        """Returns whether the object's file is there (its bytes are not looked at)."""
        return (self.root / object_name(content_hash, suffix)).is_file()

    def stored(self, content_hash: ContentHash, suffix: str) -> bytes:
        """Returns the stored bytes; raises MissingObject or FormatError when they do not have that hash."""
        name = object_name(content_hash, suffix)
        path = self.root / name
        if not path.is_file():
            raise MissingObject(f"object {name} is missing")
        if path.stat().st_size > MAX_STORED_BYTES:
            raise FormatError(f"object {name} is larger than {MAX_STORED_BYTES} bytes")
        stored = path.read_bytes()
        actual = digest_of(content_hash.algorithm, stored)
        if actual != content_hash:
            raise FormatError(f"object {name} is corrupt: its stored bytes hash to {actual.text}")
        return stored

    def load(self, content_hash: ContentHash, suffix: str, *, plain: bool = False, limit: int) -> bytes:
        """Returns the content of an object: inflated unless `plain`."""
        stored = self.stored(content_hash, suffix)
        name = object_name(content_hash, suffix)
        if plain:
            if len(stored) > limit:
                raise FormatError(f"object {name} has more than {limit} bytes")
            return stored
        return inflate(stored, limit, f"object {name}")

    def content_bytes(self, content_hash: ContentHash, suffix: str, *, plain: bool, expected: int) -> int:
        """Returns the size of an object's content, verified once however many rows refer to it."""
        key = (content_hash, suffix, plain)
        if key not in self._content_bytes:
            limit = min(max(expected, 0), MAX_STORED_BYTES)
            self._content_bytes[key] = len(self.load(content_hash, suffix, plain=plain, limit=limit))
        return self._content_bytes[key]
