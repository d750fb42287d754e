"""Checking out: an old revision below the union, for a publish beside the newest one (server.md 3.9, format.md 6.5).

Owns: which revision and branch are meant, and what may not be. Does not own: the note (`branches`), mounts (`healing`).
Threading: one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nearfs.errors import Busy, InvalidInput, NotFound
from nearfs.publish import branches, healing, interrupts, tags, users

if TYPE_CHECKING:
    from nearfs.publish.repository import Repository

_BRANCH = re.compile(r"[A-Za-z0-9_.@/-]{1,255}")
_IN_TRANSACTION = "Cannot checkout while in a transaction"


def check_out(repository: Repository, tag: str, branch: str) -> str:
    """Checks out a tag, the newest tag of a branch, or a tag onto a new branch; returns the sentence to say.

    Without both, the newest revision is what the union shows again.
    """
    _check_closed(repository)
    with healing.working(repository):
        _check_closed(repository)
        if healing.took_effect(repository):  # before the note changes, which a killed publish may have to move on
            healing.heal(repository)
        wanted, is_new = _wanted(repository, tag, branch) if tag or branch else (None, False)
        users.check_unused(repository, ignore_readers=True)
        with interrupts.held_off():
            branches.record(repository, wanted)
            healing.heal(repository)
    if wanted is None:
        return "Reset to trunk on default branch"
    onto = "onto new branch" if is_new else "on branch"
    return f"Checked out tag {wanted.tag} ({wanted.root_hash}) {onto} {branches.shown(wanted.branch)}"


def _check_closed(repository: Repository) -> None:
    if healing.is_open(repository):
        raise Busy(_IN_TRANSACTION, operation="check out", subject=repository.fqrn, exit_code=1)


def _wanted(repository: Repository, tag: str, branch: str) -> tuple[branches.Checkout, bool]:
    """Returns what is to be checked out, and whether its branch is a new one."""
    if branch and not _BRANCH.fullmatch(branch):
        raise _refused(f"invalid branch name '{branch}': only a-z A-Z 0-9 - _ . @ / are allowed")
    listed = tags.listed(repository)
    if not tag:
        # The newest of the branch: tags are listed newest first.
        found = next((other for other in listed if other["branch"] == branch), None)
        if found is None:
            raise _missing(f"branch {branch} does not exist")
    else:
        found = next((other for other in listed if other["name"] == tag), None)
        if found is None:
            raise _missing(f"tag {tag} does not exist")
    left = found["branch"]
    is_new = bool(branch) and branch != left
    if is_new and branch in {name for name, _, _ in tags.listed_branches(repository)}:
        raise _refused(f"branch {branch} already exists")
    return branches.Checkout(found["name"], found["root_hash"], branch or left, left), is_new


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, operation="check out", exit_code=1)


def _missing(message: str) -> NotFound:
    return NotFound(message, operation="check out", exit_code=1)
