"""What a publisher says is read with a file is fetched when that is opened: by a mount, as its parameters say.

Judged by the requests that a mirror saw and by the client's counters, never by seconds.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compat.test_bundles import specification
from tests.mount.test_cold_start import counters, fill, settle
from tests.support import misbehaving, mounts
from tests.support.publishing import Publisher
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

FILES = 24
LIMIT_S = 30.0
# After a failure, nothing is guessed for ten seconds.
REST_S = 10.0

Mount = Callable[..., Path]
Start = Callable[[Path], Server]
Settings = dict[str, str]


@pytest.fixture
def mirror(publisher: Publisher, server: Start) -> Iterator[misbehaving.Box]:
    """A mirror of a repository with a bundle of `FILES` files, in two directories of which one is a catalog."""
    publisher.create()
    with publisher.transaction() as tree:
        fill(tree / "lib", [700] * (FILES // 2))
        fill(tree / "share", [700] * (FILES // 2))
        (tree / "share" / ".cvmfscatalog").touch()
        (tree / "bin").mkdir()
        (tree / "bin" / "run").write_bytes(b"the trigger")
        names = [f"/{directory}/{number:03}.lua" for directory in ("lib", "share") for number in range(FILES // 2)]
        (tree / "bin" / ".cvmfsbundle-run").write_text(specification(*names))
    with misbehaving.box(server(publisher.storage.parent).url) as running:
        yield running


def mounted(publisher: Publisher, mirror: misbehaving.Box, mount: Mount, scratch: Path, settings: Settings) -> Path:
    """Mounts with an empty cache, and with no guess but those of bundles."""
    others = {f"NEARFS_PREFETCH_{name}": "no" for name in ("NEIGHBOURS", "TRACES", "CATALOGS", "READAHEAD")}
    return mount(publisher.fqrn, publisher.client_settings(mirror.url, scratch / "cache", **others, **settings))


def brought(point: Path) -> int:
    """Reads all files of the bundle; returns how many of them nobody had to wait for from the beginning."""
    assert all(len(path.read_bytes()) == 700 for path in [*(point / "lib").iterdir(), *(point / "share").glob("*.lua")])
    seen = settle(point)
    return seen["prefetch_bundles_used"] + seen["prefetch_bundles_late"]


def opened(point: Path) -> None:
    """Opens the trigger."""
    assert (point / "bin" / "run").read_bytes() == b"the trigger"


@pytest.mark.parametrize(
    ("settings", "at_a_time"), [({}, range(6, FILES + 2)), ({"CVMFS_BUNDLE_POOL_SIZE": "2"}, range(1, 4))]
)
def test_all_of_a_bundle_comes_so_many_at_a_time(
    publisher: Publisher, mirror: misbehaving.Box, mount: Mount, tmp_path: Path, settings: Settings, at_a_time: range
) -> None:
    point = mounted(publisher, mirror, mount, tmp_path, settings)
    mirror.pause_s, mirror.most_at_a_time = 0.1, 0
    opened(point)
    wait_until(lambda: counters(point)["prefetch_bundles_asked"] >= FILES, LIMIT_S, "the list was followed")
    settle(point)
    # The trigger itself, and a catalog on the way, are asked for beside them.
    assert mirror.most_at_a_time in at_a_time
    mirror.asked.clear()
    assert brought(point) >= FILES
    assert mirror.asked == [], "all of it is there"


@pytest.mark.parametrize("settings", [{"CVMFS_PREFETCH_FILEBUNDLES": "no"}, {"NEARFS_PREFETCH": "no"}])
def test_nothing_is_followed_where_it_is_switched_off(
    publisher: Publisher, mirror: misbehaving.Box, mount: Mount, tmp_path: Path, settings: Settings
) -> None:
    point = mounted(publisher, mirror, mount, tmp_path, settings)
    opened(point)
    assert brought(point) == 0
    assert counters(point)["prefetch_bundles_asked"] == 0


def test_a_list_that_was_not_to_be_had_is_looked_for_again(
    publisher: Publisher, mirror: misbehaving.Box, mount: Mount, tmp_path: Path
) -> None:
    off = publisher.client_settings(mirror.url, tmp_path / "cache", NEARFS_PREFETCH="no")
    with mounts.mounted(publisher.fqrn, tmp_path / "before", off) as point:
        opened(point)  # It is in the cache from now on: opening it needs no host.
    point = mounted(publisher, mirror, mount, tmp_path, {})
    assert list((point / "bin").iterdir())
    with mirror.being("404"):
        mirror.asked.clear()
        opened(point)
        wait_until(lambda: mirror.asked, LIMIT_S, "the list was asked for")
        assert settle(point)["prefetch_bundles_used"] == 0
    time.sleep(REST_S + 0.5)
    opened(point)
    wait_until(lambda: counters(point)["prefetch_bundles_asked"] > FILES, LIMIT_S, "the list was followed")
    assert brought(point) >= FILES
