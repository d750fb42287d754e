"""Changes that need no open transaction: rollback, ingest, tags, maintenance.

Owns: what all of them check first and hold meanwhile, and how catalogs that they stored become the newest revision.
Threading: one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from nearfs.errors import Busy
from nearfs.publish import branches, healing, revision, trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearfs.publish.repository import Repository
    from nearfs.records import Committed
    from nearfs.signing import ManifestFields


@contextlib.contextmanager
def exclusive(
    repository: Repository, *, in_transaction: str, publishing: str, checked_out: str = "", mounts: bool = True
) -> Iterator[ManifestFields]:
    """Holds a repository without an open transaction; yields what its manifest says.

    Without `mounts` nothing is mounted, and whoever can write the storage and read the keys may do it. With a sentence
    `checked_out`, an old revision must not be checked out.

    Raises `Busy` with one of the sentences, `Untrusted` for a whitelist that is expired.
    """
    _check_closed(repository, in_transaction)
    with healing.working(repository, publishing, mounts=mounts):
        # Again: one may have been opened before the lock was ours.
        _check_closed(repository, in_transaction)
        # Before what follows notes an activation of its own: a publish may still have to be cleaned up after a kill.
        if mounts:
            healing.repair(repository)
        else:
            _check_finished(repository)
            trust.check_manifest(repository)
        if checked_out and branches.current(repository):
            raise Busy(checked_out, operation="change repository", subject=repository.fqrn, exit_code=1)
        revision.check_whitelist(repository, time.time())
        yield repository.manifest().fields


def _check_closed(repository: Repository, sentence: str) -> None:
    if healing.is_open(repository):
        raise Busy(sentence, operation="change repository", subject=repository.fqrn, exit_code=1)


def _check_finished(repository: Repository) -> None:
    # Not finished here: its mounts are not ours to undo.
    if repository.is_in_transaction:
        message = (
            f"the last publish of {repository.fqrn} was killed after it took effect; "
            f"finish it first: cvmfs_server mount {repository.fqrn}"
        )
        raise Busy(message, operation="change repository", subject=repository.fqrn, exit_code=1)


def show(
    repository: Repository,
    committed: Committed,
    history: str | None,
    present: ManifestFields,
    say: Callable[[str], None],
    references: list[tuple[str, str]] | None = None,
    *,
    mounts: bool = True,
) -> None:
    """Makes stored catalogs the newest revision, closes the transaction and mounts what readers now see."""
    revision.activate(
        repository,
        revision.Head(committed["root_hash"], committed["root_size"], committed["revision"], committed["ttl_s"]),
        history=history,
        metainfo=present.meta_info,
        garbage_collectable=repository.is_on("CVMFS_GARBAGE_COLLECTION", default=present.garbage_collectable),
        references=references,
    )
    if not mounts:
        healing.follow(repository, say)
        return
    say("Remounting newly created repository revision")
    healing.heal(repository)
