"""Makes an old revision the newest one (server.md 3.8).

Owns: the confirmation and the words. Does not own: what a rollback changes.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.cli.asking import confirm
from nearfs.publish import acting
from nearfs.publish import rollback as going_back

if TYPE_CHECKING:
    from nearfs.publish.repository import Repository

_REFUSED = 1


@acting.by_owner
def rollback(repository: Repository, tag: str, *, force: bool) -> int:
    """Rolls back to a tag, or undoes the last publish where none is given; returns the exit status."""
    going_back.target_of(repository, tag)  # nobody is asked about what cannot be done
    question = f"You are about to ROLLBACK to {tag} AS THE LATEST REVISION!" if tag else ""
    question = question or "You are about to UNDO your last published revision!"
    if not force and not confirm(f"{question}  Are you sure (y/N)? "):
        return _REFUSED
    committed = going_back.roll_back(repository, tag, output.line)
    source = tag or "the revision before the last"
    output.line(f"Revision {committed['revision']} of {repository.fqrn} has the content of {source}")
    return 0
