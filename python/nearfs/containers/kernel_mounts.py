"""What the kernel knows of our mounts: whether one is there, answers, or is seen in a container.

Owns: whether a mount is alive or used elsewhere, and taking it out of the tree. Does not own: making mounts
(`mounting`), who should use them (`volumes`). Threading: no state; `mount_table.within` bounds what touches a mount.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

from nearfs import mount_table
from nearfs.errors import Busy, LocalIo

if TYPE_CHECKING:
    from collections.abc import Iterator

_DETACH, _NO_FOLLOW = 2, 8  # of umount2(2)
# Of the first process-id namespace (linux/proc_ns.h): only there does /proc show every container.
_FIRST_PID_NAMESPACE = "pid:[4026531836]"


def answers(point: str, limit_s: float) -> bool:
    """Tells whether the file system at a path is alive; raises `Busy` where it says nothing at all in time."""
    try:
        mount_table.within(lambda: os.statvfs(point), limit_s)
    except TimeoutError:
        message = f"the client of {point} does not answer; `cvmfs_config killall` ends it, and all others"
        raise Busy(message, operation="look at mount", subject=point) from None
    except OSError:
        return False
    return True


def detach(point: str) -> None:
    """Takes whatever is mounted on a path out of the tree: as a user would, or lazily where somebody is inside.

    Raises `LocalIo` where the kernel refuses.
    """
    while mount_table.top_at(point) is not None:
        number = 0
        for flags in (_NO_FOLLOW, _NO_FOLLOW | _DETACH):
            number = _umount(point, flags)
            if number == 0:
                break
        if number and mount_table.top_at(point) is not None:
            message = f"cannot unmount {point}: {os.strerror(number)}"
            raise LocalIo(message, operation="unmount", subject=point)


def _umount(point: str, flags: int) -> int:
    """Calls umount2(2), since umount(8) asks the client first, which may be dead; returns the error number."""
    library = ctypes.CDLL(None, use_errno=True)
    library.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
    return ctypes.get_errno() if library.umount2(os.fsencode(point), flags) else 0


def seen_elsewhere(mount: mount_table.Entry) -> bool | None:
    """Tells whether a mount is visible anywhere but at its own path: in a container, or bound to another directory.

    Mount namespaces that are copies of ours, as those of many services, show it at the same path, and do not count.
    None where this process cannot know, because it does not see all processes of the machine.
    """
    if os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE:
        return None
    return any(
        entry.device == mount.device and entry.point != mount.point
        for process in _namespaces()
        for entry in _table_of(process)
    )


def _namespaces() -> Iterator[str]:
    """Yields a process of each mount namespace."""
    seen: set[str] = set()
    for process in os.listdir("/proc"):
        if process.isdigit():
            # A process may end while it is looked at.
            with contextlib.suppress(OSError):
                namespace = os.readlink(f"/proc/{process}/ns/mnt")
                if namespace not in seen:
                    seen.add(namespace)
                    yield process


def _table_of(process: str) -> list[mount_table.Entry]:
    try:
        return mount_table.entries(process)
    except OSError:
        return []
