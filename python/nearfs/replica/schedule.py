"""Snapshots on a schedule: a systemd timer or a line for cron, and the rotation of their log.

Owns: the texts and places of these files. Does not own: starting anything (the command says how), and what runs
(`cvmfs_server snapshot -a`, which passes over replicas that are being updated). Threading: root's command, one thread.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from nearfs import files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nearfs.publish.places import Places

UNIT = "cvmfs-snapshot"
ROTATION = "/etc/logrotate.d/cvmfs"
_UNITS = "/etc/systemd/system"
_CRON = "/etc/cron.d/cvmfs-snapshot"

_SERVICE = """\
# Written by `nearfs replica schedule`.
[Unit]
Description=Snapshots of all CernVM-FS replicas of this machine
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
ExecStart={command}
Nice=10
"""

_TIMER = """\
# Written by `nearfs replica schedule`.
[Unit]
Description=Snapshots of all CernVM-FS replicas of this machine, every {minutes} minutes

[Timer]
OnBootSec=2min
# From the end of a run: a long one is not followed by the next at once.
OnUnitInactiveSec={minutes}min
RandomizedDelaySec=30

[Install]
WantedBy=timers.target
"""

_CRON_TEXT = """\
# Written by `nearfs replica schedule --cron`.
*/{minutes} * * * * root {command}
"""

_ROTATION_TEXT = """\
# Written by `nearfs replica schedule`.
/var/log/cvmfs/*.log {
    weekly
    rotate 8
    missingok
    notifempty
    compress
}
"""


def timer_files(places: Places, command: Sequence[str], minutes: int) -> dict[Path, str]:
    """Returns path -> text of the systemd units."""
    words = shlex.join(command).replace("%", "%%").replace("$", "$$")
    return {
        places.at(f"{_UNITS}/{UNIT}.service"): _SERVICE.format(command=words),
        places.at(f"{_UNITS}/{UNIT}.timer"): _TIMER.format(minutes=minutes),
    }


def cron_files(places: Places, command: Sequence[str], minutes: int) -> dict[Path, str]:
    """Returns path -> text of the line for cron; `minutes` has to be less than an hour there."""
    # In a crontab a percent sign ends the command.
    return {places.at(_CRON): _CRON_TEXT.format(minutes=minutes, command=shlex.join(command).replace("%", "\\%"))}


def write(places: Places, wanted: dict[Path, str]) -> list[Path]:
    """Writes the files, and the rotation of the log where there is none; returns what was written."""
    rotation = places.at(ROTATION)
    if not rotation.exists():
        wanted = {**wanted, rotation: _ROTATION_TEXT}
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, text)
    return list(wanted)


def remove(places: Places) -> list[Path]:
    """Removes units and cron's line; returns what was there. The rotation stays: logs are still there."""
    units = (f"{_UNITS}/{UNIT}.service", f"{_UNITS}/{UNIT}.timer", _CRON)
    present = [path for path in map(places.at, units) if path.exists()]
    for path in present:
        files.remove(path)
    return present
