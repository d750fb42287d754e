"""Transactions: open, publish, abort, and what puts a repository right after a kill or a reboot.

Owns: the order of mounts, flags and revisions. Does not own: how a revision becomes visible (`revision`), how mounts
are made (`overlay`), what is printed (callers pass `say`).

States, each of which the next command recovers from (`heal`):

* the flag `in_transaction.lock` exists: the union is meant to be writable; its scratch area holds the changes;
* the note `publishing` exists and the manifest names its root hash: that publish took effect, only the clean-up after
  it is missing; if the manifest names another root hash, it did not, and the transaction is still open.

Threading: one command at a time holds `is_publishing.lock`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.errors import Busy, InvalidInput, NotFound, Untrusted
from nearfs.publish import dirtab, files, interrupts, overlay, revision, tags, users

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from nearfs._native import Progress
    from nearfs.publish.repository import Repository
    from nearfs.records import Committed
    from nearfs.signing import ManifestFields

_EXIT_OPEN = 17
_EXIT_NOT_OPEN = 22
_EXIT_NO_PATH = 2
_EXIT_NO_DIRECTORY = 20
_WARN_BELOW_HOURS = 12


def _silent(_text: str) -> None:
    pass


def begin(repository: Repository, *, path: str = "", say: Callable[[str], None] = _silent) -> None:
    """Opens a transaction: afterwards the tree below the union directory can be changed.

    `path` must be a directory of the repository if it is given. Exit codes follow the reference: 17 another
    transaction is open, 22 whitelist expired, 2 and 20 a bad path.
    """
    with _working(repository):
        if repository.is_in_transaction:
            message = "CernVM-FS transaction error: another transaction is already open"
            raise Busy(message, operation="open transaction", subject=repository.fqrn, exit_code=_EXIT_OPEN)
        try:
            hours = revision.check_whitelist(repository, time.time())
        except Untrusted as error:
            error.exit_code = _EXIT_NOT_OPEN
            raise
        if hours < _WARN_BELOW_HOURS:
            say(f"Warning: Repository whitelist stays valid for less than {_WARN_BELOW_HOURS} hours!")
        heal(repository)
        if path:
            _check_path(repository, path)
        # The flag first: a kill between the two leaves a transaction that is open, and healed by the next command.
        with interrupts.held_off():
            repository.transaction_flag.touch(exist_ok=False)
            overlay.remount_union(repository, writable=True)


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
    with _working(repository):
        if not repository.is_in_transaction:
            message = f"Repository {repository.fqrn} is not in a transaction"
            raise InvalidInput(message, operation="abort", subject=repository.fqrn, exit_code=_EXIT_NOT_OPEN)
        users.check_unused(repository, ignore_readers=force)
        with interrupts.held_off():
            overlay.unmount_all(repository)
            overlay.discard_scratch(repository)
            files.remove(repository.transaction_flag)
            heal(repository)


@dataclass(frozen=True)
class PublishOptions:
    """What `cvmfs_server publish` was asked for. `compression` None and `manual_revision` None follow the settings."""

    tag: str = ""
    message: str = ""
    manual_revision: int | None = None
    compression: str | None = None
    force: bool = False


def publish(
    repository: Repository,
    options: PublishOptions,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = _silent,
) -> Committed:
    """Makes the changes of the open transaction a new revision and closes the transaction."""
    from nearfs import _native

    with _working(repository):
        if not repository.is_in_transaction:
            message = f"Repository {repository.fqrn} is not in a transaction"
            raise InvalidInput(message, operation="publish", subject=repository.fqrn, exit_code=1)
        revision.check_whitelist(repository, time.time())
        present = repository.manifest().fields
        tags.check_new_name(repository, options.tag, present.history)
        tags.check_description(options.message)
        _check_revision(options.manual_revision, present.revision)
        heal(repository)
        dirtab.apply(repository)
        now_s = int(time.time())
        users.check_unused(repository, ignore_readers=options.force)
        try:
            # Refused by the kernel while anything is open for writing; from here on the tree cannot change.
            overlay.remount_union(repository, writable=False)
            committed = _store_changes(repository, options, present.root_hash, now_s, progress or _native.Progress())
            history = tags.after_publish(repository, committed, now_s, present.history, options, say)
            with interrupts.held_off():  # from the first to the last step that readers or the next command see
                _show(repository, committed, history, present, say)
        except BaseException:
            # The transaction stays open, whatever went wrong, so that it can be mended or aborted.
            with interrupts.held_off():
                if overlay.mounted_at(repository.union) and not _took_effect(repository):
                    overlay.remount_union(repository, writable=True)
            raise
        return committed


def _show(
    repository: Repository,
    committed: Committed,
    history: str | None,
    present: ManifestFields,
    say: Callable[[str], None],
) -> None:
    """Makes stored catalogs the newest revision, closes the transaction and mounts what readers now see."""
    revision.activate(
        repository,
        revision.Head(committed["root_hash"], committed["root_size"], committed["revision"], committed["ttl_s"]),
        history=history,
        metainfo=present.meta_info,
        garbage_collectable=present.garbage_collectable,
    )
    say("Remounting newly created repository revision")
    heal(repository)


def _store_changes(
    repository: Repository, options: PublishOptions, base_root_hash: str, now_s: int, progress: Progress
) -> Committed:
    """Stores objects and catalogs of the scratch area; an interrupt stops it at the next file."""
    from nearfs import _native

    def store() -> Committed:
        return _native.publish(
            str(repository.storage),
            base_root_hash=base_root_hash,
            source=str(repository.scratch),
            is_overlay=True,
            hash_algorithm=repository.hash_algorithm.value,
            compression=options.compression or repository.text("CVMFS_COMPRESSION_ALGORITHM", "default"),
            chunk_sizes=repository.chunk_sizes,
            include_xattrs=repository.is_on("CVMFS_INCLUDE_XATTRS"),
            include_mtime_ns=repository.is_on("CVMFS_ENABLE_MTIME_NS"),
            ignore_special_files=repository.is_on("CVMFS_IGNORE_SPECIAL_FILES"),
            ttl_s=repository.number("CVMFS_REPOSITORY_TTL", 240),
            revision=options.manual_revision,
            now_s=now_s,
            progress=progress,
        )

    # Python sees a signal only between its own steps, so the engine works beside the main thread.
    with ThreadPoolExecutor(1) as worker:
        running = worker.submit(store)
        try:
            return running.result()
        except KeyboardInterrupt:
            progress.cancel()
            raise


def _check_revision(wanted: int | None, present: int) -> None:
    if wanted is not None and wanted <= present:
        message = f"Current revision '{present}' is ahead of manual revision number '{wanted}'."
        raise InvalidInput(message, operation="publish", exit_code=1)


def _took_effect(repository: Repository) -> bool:
    """Tells whether a publish activated its manifest but its clean-up is still to be done."""
    noted = files.read_text(revision.note_path(repository))
    return noted is not None and noted == repository.manifest().fields.root_hash


def heal(repository: Repository) -> list[str]:
    """Finishes what was interrupted and mounts what should be mounted; returns what it did, in words.

    Afterwards the newest revision lies below the union, and the union is writable exactly if a transaction is open.
    """
    done = []
    if _took_effect(repository):
        overlay.unmount_all(repository)
        overlay.discard_scratch(repository)
        files.remove(repository.transaction_flag)
        done.append("closed the transaction that was published")
    if revision.note_path(repository).exists():
        files.remove(revision.note_path(repository))
    root_hash = repository.manifest().fields.root_hash
    if repository.mounted_root != root_hash or not _answers(repository):
        # First of all: a dead client's mount point answers nothing but errors.
        overlay.unmount_all(repository)
        overlay.make_directories(repository)
        overlay.set_root(repository, root_hash)
        overlay.mount_read_only(repository)
        done.append(f"mounted revision {root_hash} on {repository.read_only}")
    if not overlay.mounted_at(repository.union):
        overlay.mount_union(repository, writable=False)
        done.append(f"mounted {repository.union}")
    writable = repository.is_in_transaction
    if overlay.is_writable(repository.union) != writable:
        overlay.remount_union(repository, writable=writable)
        done.append(f"remounted {repository.union} {'read-write' if writable else 'read-only'}")
    return done


def heal_exclusively(repository: Repository) -> list[str]:
    """Heals, unless another command is at work on the repository (`Busy`)."""
    with _working(repository):
        return heal(repository)


def planned(repository: Repository) -> list[str]:
    """Returns what a publish would do, a line an entry: a label in brackets and a path."""
    from nearfs import _native

    return _native.plan_publish(
        str(repository.storage),
        base_root_hash=repository.manifest().fields.root_hash,
        source=str(repository.scratch),
        is_overlay=True,
        ignore_special_files=repository.is_on("CVMFS_IGNORE_SPECIAL_FILES"),
    )


def health(repository: Repository) -> list[str]:
    """Returns what is wrong with the mounts, in the reference's words; empty where all is well."""
    problems = []
    if not _answers(repository):
        problems.append(f"{repository.read_only} is not mounted properly.")
    elif repository.mounted_root != repository.manifest().fields.root_hash:
        problems.append(f"{repository.read_only} is not based on the newest published revision")
    if not overlay.mounted_at(repository.union):
        problems.append(f"/cvmfs/{repository.fqrn} is not mounted properly.")
    elif overlay.is_writable(repository.union) != repository.is_in_transaction:
        state, mode = ("is in", "not ") if repository.is_in_transaction else ("is not in", "")
        where = f"/cvmfs/{repository.fqrn} is {mode}mounted read/write"
        problems.append(f"{repository.fqrn} {state} a transaction but {where}")
    return problems


def _answers(repository: Repository) -> bool:
    """Tells whether the lower mount exists and its client is alive."""
    return overlay.mounted_at(repository.read_only) and overlay.client_answers(repository.read_only)


def _working(repository: Repository) -> AbstractContextManager[None]:
    repository.check_owner()
    refusal = f"Another publish process is active for {repository.fqrn}"
    repository.spool.mkdir(parents=True, exist_ok=True)
    return files.exclusive(repository.spool / "is_publishing.lock", refusal)
