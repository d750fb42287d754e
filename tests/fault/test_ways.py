"""Every fault of a host and of a proxy, under real mounts behind real cables: at the mount, amid reads, and afterwards.

A client has one way (a host, or a proxy) that is struck, in half of the tests another one beside it that is not:

| struck                                              | only way           | one of two ways |
|-----------------------------------------------------|--------------------|-----------------|
| at the mount                                        | no mount, in time  | nobody notices  |
| while mounted                                       | EIO, in time       | nobody notices  |
| not any more                                        | as if never struck |                 |

Each fault in FAULTS is tried in each place, but where ELSEWHERE and SLOW say. What is read is compared with what was
published.
"""

import contextlib
import errno
import hashlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import pytest

from bench.lab.namespaces import inside
from tests.support import cables, mounts, publishing
from tests.support.cables import Cable
from tests.support.misbehaving import Behaviour, Box, box
from tests.support.publishing import Publisher
from tests.support.serving import Server, serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

Role = Literal["host", "proxy"]
Fault = Behaviour | Literal["dead", "unplugged"]
FAULTS: list[Fault] = ["dead", "unplugged", *(one for one in get_args(Behaviour) if one != "good")]
# A host that goes bad beside another: tests/fault/test_network.py.
ELSEWHERE = {("host", fault) for fault in ("silent", "trickle", "truncate", "corrupt", "503", "404", "loop")}
# Seconds each, and no other than their neighbours at the mount.
SLOW = {("host", "stall"), ("host", "trickle"), ("host", "trickle-header"), ("proxy", "trickle-header")}
# The host gets the blame for what a proxy does not say to be its own; no other proxy is asked.
BLAMED_ON_THE_HOST = {("proxy", "206"), ("proxy", "astray")}

TIMEOUT_S = 1
# A request asks its way, asks again past caches where what came is corrupt, and looks at other ways meanwhile.
ATTEMPTS = 3
REQUESTS_OF_A_MOUNT = 3  # manifest and whitelist at once, certificate, root catalog
GENEROSITY = 3
SLACK_S = 4.0  # what a busy machine needs to start a process and mount
READ_BOUND_S = GENEROSITY * ATTEMPTS * TIMEOUT_S
MOUNT_BOUND_S = GENEROSITY * ATTEMPTS * REQUESTS_OF_A_MOUNT * TIMEOUT_S + SLACK_S
COUNT = 8
CHUNK_SIZES = {
    f"CVMFS_{which}_CHUNK_SIZE": str(size)  # whole files are smaller
    for which, size in [("MIN", 24_576), ("AVG", 32_768), ("MAX", 65_536)]
}


@dataclass(frozen=True)
class Lab:
    """A repository, its server on a machine that is never struck, and a machine that is."""

    publisher: Publisher
    origin: Server
    good: Server
    struck_cable: Cable
    good_cable: Cable


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    scratch = tmp_path_factory.mktemp("ways")
    with contextlib.ExitStack() as stack:
        publisher = stack.enter_context(publishing.publishing(scratch / "publisher", "lab.example.org"))
        struck, good = stack.enter_context(cables.laid(2))
        publisher.create()
        publisher.configure({"CVMFS_USE_FILE_CHUNKING": "true", **CHUNK_SIZES})
        with publisher.transaction() as tree:
            (tree / "large").write_text(large())
            (tree / "nested").mkdir()
            (tree / "nested" / ".cvmfscatalog").touch()
            (tree / "nested" / "file").write_text(content(0))
            for number in range(COUNT):
                (tree / f"file-{number}").write_text(content(number))
        root = publisher.storage.parent
        origin = stack.enter_context(serving(root, scratch / "origin"))
        far = stack.enter_context(serving(root, scratch / "good", host=good.far_address, within=good.far_command))
        yield Lab(publisher, origin, far, struck, good)


def content(number: int) -> str:
    # Hardly compressible, so that a trickle of it takes minutes.
    return "".join(hashlib.sha256(f"{number}-{block}".encode()).hexdigest() for block in range(300))


def large() -> str:
    return "".join(content(number) for number in range(100, 105))


@dataclass(frozen=True)
class Way:
    """The host or the proxy that is struck, and the client's configuration with it."""

    lab: Lab
    box: Box
    settings: dict[str, str]

    def struck(self, fault: Fault) -> AbstractContextManager[None]:
        """Strikes it for a while."""
        match fault:
            case "dead":
                return self.lab.struck_cable.cut()
            case "unplugged":
                return self.lab.struck_cable.pulled()
            case _:
                return self.box.being(fault)

    def mounted(self, point: Path) -> AbstractContextManager[Path]:
        """Mounts on the near machine."""
        fqrn, within = self.lab.publisher.fqrn, self.lab.struck_cable.near_command
        return mounts.mounted(fqrn, point, self.settings, within=within, limit=MOUNT_BOUND_S)


