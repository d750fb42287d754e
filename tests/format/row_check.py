"""Rules for a single catalog row and its objects (format sections 4.5 to 4.7, 4.10, 5.1 and 12).

Owns what can be said of one row without its neighbours. Pure functions beside reading objects.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from .catalog import (
    BIND_MOUNTPOINT,
    BUNDLE_TRIGGER,
    CHUNKED,
    COMPRESSION_MASK,
    COMPRESSION_NONE,
    DIR,
    DIRECT_IO,
    EXTERNAL,
    FILE,
    HIDDEN,
    KNOWN_FLAGS,
    LINK,
    NESTED_MOUNTPOINT,
    NESTED_ROOT,
    SPECIAL,
    Row,
)
from .chunks import Chunk, chunk_problems
from .errors import FormatError
from .store import ObjectStore, object_name
from .xattrs import parse_xattrs

_TYPES = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
_MAX_ID = 0xFFFFFFFF


def row_problems(row: Row, chunks: list[Chunk], where: str) -> Iterator[str]:
    """Yields what is wrong with one row, given its chunk list."""
    if stat.S_IFMT(row.mode) not in _TYPES or row.mode & ~0o177777:
        yield f"{where}: mode 0{row.mode:o} is of no file type"
    if row.mtimens is not None and not 0 <= row.mtimens < 10**9:
        yield f"{where}: mtimens {row.mtimens} is outside of a second"
    for meaning, number in (("uid", row.uid), ("gid", row.gid)):
        if not 0 <= number <= _MAX_ID:
            yield f"{where}: {meaning} {number} is out of range"
    if row.size < 0:
        yield f"{where}: size {row.size} is negative"
    if row.xattr is not None:
        try:
            parse_xattrs(row.xattr, where)
        except FormatError as error:
            yield str(error)
    yield from _flag_problems(row, where)
    yield from _link_problems(row, where)
    if row.is_regular:
        yield from _regular_problems(row, chunks, where)
    else:
        yield from _contentless_problems(row, chunks, where)


def _flag_problems(row: Row, where: str) -> Iterator[str]:
    flags = row.flags
    if row.is_dir:
        required, optional = DIR, NESTED_MOUNTPOINT | NESTED_ROOT | BIND_MOUNTPOINT | HIDDEN
    elif row.is_regular:
        required, optional = FILE, CHUNKED | EXTERNAL | DIRECT_IO | BUNDLE_TRIGGER | COMPRESSION_NONE | 0x300
    else:
        required, optional = FILE | (LINK if stat.S_ISLNK(row.mode) else SPECIAL), 0
    if flags & required != required or flags & ~(required | optional) or flags & ~KNOWN_FLAGS:
        yield f"{where}: flags 0x{flags:x} do not suit mode 0{row.mode:o}"
    if flags & 0x300 == 0x300 or (flags & 0x300 and row.digest is None and not flags & CHUNKED):
        yield f"{where}: flags 0x{flags:x} state a hash algorithm that is unknown or has no hash"
    if flags & COMPRESSION_MASK not in (0, COMPRESSION_NONE):
        yield f"{where}: flags 0x{flags:x} state an unknown compression"
    if (flags & (NESTED_MOUNTPOINT | NESTED_ROOT | BIND_MOUNTPOINT)).bit_count() > 1:
        yield f"{where}: flags 0x{flags:x} hold more than one of nested root, nested mountpoint, bind mountpoint"


def _link_problems(row: Row, where: str) -> Iterator[str]:
    if row.linkcount < 1 or row.hardlinks < 0:
        yield f"{where}: linkcount {row.linkcount} in hardlinks {row.hardlinks} is impossible"
    elif row.is_dir and row.group:
        yield f"{where}: directory is in hardlink group {row.group}"
    elif not row.is_dir and row.linkcount > 1 and not row.group:
        yield f"{where}: linkcount {row.linkcount} without a hardlink group"


def _regular_problems(row: Row, chunks: list[Chunk], where: str) -> Iterator[str]:
    if row.symlink:
        yield f"{where}: regular file has a symlink target"
    if row.flags & CHUNKED:
        yield from chunk_problems(chunks, row.size, where)
    else:
        if chunks:
            yield f"{where}: file has {len(chunks)} chunks but no chunked flag"
        if row.digest is None or not any(row.digest):
            yield f"{where}: unchunked regular file has no hash"
    if any(not any(chunk.content_hash.digest) for chunk in chunks):
        yield f"{where}: a chunk has a null hash"


def _contentless_problems(row: Row, chunks: list[Chunk], where: str) -> Iterator[str]:
    if row.digest is not None:
        yield f"{where}: hash on an entry that is no regular file"
    if chunks:
        yield f"{where}: chunks on an entry that is no regular file"
    if stat.S_ISLNK(row.mode):
        if not row.symlink or b"\0" in row.symlink:
            yield f"{where}: symlink target is empty or holds NUL"
        if row.size != len(row.symlink):
            yield f"{where}: symlink has size {row.size}, its target has {len(row.symlink)} bytes"
    elif row.symlink:
        yield f"{where}: symlink target on an entry that is no symlink"
    elif (stat.S_ISFIFO(row.mode) or stat.S_ISSOCK(row.mode)) and row.size != 0:
        yield f"{where}: fifo or socket has size {row.size} instead of 0"


def object_problems(row: Row, chunks: list[Chunk], store: ObjectStore, where: str) -> Iterator[str]:
    """Yields what is wrong with the objects of a regular file: missing, corrupt, or of another size than stated."""
    if not row.is_regular or row.flags & EXTERNAL:
        return
    parts = [(chunk.content_hash, "P", chunk.size) for chunk in chunks]
    if row.content_hash is not None:
        parts.append((row.content_hash, "", row.size))
    for content_hash, suffix, size in parts:
        try:
            actual = store.content_bytes(content_hash, suffix, plain=row.is_plain, expected=size)
        except FormatError as error:
            yield f"{where}: {error}"
            continue
        if actual != size:
            yield f"{where}: object {object_name(content_hash, suffix)} holds {actual} bytes, {size} are stated"
