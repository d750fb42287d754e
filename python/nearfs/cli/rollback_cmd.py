"""Makes an old revision the newest one (server.md 3.8).

Owns: the confirmation and the words. Does not own: what a rollback changes.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from nearfs.cli import output
from nearfs.cli.asking import confirm
from nearfs.publish import rollback as going_back
from nearfs.publish.repository import Repository

_REFUSED = 1


def rollback(name: str, tag: str, *, force: bool) -> int:
    """Rolls back to a tag, or undoes the last publish where none is given; returns the exit status."""
    repository = Repository.load(name)
    going_back.target_of(repository, tag)  # nobody is asked about what cannot be done
    question = f"You are about to ROLLBACK to {tag} AS THE LATEST REVISION!" if tag else ""
    question = question or "You are about to UNDO your last published revision!"
    if not force and not confirm(f"{question}  Are you sure (y/N)? "):
        return _REFUSED
    committed = going_back.roll_back(repository, tag, output.line)
    output.line(
        f"Revision {committed['revision']} of {name} has the content of {tag or 'the revision before the last'}"
    )
    return 0
