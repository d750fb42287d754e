"""NFS as a Linux kernel does it: a guest's client against nfs-ganesha, by version 3 and 4.2, default and tuned.

Counts come from the client's own /proc/self/mountstats: every call of a mount by operation, and the bytes of the
replies. What is asked before a mount exists (rpcbind, the mount protocol, the session of version 4) is not in them.
One thread a client.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.contenders.guest import POINT, GuestClient
from bench.harness.commands import Counts
from bench.harness.contender import Client, Contender, Serving, Tree
from bench.lab import ganesha
from bench.lab import guest as lab_guest
from bench.lab.guest import Guest
from bench.lab.line import Line

# What the suite needs and what changes no answer: `soft` bounds a wait for a dead server, `nolock` because the server
# has no lock service of version 3.
_BASE = {3: "vers=3,proto=tcp,ro,soft,nolock", 4: "vers=4.2,proto=tcp,ro,soft"}
# What administrators set for a tree that hardly ever changes.
_TUNED = "actimeo=3600,nocto,nconnect=4"


class NfsClient(GuestClient):
    """The guest's kernel as the client."""

    def __init__(self, guest: Guest, source: str, kind: str, options: str) -> None:
        super().__init__(guest)
        self._source, self._kind, self._options = source, kind, options
        self._calls: Counter[str] = Counter()
        self._received: Counter[str] = Counter()

    def unmount(self) -> None:
        """Unmounts; the kernel forgets its counts with the mount, so they are read before."""
        for operation, (calls, received) in self._operations().items():
            self._calls[operation] += calls
            self._received[operation] += received
        super().unmount()

    def counts(self) -> Counts:
        """Returns calls and bytes of replies over all mounts so far."""
        now = self._operations().values()
        return Counts(
            self._calls.total() + sum(calls for calls, _ in now),
            self._received.total() + sum(received for _, received in now),
        )

    def details(self) -> dict[str, dict[str, int]]:
        """Returns calls and bytes of replies by operation, over all mounts so far."""
        calls, received = self._calls.copy(), self._received.copy()
        for operation, (now_calls, now_received) in self._operations().items():
            calls[operation] += now_calls
            received[operation] += now_received
        return {
            operation: {"calls": number, "received_bytes": received[operation]}
            for operation, number in calls.most_common()
        }

    def _operations(self) -> dict[str, tuple[int, int]]:
        return operations(self.guest.mountstats(), POINT)

    def _mount(self) -> float:
        return self.guest.mount(self._kind, self._source, POINT, self._options)


class NfsServing(Serving):
    """A running server."""

    def __init__(self, home: Path, line: Line, source: str, version: int, options: str) -> None:
        self._home, self._line, self._source = home, line, source
        self._version, self._options = version, options

    def client(self, number: int = 0) -> Client:
        """Returns a guest with the kernel's NFS client."""
        guest = Guest.boot(self._home, self._line, modules=[f"nfsv{self._version}"])
        return NfsClient(guest, self._source, "nfs", self._options)


class _Nfs(Contender):
    """What the four have in common."""

    packages = (*ganesha.PACKAGES, *lab_guest.PACKAGES)
    waits = True
    version: int
    #: Mount options, as `mount -o` takes them.
    options: str

    def missing(self) -> str | None:
        """Returns what server or guest lack."""
        return ganesha.missing() or lab_guest.missing()

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Exports the plain tree."""
        with ganesha.exporting(home / "server", line, tree.source) as source:
            yield NfsServing(home, line, source, self.version, self.options)


class Nfs3(_Nfs):
    """Version 3 as `mount` does it when told nothing else."""

    name = "nfs3"
    version = 3
    options = _BASE[3]


class Nfs4(_Nfs):
    """Version 4.2 as `mount` does it when told nothing else."""

    name = "nfs4"
    version = 4
    options = _BASE[4]


class Nfs3Tuned(_Nfs):
    """Version 3 for a tree that hardly ever changes."""

    name = "nfs3-tuned"
    version = 3
    options = f"{_BASE[3]},{_TUNED}"


class Nfs4Tuned(_Nfs):
    """Version 4.2 for a tree that hardly ever changes."""

    name = "nfs4-tuned"
    version = 4
    options = f"{_BASE[4]},{_TUNED}"


def operations(mountstats: str, point: str) -> dict[str, tuple[int, int]]:
    """Returns (calls, bytes of replies) by operation for the mount at `point`; operations never called are left out.

    Rows after "per-op statistics" are NAME: calls, transmissions, timeouts, bytes sent, bytes received and times.
    """
    found: dict[str, tuple[int, int]] = {}
    ours = counting = False
    for row in mountstats.splitlines():
        words = row.split()
        if words[:1] == ["device"]:
            ours = words[2:5] == ["mounted", "on", point]
            counting = False
        elif words == ["per-op", "statistics"]:
            counting = ours
        elif counting and len(words) >= 6 and words[0].endswith(":") and int(words[1]):
            found[words[0].removesuffix(":")] = (int(words[1]), int(words[5]))
    return found
