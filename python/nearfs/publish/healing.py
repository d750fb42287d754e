"""What puts a repository right after a kill or a reboot: mounts, flags, and a publish that was all but done.

Owns: what the mounts have to be, and finishing what was interrupted:

* the flag `in_transaction.lock` exists: the union is meant to be writable; its scratch area holds the changes;
* the note `publishing` exists and the manifest names its root hash and history: that publish took effect, only the
  clean-up after it is missing; if the manifest names others, it did not, and the transaction is still open. (A publish
  on a branch changes the history alone.)

Also owns the lock that every command holds which changes a repository. Does not own: how mounts are made (`overlay`).
Threading: one command at a time holds `is_publishing.lock`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import Busy, NearfsError
from nearfs.publish import access, acting, branches, overlay, revision, template, trust

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from nearfs.publish.repository import Repository


def working(
    repository: Repository, refusal: str = "", exit_code: int = 1, *, mounts: bool = True
) -> AbstractContextManager[None]:
    """Holds the repository for one command that changes it; raises `Busy` at once if another one does.

    Raises `PermissionDenied` for a caller who may not change it. Without `mounts` the command will mount nothing.
    """
    if mounts:
        repository.check_owner()
    else:
        access.check(repository)
    refusal = refusal or f"Another publish process is active for {repository.fqrn}"
    if files.is_held(repository.collecting_lock):
        refusal = f"Garbage collection of {repository.fqrn} is running; try again when it is done"
    repository.spool.mkdir(parents=True, exist_ok=True)
    return files.exclusive(repository.spool / "is_publishing.lock", refusal, exit_code)


def took_effect(repository: Repository) -> bool:
    """Tells whether a publish activated its manifest but its clean-up is still to be done."""
    noted = (files.read_text(revision.note_path(repository)) or "").split()
    if not noted:
        return False
    present = repository.manifest().fields
    return noted == [present.root_hash, present.history][: len(noted)]


def is_open(repository: Repository) -> bool:
    """Tells whether a transaction is open: one whose publish took effect is not, even if nobody cleaned up yet."""
    return repository.is_in_transaction and not took_effect(repository)


def heal(repository: Repository) -> list[str]:
    """Finishes what was interrupted and mounts what should be mounted; returns what it did, in words.

    Afterwards the newest revision, or what is checked out, lies below the union, and the union is writable exactly if a
    transaction is open.
    """
    done = []
    is_done = took_effect(repository)
    branches.advance(repository, took_effect=is_done)
    if is_done:
        overlay.unmount_all(repository)
        overlay.discard_scratch(repository)
        files.remove(repository.transaction_flag)
        done.append("closed the transaction that was published")
    if revision.note_path(repository).exists():
        files.remove(revision.note_path(repository))
    if not repository.is_in_transaction:
        template.forget(repository)
    root_hash = template.base_root(repository)
    if repository.mounted_root != root_hash:
        trust.check_manifest(repository)
    if repository.mounted_root != root_hash or not _answers(repository):
        # First of all: a dead client's mount point answers nothing but errors.
        overlay.unmount_all(repository)
        overlay.make_directories(repository)
        overlay.set_root(repository, root_hash)
        overlay.mount_read_only(repository)
        done.append(f"mounted revision {root_hash} on {repository.read_only}")
    if not overlay.union_answers(repository):
        overlay.unmount(repository.union)
        overlay.mount_union(repository, writable=False)
        done.append(f"mounted {repository.union}")
    writable = repository.is_in_transaction
    if overlay.is_writable(repository.union) != writable:
        overlay.remount_union(repository, writable=writable)
        done.append(f"remounted {repository.union} {'read-write' if writable else 'read-only'}")
    return done


def follow(repository: Repository, say: Callable[[str], None]) -> None:
    """Ends a publish that mounted nothing: mounts that exist show the new revision if the caller may change them.

    Where the caller may not, they stay as they are; the next command that uses them puts them right.
    """
    files.remove(revision.note_path(repository))
    if not (os.geteuid() == 0 or repository.is_owned_by_caller) or not overlay.mounted_at(repository.union):
        return
    try:
        acting.as_owner(repository, lambda: len(heal(repository)))
    except NearfsError as error:
        # The revision is published whatever becomes of a mount.
        say(f"Note: {repository.union} still shows the revision before: {error}")


def heal_exclusively(repository: Repository) -> list[str]:
    """Heals, unless another command is at work on the repository (`Busy`)."""
    with working(repository):
        return heal(repository)


def health(repository: Repository) -> list[str]:
    """Returns what is wrong with the mounts, in the reference's words; empty where all is well."""
    problems = []
    if not _answers(repository):
        problems.append(f"{repository.read_only} is not mounted properly.")
    elif repository.mounted_root != template.base_root(repository):
        meant = "checked out" if branches.current(repository) else "newest published"
        problems.append(f"{repository.read_only} is not based on the {meant} revision")
    if not overlay.union_answers(repository):
        problems.append(f"/cvmfs/{repository.fqrn} is not mounted properly.")
    elif overlay.is_writable(repository.union) != repository.is_in_transaction:
        state, mode = ("is in", "not ") if repository.is_in_transaction else ("is not in", "")
        where = f"/cvmfs/{repository.fqrn} is {mode}mounted read/write"
        problems.append(f"{repository.fqrn} {state} a transaction but {where}")
    return problems


def repair(repository: Repository) -> None:
    """Heals before a command's own work, unless the configuration leaves repairs to the administrator (`Busy`)."""
    check_repairable(repository)
    heal(repository)


def check_repairable(repository: Repository) -> None:
    """Refuses to go on where the mounts are wrong and the configuration leaves repairs to the administrator.

    A publish that took effect has only its clean-up left, which is no repair.
    """
    if repository.is_on("CVMFS_AUTO_REPAIR_MOUNTPOINT", default=True) or took_effect(repository):
        return
    problems = health(repository)
    if problems:
        way_out = f"CVMFS_AUTO_REPAIR_MOUNTPOINT is off: repair it with cvmfs_server mount {repository.fqrn}"
        message = f"{'; '.join(problems)} ({way_out})"
        raise Busy(message, operation="check mounts", subject=repository.fqrn, exit_code=1)


def _answers(repository: Repository) -> bool:
    """Tells whether the lower mount exists and its client is alive."""
    return overlay.mounted_at(repository.read_only) and overlay.client_answers(repository.read_only)
