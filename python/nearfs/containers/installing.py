"""The files by which systemd starts the plugin and Docker finds it.

Owns: their texts and places. Does not own: starting anything (`cli.docker_volume_cmd` says the commands).
Threading: root's command, one thread.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.containers import state

if TYPE_CHECKING:
    from collections.abc import Sequence

UNIT = "docker-volume-cvmfs"
UNITS = Path("/etc/systemd/system")
DISCOVERY = Path("/etc/docker/plugins")
_DRIVER = "cvmfs"

_SOCKET = """\
# Written by `docker-volume-cvmfs install`.
[Unit]
Description=Socket of the CernVM-FS volume plugin of Docker
Before=docker.service

[Socket]
ListenStream={socket}
SocketMode=0600
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""

_SERVICE = """\
# Written by `docker-volume-cvmfs install`.
# No option here may give the plugin a mount namespace of its own (PrivateTmp=, ProtectSystem= and so on): Docker would
# not see what it mounts.
[Unit]
Description=CernVM-FS volume plugin of Docker
After=network-online.target
Wants=network-online.target
Before=docker.service
Requires={unit}.socket

[Service]
ExecStart={command}
Restart=on-failure
# Clients of mounted volumes outlive the plugin, whose next life finds them again.
KillMode=process
TimeoutStopSec={stop_limit_s}

[Install]
WantedBy=multi-user.target
Also={unit}.socket
"""


def files(command: Sequence[str], socket: Path, limit_s: float, units: Path, discovery: Path) -> dict[Path, str]:
    """Returns path -> text of all files; `command` starts the plugin, which answers within `limit_s`."""
    words = shlex.join(command).replace("%", "%%").replace("$", "$$")
    service = _SERVICE.format(unit=UNIT, command=words, stop_limit_s=int(limit_s) + 10)
    return {
        units / f"{UNIT}.socket": _SOCKET.format(socket=socket),
        units / f"{UNIT}.service": service,
        discovery / f"{_DRIVER}.spec": f"unix://{socket}\n",
    }


def write(wanted: dict[Path, str]) -> None:
    """Writes the files, each all or nothing; raises `LocalIo` or `InvalidInput`."""
    for path, text in wanted.items():
        state.make_directory(path.parent, 0o755)
        state.replace(path, text, 0o644)


def remove(wanted: dict[Path, str]) -> list[Path]:
    """Removes the files that are there, and returns them."""
    present = [path for path in wanted if path.exists()]
    for path in present:
        path.unlink()
    return present
