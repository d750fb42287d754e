"""A machine of a site for tests: our commands, /etc/cvmfs and a cache, in a mount namespace that ends with the script.

Owns the prelude and the clean-up of these shell scripts. What a script changes in /etc, /sbin, /usr/bin, /var/lib and
/mnt is seen by the script alone. Called from the test's own thread.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import mounts, processes

MOUNT_DIR = "/mnt/cvmfs"
CACHE_BASE = "/mnt/cache"
USER = "nobody"
_COMMANDS = {
    "mount.cvmfs": "mount_cvmfs",
    "cvmfs2": "cvmfs2",
    "cvmfs_config": "cvmfs_config",
    "cvmfs_talk": "cvmfs_talk",
}

_PRELUDE = """
set -e
mount --make-rprivate /
clean() {{
    [ -z "$automount" ] || {{ kill "$automount"; wait "$automount" || true; }}
    for turn in 1 2 3; do
        grep -o ' [^ ]* fuse ' /proc/mounts | sort -ru | while read -r point _; do umount -l "$point" || true; done
    done
}}
automount=
# Mounts of other runs are none of this machine's; they stay where they were made.
clean
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir {mount_dir} {cache_base}
for place in /etc /usr/bin /usr/sbin /var/lib; do
    mkdir -p /mnt/over$place/upper /mnt/over$place/work
    mount -t overlay -o lowerdir=$place,upperdir=/mnt/over$place/upper,workdir=/mnt/over$place/work overlay $place
done
cp -r {commands}/. /usr/bin/
ln -sf /usr/bin/mount.cvmfs /usr/sbin/mount.cvmfs
rm -rf /etc/cvmfs /etc/auto.cvmfs
cp -r {etc} /etc/cvmfs
trap clean EXIT
"""


@dataclass(frozen=True)
class Site:
    """Files of /etc/cvmfs in `etc`, and the scripts that stand for our commands in `commands`."""

    etc: Path
    commands: Path

    def write(self, name: str, settings: Mapping[str, str]) -> None:
        """Writes one configuration file, a path below /etc/cvmfs."""
        path = self.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{key}='{value}'\n" for key, value in settings.items()), "utf-8")

    def run(
        self, script: str, *, check: bool = True, limit: float = processes.COMMAND_LIMIT_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell script on this machine; whatever it mounts is unmounted at its end."""
        return processes.run(["unshare", "-m", "sh", "-c", self.prelude + script], check=check, limit=limit)

    @property
    def prelude(self) -> str:
        """The beginning of a script that makes its mount namespace this machine."""
        return _PRELUDE.format(mount_dir=MOUNT_DIR, cache_base=CACHE_BASE, commands=self.commands, etc=self.etc)


def make(folder: Path) -> Site:
    """Returns a machine without configuration; skips where this one does not allow it."""
    if lack := mounts.missing_for_mounts():
        pytest.skip(lack)
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("root and unshare are needed for a machine of its own")
    commands = folder / "commands"
    commands.mkdir(parents=True)
    for name, module in _COMMANDS.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m nearfs.compat.{module} "$@"\n')
        (commands / name).chmod(0o755)
    site = Site(folder / "etc", commands)
    site.etc.mkdir()
    return site
