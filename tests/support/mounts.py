"""Real mounts in tests: made by our commands, seen in the kernel's table, gone afterwards whatever happens.

Owns the reading of mountinfo and the ways to unmount, each with a deadline. Called from the test's own thread.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.waiting import wait_until

MOUNT_LIMIT_S = 20.0
UNMOUNT_LIMIT_S = 10.0
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of the kernel's mount table."""

    mount_id: int
    point: Path
    fstype: str
    source: str


def table() -> list[Mount]:
    """Returns the mounts of this process's namespace, in the order in which they were made."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, (fstype, source, *_) = before.split(" "), after.split(" ")
        mounts.append(Mount(int(fields[0]), Path(_unescaped(fields[4])), fstype, _unescaped(source)))
    return mounts


def beneath(*roots: Path) -> list[Mount]:
    """Returns the mounts at or below `roots`, the newest first: the order in which they can be undone."""
    return [mount for mount in reversed(table()) if any(mount.point.is_relative_to(root) for root in roots)]


def is_mounted(point: Path) -> bool:
    """Tells whether the kernel's table has `point`, without touching the file system there: it may hang."""
    resolved = point.parent.resolve() / point.name
    return any(mount.point == resolved for mount in table())


def missing_for_mounts() -> str | None:
    """Returns what this machine lacks for FUSE mounts, in words, or None."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is absent or may not be opened (in a container: --device /dev/fuse --cap-add SYS_ADMIN)"
    return None


@contextlib.contextmanager
def mounted(
    fqrn: str,
    point: Path,
    settings: Mapping[str, str],
    *,
    options: Sequence[str] = (),
    limit: float = MOUNT_LIMIT_S,
    within: Sequence[str] = (),
) -> Iterator[Path]:
    """Mounts `fqrn` at `point` by `cvmfs2` with `settings` as its only configuration, and unmounts it afterwards.

    `within` are words before the command, such as those that enter another network namespace. Skips where the machine
    has no FUSE. On an error inside, the mount is undone lazily, so that neither a process that
    sits in it nor a client that hangs can keep it.
    """
    if lack := missing_for_mounts():
        pytest.skip(lack)
    point.mkdir(parents=True, exist_ok=True)
    file = point.parent / f"{point.name}.conf"
    file.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()), "utf-8")
    joined = ",".join([f"config={file}", *options])
    try:
        command: list[str | Path] = [*within, sys.executable, "-m", "nearfs.compat.cvmfs2", "-o", joined, fqrn, point]
        processes.run(command, limit=limit)
        wait_until(lambda: is_mounted(point), limit, f"{fqrn} is mounted at {point}")
        yield point
        unmount(point)
    finally:
        unmount_lazily(point)


def unmount(point: Path, limit: float = UNMOUNT_LIMIT_S) -> None:
    """Unmounts `point` as a user does; raises AssertionError where that fails, for instance because it is busy."""
    if is_mounted(point):
        processes.run(_umount_command(point), limit=limit)
        wait_until(lambda: not is_mounted(point), limit, f"{point} is unmounted")


def unmount_lazily(point: Path, limit: float = UNMOUNT_LIMIT_S) -> None:
    """Takes `point` out of the tree even when it is busy or its client is dead; raises only where that fails too."""
    if not is_mounted(point):
        return
    # An aborted command still may have unmounted: what counts is the table.
    with contextlib.suppress(subprocess.SubprocessError, AssertionError):
        processes.run(_umount_command(point, lazy=True), check=False, limit=limit)
    wait_until(lambda: not is_mounted(point), limit, f"{point} is unmounted lazily")


def _umount_command(point: Path, *, lazy: bool = False) -> list[str | Path]:
    if os.geteuid() == 0:
        return ["umount", *(["-l"] if lazy else []), point]
    return ["fusermount3", "-u", *(["-z"] if lazy else []), point]


def _unescaped(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
