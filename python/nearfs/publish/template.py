"""Template transactions: a transaction that starts with a copy of a directory (server.md 3.4).

Owns: the revision that lies below such a transaction. It is stored, but no manifest names it: the note `template` in
the spool area does, together with the revision that it was made from. Without an open transaction the note means
nothing and is removed (`healing`). Does not own: the copy (the engine).
Threading: called by one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import InvalidInput
from nearfs.publish import branches

if TYPE_CHECKING:
    from pathlib import Path

    from nearfs.publish.repository import Repository
    from nearfs.records import PublishRequest

_EINVAL = 22


def _note(repository: Repository) -> Path:
    return repository.spool / "template"


def prepare(repository: Repository, source: str, target: str, request: PublishRequest) -> None:
    """Stores the revision with the copy and notes it; raises `InvalidInput` (22) where it cannot be made."""
    from nearfs import _native

    try:
        committed = _native.copy_directory(
            str(repository.storage), source=_absolute(source), target=_absolute(target), request=request
        )
    except InvalidInput as error:
        error.exit_code = _EINVAL
        raise
    files.replace(_note(repository), f"{request['base_root_hash']} {committed['root_hash']}\n")


def _absolute(path: str) -> bytes:
    return b"/" + path.strip("/").encode("utf-8", "surrogateescape")


def stored_root(repository: Repository) -> str | None:
    """Returns the root hash of the revision below a template transaction, None where there is none."""
    fields = (files.read_text(_note(repository)) or "").split()
    is_current = len(fields) == 2 and fields[0] == branches.base(repository)
    return fields[1] if is_current else None


def base_root(repository: Repository) -> str:
    """Returns the root hash below the union: of a template transaction, of what is checked out, or the newest one."""
    return stored_root(repository) or branches.base(repository)


def forget(repository: Repository) -> None:
    """Removes the note; for a repository without an open transaction."""
    if _note(repository).exists():
        files.remove(_note(repository))
