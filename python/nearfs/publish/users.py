"""Who is using the union directory: working directories and open files.

Owns: looking through /proc, which is what `lsof` does. Threading: reads a table that changes while it is read; what
matters is refused again by the kernel when the union is remounted read-only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearfs.publish.repository import Repository

_ACCESS_MODE = 0o3


@dataclass(frozen=True)
class OpenFile:
    """One open file below the union."""

    pid: int
    path: str
    is_writable: bool


def check_unused(repository: Repository, *, ignore_readers: bool) -> None:
    """Raises `Busy` (exit code 1) if the caller stands in the tree, or files in it are open.

    Files that are open for reading are refused too unless `ignore_readers`: their readers would lose them.
    """
    union = str(repository.union)
    if stands_in(repository):
        message = f"Current working directory is in {union}.  Please release, e.g. by 'cd $HOME'."
        raise Busy(message, operation="check open files", subject=union, exit_code=1)
    opened = list(open_files(union))
    writers = [entry for entry in opened if entry.is_writable]
    if writers:
        message = f"Open writable file descriptors on {repository.fqrn}: {_named(writers)}"
        raise Busy(message, operation="check open files", subject=union, exit_code=1)
    if opened and not ignore_readers:
        message = (
            f"There are open read-only file descriptors in {union}: {_named(opened)}; close them, or use -f to go on"
        )
        raise Busy(message, operation="check open files", subject=union, exit_code=1)


def stands_in(repository: Repository) -> bool:
    """Tells whether the caller's working directory is in the tree."""
    here = Path(os.path.realpath("."))
    return here.is_relative_to(os.path.realpath(repository.union))


def _named(opened: list[OpenFile]) -> str:
    shown = ", ".join(f"{entry.path} (process {entry.pid})" for entry in opened[:3])
    return shown + (f" and {len(opened) - 3} more" if len(opened) > 3 else "")


def open_files(directory: str) -> Iterator[OpenFile]:
    """Yields what processes have open at or below a directory, their working directories included."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        pid = int(process.name)
        try:
            descriptors = [*(process / "fd").iterdir(), process / "cwd"]
        except OSError:  # the process ended, or belongs to another user namespace
            continue
        for descriptor in descriptors:
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue
            if target == directory or target.startswith(directory + "/"):
                yield OpenFile(pid, target, _is_writable(process, descriptor.name))


def _is_writable(process: Path, descriptor: str) -> bool:
    if descriptor == "cwd":
        return False
    try:
        text = (process / "fdinfo" / descriptor).read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    for line in text.splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & _ACCESS_MODE != 0
    return False
