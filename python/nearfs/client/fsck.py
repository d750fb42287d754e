"""The check of a cache directory: does every file have the content that its name says (client.md 2.8).

Owns the walk, what is done about a damaged file, and the sentences. Does not own: hashing (the engine), options and
exit codes (`cli.fsck_cmd`).
Threading: `check` hashes in threads of its own and reports from the caller's. Safe beside living mounts: they find an
object that is gone and fetch it again.
"""

from __future__ import annotations

import enum
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from nearfs import _native
from nearfs.errors import NearfsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_NAME = re.compile(r"[0-9a-f]{38}(?:-(rmd160|shake128))?\Z")
_QUARANTINE = "quarantaine"
_DATABASES = ("cachedb", "cachedb-journal", "cachedb-wal", "cachedb-shm")
# So many files are under way for each thread; more would only be a long list.
_AHEAD = 16


class Found(enum.Flag):
    """What a check came to; the values are the bits of the exit status."""

    NOTHING = 0
    FIXED = 1
    NOT_FIXED = 4
    TROUBLE = 8


@dataclass(frozen=True)
class Check:
    """How a cache is checked."""

    directory: Path
    threads: int
    fixes: bool
    drops_database: bool
    say: Callable[[str], None]
    complain: Callable[[str], None]

    def run(self) -> tuple[Found, int]:
        """Returns what was found, and how many files were right."""
        found, verified = Found.NOTHING, 0
        for path, outcome in self._hashed(self._files()):
            if outcome is None:
                verified += 1
            elif isinstance(outcome, NearfsError):
                found |= self._unreadable(path, outcome)
            else:
                found |= self._damaged(path, outcome)
        found |= self._left_over()
        # What is gone must not be counted any more.
        if self.drops_database or Found.FIXED in found:
            self._drop_database()
        return found, verified

    def _files(self) -> Iterator[Path]:
        for number in range(256):
            try:
                with os.scandir(self.directory / f"{number:02x}") as entries:
                    yield from sorted(self.directory / f"{number:02x}" / entry.name for entry in entries)
            except FileNotFoundError:
                continue

    def _hashed(self, files: Iterable[Path]) -> Iterator[tuple[Path, str | NearfsError | None]]:
        """Yields each file with nothing, the hash that it has instead of its own, or why it could not be read."""
        rest = iter(files)
        with ThreadPoolExecutor(self.threads) as pool:
            while batch := list(islice(rest, self.threads * _AHEAD)):
                yield from zip(batch, pool.map(_wrong_hash, batch), strict=True)

    def _unreadable(self, path: Path, error: NearfsError) -> Found:
        # Cleaned up by a mount in the meantime.
        if not path.exists():
            return Found.NOTHING
        self.complain(f"Error: {self._short(path)}: {error}")
        return Found.TROUBLE

    def _damaged(self, path: Path, actual: str) -> Found:
        short = self._short(path)
        if not self.fixes:
            self.complain(f"Error: {short} has compressed checksum {actual}, delete this file from cache directory!")
            return Found.NOT_FIXED
        try:
            if path.name.endswith("T"):
                path.unlink()
            else:
                quarantine = self.directory / _QUARANTINE
                quarantine.mkdir(mode=0o700, exist_ok=True)
                path.replace(quarantine / f"{path.parent.name}{path.name}")
        except FileNotFoundError:
            return Found.NOTHING
        except OSError as error:
            self.complain(f"Error: {short} is corrupted and cannot be moved: {error.strerror}")
            return Found.NOT_FIXED
        self.say(f"Fix: {short} is corrupted, moved to quarantaine folder")
        return Found.FIXED

    def _left_over(self) -> Found:
        transactions = self.directory / "txn"
        try:
            if any(transactions.iterdir()):
                self.complain(f"Warning: temporary directory {transactions} is not empty; a mount may be at work in it")
        except FileNotFoundError:
            self.complain(f"Error: {transactions} is missing; this is no cache directory")
            return Found.TROUBLE
        return Found.NOTHING

    def _drop_database(self) -> None:
        for name in _DATABASES:
            (self.directory / name).unlink(missing_ok=True)
        self.say("Fix: managed cache db unlinked, will be rebuilt on next mount")

    def _short(self, path: Path) -> str:
        return str(path.relative_to(self.directory))


def _wrong_hash(path: Path) -> str | NearfsError | None:
    named = _NAME.match(path.name)
    expected = f"{path.parent.name}{path.name}"
    try:
        plain, deflated = _native.names_of_file(path, hash_algorithm=(named and named[1]) or "sha1")
    except NearfsError as error:
        return error
    return None if named and expected in {plain, deflated} else deflated
