"""A client cache directory as tests see it: its objects, what they take, and damage done to them.

Owns the layout of client.md 4.1 as far as tests need it. Called from the test's own threads.
"""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

SHA1_HEX_CHARS = 40


def objects(cache: Path) -> Iterator[Path]:
    """Yields the files of all objects; they may vanish meanwhile."""
    for head in range(256):
        try:
            names = os.listdir(cache / f"{head:02x}")
        except FileNotFoundError:
            continue
        yield from (cache / f"{head:02x}" / name for name in names)


def used_bytes(cache: Path) -> int:
    """Returns what all objects take."""
    return sum(_sizes(cache).values())


def held_bytes(cache: Path) -> int:
    """Returns what took room at one moment: the objects that were there before it and after it.

    A plain sum takes time, and counts what comes and what goes meanwhile.
    """
    before, after = _sizes(cache), _sizes(cache)
    return sum(before[file] for file in before.keys() & after.keys())


def _sizes(cache: Path) -> dict[tuple[str, int], int]:
    sizes = {}
    for path in objects(cache):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            sizes[path.name, status.st_ino] = status.st_size
    return sizes


def corrupt(cache: Path) -> list[Path]:
    """Returns the objects whose content is not what their name says (SHA-1 of the plain or the deflated content)."""
    return [path for path in objects(cache) if not _is_intact(path)]


def _is_intact(path: Path) -> bool:
    content = path.read_bytes()
    name = path.parent.name + path.name[: SHA1_HEX_CHARS - 2]
    return name in (hashlib.sha1(zlib.compress(content)).hexdigest(), hashlib.sha1(content).hexdigest())


def change_byte(path: Path) -> None:
    """Changes the last byte in place, as a failing disk does."""
    with path.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        last = opened.read(1)
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last[0] ^ 1]))


def cut_short(path: Path) -> None:
    """Removes the second half."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Removes all content, as a power failure does."""
    os.truncate(path, 0)
