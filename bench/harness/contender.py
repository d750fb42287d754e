"""The one interface of everything that is compared: a server at the far end, clients at the near end of a line.

Owns the interface only; `bench.contenders` has one module for each way. A contender decides nothing about what is
measured: scenarios do. Main thread only; `run_beside` of a scenario may drive several clients from several threads,
one thread a client.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.harness.commands import Command, Counts, Run
from bench.harness.variant import PLAIN, Variant
from bench.lab.line import Line


@dataclass(frozen=True)
class Tree:
    """A tree in the two forms in which contenders take it.

    `source` is the plain directory on the local disk. `storage` is the directory that has `FQRN/` with the published
    repository below it (`http://server/cvmfs/FQRN`), `public_key` its key; both were written before anything is
    measured.
    """

    name: str
    source: Path
    fqrn: str
    storage: Path
    public_key: Path


class Client(ABC):
    """One client machine or process with its caches. Every method blocks, within a bound of its own."""

    @abstractmethod
    def mount(self, *, empty_cache: bool) -> float:
        """Mounts the tree and returns the seconds until the mount command was done.

        With `empty_cache` nothing that an earlier mount brought is left, neither on disk nor in the kernel; without,
        the disk cache is as it was, and the kernel's caches are empty.
        """

    @abstractmethod
    def unmount(self) -> None:
        """Unmounts; returns when the mount is gone. Does nothing where nothing is mounted."""

    @abstractmethod
    def drop_caches(self) -> None:
        """Empties the kernel's caches of the client while mounted."""

    @abstractmethod
    def run(self, command: Command) -> Run:
        """Runs a command at the client's side against the mounted tree."""

    @abstractmethod
    def counts(self) -> Counts:
        """Returns what this client asked since it was made, over all its mounts."""

    def forget_content(self) -> None:
        """Unmounts and empties the disk cache, but keeps what was learned of programs; for contenders that learn."""
        raise NotImplementedError

    def ahead(self) -> Mapping[str, int]:
        """Returns the counters of what the present mount fetched ahead of demand, once nothing of it is under way.

        Waits a bounded time for that. Empty where the client does not count such things.
        """
        return {}

    @abstractmethod
    def close(self) -> None:
        """Unmounts and ends what belongs to the client."""


class Contender(ABC):
    """A way to reach a tree. Subclasses are listed in `bench.contenders.registry`."""

    #: Short name, as on the command line and in results; `figures.CONTENDERS` has what readers see.
    name: str
    #: Debian packages that it needs beyond those of the project.
    packages: tuple[str, ...] = ()
    #: False where nothing crosses the line (upper bounds): measured once, not for every line.
    is_remote: bool = True
    #: True where a disk cache outlives a mount; without, "warm" is no state of its own.
    has_disk_cache: bool = False
    #: True where a client remembers what programs read, beside its cache; without, "seen" is no state of its own.
    learns: bool = False
    #: In which way its tree is published.
    variant: Variant = PLAIN
    #: True where over a long line it does little but wait, so that several may be measured side by side.
    waits: bool = False

    def missing(self) -> str | None:
        """Returns in one sentence why it cannot be measured here, None where it can (packages are installed before)."""
        return None

    @contextlib.contextmanager
    @abstractmethod
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator["Serving"]:
        """Runs the servers at the far end of `line` for one tree; `home` is an empty directory of its own."""


class Serving(ABC):
    """A contender whose servers run."""

    @abstractmethod
    def client(self, number: int = 0) -> Client:
        """Returns a new client at the near end; `number` tells several at once apart. The caller closes it."""

    def served(self) -> Counts:
        """Returns requests and bytes of bodies as the server counted them so far, None where it cannot tell."""
        return Counts()
