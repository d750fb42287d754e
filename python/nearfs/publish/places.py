"""Where a publisher's files lie on this machine (server.md 2).

Owns: the directory names of the reference tools. `NEARFS_PREFIX` puts all of them below another directory, for tests
and demonstrations. Does not own: what is in the files.
Threading: immutable values.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PREFIX_VARIABLE = "NEARFS_PREFIX"


@dataclass(frozen=True)
class Places:
    """The machine's directories for repositories, keys, spool areas and storage."""

    prefix: str = ""

    @classmethod
    def here(cls) -> Places:
        """Returns the places that the environment asks for."""
        return cls(os.environ.get(PREFIX_VARIABLE, "").rstrip("/"))

    def at(self, path: str) -> Path:
        """Returns where a file of the machine lies whose absolute path is `path`."""
        return Path(self.prefix + path)

    @property
    def configuration(self) -> Path:
        """Returns /etc/cvmfs."""
        return self.at("/etc/cvmfs")

    @property
    def repositories(self) -> Path:
        """Returns the directory with one directory a repository."""
        return self.configuration / "repositories.d"

    @property
    def keys(self) -> Path:
        """Returns the keys directory."""
        return self.configuration / "keys"

    @property
    def server_local(self) -> Path:
        """Returns the site's variables for all repositories."""
        return self.configuration / "server.local"

    @property
    def hooks(self) -> Path:
        """Returns the script with the functions that are called around transactions."""
        return self.configuration / "cvmfs_server_hooks.sh"

    @property
    def fstab(self) -> Path:
        """Returns the table of file systems."""
        return self.at("/etc/fstab")

    @property
    def info(self) -> Path:
        """Returns the directory of the server-wide JSON files."""
        return self.at("/srv/cvmfs/info/v1")

    @property
    def logs(self) -> Path:
        """Returns the directory of what commands for all repositories write."""
        return self.at("/var/log/cvmfs")

    @property
    def checking_all_lock(self) -> Path:
        """Returns the lock file of `check -a`."""
        return self.at("/var/spool/cvmfs/is_checking_all")

    def spool(self, fqrn: str) -> Path:
        """Returns the default spool directory of a repository."""
        return self.at("/var/spool/cvmfs") / fqrn

    def storage(self, fqrn: str) -> Path:
        """Returns the default storage directory of a repository."""
        return self.at("/srv/cvmfs") / fqrn

    def union(self, fqrn: str) -> Path:
        """Returns where a repository's tree is seen and changed."""
        return self.at("/cvmfs") / fqrn
