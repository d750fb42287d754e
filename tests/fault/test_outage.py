"""The network is gone in the middle of reads and comes back, under a real mount at the end of a real cable.

The outage is one of the cable: packets are dropped without a word, or the near end is pulled out. It takes
`OUTAGE_S`: a few seconds, and a minute with NEARFS_LONG_TESTS=1. Throughout, readers go on: whatever they read is what
was published, and what they cannot read is EIO in time.
"""

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import beside, cables, mounts, processes, publishing
from tests.support.cables import Cable
from tests.support.publishing import Publisher
from tests.support.serving import Server, serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]

OUTAGE_S = 60.0 if os.environ.get("NEARFS_LONG_TESTS") == "1" else 5.0
TIMEOUT_S = 1
RETRIES = 1
BACKOFF_S = 1
# A failing client lets readers wait a little before it asks again for each (client.md 3.5 item 7).
THROTTLE_S = 2
GENEROSITY = 3
READ_BOUND_S = GENEROSITY * ((1 + RETRIES) * TIMEOUT_S + BACKOFF_S + THROTTLE_S)
# After that long whatever the client remembers of the outage is over, and reads work.
BACK_BOUND_S = READ_BOUND_S
# At once, on a machine that is busy; far below what the process would wait for the network.
KILL_BOUND_S = 2.0
LONG_TIMEOUT_S = 3
SETTLED_S = 0.3
LISTING_BOUND_S = 5.0
READERS = 3
FOLDERS, FILES = 8, 40
Outage = Callable[[Cable], AbstractContextManager[None]]


@dataclass(frozen=True)
class Lab:
    """A repository, its server on the far machine, and the cable to it."""

    publisher: Publisher
    server: Server
    cable: Cable

    def settings(self, cache: Path, timeout_s: int) -> dict[str, str]:
        """Returns the client's configuration."""
        return self.publisher.client_settings(
            self.server.url,
            cache,
            CVMFS_TIMEOUT_DIRECT=str(timeout_s),
            CVMFS_MAX_RETRIES=str(RETRIES),
            CVMFS_BACKOFF_INIT=str(BACKOFF_S),
            CVMFS_BACKOFF_MAX=str(BACKOFF_S),
            # The kernel asks again all the time: what is listed during the outage comes from the client.
            CVMFS_KCACHE_TIMEOUT="0",
        )

    @contextlib.contextmanager
    def mounted(self, scratch: Path, timeout_s: int = TIMEOUT_S) -> Iterator[Path]:
        """Mounts at the near end."""
        fqrn, settings = self.publisher.fqrn, self.settings(scratch / "cache", timeout_s)
        with mounts.mounted(fqrn, scratch / "point", settings, within=self.cable.near_command) as point:
            yield point


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    scratch = tmp_path_factory.mktemp("outage")
    with contextlib.ExitStack() as stack:
        publisher = stack.enter_context(publishing.publishing(scratch / "publisher", "lab.example.org"))
        (cable,) = stack.enter_context(cables.laid(1))
        publisher.create()
        with publisher.transaction() as tree:
            for folder in range(FOLDERS):
                (tree / f"folder-{folder}").mkdir()
                (tree / f"folder-{folder}" / ".cvmfscatalog").touch()
                for number in range(FILES):
                    (tree / f"folder-{folder}" / f"file-{number}").write_text(content(folder, number))
        root, address = publisher.storage.parent, cable.far_address
        running = stack.enter_context(serving(root, scratch / "server", host=address, within=cable.far_command))
        yield Lab(publisher, running, cable)


def content(folder: int, number: int) -> str:
    return "".join(hashlib.sha256(f"{folder}-{number}-{block}".encode()).hexdigest() for block in range(300))


def read(point: Path, folder: int, number: int) -> None:
    assert (point / f"folder-{folder}" / f"file-{number}").read_text() == content(folder, number)


def names() -> list[str]:
    return sorted([".cvmfscatalog", *(f"file-{number}" for number in range(FILES))])


