"""A publisher of one test: all its directories below one prefix, driven by the real `cvmfs_server`.

Owns creating a repository, changing settings as an administrator would, and undoing the mounts. Called from the test's
own thread.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import mounts, processes

COMMAND_LIMIT_S = 100.0


@dataclass(frozen=True)
class Publisher:
    """A machine's worth of publisher directories below `prefix`, with one repository.

    `within` are words before its commands, such as those that enter another network namespace.
    """

    prefix: Path
    fqrn: str
    within: Sequence[str] = field(default=(), kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a user would export."""
        return {"NEARFS_PREFIX": str(self.prefix)}

    @property
    def union(self) -> Path:
        """The tree that a transaction changes."""
        return self.prefix / "cvmfs" / self.fqrn

    @property
    def storage(self) -> Path:
        """The repository in the form in which it is served."""
        return self.prefix / "srv" / "cvmfs" / self.fqrn

    @property
    def spool(self) -> Path:
        """Flags, layers and caches of the publisher."""
        return self.prefix / "var" / "spool" / "cvmfs" / self.fqrn

    @property
    def public_key(self) -> Path:
        """The master public key."""
        return self.prefix / "etc" / "cvmfs" / "keys" / f"{self.fqrn}.pub"

    def server(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `cvmfs_server` with `words`."""
        line = [*self.within, *command(*words)]
        return processes.run(line, check=check, limit=COMMAND_LIMIT_S, env=self.environment, cwd=Path("/"))

    def create(self, *options: str) -> None:
        """Runs `mkfs`."""
        self.server("mkfs", "-p", "-o", "root", *options, self.fqrn)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Appends assignments to server.conf; later ones win."""
        path = self.prefix / "etc" / "cvmfs" / "repositories.d" / self.fqrn / "server.conf"
        with path.open("a", encoding="utf-8") as out:
            out.writelines(f"{key}={value}\n" for key, value in settings.items())

    @contextlib.contextmanager
    def transaction(self, *options: str) -> Iterator[Path]:
        """Opens a transaction, yields the tree, and publishes it with `options` if nothing was raised."""
        self.server("transaction", self.fqrn)
        yield self.union
        self.server("publish", *options, self.fqrn)

    def tags(self) -> dict[str, list[str]]:
        """Returns name -> [hash, size, revision, timestamp, branch, description...] of `tag -l -x`."""
        lines = self.server("tag", "-l", "-x", self.fqrn).stdout.splitlines()
        return {line.split(" ")[0]: line.split(" ")[1:] for line in lines}

    def client_settings(self, hosts: str, cache: Path, **more: str) -> dict[str, str]:
        """Returns the configuration of a client of this repository; `hosts` is a `;` list of URLs without a path."""
        return {
            "CVMFS_SERVER_URL": ";".join(f"{host}/cvmfs/{self.fqrn}" for host in hosts.split(";")),
            "CVMFS_HTTP_PROXY": "DIRECT",
            "CVMFS_PUBLIC_KEY": str(self.public_key),
            "CVMFS_CACHE_BASE": str(cache),
            **more,
        }

    def demand_settings(self, hosts: str, cache: Path, **more: str) -> dict[str, str]:
        """Returns `client_settings` of a client that asks for nothing but what somebody waits for.

        For tests that count requests, or need a file to be missing when it is read.
        """
        return self.client_settings(hosts, cache, NEARFS_PREFETCH="no", **more)


def command(*words: str | Path) -> Sequence[str | Path]:
    """Returns the command line of `cvmfs_server` as this Python runs it."""
    return [sys.executable, "-m", "nearfs.compat.cvmfs_server", *words]


@contextlib.contextmanager
def publishing(prefix: Path, fqrn: str) -> Iterator[Publisher]:
    """Yields a publisher without a repository yet; skips where it could not mount, and unmounts whatever happens."""
    lack = mounts.missing_for_mounts() or (os.geteuid() != 0 and "only root can publish in this version")
    if lack:
        pytest.skip(lack)
    prefix.mkdir(parents=True, exist_ok=True)
    try:
        yield Publisher(prefix, fqrn)
    finally:
        for mount in mounts.beneath(prefix):
            mounts.unmount_lazily(mount.point)
