"""Transactions: open, publish, abort.

Owns: the order of mounts, flags and revisions. Does not own: how a revision becomes visible (`revision`), how mounts
are made (`overlay`), what puts them right after a kill (`healing`), what is printed (callers pass `say`).

Threading: one command at a time holds `is_publishing.lock`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from nearfs import files
from nearfs.errors import Busy, InvalidInput, NotFound, Untrusted
from nearfs.publish import (
    branches,
    dirtab,
    finishing,
    healing,
    interrupts,
    overlay,
    revision,
    statistics,
    tags,
    template,
    users,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfs._native import Progress
    from nearfs.publish.repository import Repository
    from nearfs.records import Committed, PublishRequest

_EXIT_OPEN = 17
_ALREADY_OPEN = "CernVM-FS transaction error: another transaction is already open"
_EXIT_NOT_OPEN = 22
_EXIT_NO_PATH = 2
_EXIT_NO_DIRECTORY = 20
_WARN_BELOW_HOURS = 12
_Outcome = TypeVar("_Outcome")


def _silent(_text: str) -> None:
    pass


def begin(
    repository: Repository,
    *,
    path: str = "",
    copy: tuple[str, str] | None = None,
    say: Callable[[str], None] = _silent,
) -> None:
    """Opens a transaction: afterwards the tree below the union directory can be changed.

    With `copy`, the first of two directories is there a second time, as the second one.

    `path` must be a directory of the repository if it is given. Exit codes follow the reference: 17 another
    transaction is open, 22 whitelist expired, 2 and 20 a bad path.
    """
    # The same answer to one who comes while another opens, publishes or edits as to one who comes a moment later.
    with healing.working(repository, _ALREADY_OPEN, _EXIT_OPEN):
        if healing.is_open(repository):
            raise Busy(_ALREADY_OPEN, operation="open transaction", subject=repository.fqrn, exit_code=_EXIT_OPEN)
        try:
            hours = revision.check_whitelist(repository, time.time())
        except Untrusted as error:
            error.exit_code = _EXIT_NOT_OPEN
            raise
        if hours < _WARN_BELOW_HOURS:
            say(f"Warning: Repository whitelist stays valid for less than {_WARN_BELOW_HOURS} hours!")
        healing.repair(repository)
        _check_branch(repository)
        if path:
            _check_path(repository, path)
        if copy is not None:
            head = branches.base(repository)
            asked = request(repository, PublishOptions(), head, int(time.time()), source="", is_overlay=False)
            template.prepare(repository, *copy, asked)
        # The flag first: a kill between the two leaves a transaction that is open, and healed by the next command.
        with interrupts.held_off():
            repository.transaction_flag.touch(exist_ok=False)
            if copy is not None:
                healing.heal(repository)  # which mounts the copy below the union
            else:
                if os.geteuid() != 0 and users.stands_in(repository):
                    say(f"Note: whoever stands in {repository.union} still sees it read-only; enter it again")
                overlay.remount_union(repository, writable=True)


def _check_branch(repository: Repository) -> None:
    # A revision beside the newest one on the default branch would be found by its date in place of the newest one.
    checkout = branches.current(repository)
    if checkout is not None and not checkout.branch:
        message = (
            f"CernVM-FS transaction error: tag {checkout.tag} of the default branch is checked out; put it on a branch "
            f"with: cvmfs_server checkout -b <branch> -t {checkout.tag} {repository.fqrn}"
        )
        raise InvalidInput(message, operation="open transaction", subject=repository.fqrn, exit_code=1)


def _check_path(repository: Repository, path: str) -> None:
    if ".." in path.split("/"):
        message = f"CernVM-FS transaction error: {path} leads out of the repository"
        raise InvalidInput(message, operation="open transaction", subject=path, exit_code=_EXIT_NO_PATH)
    inside = repository.union / path.strip("/")
    if not inside.is_dir():
        missing = not inside.exists()
        reason = "cannot open transaction on non-existing path " if missing else "cannot open transaction on "
        message = f"CernVM-FS transaction error: {reason}{path}" + ("" if missing else ", which is not a directory")
        code = _EXIT_NO_PATH if missing else _EXIT_NO_DIRECTORY
        raise NotFound(message, operation="open transaction", subject=path, exit_code=code)


def abort(repository: Repository, *, force: bool = False) -> None:
    """Discards the changes of the open transaction and shows the last revision again."""
    with healing.working(repository):
        if not healing.is_open(repository):
            healing.heal(repository)  # what a kill left behind is mended even by a command that has nothing to do
            message = f"Repository {repository.fqrn} is not in a transaction"
            raise InvalidInput(message, operation="abort", subject=repository.fqrn, exit_code=_EXIT_NOT_OPEN)
        users.check_unused(repository, ignore_readers=force)
        with interrupts.held_off():
            overlay.unmount_all(repository)
            overlay.discard_scratch(repository)
            files.remove(repository.transaction_flag)
            healing.heal(repository)


@dataclass(frozen=True)
class PublishOptions:
    """What `cvmfs_server publish` was asked for.

    None of `compression`, `external` and `manual_revision` follows the settings. `before_commit`
    is called when nothing but the commit is left to do, for changes by hand.
    """

    tag: str = ""
    message: str = ""
    manual_revision: int | None = None
    compression: str | None = None
    force: bool = False
    external: bool | None = None
    direct_io: bool = False
    membership: str | None = None
    before_commit: Callable[[], None] | None = None


def publish(
    repository: Repository,
    options: PublishOptions,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = _silent,
) -> Committed:
    """Makes the changes of the open transaction a new revision and closes the transaction."""
    from nearfs import _native

    with healing.working(repository):
        if not healing.is_open(repository):
            healing.heal(repository)
            message = f"Repository {repository.fqrn} is not in a transaction"
            raise InvalidInput(message, operation="publish", subject=repository.fqrn, exit_code=1)
        revision.check_whitelist(repository, time.time())
        present = repository.manifest().fields
        tags.check_new_name(repository, options.tag, present.history)
        tags.check_description(options.message)
        _check_revision(options.manual_revision, _base_revision(repository, options, present.revision))
        healing.repair(repository)
        dirtab.apply(repository)
        now_s = int(time.time())
        users.check_unused(repository, ignore_readers=options.force)
        try:
            # Refused by the kernel while anything is open for writing; from here on the tree cannot change.
            overlay.remount_union(repository, writable=False, force=options.force)
            if options.before_commit is not None:
                options.before_commit()
            committed = _store_changes(
                repository, options, template.base_root(repository), now_s, progress or _native.Progress()
            )
            committed = finishing.finish(repository, committed, now_s, present, options, say)
        except BaseException:
            # The transaction stays open, whatever went wrong, so that it can be mended or aborted.
            with interrupts.held_off():
                if not healing.took_effect(repository):
                    overlay.reopen(repository)
            statistics.record_publish(repository, None, now_s, say, success=False)
            raise
        statistics.record_publish(repository, committed, now_s, say)
        return committed


def _store_changes(
    repository: Repository, options: PublishOptions, base_root_hash: str, now_s: int, progress: Progress
) -> Committed:
    """Stores objects and catalogs of the scratch area; an interrupt stops it at the next file."""
    from nearfs import _native

    asked = request(repository, options, base_root_hash, now_s, source=str(repository.scratch), is_overlay=True)
    return beside_main(lambda: _native.publish(str(repository.storage), progress=progress, **asked), progress)


def request(
    repository: Repository,
    options: PublishOptions,
    base_root_hash: str,
    now_s: int,
    *,
    source: str,
    is_overlay: bool,
) -> PublishRequest:
    """Returns what the engine is told about a publish: the repository's settings and what the options change."""
    return {
        "base_root_hash": base_root_hash,
        "source": source,
        "is_overlay": is_overlay,
        "hash_algorithm": repository.hash_algorithm.value,
        "compression": options.compression or repository.text("CVMFS_COMPRESSION_ALGORITHM", "default"),
        "is_fast": repository.is_fast_deflate,
        "chunk_sizes": repository.chunk_sizes,
        "include_xattrs": repository.is_on("CVMFS_INCLUDE_XATTRS"),
        "include_mtime_ns": repository.is_on("CVMFS_ENABLE_MTIME_NS"),
        "ignore_special_files": repository.is_on("CVMFS_IGNORE_SPECIAL_FILES"),
        "ttl_s": repository.number("CVMFS_REPOSITORY_TTL", 240),
        "revision": options.manual_revision,
        "now_s": now_s,
        "external": repository.is_on("CVMFS_EXTERNAL_DATA") if options.external is None else options.external,
        "direct_io": options.direct_io,
        "volatile": False,
        "membership": options.membership,
        "uid_map": repository.id_map("CVMFS_UID_MAP"),
        "gid_map": repository.id_map("CVMFS_GID_MAP"),
        "ignore_xdir_hardlinks": repository.is_on("CVMFS_IGNORE_XDIR_HARDLINKS", default=True),
        "limits": repository.limits,
        "enforce_limits": repository.is_on("CVMFS_ENFORCE_LIMITS"),
        "autocatalogs": repository.autocatalogs,
        "packs": repository.is_on("NEARFS_PACKS"),
    }