@dataclass
class Reader:
    """A thread that reads all files again and again, each from the client, and keeps what it saw."""

    point: Path
    first: int
    ended: threading.Event
    right: int = 0
    failed: int = 0
    longest_s: float = 0.0
    last_right_at: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Reads until it is ended."""
        turn = self.first
        while not self.ended.wait(0.02):
            self._look(turn % FOLDERS, turn // FOLDERS % FILES)
            turn += READERS

    def _look(self, folder: int, number: int) -> None:
        begun = time.monotonic()
        try:
            read(self.point, folder, number)
        except OSError as error:
            self.failed += 1
            if error.errno != errno.EIO:
                self.wrong.append(f"folder-{folder}/file-{number}: {error}")
        except AssertionError:
            self.wrong.append(f"folder-{folder}/file-{number}: other content")
        else:
            self.right += 1
            self.last_right_at = time.monotonic()
        self.longest_s = max(self.longest_s, time.monotonic() - begun)


@contextlib.contextmanager
def reading(point: Path) -> Iterator[list[Reader]]:
    """Runs the readers; they end with the context."""
    ended = threading.Event()
    readers = [Reader(point, first, ended) for first in range(READERS)]
    with beside.running([reader.run for reader in readers], ended, READ_BOUND_S):
        yield readers


@pytest.mark.parametrize("outage", [Cable.cut, Cable.pulled])
def test_the_network_is_gone_amid_reads_and_back(lab: Lab, tmp_path: Path, outage: Outage) -> None:
    with lab.mounted(tmp_path) as point, reading(point) as readers:
        wait_until(lambda: all(reader.right > 3 for reader in readers), READ_BOUND_S, "all readers read")
        with outage(lab.cable):
            gone_at = time.monotonic()
            while time.monotonic() < gone_at + OUTAGE_S:
                begun = time.monotonic()
                # Its catalog was loaded before the network went.
                assert sorted(os.listdir(point / "folder-0")) == names()
                assert time.monotonic() - begun < LISTING_BOUND_S
                time.sleep(0.2)
            assert any(reader.failed for reader in readers), "nobody noticed: it was no outage"
        back_at = time.monotonic()
        wait_until(lambda: all(reader.last_right_at > back_at for reader in readers), BACK_BOUND_S, "all read again")
        for folder in range(FOLDERS):
            for number in range(FILES):
                read(point, folder, number)
    assert [wrong for reader in readers for wrong in reader.wrong] == []
    assert max(reader.longest_s for reader in readers) < READ_BOUND_S


# Reads a file that is not cached, and says before that it is about to.
WAITING = "import sys; print('now', flush=True); open(sys.argv[1], 'rb').read()"


@pytest.mark.parametrize(
    ("timeout_s", "bound_s"),
    [(TIMEOUT_S, READ_BOUND_S), (LONG_TIMEOUT_S, KILL_BOUND_S)],
    ids=["in time", "at once"],
)
def test_a_process_that_waits_for_the_network_can_be_killed_and_the_mount_goes_on(
    lab: Lab, tmp_path: Path, timeout_s: int, bound_s: float
) -> None:
    with lab.mounted(tmp_path, timeout_s) as point:
        read(point, 1, 0)
        with lab.cable.cut():
            command = [sys.executable, "-c", WAITING, str(point / "folder-1" / "file-1")]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=processes.marked_environment()
            ) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"now\n"
                # Asleep in the file system, not on its way there.
                wait_until(lambda: "wait_answer" in waits_in(process.pid), 5.0, "it waits for an answer of the client")
                time.sleep(SETTLED_S)
                assert "wait_answer" in waits_in(process.pid), "it waits for the network"
                begun = time.monotonic()
                process.kill()
                assert process.wait(60.0) == -signal.SIGKILL
                took = time.monotonic() - begun
            assert took < bound_s, f"took {took:.1f} s, the bound is {bound_s:.1f} s"
            assert sorted(os.listdir(point / "folder-1")) == names()
        begun = time.monotonic()
        for number in range(FILES):
            read(point, 1, number)
        assert time.monotonic() - begun < BACK_BOUND_S


def waits_in(pid: int) -> str:
    """Returns the kernel function in which a process sleeps, as far as the kernel tells."""
    return Path(f"/proc/{pid}/wchan").read_text()
