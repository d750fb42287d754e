"""What is checked out: the note in the spool area that a repository does not follow its newest revision.

Owns: the note `checkout` (tag, root hash, branch, branch before; format.md 6.5, server.md 2.2) and `checkout.next`,
what it becomes when the publish that is running takes effect. Does not own: switching (`checking_out`), branches in
the history (the engine).
Threading: written under the repository's publishing lock; whoever may read the spool area may read it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import Corrupt

if TYPE_CHECKING:
    from pathlib import Path

    from nearfs.publish.repository import Repository

# How the default branch, which has no name, is written.
DEFAULT = "(default)"
_FIELDS = 4


@dataclass(frozen=True)
class Checkout:
    """A revision that is checked out. Branches are named as in the history: the default one is empty."""

    tag: str
    root_hash: str
    branch: str
    previous_branch: str


def shown(branch: str) -> str:
    """Returns a branch's name as people and notes see it."""
    return branch or DEFAULT


def current(repository: Repository) -> Checkout | None:
    """Returns what is checked out, None where it is the newest revision; raises `Corrupt` for a damaged note."""
    text = files.read_text(_note(repository))
    if text is None:
        return None
    fields = text.split()
    if len(fields) != _FIELDS:
        message = (
            f"{_note(repository)} does not say what is checked out; "
            f"go back to the newest revision with: cvmfs_server checkout {repository.fqrn}"
        )
        raise Corrupt(message, operation="read checkout", subject=repository.fqrn, exit_code=1)
    tag, root_hash, *named = fields
    branch, previous_branch = ("" if name == DEFAULT else name for name in named)
    return Checkout(tag, root_hash, branch, previous_branch)


def base(repository: Repository) -> str:
    """Returns the root hash that a transaction builds on: what is checked out, or the newest revision."""
    checkout = current(repository)
    return checkout.root_hash if checkout else repository.manifest().fields.root_hash


def record(repository: Repository, checkout: Checkout | None) -> None:
    """Notes what is checked out from now on, None for the newest revision."""
    if checkout is not None:
        files.replace(_note(repository), _text(checkout))
    elif _note(repository).exists():
        files.remove(_note(repository))


def record_next(repository: Repository, checkout: Checkout) -> None:
    """Notes what a publish will have checked out as soon as its manifest is in place."""
    files.replace(_next(repository), _text(checkout))


def advance(repository: Repository, *, took_effect: bool) -> None:
    """Makes the note of the next checkout the present one if its publish took effect, else forgets it."""
    if not _next(repository).exists():
        return
    if took_effect:
        os.replace(_next(repository), _note(repository))
        files.sync_directory(repository.spool)
    else:
        files.remove(_next(repository))


def _text(checkout: Checkout) -> str:
    names = f"{shown(checkout.branch)} {shown(checkout.previous_branch)}"
    return f"{checkout.tag} {checkout.root_hash} {names}\n"


def _note(repository: Repository) -> Path:
    return repository.spool / "checkout"


def _next(repository: Repository) -> Path:
    return repository.spool / "checkout.next"
