"""The publisher of a benchmark below one directory, driven by the real commands.

Owns making repositories and revisions. Serves and mounts nothing: contenders do. Main thread only.
"""

import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench.harness import ours
from bench.harness.commands import Command
from bench.harness.contender import Tree
from bench.harness.processes import CommandFailed

COMMAND_LIMIT_S = 1800


@dataclass(frozen=True)
class Site:
    """A publisher with one repository."""

    home: Path
    fqrn: str

    @property
    def prefix(self) -> Path:
        """Returns the publisher's directory."""
        return self.home / "publisher"

    @property
    def union(self) -> Path:
        """Returns the tree that a transaction changes."""
        return self.prefix / "cvmfs" / self.fqrn

    @property
    def configuration(self) -> Path:
        """Returns the directory of the repository's settings."""
        return self.prefix / "etc" / "cvmfs" / "repositories.d" / self.fqrn

    @property
    def storage(self) -> Path:
        """Returns the repository's storage."""
        return self.prefix / "srv" / "cvmfs" / self.fqrn

    def server(self, verb: str, *words: str | Path) -> float:
        """Runs `cvmfs_server VERB ... FQRN` and returns its seconds."""
        command = ["cvmfs_server", verb, *map(str, words), self.fqrn]
        started = time.monotonic()
        done = ours.run(command, self.prefix, COMMAND_LIMIT_S)
        if done.returncode:
            raise CommandFailed(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return time.monotonic() - started

    def create(self, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        """Makes the repository, empty, with further lines in its server.conf."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.server("mkfs", "-p", "-o", "root")
        with (self.configuration / "server.conf").open("a", encoding="utf-8") as out:
            out.writelines(f"{name}={value}\n" for name, value in settings.items())

    def change(self, work: Callable[[Path], object]) -> float:
        """Lets `work` change the tree in a transaction and returns the seconds of the publish."""
        self.server("transaction")
        work(self.union)
        return self.server("publish")

    def publish_bundles(self, programs: Sequence[tuple[Command, str]]) -> None:
        """Has programs recorded over the published tree and publishes what they read.

        With each the path of the file that begins its bundle; of the first one that it opens, where that is empty.
        """
        lines = []
        with tempfile.TemporaryDirectory(dir=self.home) as scratch:
            for number, (command, begin) in enumerate(programs):
                lines += [f"trigger: {begin}"] if begin else []
                own = Path(scratch) / str(number)
                own.mkdir()
                lines.append(shell_line(command.at(str(self.union), str(own))))
            (self.configuration / "bundles.conf").write_text("\n".join([*lines, ""]), "utf-8")
            words = ["nearfs", "bundle", "publish", self.fqrn]
            done = ours.run(words, self.prefix, COMMAND_LIMIT_S)
        if done.returncode:
            raise CommandFailed(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")

    def tree(self, name: str, source: Path) -> Tree:
        """Returns what contenders take: `source` has the same content as the repository."""
        key = self.prefix / "etc" / "cvmfs" / "keys" / f"{self.fqrn}.pub"
        return Tree(name, source, self.fqrn, self.storage.parent, key)


def copy_into(source: Path) -> Callable[[Path], object]:
    """Returns the work that makes a repository's tree equal to a directory."""

    def work(union: Path) -> None:
        (union / "new_repository").unlink(missing_ok=True)  # what mkfs leaves in an empty one
        shutil.copytree(source, union, symlinks=True, dirs_exist_ok=True)

    return work


def shell_line(command: Command) -> str:
    """Returns one line for a shell that runs a command with its input and its environment alone."""
    environment = [f"{name}={value}" for name, value in {"PATH": "/usr/bin:/bin", **command.environment}.items()]
    line = shlex.join(["env", "-i", *environment, *command.argv])
    if command.stdin:
        line = f"printf %s {shlex.quote(command.stdin)} | {line}"
    if "\n" in line:
        raise ValueError(f"a command of several lines cannot be recorded: {line}")
    return line
