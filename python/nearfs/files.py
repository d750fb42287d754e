"""Small files that must be whole or absent: written beside, synced, renamed.

Owns: the one way in which publisher and replica replace a file, and their locks.
Threading: plain functions; a lock belongs to the process that took it and ends with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import time
from typing import TYPE_CHECKING

from nearfs.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Two seconds for what takes microseconds.
_LOCK_TRIES, _LOCK_PAUSE_S = 200, 0.01


def replace(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Writes a file so that a kill leaves the old one or the new one, never a part.

    What a killed writer left beside it is removed by the next one.
    """
    text = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with open(_locked(beside, mode), "wb") as out:
        try:
            out.write(text)
            out.flush()
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
        _remove_if_nobody_writes(left)
    sync_directory(path.parent)


def _locked(path: Path, mode: int) -> int:
    """Opens a file for writing and locks it, so that others see that somebody does; `Busy` if somebody else does."""
    for _ in range(_LOCK_TRIES):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.fstat(descriptor).st_nlink > 0
        except BlockingIOError:
            is_ours = False
        except OSError:
            # Where locks do not exist, leftovers stay.
            is_ours = True
        if is_ours:
            return descriptor
        # Who removes leftovers holds it for a moment.
        os.close(descriptor)
        time.sleep(_LOCK_PAUSE_S)
    reason = "another process holds a lock on it; wait for that, or end it"
    raise Busy(reason, operation="write", subject=str(path), exit_code=1)


def _remove_if_nobody_writes(path: Path) -> None:
    # A leftover that cannot be removed costs a few bytes and is no reason to fail. No link is followed, and no pipe
    # waited for.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its writer may have renamed it before it was locked here, and begun another one of that name.
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                path.unlink()
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Removes a file if it exists, and makes that last."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes names that were created, renamed or removed in a directory last."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str | None:
    """Returns a small text file without its surrounding white space, None where there is none.

    A damaged file is text as well, and then no hash or path of anything.
    """
    try:
        return path.read_text(encoding="utf-8", errors="backslashreplace").strip()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def exclusive(path: Path, refusal: str, exit_code: int = 1) -> Iterator[None]:
    """Holds a lock file; raises `Busy` with `refusal` and `exit_code` at once if another process holds it."""
    with open(path, "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(refusal, operation="lock", subject=str(path), exit_code=exit_code) from None
        yield


@contextlib.contextmanager
def shared(path: Path, refusal: str) -> Iterator[None]:
    """Holds a lock file together with others who share it; raises `Busy` at once if one holds it `exclusive`ly.

    A caller who may not open the lock file goes without: he can only look on.
    """
    try:
        lock = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except (PermissionError, FileNotFoundError):
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(refusal, operation="lock", subject=str(path), exit_code=1) from None
        yield


def is_held(path: Path) -> bool:
    """Tells whether a process holds a lock file `exclusive`ly at this moment."""
    try:
        with shared(path, ""):
            return False
    except Busy:
        return True