@contextlib.contextmanager
def way(lab: Lab, role: Role, cache: Path, *, is_only: bool) -> Iterator[Way]:
    """Yields a way in `role`: the only one, or the first of two."""

    def start(cable: Cable, upstream: str | None) -> AbstractContextManager[Box]:
        return box(upstream, at=(cable.far_address, 0), enter=partial(inside, cable.far))

    more = {
        "CVMFS_TIMEOUT": str(TIMEOUT_S),
        "CVMFS_TIMEOUT_DIRECT": str(TIMEOUT_S),
        "CVMFS_MAX_RETRIES": "0",
        "CVMFS_FOLLOW_REDIRECTS": "yes",
    }
    with contextlib.ExitStack() as stack:
        if role == "host":
            made = stack.enter_context(start(lab.struck_cable, lab.origin.url))
            urls = [made.url] if is_only else [made.url, lab.good.url]
            more["CVMFS_SERVER_URL"] = ";".join(f"{url}/cvmfs/{lab.publisher.fqrn}" for url in urls)
        else:
            made = stack.enter_context(start(lab.struck_cable, None))
            others = [] if is_only else [stack.enter_context(start(lab.good_cable, None)).url]
            more["CVMFS_HTTP_PROXY"] = ";".join([made.url, *others])
        yield Way(lab, made, lab.publisher.demand_settings(lab.origin.url, cache, **more))


@contextlib.contextmanager
def within(limit_s: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert took < limit_s, f"took {took:.1f} s, the bound is {limit_s:.1f} s"


def read(point: Path, numbers: range) -> None:
    for number in numbers:
        assert (point / f"file-{number}").read_text() == content(number)


def can_read(point: Path) -> bool:
    try:
        read(point, range(COUNT))
    except OSError:
        return False
    return True


EACH = [(role, fault) for role in get_args(Role) for fault in FAULTS]
ROLES_AND_FAULTS = ("role", "fault")


@pytest.mark.parametrize(ROLES_AND_FAULTS, EACH)
def test_an_only_way_that_is_struck_gives_eio_in_time_and_serves_again(
    lab: Lab, tmp_path: Path, role: Role, fault: Fault
) -> None:
    with way(lab, role, tmp_path / "cache", is_only=True) as made, made.mounted(tmp_path / "point") as point:
        read(point, range(2))
        names = sorted(path.name for path in point.iterdir())
        with made.struck(fault):
            with within(READ_BOUND_S), pytest.raises(OSError) as caught:
                (point / "file-2").read_text()
            assert caught.value.errno == errno.EIO
            # What is there needs nobody.
            with within(SLACK_S):
                read(point, range(2))
                assert sorted(path.name for path in point.iterdir()) == names
        # The first may still meet a connection that is not over its loss.
        wait_until(lambda: can_read(point), READ_BOUND_S, "it serves again")


@pytest.mark.parametrize(ROLES_AND_FAULTS, [pair for pair in EACH if pair not in ELSEWHERE | BLAMED_ON_THE_HOST])
def test_one_of_two_ways_is_struck_and_nobody_notices(lab: Lab, tmp_path: Path, role: Role, fault: Fault) -> None:
    with way(lab, role, tmp_path / "cache", is_only=False) as made, made.mounted(tmp_path / "point") as point:
        read(point, range(2))
        with made.struck(fault), within(READ_BOUND_S):
            read(point, range(COUNT))


@pytest.mark.parametrize(ROLES_AND_FAULTS, [pair for pair in EACH if pair not in SLOW])
def test_a_way_that_is_struck_at_the_mount_ends_it_in_time_unless_there_is_another(
    lab: Lab, tmp_path: Path, role: Role, fault: Fault
) -> None:
    point = tmp_path / "point"
    with way(lab, role, tmp_path / "cache", is_only=True) as made:
        with made.struck(fault), within(MOUNT_BOUND_S), pytest.raises(AssertionError, match="exit code"):
            made.mounted(point).__enter__()
        assert not mounts.is_mounted(point)
    if (role, fault) in BLAMED_ON_THE_HOST:
        return
    # With the same cache: a mount that failed leaves nothing that the next one stumbles over.
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(way(lab, role, tmp_path / "cache", is_only=False))
        stack.enter_context(made.struck(fault))
        with within(MOUNT_BOUND_S), made.mounted(point):
            read(point, range(COUNT))


@pytest.mark.parametrize("fault", ["403", "404", "corrupt", "refuse"])
def test_chunks_and_nested_catalogs_that_cannot_be_had_are_eio_and_come_later(
    lab: Lab, tmp_path: Path, fault: Fault
) -> None:
    with way(lab, "host", tmp_path / "cache", is_only=True) as made, made.mounted(tmp_path / "point") as point:
        with (point / "large").open("rb") as opened:
            before = opened.read(1)
            with made.struck(fault), within(2 * READ_BOUND_S):
                with pytest.raises(OSError) as of_chunk:
                    (point / "large").read_text()
                with pytest.raises(OSError) as of_catalog:
                    (point / "nested" / "file").read_text()
            assert (of_chunk.value.errno, of_catalog.value.errno) == (errno.EIO, errno.EIO)
            # Also who had it open before.
            assert (before + opened.read()).decode() == large()
        with within(READ_BOUND_S):
            assert (point / "nested" / "file").read_text() == content(0)