def beside_main(work: Callable[[], _Outcome], progress: Progress) -> _Outcome:
    """Runs the engine's part of a command; an interrupt stops it at the next file."""
    from concurrent.futures import ThreadPoolExecutor

    # Python sees a signal only between its own steps, so the engine works beside the main thread.
    with ThreadPoolExecutor(1) as worker:
        running = worker.submit(work)
        try:
            return running.result()
        except KeyboardInterrupt:
            progress.cancel()
            raise


def _base_revision(repository: Repository, options: PublishOptions, newest: int) -> int:
    """Returns the number that a publish has to exceed; refuses one from a checked-out revision without a name."""
    from nearfs import _native

    checkout = branches.current(repository)
    if checkout is None:
        return newest
    if not options.tag:
        message = "Publishing a checked out revision requires a tag name"
        raise InvalidInput(message, operation="publish", subject=repository.fqrn, exit_code=1)
    number, _, _ = _native.catalog_facts(str(repository.storage), checkout.root_hash)
    return number


def _check_revision(wanted: int | None, present: int) -> None:
    if wanted is not None and wanted <= present:
        message = f"Current revision '{present}' is ahead of manual revision number '{wanted}'."
        raise InvalidInput(message, operation="publish", exit_code=1)


def planned(repository: Repository) -> list[str]:
    """Returns what a publish would do, a line an entry: a label in brackets and a path."""
    from nearfs import _native

    return _native.plan_publish(
        str(repository.storage),
        base_root_hash=template.base_root(repository),
        source=str(repository.scratch),
        is_overlay=True,
        ignore_special_files=repository.is_on("CVMFS_IGNORE_SPECIAL_FILES"),
    )
