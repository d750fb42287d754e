"""Clients in a guest with a kernel of its own: its local disk, and nearfs.

`guest-local` says what the emulator itself costs; `guest-nearfs` stands beside NFS on the same kernel. Owns what all
clients in guests share (`GuestClient`). One thread a client.
"""

import contextlib
import shlex
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.harness import ours
from bench.harness.commands import Command, Counts, Run
from bench.harness.contender import Client, Contender, Serving, Tree
from bench.lab import guest as lab_guest
from bench.lab import servers
from bench.lab.guest import WRITABLE, Guest
from bench.lab.line import Line
from bench.lab.uml import GuestError

#: Where the tree is mounted in a guest.
POINT = f"{WRITABLE}/tree"
_CACHE = f"{WRITABLE}/cache"
_CACHE_DISK_MIB = 4096
_FREE_MIB = 64
_STEP_LIMIT_S = 300.0
_PROGRAM = "cvmfs2"
_CONFIGURATION = f"{WRITABLE}/client.conf"


class GuestClient(Client):
    """A client that has a guest to itself, powered off by `close`."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def mount(self, *, empty_cache: bool) -> float:
        """Mounts afresh, with the guest's kernel caches dropped."""
        self.unmount()
        self._prepare(empty_cache=empty_cache)
        self.guest.drop_caches()
        return self._mount()

    def unmount(self) -> None:
        """Unmounts in the guest."""
        self.guest.unmount(POINT)

    def drop_caches(self) -> None:
        """Empties the caches of the guest's kernel."""
        self.guest.drop_caches()

    def run(self, command: Command) -> Run:
        """Runs a command in the guest."""
        return self.guest.run(command, POINT)

    def details(self) -> dict[str, dict[str, int]]:
        """Returns counts by kind of request where the client knows them, for explanations."""
        return {}

    def close(self) -> None:
        """Powers the guest off."""
        self.guest.power_off()

    def _prepare(self, *, empty_cache: bool) -> None:
        """Brings the disk cache into the state that is wanted; there is none here."""

    @abstractmethod
    def _mount(self) -> float:
        """Mounts at POINT and returns the seconds."""


class LocalClient(GuestClient):
    """The tree on the guest's own disk."""

    def _mount(self) -> float:
        return self.guest.mount("ext4", "/dev/ubda", POINT, "ro")

    def counts(self) -> Counts:
        """Returns zeros: nothing is asked of anybody."""
        return Counts(0, 0)


class LocalServing(Serving):
    """The image of the tree."""

    def __init__(self, home: Path, line: Line, image: Path) -> None:
        self._home, self._line, self._image = home, line, image

    def client(self, number: int = 0) -> Client:
        """Returns a guest that has the image as its disk."""
        return LocalClient(Guest.boot(self._home, self._line, disks=[self._image]))


class GuestLocal(Contender):
    """The same programs in the same emulator without any network: the emulator's own cost."""

    name = "guest-local"
    packages = lab_guest.PACKAGES
    is_remote = False

    def missing(self) -> str | None:
        """Returns what a guest lacks."""
        return lab_guest.missing()

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Makes the image."""
        yield LocalServing(home, line, lab_guest.make_disk(home / "tree.ext4", _FREE_MIB, tree.source))


class NearfsClient(GuestClient):
    """`cvmfs2` in a guest, its cache on the guest's disk."""

    def __init__(self, guest: Guest, tree: Tree, url: str) -> None:
        super().__init__(guest)
        self._tree = tree
        self._earlier: Counter[str] = Counter()
        guest.mount("ext4", "/dev/ubda", _CACHE)
        guest.write(
            _CONFIGURATION,
            f"CVMFS_SERVER_URL={url}/cvmfs/{tree.fqrn}\nCVMFS_HTTP_PROXY=DIRECT\n"
            f"CVMFS_PUBLIC_KEY={shlex.quote(str(tree.public_key))}\n"
            f"CVMFS_CACHE_BASE={_CACHE}/nearfs\nCVMFS_RELOAD_SOCKETS=/run/cvmfs\n"
            "CVMFS_SHARED_CACHE=no\nCVMFS_QUOTA_LIMIT=-1\nCVMFS_CLAIM_OWNERSHIP=no\n",
        )

    def unmount(self) -> None:
        """Unmounts, and waits until the client let go of its cache; its counts end with it and are read before."""
        self._earlier += self._now()
        super().unmount()
        self.guest.await_end(_PROGRAM)

    def counts(self) -> Counts:
        """Returns what the client says that it asked, and was asked, over all its mounts."""
        total = self._earlier + self._now()
        upcalls = [number for name, number in total.items() if name.startswith("upcall_") and name != "upcall_forget"]
        return Counts(total["requests"], total["request_bytes"], sum(upcalls))

    def details(self) -> dict[str, dict[str, int]]:
        """Returns every counter of the client."""
        return {name: {"calls": number} for name, number in (self._earlier + self._now()).items()}

    def _now(self) -> Counter[str]:
        said = self.guest.attribute(POINT, "user.nearfs_counters")
        pairs = [line.split(",") for line in (said or "").splitlines()]
        return Counter({name: int(number) for name, number in pairs})

    def _prepare(self, *, empty_cache: bool) -> None:
        if empty_cache:
            self._succeed("/bin/rm", "-rf", f"{_CACHE}/nearfs")
        self._succeed("/bin/mkdir", "-p", POINT, "/run/cvmfs")

    def _mount(self) -> float:
        return self._succeed(str(ours.BIN / _PROGRAM), "-o", f"config={_CONFIGURATION}", self._tree.fqrn, POINT).wall_s

    def _succeed(self, *argv: str) -> Run:
        environment = {"HOME": WRITABLE, "PYTHONDONTWRITEBYTECODE": "1"}
        done = self.guest.run(Command(argv, environment, limit_s=_STEP_LIMIT_S), POINT)
        if done.exit_code:
            raise GuestError(f"{' '.join(argv)}: exit code {done.exit_code}: {done.stdout}{done.stderr}")
        return done


class NearfsServing(Serving):
    """A running server."""

    def __init__(self, home: Path, line: Line, tree: Tree, server: servers.WebServer) -> None:
        self._home, self._line, self._tree, self._server = home, line, tree, server

    def served(self) -> Counts:
        """Returns what the server logged."""
        return self._server.served()

    def client(self, number: int = 0) -> Client:
        """Returns a guest with an empty disk for its cache."""
        cache = lab_guest.make_disk(self._home / f"cache-{number}.ext4", _CACHE_DISK_MIB)
        guest = Guest.boot(self._home, self._line, modules=["fuse"], disks=[cache])
        try:
            return NearfsClient(guest, self._tree, self._server.url)
        except BaseException:
            guest.power_off()
            raise


class GuestNearfs(Contender):
    """nearfs on the kernel on which NFS is measured."""

    name = "guest-nearfs"
    packages = lab_guest.PACKAGES
    has_disk_cache = True
    waits = True

    def missing(self) -> str | None:
        """Returns what a guest lacks."""
        return lab_guest.missing()

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Runs `nearfs serve`."""
        with servers.nearfs_serve(home, line, tree.storage) as server:
            yield NearfsServing(home, line, tree, server)
