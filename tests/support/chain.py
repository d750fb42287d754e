"""A whole chain of machines on one network: a stratum 0, and two sites with a mirror, a Squid and two clients each.

Owns the machines, their servers, and what befalls them. Clients ask the mirror of their site by the Squid of their
site, and know the other site's as well. Called from the test's own thread; needs root, FUSE and Squid.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from tests.support import lan, mounts, processes, publishing, replicas, squid
from tests.support.lan import Machine
from tests.support.publishing import Publisher, command
from tests.support.serving import Server, serving
from tests.support.squid import Squid

FQRN = "lab.example.org"
SITES = (0, 1)
CLIENTS_OF_A_SITE = 2
FOLDERS, FILES = 4, 30
LARGE = FILES  # the number of the file of each folder that is cut into chunks
CHUNK_SIZES = {f"CVMFS_{which}_CHUNK_SIZE": str(24_576 << at) for at, which in enumerate(("MIN", "AVG", "MAX"))}
PORT = 8000
TIMEOUT_S = 2
RESET_S = 2
PLACES = ("46.2 6.1", "-33.9 151.2")  # of the sites: latitude and longitude
# Squid gives up on a mirror before its clients give up on Squid; else they could not tell which of both is gone.
# A manifest may be a minute old at a Squid; tests look at once.
SQUID = (
    "connect_timeout 1 seconds\nread_timeout 1 seconds\nforward_timeout 1 seconds\nconnect_retries 0\n"
    "acl manifest urlpath_regex /\\.cvmfs(published|whitelist)$\ncache deny manifest\n"
)
_numbers = count()


def content(revision: int, folder: int, number: int) -> str:
    """Returns the text of a file, whose first line tells whose it is."""
    head = f"{revision} {folder} {number}\n"
    blocks = range(4000 if number == LARGE else 100)
    return head + "".join(hashlib.sha256(f"{head}{block}".encode()).hexdigest() for block in blocks)


def clients_of(site: int) -> list[str]:
    """Returns the names of the machines of a site that mount."""
    return [f"client{site}{number}" for number in range(CLIENTS_OF_A_SITE)]


def machines_of(site: int) -> list[str]:
    """Returns the names of all machines of a site."""
    return [f"mirror{site}", f"squid{site}", *clients_of(site)]


@dataclass
class Mirror:
    """One stratum 1: its commands and files, and its server while that runs."""

    machine: Machine
    replica: Publisher
    scratch: Path
    places: Path
    running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    servers: list[Server] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What clients know it by."""
        return f"http://{self.machine.address}:{PORT}"

    def start(self) -> None:
        """Serves the replica, as before if it did before."""
        scratch, root = self.scratch / f"server-{next(_numbers)}", self.replica.storage.parent
        options: list[str | Path] = ["--geo-table", self.places]
        here, within = self.machine.address, self.machine.command
        serve = serving(root, scratch, host=here, port=PORT, within=within, options=options)
        self.servers.append(self.running.enter_context(serve))

    def kill(self) -> None:
        """Kills the server: connections are refused from now on."""
        self.servers[-1].process.kill()
        self.running.close()

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Has no server for a while."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @property
    def snapshot_command(self) -> Sequence[str | Path]:
        """The command line that brings it up to date."""
        return [*self.machine.command, *command("snapshot", FQRN)]

    def make(self, source: str, key: Path) -> None:
        """Makes the replica, and brings it up to date."""
        replicas.add(self.replica.prefix, source, key, FQRN, within=self.machine.command)
        self.snapshot()

    def snapshot(self) -> None:
        """Brings it up to date."""
        self.replica.server("snapshot", FQRN)

    def can_snapshot(self) -> bool:
        """Tries to bring it up to date; says whether it did."""
        return self.replica.server("snapshot", FQRN, check=False).returncode == 0

    def asked(self) -> list[str]:
        """Returns the paths that it was asked for so far, oldest first."""
        return [str(request["path"]) for server in self.servers for request in server.requests()]


@dataclass(frozen=True)
class Client:
    """One mount of one machine."""

    site: int
    point: Path
    cache: Path

    @property
    def host(self) -> str:
        """The host that it asks now, without the path."""
        return os.getxattr(self.point, "user.host").decode().rpartition("/cvmfs/")[0]

    @property
    def proxy(self) -> str:
        """The proxy by which it asks now."""
        return os.getxattr(self.point, "user.proxy").decode()

    @property
    def revision(self) -> int:
        """The revision that it shows."""
        return int(os.getxattr(self.point, "user.revision"))

    def talk(self, *words: str) -> str:
        """Returns what `cvmfs_talk` says to `words`."""
        socket = self.cache / FQRN / f"cvmfs_io.{FQRN}"
        talk: list[str | Path] = [sys.executable, "-m", "nearfs.compat.cvmfs_talk", "-p", socket]
        return processes.run([*talk, *words], limit=60).stdout

    def read(self, folder: int, number: int) -> int:
        """Reads a file, each time from the client, and returns its revision; AssertionError where the text is wrong."""
        with (self.point / f"folder-{folder}" / f"file-{number}").open("rb") as opened:
            text = opened.read().decode("utf-8", "replace")
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        revision = int(text.split(" ", 1)[0]) if text[:1].isdigit() else 0
        assert text == content(revision, folder, number), (
            f"wrong content of folder-{folder}/file-{number}: {text[:60]!r}"
        )
        return revision

    def read_folder(self, folder: int) -> set[int]:
        """Reads the files of a folder and returns their revisions."""
        return {self.read(folder, number) for number in range(FILES + 1)}


