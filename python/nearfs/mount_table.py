"""The kernel's mount table, and which of its mounts are repositories (client.md 2.4 and 2.6).

Owns: reading mountinfo, and asking a mount without being caught in a hanging one. Does not own: mounting and
unmounting, which client, publisher and volume plugin do each in its own way.
Threading: no state. `within` asks in a thread of its own, because nothing else bounds a request to a file system.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ANSWER_LIMIT_S = 10.0
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Entry:
    """One mount: `device` is `major:minor`; options are those of this mount, then those of its file system."""

    device: str
    point: str
    fstype: str
    source: str
    options: tuple[str, ...] = ()
    system_options: tuple[str, ...] = ()

    @property
    def is_repository(self) -> bool:
        """Tells whether the mount's source is that of a CernVM-FS client."""
        is_fuse = self.fstype == "fuse" or self.fstype.startswith("fuse.")
        return is_fuse and (self.source == "cvmfs2" or self.source.endswith("/cvmfs2"))


def entries(process: str = "self") -> list[Entry]:
    """Returns the mounts that a process sees, oldest first; raises OSError when it has ended or is not ours to see."""
    found = []
    # Only a line feed ends a line: the kernel escapes no other of the characters that `splitlines` takes for an end.
    for line in Path(f"/proc/{process}/mountinfo").read_bytes().decode("utf-8", "surrogateescape").split("\n"):
        before, separator, after = line.partition(" - ")
        if separator:
            fields, rest = before.split(" "), after.split(" ")
            options, system_options = fields[5].split(","), rest[-1].split(",")
            names = _unescaped(fields[4]), rest[0], _unescaped(rest[1])
            found.append(Entry(fields[2], *names, tuple(options), tuple(system_options)))
    return found


def top_at(point: str) -> Entry | None:
    """Returns the mount that is visible on exactly this path, None where nothing is mounted on it."""
    return next((entry for entry in reversed(entries()) if entry.point == point), None)


def repositories() -> list[Entry]:
    """Returns the mounted repositories, the one on top where several lie on one path."""
    found = {entry.point: entry for entry in entries() if entry.is_repository}
    return list(found.values())


def attribute(point: str, name: str, limit_s: float = ANSWER_LIMIT_S) -> str | None:
    """Returns an extended attribute of a mount as text; None where it has none, is dead, or does not answer in time."""
    try:
        return within(lambda: os.getxattr(point, name).decode("utf-8", "replace"), limit_s)
    except OSError:
        return None


def within(call: Callable[[], T], limit_s: float = ANSWER_LIMIT_S) -> T:
    """Returns what `call` returns, raises what it raises, TimeoutError when it takes too long.

    A call that never ends keeps its thread until the process ends.
    """
    answers: list[T] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            answers.append(call())
        except Exception as error:  # noqa: BLE001 - raised again below, on the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, name="ask-mount", daemon=True)
    thread.start()
    thread.join(max(0.0, limit_s))
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError(f"no answer within {limit_s:g} s")
    return answers[0]


def _unescaped(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
