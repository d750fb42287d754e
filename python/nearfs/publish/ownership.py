"""Whom the files in storage and spool area belong to, and who may reach them (server.md 1.2, format.md 2.6).

Owns: giving to the owner what root created for him, and the alternative names of objects that a client must read before
it is a member. Threading: called by one command at a time, under the repository's locks.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import TYPE_CHECKING

from nearfs import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nearfs.publish.repository import Repository

_MANIFEST = ".cvmfspublished"


def owner(repository: Repository) -> pwd.struct_passwd | None:
    """Returns the owner's account, None where the system does not know it."""
    try:
        return pwd.getpwnam(repository.text("CVMFS_USER", "root"))
    except KeyError:
        return None


def last_activation_s(repository: Repository) -> float:
    """Returns when the manifest was last written: what root stored later is not the owner's yet."""
    try:
        return (repository.storage / _MANIFEST).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def give(repository: Repository, since_s: float) -> None:
    """Gives the owner what root created for him in storage and spool area, so that he can go on from there.

    Looks into those object directories only that changed after `since_s`.
    """
    account = owner(repository)
    if os.geteuid() != 0 or account is None or account.pw_uid == 0:
        return
    for directory in (repository.storage, repository.storage / "data", repository.spool):
        _give_entries(directory, account)
    for directory in _object_directories(repository.storage / "data"):
        if directory.stat().st_mtime >= since_s - 1:  # the clock of file systems is coarser than the time of day
            _give_entries(directory, account)


def give_path(repository: Repository, path: Path) -> None:
    """Gives the owner a file or directory that root made for him."""
    account = owner(repository)
    if os.geteuid() == 0 and account is not None and account.pw_uid != 0:
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _object_directories(data: Path) -> Iterator[Path]:
    with os.scandir(data) as entries:
        yield from (data / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _give_entries(directory: Path, account: pwd.struct_passwd) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            # Mount points answer with what is mounted there, or not at all.
            if entry.name == "rdonly":
                continue
            with contextlib.suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_uid == 0:
                    os.chown(entry.path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def link_alternatives(repository: Repository, objects: Sequence[tuple[str, str]]) -> None:
    """Makes `.cvmfsalt-<hash><suffix>` links to objects that clients need before `data` is open to them."""
    for hash_text, suffix in objects:
        link = repository.storage / f".cvmfsalt-{hash_text}{suffix}"
        if not link.is_symlink():
            link.symlink_to(f"data/{hash_text[:2]}/{hash_text[2:]}{suffix}")
    files.sync_directory(repository.storage)


def unlink_lost_alternatives(repository: Repository) -> None:
    """Removes the links whose objects were collected."""
    lost = [link for link in repository.storage.glob(".cvmfsalt-*") if link.is_symlink() and not link.exists()]
    for link in lost:
        link.unlink(missing_ok=True)
    if lost:
        files.sync_directory(repository.storage)
