"""The geo API's parts without a server: distances, the renewal of files, and the bounds on look-ups of names."""

import asyncio
import ipaddress
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfs.serve.geo import naming, sphere, table
from nearfs.serve.geo.atlas import Atlas
from nearfs.serve.geo.naming import Resolver
from nearfs.serve.geo.sphere import Place

ADDRESS = ipaddress.ip_address("192.0.2.1")
PLACES = st.builds(Place, st.floats(-90, 90), st.floats(-180, 180))


@given(PLACES, PLACES)
def test_the_distance_is_the_angle_between_two_directions(one: Place, other: Place) -> None:
    def direction(place: Place) -> tuple[float, float, float]:
        north, east = map(math.radians, place)
        return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)

    cosine = math.fsum(a * b for a, b in zip(direction(one), direction(other), strict=True))
    assert sphere.angle(one, other) == pytest.approx(math.acos(max(-1.0, min(1.0, cosine))), abs=1e-6)
    assert sphere.angle(one, other) == pytest.approx(sphere.angle(other, one))


def test_a_file_that_is_replaced_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "table"
    file.write_text("192.0.2.0/24 1 2\n")
    atlas = Atlas(file, table.read)
    assert atlas.find(ADDRESS) == (1, 2)
    assert atlas.find(ipaddress.ip_address("::ffff:192.0.2.1")) == (1, 2)
    atlas.renew()
    assert atlas.changed == 0
    file.write_text("192.0.2.0/24 10.5 20\n")
    atlas.renew()
    assert (atlas.changed, atlas.find(ADDRESS)) == (1, (10.5, 20))
    for broken in ("nonsense\n", None):
        if broken is None:
            file.unlink()
        else:
            file.write_text(broken)
        atlas.renew()
        assert (atlas.changed, atlas.find(ADDRESS)) == (1, (10.5, 20))
    atlas.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Returns the event that lets a resolver answer, which is silent until then."""
    answer = threading.Event()

    def look_up(name: str) -> naming.Addresses:
        answer.wait(20)
        return () if name.startswith("none") else (ADDRESS,)

    monkeypatch.setattr(naming, "_look_up", look_up)
    monkeypatch.setattr(naming, "WAIT_LIMIT_S", 0.05)
    yield answer
    answer.set()


def test_nobody_waits_for_a_silent_resolver_and_its_late_answer_is_kept(slow: threading.Event) -> None:
    async def story() -> None:
        resolver = Resolver()
        asked = await asyncio.gather(*(resolver.addresses("host.example.org") for _ in range(50)))
        assert (asked, resolver.lookups) == ([()] * 50, 1)
        slow.set()
        while await resolver.addresses("host.example.org") != (ADDRESS,):  # noqa: ASYNC110 -- what a client sees
            await asyncio.sleep(0.01)
        assert resolver.lookups == 1

    asyncio.run(asyncio.wait_for(story(), 20))


def test_look_ups_and_names_are_bounded(slow: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "KNOWN_LIMIT", 10)

    async def story() -> None:
        resolver = Resolver()
        before = threading.active_count()
        await asyncio.gather(*(resolver.addresses(f"host{number}.example.org") for number in range(500)))
        assert resolver.lookups == naming.ASKING_LIMIT
        assert threading.active_count() - before <= naming.ASKING_LIMIT
        slow.set()
        while threading.active_count() > before:  # noqa: ASYNC110 -- threads tell nobody
            await asyncio.sleep(0.01)
        assert await resolver.addresses("again.example.org") in ((), (ADDRESS,))
        assert len(resolver._known) <= 10

    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_name_that_fails_once_keeps_the_addresses_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[naming.Addresses] = [(ADDRESS,), ()]
    monkeypatch.setattr(naming, "_look_up", lambda name: answers.pop(0))
    monkeypatch.setattr(naming, "KEEP_S", 0.0)

    async def story() -> None:
        resolver = Resolver()
        assert await resolver.addresses("host.example.org") == (ADDRESS,)
        assert await resolver.addresses("host.example.org") == (ADDRESS,)
        assert await resolver.addresses("host.example.org") == (ADDRESS,), "for half a minute"
        assert resolver.lookups == 2

    asyncio.run(asyncio.wait_for(story(), 20))


def test_what_is_no_host_name_is_never_looked_up() -> None:
    async def story() -> None:
        resolver = Resolver()
        names = ["", "a b", "-", "a/b", "x" * 300, "héhé", "3b1f0c7e-0000-4000-8000-0123456789ab", "a\n"]
        assert [await resolver.addresses(name) for name in names] == [()] * len(names)
        assert await resolver.addresses("192.0.2.1") == (ADDRESS,)
        assert resolver.lookups == 0

    asyncio.run(story())
