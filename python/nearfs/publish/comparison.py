"""What is different between two revisions, or between the newest one and the open transaction (server.md 3.12).

Owns: which revisions are meant, and what an open transaction changes. Does not own: the comparison of catalogs (the
engine) and what is printed. Threading: reads only; whoever may read the storage may.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.errors import InvalidInput, NotFound
from nearfs.publish import tags, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nearfs.publish.repository import Repository

_PORTION = 1000
_NO_SUCH_TAG, _NO_TRANSACTION = 2, 22
_MARKER = b".cvmfscatalog"
# What `S` lines of a comparison count, in the engine's order.
COUNTED = ("F", "S", "D", "N")
_CHANGES = {"add": "A", "rem": "R", "mod": "M"}


@dataclass(frozen=True)
class Revision:
    """A revision that is compared: its root catalog, its number, and when it was published (Unix seconds)."""

    root_hash: str
    number: int
    moment_s: int


@dataclass(frozen=True)
class Difference:
    """One entry that is different: `A`, `R` or `M` with letters; `F`, `D`, `S`, `X` or `N`; path; size in bytes."""

    change: str
    letters: str
    kind: str
    path: bytes
    size: int


def revision_of(repository: Repository, name: str) -> Revision:
    """Returns the revision that a tag names, or `@` with a root hash; raises `NotFound` (exit code 2)."""
    from nearfs import _native

    try:
        if name.startswith("@"):
            number, moment_s, _ = _native.catalog_facts(str(repository.storage), name[1:])
            return Revision(name[1:], number, moment_s)
        found = next(tag for tag in tags.listed(repository) if tag["name"] == name)
    except (StopIteration, NotFound, InvalidInput):
        message = f"CernVM-FS error: tag '{name}' does not exist"
        raise NotFound(message, operation="compare", subject=name, exit_code=_NO_SUCH_TAG) from None
    return Revision(found["root_hash"], found["revision"], found["timestamp"])


class Comparison:
    """The differences between two revisions: an iterator in the order of paths, and what they sum up to."""

    def __init__(self, repository: Repository, old: Revision, new: Revision) -> None:
        from nearfs import _native

        storage = str(repository.storage)
        self._engine = _native.RevisionDiff(storage, from_root=old.root_hash, to_root=new.root_hash)

    def __iter__(self) -> Iterator[Difference]:
        while portion := self._engine.next(_PORTION):
            for change, letters, kind, path, size in portion:
                yield Difference(change, letters, kind, path, size)

    def growth(self) -> dict[str, int]:
        """Returns how many more files, symlinks, directories and nested catalogs there are, by letter."""
        return dict(zip(COUNTED, self._engine.growth(), strict=True))


def uncommitted(repository: Repository) -> Iterator[Difference]:
    """Yields what the open transaction changes; raises `InvalidInput` where none is open."""
    if not repository.is_in_transaction:
        message = f"Repository {repository.fqrn} is not in a transaction"
        raise InvalidInput(message, operation="compare", subject=repository.fqrn, exit_code=_NO_TRANSACTION)
    for line in transaction.planned(repository):
        label, _, text = line.partition(" ")
        change = _CHANGES.get(label.strip("[]"))
        if change is not None:
            yield _described(repository, change, os.fsencode(text))


def _described(repository: Repository, change: str, path: bytes) -> Difference:
    before, after = _look(repository.read_only, path), _look(repository.union, path)
    shown = (before if change == "R" else after) or before or after
    if shown is None:  # it went away while it was looked at
        return Difference(change, "", "X", path, 0)
    letters = _letters(before, after) if change == "M" and before and after else ""
    return Difference(change, letters, _kind(shown, path), path, shown.st_size)


def _look(top: Path, path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(os.fsencode(top) + path)
    except OSError:
        return None


def _kind(shown: os.stat_result, path: bytes) -> str:
    kinds = {stat.S_IFDIR: "D", stat.S_IFLNK: "S", stat.S_IFREG: "F"}
    found = kinds.get(stat.S_IFMT(shown.st_mode), "X")
    return "N" if found == "F" and path.rpartition(b"/")[2] == _MARKER else found


def _letters(before: os.stat_result, after: os.stat_result) -> str:
    is_directory = stat.S_ISDIR(after.st_mode)
    told = {
        "S": not is_directory and before.st_size != after.st_size,
        "M": before.st_mode != after.st_mode,
        "T": int(before.st_mtime) != int(after.st_mtime),
        # A file that was written may have the old content; only the publish reads it.
        "C": not is_directory,
        "O": (before.st_uid, before.st_gid) != (after.st_uid, after.st_gid),
    }
    return "".join(letter for letter, is_told in told.items() if is_told)
