"""The locks of a workspace: one client a repository, or one a mount point where the cache is shared.

Owns `lock.<fqrn>` and those beside it, and the wait for a client that is on its way out.
Threading: called from the command's main thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.errors import Busy, InitCode, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nearfs.client.request import Request

# A client that was just unmounted needs a moment to end and let go of its workspace.
LOCK_TIMEOUT_S = 15.0
_PATH_LIMIT_BYTES = 4096
# Of the digest of a mount point: enough to tell any number of them apart, and short in the name of a socket.
_MARK_LENGTH = 16
_BESIDE = rf"\.[0-9a-f]{{{_MARK_LENGTH}}}$"


class AlreadyMounted(Exception):
    """The same repository is mounted on the same mount point: nothing to do, and no failure."""


@dataclass(frozen=True)
class Lock:
    """The open lock file; `beside` is what its name ends with where another mount point has the repository's own."""

    descriptor: int
    beside: str


def lock(request: Request) -> Lock:
    """Takes `lock.<fqrn>`; waits for a client that is on its way out.

    A shared cache serves the same repository on any number of mount points, each with a lock of its own. Raises
    `AlreadyMounted` where the mount point shows this repository, `Busy` where another one is mounted on it, where an
    exclusive cache serves another mount point, or where the holder neither ends nor shows its repository.
    """
    directory = Path(request.config.workspace)
    path = directory / f"lock.{request.fqrn}"
    descriptor = _open(directory, path)
    beside = ""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, _PATH_LIMIT_BYTES, 0)
            try:
                is_beside = not beside and _shares_with(request, holder)
                if not is_beside and time.monotonic() > deadline:
                    message = f"workspace {directory} is already used by another mount of {request.fqrn}"
                    code = InitCode.WORKSPACE_LOCKED
                    raise Busy(message, operation="lock workspace", subject=str(path), exit_code=code) from None
            except BaseException:
                os.close(descriptor)
                raise
            if is_beside:
                os.close(descriptor)
                beside = f".{hashlib.sha1(os.fsencode(request.mountpoint)).hexdigest()[:_MARK_LENGTH]}"
                path = path.with_name(path.name + beside)
                descriptor = _open(directory, path)
            else:
                time.sleep(0.05)
        else:
            # For whoever comes next and wonders who holds it.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, os.fsencode(os.path.abspath(request.mountpoint)), 0)
            return Lock(descriptor, beside)


def _open(directory: Path, path: Path) -> int:
    try:
        directory.mkdir(mode=0o770, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"cannot use workspace {directory}: {error.strerror}"
        code = InitCode.CACHE_DIRECTORY
        raise PermissionDenied(message, operation="lock workspace", subject=str(directory), exit_code=code) from error


def _shares_with(request: Request, holder: bytes) -> bool:
    """Tells whether this mount may go up beside the one at `holder`; False where that one is on its way in or out."""
    fqrn = request.fqrn
    shown = shown_repository(request.mountpoint)
    if shown == fqrn:
        raise AlreadyMounted
    if shown is not None:
        message = f"{request.mountpoint} is the mount point of {shown}; unmount it, or choose another one for {fqrn}"
        code = InitCode.OTHER_MOUNT
        raise Busy(message, operation="mount", subject=request.mountpoint, exit_code=code)
    elsewhere = os.fsdecode(holder)
    if not elsewhere or shown_repository(elsewhere) != fqrn:
        return False
    if not request.config.shared_cache:
        message = f"Repository {fqrn} is already mounted on {elsewhere}; only a shared cache serves it twice"
        raise Busy(message, operation="mount", subject=fqrn, exit_code=InitCode.DOUBLE_MOUNT)
    return True


def shown_repository(mountpoint: str) -> str | None:
    """Returns the name of the repository that is mounted there, None where none answers."""
    try:
        return os.getxattr(mountpoint, "user.fqrn").decode("ascii", "replace")
    except OSError:
        return None


@contextlib.contextmanager
def unused(directories: Iterable[str]) -> Iterator[None]:
    """Holds every lock of these workspaces, so that no client that was there before uses them meanwhile.

    Raises `Busy` naming a repository whose client is running.
    """
    with contextlib.ExitStack() as held:
        for path in sorted(path for directory in directories for path in Path(directory).glob("lock.*")):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                name = re.sub(_BESIDE, "", path.name.removeprefix("lock."))
                message = f"{name} is mounted and uses it; unmount it first (cvmfs_config umount {name})"
                raise Busy(message, operation="lock cache", subject=str(path)) from None
        yield
