"""Packs as a client reads them: what they save, and that nothing depends on them.

Judged by the requests that a server saw, by content and by counters, never by seconds.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_cold_start import LIMIT_S, counters, fill, settle
from tests.support.publishing import Publisher
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

DIRECTORIES = 30
FILES = 8
NOISE = random.Random(4)

Mount = Callable[..., Path]
Start = Callable[[Path], Server]
Served = tuple[Publisher, Server]


@pytest.fixture
def served(publisher: Publisher, server: Start) -> Served:
    """A repository with packs of many small files, and its server."""
    publisher.create()
    publisher.configure({"NEARFS_PACKS": "true"})
    with publisher.transaction() as tree:
        for number in range(DIRECTORIES):
            fill(tree / "modules" / f"name-{number:02}", [900] * FILES)
        # Packs may cost a fifth of what there is.
        (tree / "large").write_bytes(NOISE.randbytes(2 << 20))
    return publisher, server(publisher.storage.parent)


def modules(tree: Path) -> list[Path]:
    """Returns the files that are packed, in the order of their paths."""
    return sorted((tree / "modules").rglob("*.lua"))


def packs(publisher: Publisher) -> dict[str, Path]:
    """Returns the packs of the published revision: object -> its file in the storage."""
    found = [path for path in (publisher.union / ".nearfs").glob("p*/*") if path.name != ".cvmfscatalog"]
    names = [os.getxattr(path, "user.hash").decode("ascii") for path in found]
    return {name: publisher.storage / "data" / name[:2] / name[2:] for name in names}


def asked(running: Server) -> list[str]:
    """Returns the objects that were asked for."""
    return [str(line["path"]).partition("/data/")[2].replace("/", "") for line in running.requests()]


def read_all(publisher: Publisher, point: Path) -> None:
    """Reads every packed file and compares it with what was published."""
    for here, there in zip(modules(point), modules(publisher.union), strict=True):
        assert here.relative_to(point) == there.relative_to(publisher.union)
        assert here.read_bytes() == there.read_bytes()


def test_a_few_requests_bring_many_files(served: Served, mount: Mount, tmp_path: Path) -> None:
    publisher, running = served
    point = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache"))
    read_all(publisher, point)
    seen = settle(point)
    assert 0 < seen["prefetch_packs_fetched"] <= len(packs(publisher))
    helped = seen["prefetch_packs_used"] + seen["prefetch_packs_late"]
    assert helped > DIRECTORIES * FILES // 2
    alone = {os.getxattr(path, "user.hash").decode("ascii") for path in modules(point)} & set(asked(running))
    assert len(alone) < DIRECTORIES * FILES // 4, "the others came in packs"


@pytest.mark.parametrize("is_listed", [False, True], ids=["opened", "listed and opened"])
def test_who_looked_through_the_whole_tree_is_brought_many_packs(
    served: Served, mount: Mount, tmp_path: Path, is_listed: bool
) -> None:
    publisher, running = served
    point = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache"))
    first = modules(publisher.union)[0].relative_to(publisher.union)
    if is_listed:
        assert len(modules(point)) == DIRECTORIES * FILES
        assert settle(point)["prefetch_packs_fetched"] == 0, "listing is no reading"
    assert len(packs(publisher)) > 1
    (point / first).read_bytes()
    if is_listed:
        wait_until(lambda: counters(point)["prefetch_packs_fetched"] > 1, LIMIT_S, "several packs come")
    seen = settle(point)
    assert (seen["prefetch_packs_fetched"] > 1) is is_listed
    assert seen["prefetch_unused_bytes"] <= 1 << 20


@pytest.mark.parametrize("switch", ["NEARFS_PREFETCH", "NEARFS_PREFETCH_PACKS"])
def test_a_client_without_packs_sees_the_same_tree(served: Served, mount: Mount, tmp_path: Path, switch: str) -> None:
    publisher, running = served
    point = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache", **{switch: "no"}))
    assert ".nearfs" not in os.listdir(point)
    read_all(publisher, point)
    assert counters(point)["prefetch_packs_asked"] == 0
    assert packs(publisher).keys().isdisjoint(asked(running))


@pytest.mark.parametrize("damage", ["missing", "short", "other bytes", "endless"])
def test_a_pack_that_is_none_costs_a_request(served: Served, mount: Mount, tmp_path: Path, damage: str) -> None:
    publisher, running = served
    stored = packs(publisher)
    assert stored
    contents = {path.relative_to(publisher.union): path.read_bytes() for path in modules(publisher.union)}
    for path in stored.values():
        path.chmod(0o600)
        content = path.read_bytes()
        match damage:
            case "missing":
                path.unlink()
            case "short":
                path.write_bytes(content[: len(content) // 2])
            case "other bytes":
                path.write_bytes(bytes(byte ^ 1 for byte in content))
            case _:
                path.write_bytes(content * 20)
    point = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache"))
    for path in modules(point):
        assert path.read_bytes() == contents[path.relative_to(point)]
    seen = settle(point)
    assert (seen["io_errors"], seen["prefetch_packs_fetched"]) == (0, 0)
    requests = asked(running)
    assert stored.keys() & set(requests), "none was asked for: this test would prove nothing"
    assert all(requests.count(name) <= 1 for name in stored)
    assert seen["prefetch_unused_bytes"] <= seen["prefetch_needed_bytes"] + (2 << 20)


def test_a_table_that_is_none_changes_nothing(served: Served, mount: Mount, tmp_path: Path) -> None:
    publisher, running = served
    tables = [path for path in (publisher.union / ".nearfs").iterdir() if path.name.startswith("t")]
    names = [os.getxattr(path, "user.hash").decode("ascii") for path in tables]
    contents = {path.relative_to(publisher.union): path.read_bytes() for path in modules(publisher.union)}
    for name in names:
        stored = publisher.storage / "data" / name[:2] / name[2:]
        stored.chmod(0o600)
        stored.write_bytes(NOISE.randbytes(stored.stat().st_size))
    point = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache"))
    for path in modules(point):
        assert path.read_bytes() == contents[path.relative_to(point)]
    seen = settle(point)
    assert seen["prefetch_packs_fetched"] == 0
    assert seen["prefetch_packs_asked"] <= 2, "the catalog of packs and the table, and no pack"
