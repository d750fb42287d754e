"""Publishes a tar archive: ingest (server.md 3.19).

Owns: who is to own the files, and what is said. Does not own: what an archive's members mean (the engine).
Threading: a short-lived command; the engine works beside the main thread, and a third draws on a terminal.
"""

from __future__ import annotations

import grp
import pwd
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from nearfs.cli import output, summary
from nearfs.errors import Busy, InvalidInput, NearfsError, Untrusted
from nearfs.publish import acting, collection, into

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfs.publish.repository import Repository

_FAILED = 1
_Entry = TypeVar("_Entry")


@acting.by_owner
def ingest(repository: Repository, wanted: into.Wanted, *, user: str, group: str, keeps_ownership: bool) -> int:
    """Publishes `wanted` as files of `user` and `group`, of the repository's owner, or with the archive's numbers."""
    owner = None if keeps_ownership else owner_of(repository, user, group)
    try:
        with summary.watching() as watched:
            committed = into.publish(
                repository,
                replace(wanted, owner=owner),
                mounts=True,
                progress=watched.progress,
                say=output.line,
            )
    except NearfsError as error:
        if isinstance(error, Busy | Untrusted):
            output.complain("Impossible to start a transaction")
        error.exit_code = _FAILED
        raise
    watched.end(repository.fqrn, committed)
    collection.after_publish(repository, output.line)
    return 0


def owner_of(repository: Repository, user: str, group: str) -> tuple[int, int]:
    """Returns user and group number of names; without a user the repository's owner and that user's group."""
    name = user or repository.text("CVMFS_USER", "root")
    missing = f"User set but no valid user name given: {user}"
    if not user:
        missing = f"Default CVMFS_USER {name} for the repo does not exist"
    entry = _known(lambda: pwd.getpwnam(name), missing)
    if not group:
        return entry.pw_uid, entry.pw_gid
    message = f"Group set but no valid group name given: {group}"
    return entry.pw_uid, _known(lambda: grp.getgrnam(group), message).gr_gid


def _known(look: Callable[[], _Entry], message: str) -> _Entry:
    try:
        return look()
    except KeyError:
        raise InvalidInput(message, operation="ingest", exit_code=_FAILED) from None
