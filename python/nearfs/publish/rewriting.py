"""Commands that change every catalog of the newest revision (server.md 3.20).

Owns: when they may run and how their result becomes a revision. Does not own: the changes (the engine).
Threading: one command at a time, under the repository's publishing lock; the engine uses all cores.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from nearfs.errors import Busy
from nearfs.publish import editing, finishing, statistics
from nearfs.publish.transaction import PublishOptions, beside_main

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfs.publish.repository import Repository
    from nearfs.records import Committed

    Rule = Literal["owners", "hardlinks", "bulk-hashes", "statistics"]
    Ids = tuple[dict[int, int], int | None]


def rewrite(
    repository: Repository,
    rule: Rule,
    say: Callable[[str], None],
    *,
    uid_map: Ids | None = None,
    gid_map: Ids | None = None,
) -> Committed | None:
    """Applies a rule to all catalogs and makes the result the newest revision; None where nothing was to change."""
    check_trunk(repository)
    with (
        editing.exclusive(
            repository,
            in_transaction=f"Repository {repository.fqrn} is in a transaction: publish or abort it first",
            publishing=f"Another publish process is active for {repository.fqrn}",
        ) as present,
        statistics.publishing(repository, say) as counted,
    ):
        from nearfs import _native

        now_s = int(time.time())
        progress = _native.Progress()

        def work() -> Committed | None:
            return _native.rewrite_catalogs(
                str(repository.storage),
                base_root_hash=present.root_hash,
                hash_algorithm=repository.hash_algorithm.value,
                rule=rule,
                uid_map=uid_map,
                gid_map=gid_map,
                ttl_s=present.ttl_s,
                now_s=now_s,
                progress=progress,
            )

        committed = beside_main(work, progress)
        if committed is None:
            counted.forget()
            return None
        committed = finishing.finish(repository, committed, now_s, present, PublishOptions(), say)
        counted.committed(committed)
        return committed


def check_trunk(repository: Repository) -> None:
    """Refuses where an old revision is checked out: what is rewritten is the newest."""
    if (repository.spool / "checkout").exists():
        message = f"{repository.fqrn} is checked out on a branch; go back with: cvmfs_server checkout {repository.fqrn}"
        raise Busy(message, operation="rewrite catalogs", subject=repository.fqrn, exit_code=1)
