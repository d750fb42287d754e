"""Comparisons of what happens to the bytes of an object: hash, inflate, deflate, cut marks. No state."""

import hashlib
import zlib

from bench.micro.workload import Pair, Workload
from nearfs import _native
from tests.format import chunks

SMALL, LARGE = 4 << 10, 1 << 20
CUT_BYTES = 256 << 10
CHUNK_SIZES = (16 << 10, 32 << 10, 64 << 10)


def sha1(workload: Workload, size: int) -> Pair:
    """Hashes as most repositories do."""
    content = workload.text(size)
    return Pair(
        ours=lambda: _native.hash_content(content, hash_algorithm="sha1"),
        theirs=lambda: hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        alternative="hashlib.sha1",
        content_bytes=len(content),
    )


def shake128(workload: Workload, size: int) -> Pair:
    """Hashes as repositories with SHAKE-128 do."""
    content = workload.text(size)
    return Pair(
        ours=lambda: _native.hash_content(content, hash_algorithm="shake128"),
        theirs=lambda: hashlib.shake_128(content, usedforsecurity=False).hexdigest(20) + "-shake128",
        alternative="hashlib.shake_128",
        content_bytes=len(content),
    )


def inflate(workload: Workload, size: int) -> Pair:
    """Inflates an object whose size is known; the alternative is told the size too."""
    content = workload.text(size)
    stored, size = zlib.compress(content, 6), len(content)
    return Pair(
        ours=lambda: _native.inflate(stored, size=size),
        theirs=lambda: zlib.decompress(stored, bufsize=size),
        alternative="zlib.decompress",
        content_bytes=size,
    )


def deflate(workload: Workload, size: int) -> Pair:
    """Deflates a content; other libraries than stock zlib give other streams of the same content."""
    content = workload.text(size)
    return Pair(
        ours=lambda: _native.deflate(content),
        theirs=lambda: zlib.compress(content, 6),
        alternative="zlib.compress level 6",
        content_bytes=len(content),
        same=zlib.decompress,
    )


def cut_marks(workload: Workload, size: int) -> Pair:
    """Cuts a content into chunks; the algorithm is the format's own, so that the alternative is a loop in Python."""
    content = workload.noise(size)
    return Pair(
        ours=lambda: _native.cut_marks(content, chunk_sizes=CHUNK_SIZES),
        theirs=lambda: chunks.cut_marks(content, *CHUNK_SIZES),
        alternative="a loop in Python",
        content_bytes=len(content),
    )


PAIRS = {
    "hash sha1, 4 KiB": lambda workload: sha1(workload, SMALL),
    "hash sha1, 1 MiB": lambda workload: sha1(workload, LARGE),
    "hash shake128, 4 KiB": lambda workload: shake128(workload, SMALL),
    "hash shake128, 1 MiB": lambda workload: shake128(workload, LARGE),
    "inflate, 4 KiB": lambda workload: inflate(workload, SMALL),
    "inflate, 1 MiB": lambda workload: inflate(workload, LARGE),
    "deflate, 4 KiB": lambda workload: deflate(workload, SMALL),
    "deflate, 1 MiB": lambda workload: deflate(workload, LARGE),
    "cut marks, 256 KiB": lambda workload: cut_marks(workload, CUT_BYTES),
}
