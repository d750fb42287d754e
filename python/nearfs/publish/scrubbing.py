"""Every file of a storage against its own name (server.md 10.1, scrub).

Owns: what may lie in `data/`, and the alerts. Does not own: which objects a revision needs (`check` knows).
Threading: reads only; one thread.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from nearfs import hashes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIXES = "CHXMPL"
_NAME = re.compile(r"([0-9a-f]{38})(-rmd160|-shake128)?([A-Z]?)")


class Alert(Enum):
    """What is wrong: the number for machines and the text for people."""

    FILE = (1, "unexpected regular file in CAS subdir")
    SYMLINK = (2, "unexpected symlink in CAS subdir")
    DIRECTORY = (3, "unexpected subdir in CAS subdir")
    MODIFIER = (4, "unknown object modifier")
    HASH = (5, "malformed content hash")
    LENGTH = (6, "malformed CAS subdir length")
    MISMATCH = (7, "mismatch of file name and content hash")


@dataclass(frozen=True)
class Found:
    """One alert; `hash_text` is the hash that the content has, where that is the point."""

    alert: Alert
    path: str
    hash_text: str = "-"


def scrub(storage: Path) -> Iterator[Found]:
    """Yields what is wrong in the `data` directory of a storage, in the order of names."""
    data = storage / "data" if (storage / "data").is_dir() else storage
    for entry in sorted(os.scandir(data), key=lambda found: found.name):
        if entry.name == "txn":
            continue
        if entry.is_symlink():
            yield Found(Alert.SYMLINK, entry.path)
        elif not entry.is_dir():
            yield Found(Alert.FILE, entry.path)
        elif len(entry.name) != 2:
            yield Found(Alert.LENGTH, entry.path)
        else:
            yield from _objects(entry.name, entry.path)


def _objects(digits: str, directory: str) -> Iterator[Found]:
    for entry in sorted(os.scandir(directory), key=lambda found: found.name):
        if entry.is_symlink():
            yield Found(Alert.SYMLINK, entry.path)
        elif entry.is_dir():
            yield Found(Alert.DIRECTORY, entry.path)
        else:
            yield from _object(digits, entry)


def _object(digits: str, entry: os.DirEntry[str]) -> Iterator[Found]:
    from nearfs import _native

    parts = _NAME.fullmatch(entry.name)
    algorithm = hashes.algorithm_of(digits + parts[1] + (parts[2] or "")) if parts else None
    if parts is None or algorithm is None:
        yield Found(Alert.HASH, entry.path)
        return
    if parts[3] not in _SUFFIXES:
        yield Found(Alert.MODIFIER, entry.path)
        return
    actual, _ = _native.names_of_file(entry.path, hash_algorithm=algorithm.value)
    if actual != digits + parts[1] + (parts[2] or ""):
        yield Found(Alert.MISMATCH, entry.path, actual)
