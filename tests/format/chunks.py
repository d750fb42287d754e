"""Chunk lists of files and the content-defined cut marks (format section 5). Pure functions.

`cut_marks` is a plain loop over bytes, some 5 to 10 MB a second: tests keep its input short.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .hashes import ContentHash

_CENTRE = 2147483647
_WINDOW_BYTES = 32


class Chunk(NamedTuple):
    """One chunk of a file: offset and size are in bytes of the uncompressed file."""

    offset: int
    size: int
    content_hash: ContentHash


def chunk_problems(chunks: list[Chunk], file_bytes: int, where: str) -> Iterator[str]:
    """Yields what is wrong with the sorted chunk list of a chunked file."""
    if len(chunks) < 2:
        yield f"{where}: chunked file has {len(chunks)} chunks instead of two or more"
    expected = 0
    for chunk in chunks:
        if chunk.offset != expected:
            yield f"{where}: chunk at offset {chunk.offset} should begin at {expected} (gap or overlap)"
        if chunk.size <= 0:
            yield f"{where}: chunk at offset {chunk.offset} has size {chunk.size}"
        expected = chunk.offset + chunk.size
    if chunks and expected != file_bytes:
        yield f"{where}: chunks end at {expected}, the file has {file_bytes} bytes"


def cut_marks(content: bytes, minimum: int, average: int, maximum: int) -> list[int]:
    """Returns the offsets at which a new chunk begins, without 0 and without the end."""
    if not _WINDOW_BYTES <= minimum < average < maximum:
        raise ValueError("chunk sizes have to be 32 <= minimum < average < maximum")
    threshold = 4294967295 // average
    low, high = _CENTRE - threshold + 1, _CENTRE + threshold - 1
    length = len(content)
    marks: list[int] = []
    last = 0
    while True:
        register = 0
        for byte in content[last + minimum - _WINDOW_BYTES : last + minimum]:
            register = ((register << 1) ^ byte) & 0xFFFFFFFF
        cut = -1
        at = last + minimum
        for byte in memoryview(content)[at : min(last + maximum, length)]:
            register = ((register << 1) ^ byte) & 0xFFFFFFFF
            if low <= register <= high or register == 0xFFFFFFFF:
                cut = at
                break
            at += 1
        if cut < 0 and last + maximum <= length:
            cut = last + maximum
        if cut < 0 or cut >= length:
            return marks
        marks.append(cut)
        last = cut
