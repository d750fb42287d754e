"""Mounting before the engine starts: what only root may do, so that the engine need not be root.

Owns mount and unmount by the kernel for a client that runs as another user. Does not own: who waits for whom
(`watchdog`), the engine's own way of mounting, which is used wherever the user stays the same.
Threading: called from the main thread of a process without an engine.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from nearfs import mount_table
from nearfs.errors import Busy, InitCode, NotFound, PermissionDenied

DEVICE = "/dev/fuse"
# Four of the kernel's longest reads under way; as the engine sets it on mounts of its own.
READ_AHEAD_KIB = 4096
_READ_ONLY, _NO_SUID, _NO_DEVICES = 1, 2, 4  # of mount(2)
_DETACH, _NO_FOLLOW = 2, 8  # of umount2(2)
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


@dataclass(frozen=True)
class Flags:
    """What the mount allows."""

    fsname: str
    read_write: bool
    suid: bool
    allow_other: bool
    check_permissions: bool


@dataclass(frozen=True)
class Mounted:
    """A mount that waits to be served: its path, its `major:minor`, and the open /dev/fuse that belongs to it."""

    point: str
    device: str
    descriptor: int

    def is_there(self) -> bool:
        """Tells whether this mount, and no successor, is visible at its path."""
        entry = mount_table.top_at(self.point)
        return entry is not None and entry.device == self.device

    def unmount(self) -> None:
        """Takes the mount out of the tree; lazily where somebody is inside. Does nothing if it is gone."""
        for lazily in (False, True):
            if not self.is_there():
                return
            with contextlib.suppress(OSError):
                _umount(self.point, lazily=lazily)


def mount(point: str, flags: Flags) -> Mounted:
    """Mounts a file system that nobody serves yet; whoever touches it waits until somebody does.

    Raises `NotFound` where there is no FUSE, `PermissionDenied` (both with code 4) where the kernel refuses.
    """
    clear_stale(point, flags.fsname)
    try:
        descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        message = f"cannot open {DEVICE} for {point}: {error.strerror}; `modprobe fuse` loads it"
        raise NotFound(message, operation="mount", subject=point, exit_code=InitCode.MOUNT) from error
    words = [f"fd={descriptor}", "rootmode=40000", "user_id=0", "group_id=0"]
    words += ["default_permissions"] if flags.check_permissions else []
    words += ["allow_other"] if flags.allow_other else []
    bits = _NO_DEVICES | (0 if flags.read_write else _READ_ONLY) | (0 if flags.suid else _NO_SUID)
    try:
        _mount(flags.fsname, point, bits, ",".join(words))
    except OSError as error:
        os.close(descriptor)
        message = f"cannot mount on {point}: {error.strerror}"
        raise PermissionDenied(message, operation="mount", subject=point, exit_code=InitCode.MOUNT) from error
    entry = mount_table.top_at(point)
    if entry is None:
        os.close(descriptor)
        message = f"the mount on {point} is not in the mount table"
        raise PermissionDenied(message, operation="mount", subject=point, exit_code=InitCode.MOUNT)
    with contextlib.suppress(OSError):  # a file system without the knob keeps the kernel's default
        Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb").write_text(f"{READ_AHEAD_KIB}", "ascii")
    return Mounted(point, entry.device, descriptor)


def clear_stale(point: str, source: str) -> bool:
    """Unmounts what a client that died left at `point`; raises `Busy` where a client is there but does not answer."""
    cleared = False
    while (entry := mount_table.top_at(point)) is not None and entry.source == source:
        try:
            mount_table.within(lambda: os.statvfs(point))
        except TimeoutError:
            message = f"the client of the mount on {point} does not answer; `cvmfs_config killall` ends it"
            raise Busy(message, operation="mount", subject=point, exit_code=InitCode.MOUNT) from None
        except OSError as error:
            if error.errno in _DEAD:
                _umount(point, lazily=True)
                cleared = True
                continue
        break
    return cleared


def _umount(point: str, *, lazily: bool) -> None:
    """Calls umount2(2): umount(8) would ask the client about the path first, which may never answer."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    library.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
    if library.umount2(os.fsencode(point), _NO_FOLLOW | (_DETACH if lazily else 0)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), point)


def _mount(source: str, point: str, bits: int, words: str) -> None:
    """Calls mount(2): mount(8) would look for a program of its own for FUSE."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    library.mount.argtypes = (*(ctypes.c_char_p,) * 3, ctypes.c_ulong, ctypes.c_char_p)
    if library.mount(os.fsencode(source), os.fsencode(point), b"fuse", bits, words.encode("ascii")):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), point)


def detach(point: str) -> bool:
    """Takes whatever is mounted on a path out of the tree; returns whether that worked."""
    try:
        _umount(point, lazily=True)
    except OSError as error:
        return error.errno == errno.EINVAL  # somebody else was faster
    return True
