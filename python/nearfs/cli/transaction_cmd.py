"""Opens, publishes and aborts transactions (server.md 3.4 to 3.6).

Owns: hooks of the words, progress on a terminal, confirmations. Does not own: what a transaction is.
Threading: a command's main thread.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from nearfs.cli import output, summary
from nearfs.cli.repository_cmd import confirm
from nearfs.errors import Busy
from nearfs.publish import collection, transaction
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 4
_RETRY_S = (0.5, 5.0)


def begin(name: str, path: str, *, retry_s: float | None) -> int:
    """Opens a transaction; with `retry_s` it waits for a busy repository so long, 0 for ever."""
    repository = Repository.load(name)
    deadline = None if not retry_s else time.monotonic() + retry_s
    while True:
        try:
            transaction.begin(repository, path=path, say=output.line)
        except Busy:
            if retry_s is None or (deadline is not None and time.monotonic() > deadline):
                raise
            output.line("repository busy, retrying")
            time.sleep(random.uniform(*_RETRY_S))  # noqa: S311 - spreads retries, guards nothing
        else:
            return 0


def abort(names: Sequence[str], *, force: bool) -> int:
    """Discards open transactions, each after a confirmation."""
    for name in names:
        repository = Repository.load(name)
        question = f"You are about to DISCARD ALL CHANGES OF THE CURRENT TRANSACTION for {name}!  Are you sure (y/N)? "
        if not force and not confirm(question):
            return _INTERRUPTED
        transaction.abort(repository, force=force)
    return 0


def publish(names: Sequence[str], options: transaction.PublishOptions, *, verbose: bool) -> int:
    """Publishes open transactions and says what became of them."""
    for name in names:
        repository = Repository.load(name)
        if verbose and repository.is_in_transaction:
            for change in transaction.planned(repository):
                output.line(change)
        output.line("Swissknife Sync: Processing changes...")
        with summary.watching() as watched:
            committed = transaction.publish(repository, options, progress=watched.progress, say=output.line)
        watched.end(name, committed)
        collection.after_publish(repository, output.line)
    return 0
