"""`cvmfs_config` umount, killall and wipecache: taking clients away (client.md 2.6).

Owns: the texts, the order and the exit codes. Does not own: processes and mounts (`client`).
Threading: a short-lived command, one thread; every wait is bounded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import mount_table
from nearfs.cli import output
from nearfs.client import premount, processes, workspace
from nearfs.config import layers, model, values
from nearfs.errors import NearfsError

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN_DIRECTORY = "/var/run/cvmfs"
_UMOUNT_LIMIT_S = 20.0
_FAILED = 1
# More mounts on one path than crashes ever leave.
_LAYERS_LIMIT = 16


def unmount(names: Sequence[str]) -> int:
    """Unmounts the named repositories, or all; shows who is inside where that fails."""
    wanted = {layers.complete_name(name) for name in names}
    worst = 0
    for entry in mount_table.repositories():
        name = mount_table.attribute(entry.point, "user.fqrn") or os.path.basename(entry.point)
        if wanted and name not in wanted:
            continue
        if _umount(entry.point):
            output.line(f"Unmounting {entry.point}: OK")
            continue
        worst = _FAILED
        output.line(f"Unmounting {entry.point}: Failed!")
        for pid in processes.inside(entry.point):
            output.line(f"  {pid} {processes.command_line(pid)}")
    return worst


def _umount(point: str) -> bool:
    with contextlib.suppress(subprocess.SubprocessError):
        command = ["umount", "--", point]
        return subprocess.run(command, check=False, capture_output=True, timeout=_UMOUNT_LIMIT_S).returncode == 0
    return False


def kill_all() -> int:
    """Ends every client of this machine by force and clears away what they leave."""
    _report("Terminating cvmfs_config processes", works=processes.kill(processes.running_script("cvmfs_config")))
    clients = processes.kill(processes.named("cvmfs2"))
    _report("Terminating cvmfs2 processes", works=clients)
    unmounted = _detach_all()
    _report("Unmounting stale mount points", works=unmounted)
    cleaned = _clean(RUN_DIRECTORY)
    _report("Cleaning up run-time variable data", works=cleaned)
    processes.hang_up("automount")
    _report("Reloading autofs", works=True)
    return 0 if clients and unmounted and cleaned else _FAILED


def _detach_all() -> bool:
    """Takes every repository out of the tree, also those that lie on top of each other."""
    for _ in range(_LAYERS_LIMIT):
        entries = mount_table.repositories()
        if not entries:
            return True
        for entry in entries:
            premount.detach(entry.point)
    return False


def _report(step: str, *, works: bool) -> None:
    output.line(f"{step}... {'OK' if works else 'Failed!'}")


def _clean(directory: str) -> bool:
    if not os.path.isdir(directory):
        return True
    works = True
    for entry in os.scandir(directory):
        try:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        except OSError:
            works = False
    return works


def caches() -> dict[str, set[str]]:
    """Returns the cache directories there are of the repositories in CVMFS_REPOSITORIES, with their workspaces."""
    found: dict[str, set[str]] = {}
    for name in values.split(layers.load(""), "CVMFS_REPOSITORIES", ","):
        settings = layers.load(layers.complete_name(name))
        directory = model.cache_directory(settings)
        if os.path.isdir(directory):
            found.setdefault(directory, {directory}).add(settings.get("CVMFS_WORKSPACE") or directory)
    return found


def wipe_caches() -> int:
    """Removes the cached objects of every repository in CVMFS_REPOSITORIES; refuses for a cache that is in use."""
    worst = 0
    for directory, locked in caches().items():
        try:
            with workspace.unused(locked):
                works = _wipe(directory)
        except NearfsError as error:
            output.complain(f"Wiping out {directory} ... Failed! {error}")
            worst = _FAILED
            continue
        output.line(f"Wiping out {directory} ... {'OK' if works else 'Failed!'}")
        worst = worst if works else _FAILED
    return worst


def _wipe(directory: str) -> bool:
    """Removes objects, temporary files, breadcrumbs and the quota database; NFS maps, locks and learned traces stay."""
    works = True
    for path in Path(directory).iterdir():
        is_objects = path.name in ("txn", "quarantaine") or (len(path.name) == 2 and _is_hex(path.name))
        try:
            if is_objects and path.is_dir() and not path.is_symlink():
                for inner in path.iterdir():
                    inner.unlink()
            elif path.name.startswith(("cachedb", "cvmfschecksum.")):
                path.unlink()
        except OSError:
            works = False
    return works


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)
