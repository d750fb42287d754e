"""Blobs of stored extended attributes (format section 4.10). Pure functions."""

from __future__ import annotations

from itertools import pairwise

from .errors import FormatError

VERSION = 1


def parse_xattrs(blob: bytes, where: str, *, strict: bool = True) -> dict[bytes, bytes]:
    """Returns the attributes of a blob in stored order.

    `strict` asks for what a writer promises on top of what a reader needs: sorted, unique keys without NUL, no
    empty list and no trailing bytes.
    """
    if len(blob) < 2 or blob[0] != VERSION:
        raise FormatError(f"{where}: xattr blob has no header of version {VERSION}")
    found: dict[bytes, bytes] = {}
    keys: list[bytes] = []
    at = 2
    for _ in range(blob[1]):
        if at + 2 > len(blob):
            raise FormatError(f"{where}: xattr blob is truncated")
        key_end = at + 2 + blob[at]
        value_end = key_end + blob[at + 1]
        if value_end > len(blob):
            raise FormatError(f"{where}: xattr blob is truncated")
        key = blob[at + 2 : key_end]
        if not key:
            raise FormatError(f"{where}: xattr blob has an empty key")
        keys.append(key)
        found[key] = blob[key_end:value_end]
        at = value_end
    if strict:
        _check_promises(blob, at, keys, where)
    return found


def _check_promises(blob: bytes, end: int, keys: list[bytes], where: str) -> None:
    if not keys:
        raise FormatError(f"{where}: xattr blob holds an empty list, which should be NULL")
    if end != len(blob):
        raise FormatError(f"{where}: xattr blob has {len(blob) - end} trailing bytes")
    if any(b"\0" in key for key in keys):
        raise FormatError(f"{where}: xattr blob has a key with a NUL byte")
    if any(first >= second for first, second in pairwise(keys)):
        raise FormatError(f"{where}: xattr blob has keys that are not sorted and unique")


def build_xattrs(attributes: dict[bytes, bytes]) -> bytes:
    """Returns the blob of attributes, sorted by key; keys of 1 to 255 bytes, values of 0 to 255."""
    parts = [bytes([VERSION, len(attributes)])]
    for key, value in sorted(attributes.items()):
        parts.append(bytes([len(key), len(value)]) + key + value)
    return b"".join(parts)
