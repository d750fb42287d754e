"""What a process may and may use: its user, its files, its processors, its place in the queue of the memory killer.

Owns the changes that need root, and the order in which they are possible. Does not own: which values (`config.model`).
Threading: called from the main thread of a process without an engine.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.errors import InitCode, InvalidInput, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Owner:
    """The user and group that a client runs as."""

    uid: int
    gid: int

    @property
    def is_current(self) -> bool:
        """Tells whether the process runs as this user already."""
        return (self.uid, self.gid) == (os.geteuid(), os.getegid())

    @property
    def exists_here(self) -> bool:
        """Tells whether this user namespace knows both ids: inside `unshare -r` there is nobody but root."""
        return _is_mapped("uid", self.uid) and _is_mapped("gid", self.gid)


def _is_mapped(kind: str, number: int) -> bool:
    try:
        rows = Path(f"/proc/self/{kind}_map").read_text("ascii").splitlines()
    except OSError:
        return True
    ranges = [[int(word) for word in row.split()] for row in rows]
    return any(first <= number < first + count for first, _, count in ranges)


def drop(owner: Owner) -> None:
    """Becomes `owner` for good; raises `PermissionDenied` (code 3) where the kernel refuses."""
    try:
        try:
            os.initgroups(pwd.getpwuid(owner.uid).pw_name, owner.gid)
        except KeyError:
            os.setgroups([])
        os.setresgid(owner.gid, owner.gid, owner.gid)
        os.setresuid(owner.uid, owner.uid, owner.uid)
    except OSError as error:
        message = f"cannot become user {owner.uid} and group {owner.gid}: {error.strerror}"
        code = InitCode.PERMISSION
        raise PermissionDenied(message, operation="drop privileges", subject=str(owner.uid), exit_code=code) from error


def give(directory: str, owner: Owner) -> None:
    """Makes a directory with its parents, owned by `owner`, and what is in it too if root owned it until now.

    That a client of root filled the cache once must not make it useless for the client of CVMFS_USER.
    """
    try:
        Path(directory).mkdir(mode=0o770, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        message = f"cannot use {directory}: {error.strerror}"
        code = InitCode.CACHE_DIRECTORY
        raise PermissionDenied(message, operation="make directory", subject=directory, exit_code=code) from error
    try:
        before = os.fstat(descriptor)
        if (before.st_uid, before.st_gid) == (owner.uid, owner.gid):
            return
        # A directory of another user may hold links set up to give away files that are not the cache's.
        if before.st_uid == 0:
            _give_content(descriptor, owner)
        os.fchown(descriptor, owner.uid, owner.gid)
    except OSError as error:
        message = f"cannot give {directory} to user {owner.uid}: {error.strerror}"
        code = InitCode.CACHE_DIRECTORY
        raise PermissionDenied(message, operation="give directory", subject=directory, exit_code=code) from error
    finally:
        os.close(descriptor)


def _give_content(descriptor: int, owner: Owner) -> None:
    for _, directories, files, folder in os.fwalk(".", dir_fd=descriptor, follow_symlinks=False):
        for name in (*directories, *files):
            found = os.lstat(name, dir_fd=folder)
            if stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
                os.chown(name, owner.uid, owner.gid, dir_fd=folder, follow_symlinks=False)


def grab(point: str, owner: Owner) -> None:
    """Makes a mount point the client's own, as `grab_mountpoint` asks: owner, and mode 0755."""
    try:
        os.chown(point, owner.uid, owner.gid)
        os.chmod(point, 0o755)  # noqa: S103 - as the option's definition says
    except OSError as error:
        message = f"cannot grab mount point {point}: {error.strerror}"
        code = InitCode.PERMISSION
        raise PermissionDenied(message, operation="grab mount point", subject=point, exit_code=code) from error


def raise_file_limit(wanted: int | None, *, is_system_mount: bool, warn: Callable[[str], None]) -> None:
    """Allows as many open files as CVMFS_NFILES says; a mount of a user's own makes do with the hard limit."""
    if wanted is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (OSError, ValueError) as error:
        if is_system_mount:
            message = f"Failed to set maximum number of open files to {wanted}, insufficient permissions"
            code = InitCode.PERMISSION
            raise PermissionDenied(message, operation="raise limit", subject="CVMFS_NFILES", exit_code=code) from error
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
        warn(f"CVMFS_NFILES={wanted} is above the hard limit of open files: using {hard}")


def bind_to_processors(numbers: Sequence[int]) -> None:
    """Keeps the process on these processors; raises `InvalidInput` (code 2) if the machine has none of them."""
    if not numbers:
        return
    try:
        os.sched_setaffinity(0, numbers)
    except (OSError, ValueError) as error:
        message = f"CVMFS_CPU_AFFINITY={','.join(map(str, numbers))}: the machine has no such processors"
        code = InitCode.OPTIONS
        raise InvalidInput(message, operation="set affinity", exit_code=code) from error


def adjust_memory_killer(score: int | None, warn: Callable[[str], None]) -> None:
    """Writes CVMFS_OOM_SCORE_ADJ; less than before takes root, without which it stays and is told."""
    if score is None:
        return
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score), encoding="ascii")
    except OSError as error:
        warn(f"CVMFS_OOM_SCORE_ADJ={score} is without effect: {error.strerror}")


def remove_quietly(path: str) -> None:
    """Removes a file that may be gone."""
    with contextlib.suppress(OSError):
        os.unlink(path)
