"""Processes of this machine that concern mounts: clients, and programs inside a mount.

Owns the look at /proc and the signals. Only processes of this mount namespace count: those of a container have mounts
of their own, and are none of our business. Threading: no state.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_END_LIMIT_S = 5.0


def _pids() -> Iterator[int]:
    """Yields the processes of this mount namespace, this one aside."""
    own = os.readlink("/proc/self/ns/mnt")
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            # A process may end while it is looked at, and another user's may not be looked at.
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/ns/mnt") == own:
                    yield int(entry)


def named(name: str) -> list[int]:
    """Returns the processes that the kernel knows under a command name."""
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            if comm.read().strip() == name:
                found.append(pid)
    return found


def running_script(name: str) -> list[int]:
    """Returns the processes whose second word is a script of this name; this one and its parents are left out."""
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            words = cmdline.read().split(b"\0")[:2]
            if len(words) > 1 and os.path.basename(words[1]) == name.encode() and pid != os.getppid():
                found.append(pid)
    return found


def inside(point: str) -> list[int]:
    """Returns the processes that have a file, directory or program below `point` open, sorted."""
    found = []
    for pid in _pids():
        links = [f"/proc/{pid}/{name}" for name in ("cwd", "root", "exe")]
        with contextlib.suppress(OSError):
            links += [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
        if any(_is_below(link, point) for link in links):
            found.append(pid)
    return sorted(found)


def _is_below(link: str, point: str) -> bool:
    try:
        target = os.readlink(link)  # a text of the kernel's: the mount itself is not asked
    except OSError:
        return False
    return target == point or target.startswith(f"{point}/")


def command_line(pid: int) -> str:
    """Returns the words of a process, empty where it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            return cmdline.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def kill(pids: list[int]) -> bool:
    """Kills processes; returns whether all of them are gone within a few seconds."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _END_LIMIT_S
    while any(_is_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def hang_up(name: str) -> int:
    """Sends SIGHUP, at which daemons read their configuration again; returns how many processes got it."""
    pids = named(name)
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGHUP)
    return len(pids)
