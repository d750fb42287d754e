"""What the process that serves a mount is told about itself: processors, memory killer, names, control socket.

Owns these values and their checks. Does not own: applying them (`client.privileges`, `client.title`, `client.control`).
Threading: `ProcessSettings` is immutable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.config import values

if TYPE_CHECKING:
    from nearfs.config.layers import Settings

_MAX_PROCESSOR = 1 << 16
_MAX_THREADS = 1 << 12


@dataclass(frozen=True)
class ProcessSettings:
    """None and empty mean: as the system has it. `parameters` is the dump of client.md 1.2, for the control socket."""

    cpu_affinity: tuple[int, ...]
    oom_score_adj: int | None
    is_kept_by_systemd: bool
    worker_threads: int | None
    talk_owner: str | None
    parameters: tuple[str, ...]


def process_settings(settings: Settings) -> ProcessSettings:
    """Returns the checked values; raises `InvalidInput` naming parameter, value and file."""
    return ProcessSettings(
        cpu_affinity=_processors(settings),
        oom_score_adj=values.optional_integer(settings, "CVMFS_OOM_SCORE_ADJ", -1000, 1000),
        is_kept_by_systemd=settings.is_on("CVMFS_SYSTEMD_NOKILL"),
        worker_threads=values.optional_integer(settings, "CVMFS_FUSE3_MAX_THREADS", 1, _MAX_THREADS),
        talk_owner=settings.get("CVMFS_TALK_OWNER") or None,
        parameters=tuple(settings.dump()),
    )


def _processors(settings: Settings) -> tuple[int, ...]:
    name = "CVMFS_CPU_AFFINITY"
    entries = values.split(settings, name, ",")
    if not all(entry.isascii() and entry.isdigit() and int(entry) < _MAX_PROCESSOR for entry in entries):
        raise values.refusal(settings, name, "expected processor numbers separated by commas")
    return tuple(int(entry) for entry in entries)
