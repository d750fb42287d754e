"""A stratum 0, two mirrors, two Squids and four clients, each a machine of its own; and everything that goes wrong.

Mirrors die and come back, are stale, are damaged on disk; Squids die. Throughout, clients read what was published:
never a wrong byte, and no error where any way is left. Afterwards they are back at the mirror of their site.
"""

import contextlib
import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.format import check
from tests.support import beside, processes, replicas
from tests.support import chain as chains
from tests.support.chain import FILES, FOLDERS, FQRN, SITES, Chain, Client, Mirror
from tests.support.squid import Squid
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(600)]

LONG = os.environ.get("NEARFS_LONG_TESTS") == "1"
ROUNDS = 20 if LONG else 4
SLOW_BITS_PER_S = 400_000
# Times of the configuration, and what a busy machine needs.
SETTLED_BOUND_S = chains.RESET_S + 60.0
Clients = list[Client]
Outage = Callable[[Mirror], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with chains.linked(tmp_path_factory.mktemp("chain")) as linked:
        yield linked


@pytest.fixture
def squids(chain: Chain) -> Iterator[list[Squid]]:
    with chain.squids() as running:
        yield running


@pytest.fixture
def clients(chain: Chain, squids: list[Squid]) -> Iterator[Clients]:
    with chain.clients(squids) as mounted:
        yield mounted


def unplugged(mirror: Mirror) -> AbstractContextManager[None]:
    return mirror.machine.unplugged()


def assert_sound(chain: Chain) -> None:
    """Our check and the independent reader find every mirror whole, and equal to its source."""
    for mirror in chain.mirrors:
        assert "no problems found" in mirror.replica.server("check", "-c", FQRN).stdout
        assert check.check_repository(mirror.replica.storage, [chain.publisher.public_key.read_bytes()], FQRN) == []
        assert replicas.named_files(mirror.replica.storage) == replicas.named_files(chain.publisher.storage)


def settle(chain: Chain, clients: Clients) -> None:
    """Waits until every client asks the mirror of its site again; they look at it with what they read."""

    def is_home(client: Client) -> bool:
        client.talk("cleanup", "0")
        client.read(0, random.randrange(FILES))
        return client.host == chain.mirrors[client.site].url

    for client in clients:
        wait_until(partial(is_home, client), SETTLED_BOUND_S, f"site {client.site} asks its mirror again")


def test_sites_ask_their_mirror_by_their_squid(chain: Chain, squids: list[Squid], clients: Clients) -> None:
    from_source = len(chain.source.requests())
    for client in clients:
        for folder in range(FOLDERS):
            assert client.read_folder(folder) == {chain.revision}
        assert (client.host, client.proxy) == (chain.mirrors[client.site].url, squids[client.site].url)
    assert len(chain.source.requests()) == from_source, "a client never asks the stratum 0"
    for site in SITES:
        asked = [url for url in squids[site].requests() if "/data/" in url]
        assert all(url.startswith(chain.mirrors[site].url) for url in asked)
        assert len(asked) > len(set(asked)) >= FOLDERS * FILES, "what one client has read, Squid has for the other"
    assert_sound(chain)


def test_the_geo_api_sends_each_site_to_its_mirror_and_to_the_other_when_that_is_gone(
    chain: Chain, squids: list[Squid]
) -> None:
    names = [f"{mirror.url}/cvmfs/{FQRN}" for mirror in chain.mirrors]
    for order in (names, names[::-1]):
        settings = {"CVMFS_SERVER_URL": ";".join(order), "CVMFS_USE_GEOAPI": "yes"}
        with chain.clients(squids, **settings) as clients:
            for client in clients:
                client.read_folder(0)
                assert client.host == chain.mirrors[client.site].url, "whatever the order of the configuration"
            with chain.mirrors[1].killed():
                for client in clients:
                    client.read_folder(1)
                    assert client.host == chain.mirrors[0].url
            settle(chain, clients)


@pytest.mark.parametrize("outage", [Mirror.killed, unplugged])
def test_a_mirror_dies_and_comes_back(chain: Chain, clients: Clients, outage: Outage) -> None:
    near, far = chain.mirrors
    for client in clients:
        client.read_folder(0)
    with outage(near):
        for client in clients:
            for folder in range(1, FOLDERS):
                assert client.read_folder(folder) == {chain.revision}
            assert client.host == far.url
    settle(chain, clients)


def test_a_stale_mirror_shows_what_it_has_and_catches_up(chain: Chain, clients: Clients) -> None:
    fresh, stale = chain.mirrors
    for client in clients:
        client.read_folder(0)
    old = {client.read(1, 0) for client in clients}
    new = chain.publish([1])
    fresh.snapshot()
    for client in clients:
        if client.site == 0:
            client.talk("remount", "sync")
            assert client.read(1, 0) == new
    with fresh.killed():
        for client in clients:
            assert len(client.read_folder(2)) == 1, "what did not change is at the other mirror"
            if client.site == 0:
                # What is new is at no mirror that is alive: an error, never what was there before.
                with pytest.raises(OSError) as caught:
                    client.read(1, 1)
                assert caught.value.errno == errno.EIO
            else:
                assert client.read_folder(1) in ({new}, old)
        stale.snapshot()
        for client in clients:
            client.talk("remount", "sync")
            assert client.read_folder(1) == {new}
    settle(chain, clients)
    assert_sound(chain)


def test_nobody_goes_back_with_a_mirror_that_comes_back_behind(chain: Chain, clients: Clients) -> None:
    behind, current = chain.mirrors
    before = {client.revision for client in clients}
    with behind.killed():
        new = chain.publish([3])
        current.snapshot()
        for client in clients:
            client.talk("remount", "sync")
            assert client.read_folder(3) == {new}
        now = {client.revision for client in clients}
        assert len(before) == len(now) == 1 and max(now) > max(before)
    for client in clients:
        client.talk("cleanup", "0")
        client.talk("remount", "sync")
        assert client.read_folder(3) == {new}
        assert {client.revision} == now
    behind.snapshot()
    settle(chain, clients)
    assert_sound(chain)


def test_the_stratum_0_goes_amid_a_snapshot_and_no_client_notices(chain: Chain, clients: Clients) -> None:
    mirror = chain.mirrors[0]
    mirror.snapshot()
    new = chain.publish([0, 1])
    manifest = (mirror.replica.storage / ".cvmfspublished").read_bytes()
    before = len(chain.source.requests())
    source, environment = chain.machines["stratum0"], mirror.replica.environment
    running = processes.started(mirror.snapshot_command, chain.scratch / "snapshot", env=environment)
    with source.slowed(SLOW_BITS_PER_S), running as snapshot, contextlib.ExitStack() as outage:
        wait_until(lambda: len(chain.source.requests()) > before + 20, 60, "objects are under way")
        outage.enter_context(source.unplugged())
        # It gives up in its own time; what it shows meanwhile is the old revision.
        assert snapshot.wait(200) == 1, (chain.scratch / "snapshot").read_text()
        assert (mirror.replica.storage / ".cvmfspublished").read_bytes() == manifest
        assert replicas.holes(mirror.replica.storage, chain.scratch) == []
        for client in clients:
            client.talk("remount", "sync")
            for folder in range(FOLDERS):
                assert len(client.read_folder(folder)) == 1
    for each in chain.mirrors:
        # For a moment after the cable is in again, a kernel that found nobody says that there is no way to the host.
        wait_until(each.can_snapshot, 60, "the source is back")
    for client in clients:
        client.talk("remount", "sync")
        assert client.read_folder(0) | client.read_folder(1) == {new}
    assert_sound(chain)


def test_a_mirror_that_is_damaged_on_disk_is_passed_over(chain: Chain, squids: list[Squid]) -> None:
    bad = chain.mirrors[0]
    data = bad.replica.storage / "data"
    whole = replicas.objects(bad.replica.storage)
    draw = random.Random(5)
    # The bootstrap of a mount goes by another mirror as well, but that is not what is meant here.
    victims = sorted(key for key in whole if not key.endswith(("C", "X", "H", "M")))
    with chain.clients(squids) as clients:
        for key in victims:
            replicas.damage(data / key[:2] / key[2:], whole[key], draw)
        try:
            before = len(bad.asked())
            for client in clients:
                for folder in range(FOLDERS):
                    assert len(client.read_folder(folder)) == 1
            assert any("/data/" in path for path in bad.asked()[before:]), "the damage was met"
            assert bad.replica.server("check", "-i", FQRN, check=False).returncode != 0
        finally:
            bad.replica.server("rmfs", "-f", FQRN)
            bad.make(chain.source.url, chain.publisher.public_key)
        settle(chain, clients)
    assert_sound(chain)


def test_a_squid_dies(chain: Chain, squids: list[Squid], clients: Clients) -> None:
    for client in clients:
        client.read_folder(0)
    squids[0].process.kill()
    squids[0].process.wait(20)
    for client in clients:
        for folder in range(1, FOLDERS):
            assert len(client.read_folder(folder)) == 1
        assert client.proxy == squids[1].url


@dataclass
class Reader:
    """A thread that reads at random from one client, and keeps what it saw."""

    client: Client
    ended: threading.Event
    right: int = 0
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Reads until it is ended."""
        draw = random.Random(str(self.client.point))
        while not self.ended.wait(0.01):
            folder, number = draw.randrange(FOLDERS), draw.randrange(FILES)
            try:
                self.client.read(folder, number)
                self.right += 1
            except OSError as error:
                self.refused.append(str(error))
            except AssertionError as error:
                self.wrong.append(str(error))


@contextlib.contextmanager
def reading(clients: Clients) -> Iterator[list[Reader]]:
    """Runs a reader for each client; they end with the context."""
    ended = threading.Event()
    readers = [Reader(client, ended) for client in clients]
    with beside.running([reader.run for reader in readers], ended, SETTLED_BOUND_S):
        yield readers


def all_went_on(readers: list[Reader], before: list[int]) -> bool:
    return all(reader.right > count + FILES for reader, count in zip(readers, before, strict=True))


@pytest.mark.parametrize("prefetch", ["yes", "no"])
def test_mirrors_come_and_go_while_the_repository_moves_on(chain: Chain, squids: list[Squid], prefetch: str) -> None:
    with chain.clients(squids, NEARFS_PREFETCH=prefetch) as clients:
        go_on_while_mirrors_come_and_go(chain, clients)


def go_on_while_mirrors_come_and_go(chain: Chain, clients: Clients) -> None:
    draw = random.Random(11)
    outages: list[Outage] = [Mirror.killed, unplugged]
    with reading(clients) as readers:
        for _ in range(ROUNDS):
            chain.publish([draw.randrange(FOLDERS)])
            # Both are current before one goes, so that there always is a way to everything.
            for mirror in chain.mirrors:
                mirror.snapshot()
            before = [reader.right for reader in readers]
            with draw.choice(outages)(draw.choice(chain.mirrors)):
                for client in clients:
                    client.talk("remount", "sync")
                    client.talk("cleanup", "0")
                wait_until(partial(all_went_on, readers, before), SETTLED_BOUND_S, "every client goes on reading")
    assert [wrong for reader in readers for wrong in reader.wrong] == []
    assert [refused for reader in readers for refused in reader.refused] == []
    for client in clients:
        client.talk("remount", "sync")
    settle(chain, clients)
    revision = {client.revision for client in clients}
    assert len(revision) == 1
    assert_sound(chain)
