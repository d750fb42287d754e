"""Opens, publishes and aborts transactions (server.md 3.4 to 3.6).

Owns: hooks of the words, progress on a terminal, confirmations. Does not own: what a transaction is.
Threading: a command's main thread.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nearfs.cli import output, summary
from nearfs.cli.asking import confirm
from nearfs.errors import Busy, InvalidInput
from nearfs.publish import acting, collection, site, transaction, users
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfs.records import Committed

_INTERRUPTED = 4
_MEMBERSHIP_LIMIT_BYTES = 16 << 10
_RETRY_S = (0.5, 5.0)


def read_membership(path: str) -> str:
    """Returns who may read the repository from a file; an empty one means everybody."""
    try:
        with open(path, "rb") as source:
            content = source.read(_MEMBERSHIP_LIMIT_BYTES + 1)
        text = content.decode("utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        message = f"the membership file cannot be read: {error} (-F)"
        raise InvalidInput(message, operation="publish", subject=path, exit_code=1) from None
    if len(content) > _MEMBERSHIP_LIMIT_BYTES:
        message = f"the membership file {path} has more than {_MEMBERSHIP_LIMIT_BYTES} bytes (-F)"
        raise InvalidInput(message, operation="publish", subject=path, exit_code=1)
    return text


@acting.by_owner
def begin(repository: Repository, path: str, *, copy: tuple[str, str] | None, retry_s: float | None) -> int:
    """Opens a transaction; with `retry_s` it waits for a busy repository so long, 0 for ever.

    With `copy` it starts with the first directory copied to the second.
    """
    site.run_hook(repository, "transaction_before_hook")
    deadline = None if not retry_s else time.monotonic() + retry_s
    while True:
        try:
            transaction.begin(repository, path=path, copy=copy, say=output.line)
        except Busy:
            if retry_s is None or (deadline is not None and time.monotonic() > deadline):
                raise
            output.line("repository busy, retrying")
            time.sleep(random.uniform(*_RETRY_S))  # noqa: S311 - spreads retries, guards nothing
        else:
            if copy is not None:
                output.line(f"CernVM-FS: cloning template {copy[0]} --> {copy[1]} ... [done]")
            site.run_hook(repository, "transaction_after_hook")
            return 0


def abort(names: Sequence[str], *, force: bool) -> int:
    """Discards open transactions, each after a confirmation."""
    for name in names:
        if code := _abort(name, force=force):
            return code
    return 0


@acting.by_owner
def _abort(repository: Repository, *, force: bool) -> int:
    loss = f"You are about to DISCARD ALL CHANGES OF THE CURRENT TRANSACTION for {repository.fqrn}!"
    if not force and not confirm(f"{loss}  Are you sure (y/N)? "):
        return _INTERRUPTED
    site.run_hook(repository, "abort_before_hook")
    transaction.abort(repository, force=force)
    site.run_hook(repository, "abort_after_hook")
    return 0


def publish(names: Sequence[str], options: transaction.PublishOptions, *, verbose: bool) -> int:
    """Publishes open transactions and says what became of them."""
    worst = 0
    for name in names:
        code = _publish(name, options, verbose=verbose)
        worst = max(worst, code)
        repository = Repository.load(name)
        # As the caller: root mounts, and commands run as the owner.
        if code == 0 and repository.is_on("NEARFS_BUNDLES"):
            from nearfs.cli import bundling

            bundling.after_publish(repository)
    return worst


@acting.by_owner
def _publish(repository: Repository, options: transaction.PublishOptions, *, verbose: bool) -> int:
    site.run_hook(repository, "publish_before_hook")
    wanted = options if options.force else replace(options, force=_readers_are_to_lose(repository))
    if verbose and repository.is_in_transaction:
        for change in transaction.planned(repository):
            output.line(change)
    output.line("Swissknife Sync: Processing changes...")
    with summary.watching() as watched:
        committed = transaction.publish(repository, wanted, progress=watched.progress, say=output.line)
    watched.end(repository.fqrn, committed)
    collection.after_publish(repository, output.line)
    if repository.is_on("CVMFS_PRINT_STATISTICS"):
        _print_statistics(committed)
    site.run_hook(repository, "publish_after_hook")
    return 0


def _readers_are_to_lose(repository: Repository) -> bool:
    """Asks whether to publish although files are open for reading; without a terminal the answer is read all the same.

    No readers, or writers as well: nothing to ask, the publish itself decides.
    """
    opened = list(users.open_files(str(repository.union))) if repository.is_in_transaction else []
    if not opened or any(entry.is_writable for entry in opened) or users.stands_in(repository):
        return False
    output.line(f"WARNING! There are open read-only file descriptors in {repository.union}")
    for entry in opened:
        output.line(f"  {entry.path} (process {entry.pid})")
    return confirm("  --> Readers lose these files. Do you want to publish anyway? (y/N) ")


def wait_for_tweaks(repository_union: str = "the scratch area") -> None:
    """Stops before the commit until somebody has pressed the return key (publish -p)."""
    output.prompt(f"You can now change {repository_union} by hand; press <return> to commit: ")
    sys.stdin.readline()


def _print_statistics(committed: Committed) -> None:
    counts = (
        ("entries_added", "Number of added files and directories"),
        ("entries_removed", "Number of removed files and directories"),
        ("entries_changed", "Number of changed files and directories"),
        ("objects_new", "Number of new objects"),
        ("catalogs_new", "Number of new catalogs"),
        ("bytes_new", "Number of uploaded bytes"),
    )
    rows = [(f"publish.{key}", str(committed[key]), meaning) for key, meaning in counts]  # type: ignore[literal-required]
    output.table(("Name", "Value", "Description"), rows)
