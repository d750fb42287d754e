"""The Docker volume plugin: serving, listing its volumes, and installing it.

Owns: what is printed, and how the parts of `containers` are put together. Does not own: what they do.
Threading: main thread, until a signal ends it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.containers import installing, state
from nearfs.errors import InvalidInput, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Sequence

SOCKET = Path("/run/docker/plugins/cvmfs.sock")
STATE = Path("/var/lib/docker-volume-cvmfs")
LIMIT_S = 60
# Docker itself gives up after two minutes, and says less.
LONGEST_LIMIT_S = 110
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Places:
    """Where the plugin keeps and shows what is its own."""

    socket: Path = SOCKET
    state: Path = STATE
    mountpoint: Path | None = None

    @property
    def points(self) -> Path:
        """Returns the directory of the mount points."""
        return self.mountpoint or self.state / "mounts"

    def check(self) -> None:
        """Raises `InvalidInput` for a place that options of mount(8) and configuration files cannot carry."""
        for path in (self.socket, self.state, self.points):
            if not path.is_absolute() or not str(path).isprintable() or {",", "#", '"', "\\", " "} & set(str(path)):
                message = f"{str(path)!r} must be an absolute path without blanks, commas, quotes, # and backslashes"
                raise InvalidInput(message, operation="read options", subject=str(path))


def serve(places: Places, limit_s: int, mount_command: Sequence[str], *, verbose: bool) -> int:
    """Serves until SIGTERM or SIGINT; volumes stay mounted. `mount_command` takes `-o OPTIONS REPOSITORY DIRECTORY`."""
    from nearfs.asgi_server import run
    from nearfs.containers.mounting import Mounter
    from nearfs.containers.plugin_socket import listen
    from nearfs.containers.protocol import VolumePlugin
    from nearfs.containers.volumes import Volumes

    places.check()
    _check_root()

    def log(text: str) -> None:
        if verbose:
            output.complain(text)

    state.make_directory(places.state, 0o711)
    listening, is_systemds = listen(places.socket)
    try:
        kept = state.load(places.state / "state.json", _BOOT.read_text("ascii").strip())
        mounter = Mounter(mount_command, places.points, places.state / "clients")
        volumes = Volumes(kept, mounter, limit_s, log)
        volumes.recover()

        def announce() -> None:
            output.line(f"docker-volume-cvmfs: {len(kept.volumes)} volumes, listening on {places.socket}")
            sys.stdout.flush()

        run(VolumePlugin(volumes, output.complain), listening, announce)
    finally:
        listening.close()
        if not is_systemds:
            places.socket.unlink(missing_ok=True)
    return 0


def show(places: Places) -> int:
    """Prints the volumes, what they are, and how many containers use them."""
    from nearfs import mount_table

    places.check()
    kept = state.load(places.state / "state.json", _BOOT.read_text("ascii").strip())
    rows = []
    for name, record in sorted(kept.volumes.items()):
        volume = record.volume
        point = str(places.points / volume.identity)
        users = sum(user.count for user in kept.users.get(volume.identity, {}).values())
        mounted = point if mount_table.top_at(point) is not None else "-"
        rows.append((name, volume.described(), str(users), mounted))
    output.table(("VOLUME", "REVISION", "USERS", "MOUNTED AT"), rows)
    return 0


def install(command: Sequence[str], places: Places, limit_s: int, units: Path, discovery: Path) -> int:
    """Writes the units of systemd and Docker's discovery file; says what is to be done then."""
    places.check()
    wanted = installing.files(command, places.socket, limit_s, units, discovery)
    installing.write(wanted)
    for path in wanted:
        output.line(f"wrote {path}")
    output.line(f"start it with: systemctl daemon-reload && systemctl enable --now {installing.UNIT}")
    return 0


def uninstall(places: Places, units: Path, discovery: Path) -> int:
    """Removes what `install` wrote; volumes and mounts stay."""
    for path in installing.remove(installing.files([], places.socket, 0, units, discovery)):
        output.line(f"removed {path}")
    return 0


def _check_root() -> None:
    if os.geteuid() != 0:
        message = "the volume plugin mounts for Docker and runs as root; for a rootless engine see docs/containers.md"
        raise PermissionDenied(message, operation="serve volumes")
