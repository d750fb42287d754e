"""What contenders share whose clients run on this machine's own kernel.

Owns running a command against a mount point with a scratch directory of its own. Knows no file system.
"""

import os
import shutil
import tempfile
from abc import abstractmethod
from pathlib import Path

from bench.harness import processes
from bench.harness.commands import Command, Run
from bench.harness.contender import Client
from bench.harness.discards import discard


class HostClient(Client):
    """A client whose mount point is a path on this machine; `home` is an empty directory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True)

    @property
    @abstractmethod
    def tree(self) -> Path:
        """Returns where the tree is seen."""

    def in_place(self, argv: list[str]) -> list[str]:
        """Returns the words that run a command where the client is; as they are unless it has a namespace."""
        return argv

    def drop_caches(self) -> None:
        """Empties the kernel's caches."""
        processes.drop_kernel_caches()

    def run(self, command: Command) -> Run:
        """Runs it with the environment that the command states, and nothing else."""
        scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=self.home))
        try:
            filled = command.at(str(self.tree), str(scratch))
            environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), **filled.environment}
            return processes.run_measured(self.in_place(list(filled.argv)), environment, filled.stdin, filled.limit_s)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def close(self) -> None:
        """Unmounts and removes what the client kept."""
        self.unmount()
        discard(self.home)
