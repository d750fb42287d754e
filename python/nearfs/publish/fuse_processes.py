"""The processes behind a publisher's FUSE mounts: the client below the union, and fuse-overlayfs.

Owns: finding them by what they were started to serve, and ending those whose mount point is gone. Does not own: mounts.
Threading: plain functions; every wait is bounded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from nearfs.errors import Busy

# A process whose mount is gone ends within a moment, unless somebody still uses a file of it.
_GRACE_S = 2.0
_LIMIT_S = 60.0
# What the client calls itself, what it was started as where it could not rename itself, and the union's program.
_FIRST_WORDS = (b"cvmfs2", b"fuse-overlayfs")
_MODULE = b"nearfs.compat.cvmfs2"


def end(path: Path, grace_s: float = _GRACE_S) -> None:
    """Ends what served a mount point that is gone, though readers of a lazily unmounted one keep it alive.

    A client would keep its cache locked, and the next revision could not be mounted before the last reader leaves; a
    union would go on writing. Raises `Busy` if it does not end.
    """
    patience = time.monotonic() + grace_s
    deadline = patience + _LIMIT_S
    while serving := _serving(path):
        now = time.monotonic()
        if now > deadline:
            message = f"the process that served {path} (process {serving[0]}) does not end"
            raise Busy(message, operation="unmount", subject=str(path), exit_code=1)
        if now > patience:
            for pid in serving:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _serving(path: Path) -> list[int]:
    """Returns the processes in our mount namespace that were started to serve a mount point."""
    found = []
    here = os.readlink("/proc/self/ns/mnt")
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if (words[0] in _FIRST_WORDS or _MODULE in words) and os.fsencode(path) in words:
                found += [int(process.name)] if os.readlink(process / "ns" / "mnt") == here else []
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found
