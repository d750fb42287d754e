"""Comparisons of reading an object that the cache has: found by its hash, its size checked, read whole. No state."""

import os

from bench.micro.workload import Pair, Workload
from nearfs import _native


def hit(workload: Workload, size: int) -> Pair:
    """Reads one object; the alternative opens the same file and knows that it is whole."""
    content = workload.text(size)
    place = workload.home / f"cache-{size}"
    cache = _native.DiskCache(place, is_shared=False)
    hash_text, _ = workload.cached(place, content)
    known = len(content)

    def plain() -> bytes:
        with open(os.path.join(place, hash_text[:2], hash_text[2:]), "rb") as file:
            return file.read()

    return Pair(
        ours=lambda: cache.read(hash_text, size=known),
        theirs=plain,
        alternative="open and read",
        content_bytes=known,
    )


PAIRS = {
    "cache hit, 4 KiB": lambda workload: hit(workload, 4 << 10),
    "cache hit, 1 MiB": lambda workload: hit(workload, 1 << 20),
}
