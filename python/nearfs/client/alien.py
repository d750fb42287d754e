"""Makes an alien cache: a cache directory that the clients of several machines fill together (client.md 2.1, 4.1).

Owns: the skeleton, its modes and its owner. Does not own: objects (the engine adds them, nobody cleans up).
Threading: a plain function for a short-lived command.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nearfs.errors import InvalidInput, PermissionDenied

if TYPE_CHECKING:
    from pathlib import Path

_MODE = 0o770
_DIRECTORIES = ("txn", "quarantaine", *(f"{head:02x}" for head in range(256)))


def make(directory: Path, uid: str, gid: str) -> None:
    """Creates the skeleton, mode 0770, owned by `uid` and `gid`; raises `PermissionDenied` where that is not possible.

    What exists stays, with the mode and the owner set.
    """
    if not (uid.isascii() and uid.isdigit() and gid.isascii() and gid.isdigit()):
        message = f"{uid}:{gid}: a numeric uid and gid are needed"
        raise InvalidInput(message, operation="make alien cache", subject=str(directory))
    try:
        directory.mkdir(mode=_MODE, parents=True, exist_ok=True)
        for path in (directory, *(directory / name for name in _DIRECTORIES)):
            path.mkdir(mode=_MODE, exist_ok=True)
            path.chmod(_MODE)  # whatever the mask of the process took away
            os.chown(path, int(uid), int(gid))
    except OSError as error:
        message = f"cannot make an alien cache in {directory}: {error.strerror}"
        raise PermissionDenied(message, operation="make alien cache", subject=str(directory)) from error