@dataclass
class Chain:
    """The stratum 0, the mirrors of the sites, and the network."""

    publisher: Publisher
    machines: dict[str, Machine]
    mirrors: list[Mirror]
    source: Server
    scratch: Path
    revision: int = 0

    def publish(self, folders: Sequence[int] = range(FOLDERS)) -> int:
        """Publishes new files in `folders` and returns the revision that is in their first lines."""
        self.revision += 1
        with self.publisher.transaction() as tree:
            for folder in folders:
                (tree / f"folder-{folder}").mkdir(exist_ok=True)
                (tree / f"folder-{folder}" / ".cvmfscatalog").touch()
                for number in range(FILES + 1):
                    (tree / f"folder-{folder}" / f"file-{number}").write_text(content(self.revision, folder, number))
        return self.revision

    @contextlib.contextmanager
    def squids(self) -> Iterator[list[Squid]]:
        """Runs a Squid with nothing in it at each site."""
        with contextlib.ExitStack() as stack:
            at = [self.machines[f"squid{site}"] for site in SITES]
            yield [
                stack.enter_context(squid.running(host=here.address, namespace=here.namespace, more=SQUID))
                for here in at
            ]

    @contextlib.contextmanager
    def clients(self, squids: Sequence[Squid], **more: str) -> Iterator[list[Client]]:
        """Mounts at every client, with nothing in its cache; `more` are settings."""
        turn = next(_numbers)
        with contextlib.ExitStack() as stack:
            made = []
            for site in SITES:
                for name in clients_of(site):
                    home = self.scratch / f"{name}-{turn}"
                    settings = self.settings(squids, site, home / "cache") | more
                    within = self.machines[name].command
                    point = stack.enter_context(mounts.mounted(FQRN, home / "point", settings, within=within))
                    made.append(Client(site, point, home / "cache"))
            yield made

    def settings(self, squids: Sequence[Squid], site: int, cache: Path) -> dict[str, str]:
        """Returns the configuration of a client: what is of its site comes first, and nothing is guessed ahead."""
        order = (site, 1 - site)
        return self.publisher.demand_settings(
            ";".join(self.mirrors[one].url for one in order),
            cache,
            CVMFS_HTTP_PROXY=";".join(squids[one].url for one in order),
            CVMFS_TIMEOUT=str(TIMEOUT_S),
            CVMFS_MAX_RETRIES="1",
            CVMFS_BACKOFF_INIT="1",
            CVMFS_BACKOFF_MAX="1",
            CVMFS_HOST_RESET_AFTER=str(RESET_S),
            CVMFS_PROXY_RESET_AFTER=str(RESET_S),
        )


@contextlib.contextmanager
def linked(scratch: Path) -> Iterator[Chain]:
    """Yields the chain with one revision at every mirror; skips where it cannot be had."""
    if lack := squid.missing():
        pytest.skip(lack)
    names = ["stratum0", *(name for site in SITES for name in machines_of(site))]
    with contextlib.ExitStack() as stack:
        machines = stack.enter_context(lan.wired(names))
        publisher = stack.enter_context(publishing.publishing(scratch / "stratum0", FQRN))
        publisher.create()
        publisher.configure(CHUNK_SIZES)
        here, root = machines["stratum0"], publisher.storage.parent
        source = stack.enter_context(
            serving(root, scratch / "source", host=here.address, port=PORT, within=here.command)
        )
        chain = Chain(publisher, machines, [], source, scratch)
        chain.publish()
        places = scratch / "places"
        lines = (f"{machines[name].address}/32 {PLACES[site]}\n" for site in SITES for name in machines_of(site))
        places.write_text("".join(lines))
        for site in SITES:
            machine, home = machines[f"mirror{site}"], scratch / f"mirror{site}"
            mirror = Mirror(machine, Publisher(home, FQRN, within=machine.command), home, places)
            mirror.make(source.url, publisher.public_key)
            stack.enter_context(contextlib.closing(mirror.running))
            mirror.start()
            chain.mirrors.append(mirror)
        yield chain
