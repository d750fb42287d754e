"""Names of hosts and proxies whose addresses change, are dead or cannot be looked up, under real mounts."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.misbehaving import Box, box
from tests.support.naming import NameServer, naming
from tests.support.publishing import Publisher
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

NAME = "way.example.org"
COUNT = 30
Mount = Callable[..., Path]


@pytest.fixture
def names() -> Iterator[NameServer]:
    with naming() as server:
        yield server


@pytest.fixture
def twins() -> Iterator[tuple[Box, Box]]:
    """Two proxies on the same port of two addresses."""
    with box() as first:
        port = int(first.url.rsplit(":", 1)[1])
        with box(at=("127.0.0.2", port)) as second:
            yield first, second


@pytest.fixture
def served(publisher: Publisher, server: Callable[[Path], Server]) -> tuple[Publisher, Server]:
    publisher.create()
    with publisher.transaction() as tree:
        for number in range(COUNT):
            (tree / f"file-{number}").write_text(f"{number}\n" * 100)
    return publisher, server(publisher.storage.parent)


def settings(
    served: tuple[Publisher, Server], names: NameServer, proxy: Box, cache: Path, **more: str
) -> dict[str, str]:
    publisher, running = served
    return publisher.demand_settings(
        running.url,
        cache,
        CVMFS_HTTP_PROXY=f"http://{NAME}:{proxy.url.rsplit(':', 1)[1]}",
        CVMFS_DNS_SERVER=names.address,
        CVMFS_DNS_MIN_TTL="1",
        CVMFS_DNS_TIMEOUT="1",
        CVMFS_DNS_RETRIES="0",
        CVMFS_TIMEOUT="3",
        **more,
    )


def read(point: Path, numbers: range) -> None:
    for number in numbers:
        assert (point / f"file-{number}").read_text() == f"{number}\n" * 100


def test_a_proxy_that_moves_is_followed_although_the_old_one_still_answers(
    served: tuple[Publisher, Server], names: NameServer, twins: tuple[Box, Box], mount: Mount, tmp_path: Path
) -> None:
    first, second = twins
    names.addresses[NAME] = ["127.0.0.1"]
    point = mount(served[0].fqrn, settings(served, names, first, tmp_path / "cache"))
    read(point, range(3))
    assert not second.asked
    names.addresses[NAME] = ["127.0.0.2"]
    numbers = iter(range(3, COUNT - 3))

    def is_followed() -> bool:
        number = next(numbers)
        read(point, range(number, number + 1))
        time.sleep(0.2)
        return bool(second.asked)

    # One time to live, and the request that has the name looked up again.
    wait_until(is_followed, 5.0, "the new address is asked")
    before = len(first.asked)
    read(point, range(COUNT - 3, COUNT))
    assert len(first.asked) == before


def test_a_name_server_that_is_gone_is_not_noticed_while_old_addresses_work(
    served: tuple[Publisher, Server], names: NameServer, twins: tuple[Box, Box], mount: Mount, tmp_path: Path
) -> None:
    names.addresses[NAME] = ["127.0.0.1"]
    point = mount(served[0].fqrn, settings(served, names, twins[0], tmp_path / "cache"))
    names.is_silent = True
    time.sleep(1.2)
    begun = time.monotonic()
    read(point, range(COUNT))
    assert time.monotonic() - begun < 3.0, "nobody waits for the name server"


@pytest.mark.parametrize("dead", [["::1"], ["127.0.0.3"], ["::1", "127.0.0.3", "127.0.0.4"]])
@pytest.mark.parametrize("prefer", ["4", "6"])
def test_dead_addresses_of_a_name_cost_next_to_nothing(
    served: tuple[Publisher, Server],
    names: NameServer,
    twins: tuple[Box, Box],
    mount: Mount,
    tmp_path: Path,
    dead: list[str],
    prefer: str,
) -> None:
    names.addresses[NAME] = [*dead, "127.0.0.2"]
    more = settings(served, names, twins[0], tmp_path / "cache", CVMFS_IPFAMILY_PREFER=prefer)
    begun = time.monotonic()
    read(mount(served[0].fqrn, more), range(COUNT))
    assert time.monotonic() - begun < 6.0
    assert twins[1].asked


def test_a_name_that_nobody_knows_is_told_in_time(
    served: tuple[Publisher, Server], names: NameServer, twins: tuple[Box, Box], mount: Mount, tmp_path: Path
) -> None:
    begun = time.monotonic()
    with pytest.raises(AssertionError, match=f"{NAME} has no address"):
        mount(served[0].fqrn, settings(served, names, twins[0], tmp_path / "cache"))
    assert time.monotonic() - begun < 10.0
    assert NAME in names.asked
