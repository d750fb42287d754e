"""A publisher whose owner is not root, on a machine of its own: a mount namespace that ends with the test.

Owns the user `librarian`, who exists there alone, `/dev/fuse` as every user may open it, and `/etc/fuse.conf` as the
test wants it; the machine around stays as it is. Called from the test's own thread.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import golden, mounts, processes
from tests.support.publishing import Publisher, command
from tests.support.waiting import wait_until

USER, UID = "librarian", 4711
_LIMIT_S = 100.0
# $1 is a directory that the rest of the machine does not see into afterwards, $2 the text of fuse.conf. Pairs follow:
# a directory that only root can enter, and what the owner needs inside of it, which alone is left there.
_SETUP = f"""
set -e
mount -t tmpfs -o mode=0755 tmpfs "$1"
mknod -m 0666 "$1/fuse" c 10 229
mount --bind "$1/fuse" /dev/fuse
for table in passwd group; do
    cp /etc/$table "$1/$table"
    printf '%s:x:{UID}:%s\\n' {USER} "$([ $table = group ] || echo {UID}::/nonexistent:/bin/sh)" >>"$1/$table"
    mount --bind "$1/$table" /etc/$table
done
echo "$2" >"$1/fuse.conf"
touch /etc/fuse.conf
mount --bind "$1/fuse.conf" /etc/fuse.conf
own=$1
shift 2
number=0
for word in "$@"; do # aside, while it still can be found
    number=$((number + 1))
    mkdir "$own/$number"
    mount --bind "$word" "$own/$number"
done
number=0
while [ $# -gt 0 ]; do
    number=$((number + 2))
    [ "$(stat -c %a "$1")" = 755 ] || mount -t tmpfs -o mode=0755 tmpfs "$1"
    mkdir -p "$2"
    mount --move "$own/$number" "$2"
    shift 2
done
echo ready
exec sleep infinity
"""


@dataclass(frozen=True)
class OwnedPublisher(Publisher):
    """A publisher of `librarian`; `holder` is a process in its namespace."""

    holder: int

    def words(self, words: Sequence[str | Path], *, as_root: bool = False) -> list[str | Path]:
        """Returns the words that run a command on this machine, as the owner or as root."""
        become = [] if as_root else ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups", "--inh-caps=-all"]
        return ["nsenter", "--target", str(self.holder), "--mount", "--wdns=/", *become, *words]

    def run(self, *words: str | Path, as_root: bool = False, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command on this machine."""
        env = {**self.environment, "PYTHONPATH": str(golden.PROJECT)}
        return processes.run(self.words(words, as_root=as_root), check=check, limit=_LIMIT_S, env=env)

    def server(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `cvmfs_server` as the owner."""
        return self.run(*command(*words), check=check)

    def root(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `cvmfs_server` as root."""
        return self.run(*command(*words), as_root=True, check=check)

    def create(self, *options: str) -> None:
        """Runs `mkfs`, which only root can."""
        self.root("mkfs", "-p", "-o", USER, *options, self.fqrn)

    def mounts(self) -> list[Path]:
        """Returns what is mounted below the prefix, the newest first."""
        table = Path(f"/proc/{self.holder}/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
        points = [Path(line.split(" ")[4]) for line in reversed(table)]
        return [point for point in points if point.is_relative_to(self.prefix)]

    def foreign(self) -> list[Path]:
        """Returns what in storage and spool area is not the owner's."""
        tops = (self.storage, self.spool)
        return [
            path
            for top in tops
            for path in (top, *top.rglob("*"))
            if not path.is_relative_to(self.spool / "rdonly") and path.lstat().st_uid != UID
        ]


def _closed_around(path: Path) -> Path | None:
    """Returns the outermost directory around a path that not everybody can enter."""
    return next((parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001), None)


@contextlib.contextmanager
def owned(fqrn: str, *, fuse_settings: str = "") -> Iterator[OwnedPublisher]:
    """Yields a publisher without a repository yet; nothing of it is left afterwards."""
    lack = mounts.missing_for_mounts() or (os.geteuid() != 0 and "only root can make another user")
    missing = [f"{name} is missing" for name in ("fuse-overlayfs", "setpriv") if not shutil.which(name)]
    if lack or missing:
        pytest.skip(lack or missing[0])
    # Not below pytest's directory, into which only its user may look.
    with tempfile.TemporaryDirectory(prefix="nearfs-owners-") as name:
        prefix, own = Path(name) / "host", Path(name) / "own"
        for directory in (Path(name), prefix, own):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        words: list[str | Path] = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            _SETUP,
            "sh",
            own,
            fuse_settings,
        ]
        for needed in (Path(sys.base_prefix), golden.PROJECT):
            closed = _closed_around(needed)
            words += [closed, needed] if closed else []
        log = Path(name) / "log"
        with processes.started(words, log) as holder:
            wait_until(lambda: "ready" in log.read_text() or holder.poll() is not None, 20, "the machine is there")
            assert "ready" in log.read_text(), log.read_text()
            publisher = OwnedPublisher(prefix, fqrn, holder.pid)
            try:
                yield publisher
            finally:
                for point in publisher.mounts():
                    publisher.run("umount", "-l", point, as_root=True, check=False)
