"""Publishing into a directory of a repository, with no open transaction: from a tar archive, or from a directory.

Owns: what both check first, and the order of their steps. Does not own: what changes (the engine), how a revision
becomes visible (`revision`), what is printed (callers pass `say`).
Threading: one command at a time, under the repository's publishing lock; the engine works beside the main thread.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.errors import InvalidInput
from nearfs.publish import editing, finishing, statistics, tags, transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from nearfs._native import Progress
    from nearfs.publish.repository import Repository
    from nearfs.records import Committed, PublishRequest, Target
    from nearfs.signing import ManifestFields

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Wanted:
    """What goes where. `source` is a directory, an archive, `-` for standard input, or empty for deletions alone.

    `path` is a directory of the repository (`/a/b`, `/` for all of it); `owner` None keeps the source's numbers;
    `mirrors` removes what the path has and the source has not. `options` are those of a publish.
    """

    source: str
    path: str
    options: transaction.PublishOptions
    deletions: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None
    makes_catalog: bool = False
    mirrors: bool = False

    def target(self) -> Target:
        """Returns what the engine is told; raises `InvalidInput` for a path that leads out of the repository."""
        kind = "nothing" if not self.source else "directory" if os.path.isdir(self.source) else "archive"
        return {
            "kind": "stdin" if self.source == STANDARD_INPUT else kind,
            "path": _clean(self.path),
            "deletions": [_clean(path) for path in self.deletions],
            "owner": self.owner,
            "makes_catalog": self.makes_catalog,
            "mirrors": self.mirrors,
        }


def _clean(path: str) -> bytes:
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        message = f"{path} leads out of the repository"
        raise InvalidInput(message, operation="publish", subject=path, exit_code=1)
    return os.fsencode("".join(f"/{name}" for name in names))


def _request(repository: Repository, wanted: Wanted, present: ManifestFields, now_s: int) -> PublishRequest:
    source = wanted.source if wanted.source != STANDARD_INPUT else ""
    return transaction.request(
        repository, wanted.options, present.root_hash, now_s, source=os.path.abspath(source), is_overlay=False
    )


def held(repository: Repository, *, mounts: bool) -> AbstractContextManager[ManifestFields]:
    """Holds a repository for a publish without a mount of its own, and says why where that cannot be."""
    return editing.exclusive(
        repository,
        in_transaction=f"{repository.fqrn} has an open transaction; publish or abort it first",
        publishing=f"Another publish process is active for {repository.fqrn}",
        checked_out=f"{repository.fqrn} is checked out; go back with: cvmfs_server checkout {repository.fqrn}",
        mounts=mounts,
    )


def publish(
    repository: Repository,
    wanted: Wanted,
    *,
    mounts: bool,
    progress: Progress,
    say: Callable[[str], None],
) -> Committed:
    """Publishes a new revision; with `mounts` the publisher's mounts have to be right, before and after.

    Without, nothing is mounted: mounts that exist show the new revision if the caller may change them.
    """
    from nearfs import _native

    target = wanted.target()
    with held(repository, mounts=mounts) as present, statistics.publishing(repository, say) as counted:
        tags.check_new_name(repository, wanted.options.tag, present.history)
        tags.check_description(wanted.options.message)
        now_s = int(time.time())
        request = _request(repository, wanted, present, now_s)
        committed = transaction.beside_main(
            lambda: _native.publish_into(str(repository.storage), progress=progress, target=target, request=request),
            progress,
        )
        committed = finishing.finish(repository, committed, now_s, present, wanted.options, say, mounts=mounts)
        counted.committed(committed)
        return committed


def planned(repository: Repository, wanted: Wanted, progress: Progress) -> tuple[list[str], list[str]]:
    """Returns what a publish would do, a line an entry, and its warnings; changes nothing and needs no right to."""
    from nearfs import _native

    request = _request(repository, wanted, repository.manifest().fields, int(time.time()))
    target = wanted.target()
    return transaction.beside_main(
        lambda: _native.plan_into(str(repository.storage), progress=progress, target=target, request=request), progress
    )
