"""Cold starts: what is fetched before it is asked for, what that saves, and what it may cost in vain.

Judged by the requests that a server saw and by the client's counters, never by seconds: whether a guess was early
enough depends on the machine, whether it was made does not.
"""

import os
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.support import misbehaving, mounts
from tests.support.publishing import Publisher
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

LIMIT_S = 30.0
BUDGET_BYTES = 2 << 20
DIRECTORIES = 40
NOISE = random.Random(8)

Mount = Callable[..., Path]
Start = Callable[[Path], Server]


def counters(point: Path) -> dict[str, int]:
    """Returns the client's counters."""
    lines = os.getxattr(point, "user.nearfs_counters").decode("ascii").splitlines()
    return {name: int(value) for name, value in (line.split(",") for line in lines)}


def settle(point: Path) -> dict[str, int]:
    """Returns the counters once no guess is on its way."""
    wait_until(lambda: counters(point)["prefetch_pending_bytes"] == 0, LIMIT_S, "guesses have ended")
    return counters(point)


def fill(directory: Path, sizes: Iterable[int], ending: str = ".lua") -> None:
    """Writes files that do not deflate, each with content of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes):
        (directory / f"{number:03}{ending}").write_bytes(NOISE.randbytes(size))


def objects(requests: list[dict[str, object]]) -> dict[str, int]:
    """Returns object -> bytes of the files that were asked for; catalogs, certificates and the like end in a letter."""
    found = {str(line["path"]).partition("/data/")[2].replace("/", ""): int(str(line["bytes"])) for line in requests}
    return {name: size for name, size in found.items() if name and not name[-1].isupper()}


def wasted(running: Server, point: Path, read: Iterable[Path]) -> tuple[int, int]:
    """Returns the bytes of what the server sent and nobody read, and of what was read."""
    needed = {os.getxattr(path, "user.hash").decode("ascii") for path in read}
    settle(point)
    sent = objects(running.requests())
    assert needed <= sent.keys()
    in_need = sum(size for name, size in sent.items() if name in needed)
    return sum(sent.values()) - in_need, in_need


@pytest.fixture
def served(publisher: Publisher, server: Start) -> tuple[Publisher, Server]:
    """A repository with the trees below, and its server."""
    publisher.create()
    with publisher.transaction() as tree:
        fill(tree / "flat", [700] * 200)
        for number in range(DIRECTORIES):
            fill(tree / "modules" / f"name-{number:02}", [900] * 3)
            fill(tree / "wide" / f"group-{number:02}", [30_000] * 10)
            fill(tree / "nested" / f"part-{number:02}", [100])
        (tree / ".cvmfsdirtab").write_text("/nested\n/nested/*\n", "ascii")
    return publisher, server(publisher.storage.parent)


def test_files_read_in_order_are_waited_for_two_or_three_times(
    served: tuple[Publisher, Server], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    point = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache"))
    flat = sorted((point / "flat").iterdir())
    contents = [path.read_bytes() for path in flat]
    seen = settle(point)
    assert seen["opens"] - seen["prefetch_neighbours_used"] - seen["prefetch_neighbours_late"] == 2
    assert objects(running.requests()).keys() == {os.getxattr(path, "user.hash").decode("ascii") for path in flat}
    assert contents == [path.read_bytes() for path in flat]
    modules = sorted((point / "modules").rglob("*.lua"))
    assert all(len(path.read_bytes()) == 900 for path in modules)
    now = settle(point)
    helped = sum(now[name] - seen[name] for name in ("prefetch_neighbours_used", "prefetch_neighbours_late"))
    assert len(modules) - helped <= 3
    assert wasted(running, point, [*flat, *modules])[0] == 0


def test_one_parameter_switches_everything_off(served: tuple[Publisher, Server], mount: Mount, tmp_path: Path) -> None:
    publisher, running = served
    settings = publisher.client_settings(running.url, tmp_path / "cache", NEARFS_PREFETCH="no")
    point = mount(publisher.fqrn, settings)
    os.listdir(point / "nested")
    read = sorted((point / "flat").iterdir())[:20]
    assert all(path.read_bytes() for path in read)
    facts = {"prefetch_needed_bytes", "prefetch_air_bytes"}
    seen = {name for name, value in counters(point).items() if name.startswith("prefetch_") and value}
    assert seen <= facts, "nothing was guessed"
    assert wasted(running, point, read)[0] == 0
    assert [line for line in running.requests() if str(line["path"]).endswith("C")][2:] == []


@pytest.mark.parametrize("pattern", ["one of each directory", "here and there", "nothing at all"])
def test_waste_keeps_to_its_bound(served: tuple[Publisher, Server], mount: Mount, tmp_path: Path, pattern: str) -> None:
    publisher, running = served
    settings = publisher.client_settings(running.url, tmp_path / "cache", NEARFS_PREFETCH_BUDGET="1")
    point = mount(publisher.fqrn, settings)
    everything = sorted((point / "wide").rglob("*.lua"))
    assert len(everything) == DIRECTORIES * 10
    read = {
        "one of each directory": everything[3::10],
        "here and there": random.Random(5).sample(everything, 60),
        "nothing at all": [],
    }[pattern]
    for path in read:
        assert path.stat().st_size == len(path.read_bytes())
    in_vain, needed = wasted(running, point, read)
    # Whoever reads files needs their catalogs too.
    needed += sum(int(str(line["bytes"])) for line in running.requests() if str(line["path"]).endswith("C"))
    assert in_vain <= needed + (1 << 20)
    if not read:
        assert in_vain == 0, "listing alone reads no file"
    if len(read) > 3:
        assert counters(point)["prefetch_neighbours_asked"] > 0, "nothing was guessed: this test would prove nothing"


def test_catalogs_of_a_listed_directory_come_along(
    served: tuple[Publisher, Server], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    point = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache"))
    names = [name for name in os.listdir(point / "nested") if name.startswith("part-")]
    seen = settle(point)
    assert seen["prefetch_catalogs_asked"] >= DIRECTORIES
    asked = len(running.requests())
    for name in names:
        os.listdir(point / "nested" / name)
    now = counters(point)
    assert now["prefetch_catalogs_used"] - seen["prefetch_catalogs_used"] == DIRECTORIES
    assert len(running.requests()) == asked, "every catalog was there"


def test_chunks_of_a_file_read_in_order_are_fetched_ahead(
    publisher: Publisher, server: Start, mount: Mount, tmp_path: Path
) -> None:
    publisher.create()
    publisher.configure(
        {"CVMFS_USE_FILE_CHUNKING": "true", "CVMFS_MIN_CHUNK_SIZE": "262144", "CVMFS_AVG_CHUNK_SIZE": "524288"}
        | {"CVMFS_MAX_CHUNK_SIZE": "1048576"}
    )
    content = NOISE.randbytes(24 << 20)
    with publisher.transaction() as tree:
        (tree / "large").write_bytes(content)
    running = server(publisher.storage.parent)
    point = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache"))
    with (point / "large").open("rb", buffering=0) as large:
        read = bytearray()
        while piece := large.read(1 << 20):
            read += piece
            time.sleep(0.02)  # it does something with that: here is no line, and it would outrun any guess
    assert read == content
    chunks = int(os.getxattr(point / "large", "user.chunks"))
    seen = settle(point)
    assert chunks > 40
    helped = seen["prefetch_readahead_used"] + seen["prefetch_readahead_late"]
    # On a busy machine the kernel's own reads come so far out of turn that the row begins anew, once or twice.
    assert chunks // 8 < helped < chunks
    partial = [line for line in running.requests() if str(line["path"]).endswith("P")]
    assert len(partial) == chunks, "each chunk was asked for once"


def test_guesses_that_fail_hurt_nobody(served: tuple[Publisher, Server], mount: Mount, tmp_path: Path) -> None:
    publisher, running = served
    point = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache"))
    flat = sorted((point / "flat").iterdir())
    # What is missing at the server, nobody reads.
    for path in flat[10:]:
        name = os.getxattr(path, "user.hash").decode("ascii")
        (publisher.storage / "data" / name[:2] / name[2:]).unlink()
    for path in flat[:10]:
        assert len(path.read_bytes()) == 700
    seen = settle(point)
    assert seen["io_errors"] == 0
    assert seen["prefetch_neighbours_asked"] > 0
    with pytest.raises(OSError, match="Input/output error"):
        flat[50].read_bytes()


def test_guesses_to_a_silent_host_end_with_their_reader_and_with_the_mount(
    served: tuple[Publisher, Server], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    impatient = {"CVMFS_TIMEOUT_DIRECT": "2", "CVMFS_MAX_RETRIES": "0"}
    with misbehaving.box(running.url) as mirror:
        point = mount(publisher.fqrn, publisher.client_settings(mirror.url, tmp_path / "cache", **impatient))
        flat = sorted((point / "flat").iterdir())
        pid = int(os.getxattr(point, "user.pid"))
        assert len(flat[0].read_bytes()) == 700
        with mirror.being("silent"):
            with pytest.raises(OSError, match="Input/output error"):
                flat[1].read_bytes()
            assert settle(point)["prefetch_neighbours_asked"] > 0
            assert len(mirror.asked) > len(running.requests()) + 1, "guesses had been sent"
        assert len(flat[1].read_bytes()) == 700
        assert counters(point)["prefetch_pending_bytes"] == 0, "nothing is guessed for a while after a failure"
        with mirror.being("silent"):
            # The client ends although a request of its own may still be under way.
            mounts.unmount(point)
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), LIMIT_S, "the client has ended")
