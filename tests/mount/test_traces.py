"""Learned traces: what a program opened is fetched at once when it runs again, and nothing else is.

Judged by counters of the client and by its requests, never by seconds. The other mechanisms are off, so that what comes
ahead comes by traces.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import mounts, processes
from tests.support.publishing import Publisher
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

LIMIT_S = 30.0
NOISE = random.Random(9)
COMMON, OWN = 20, 40
# What `tool` opens beside itself.
FILES = COMMON + OWN
ALONE = {f"NEARFS_PREFETCH_{name}": "no" for name in ("NEIGHBOURS", "CATALOGS", "READAHEAD", "PACKS")}
# It rests after the first file that all uses have in common, and after the first one of its own: as long as a line takes.
TOOL = """#!/bin/sh
here=$(dirname "$0")/..
cat "$here"/common/part-00/*; sleep 0.3
cat "$here"/common/*/* "$here/use-$1"/part-00/*; sleep 0.3
exec cat "$here/use-$1"/*/*
"""

Start = Callable[[Path], Server]


class Site:
    """A repository, its server, and a cache that outlives mounts."""

    def __init__(self, publisher: Publisher, running: Server, home: Path) -> None:
        self.publisher, self.running, self.home = publisher, running, home
        self.cache = home / "cache"

    @property
    def traces(self) -> Path:
        """Where the client keeps traces."""
        return self.cache / self.publisher.fqrn / "traces" / self.publisher.fqrn

    @contextlib.contextmanager
    def mounted(self, cache: Path | None = None, **more: str) -> Iterator[Path]:
        """Mounts with nothing but traces on."""
        settings = self.publisher.client_settings(self.running.url, cache or self.cache, **{**ALONE, **more})
        with mounts.mounted(self.publisher.fqrn, self.home / "mount" / self.publisher.fqrn, settings) as point:
            yield point

    def empty_cache(self) -> None:
        """Removes what is cached, as `cvmfs_config wipecache` does."""
        for path in (self.cache / self.publisher.fqrn).iterdir():
            if len(path.name) == 2:
                shutil.rmtree(path)
                path.mkdir(mode=0o700)


def counters(point: Path) -> dict[str, int]:
    """Returns the client's counters once nothing is under way."""

    def asked() -> dict[str, int]:
        lines = os.getxattr(point, "user.nearfs_counters").decode("ascii").splitlines()
        return {name: int(value) for name, value in (line.split(",") for line in lines)}

    wait_until(lambda: asked()["prefetch_pending_bytes"] == 0, LIMIT_S, "guesses have ended")
    return asked()


def helped(seen: dict[str, int]) -> int:
    """Returns how many files were there, or on their way, when somebody asked."""
    return seen["prefetch_traces_used"] + seen["prefetch_traces_late"]


def run(point: Path, use: str, tool: str = "bin/tool") -> bytes:
    """Runs the tool as a shell's job: in a process group of its own."""
    done = subprocess.run(
        [point / tool, use], capture_output=True, check=True, timeout=LIMIT_S, start_new_session=True
    )
    return done.stdout


def fill(tree: Path, seed: int) -> None:
    """Writes a tool with two uses, in directories that nobody would guess from each other."""
    noise = random.Random(seed)
    for name, count in (("common", COMMON), ("use-one", OWN), ("use-two", OWN)):
        for number in range(count):
            path = tree / name / f"part-{number:02}" / f"{name}-{number}.kind{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(noise.randbytes(2000 + number).hex(), "ascii")
    (tree / "bin").mkdir(exist_ok=True)
    (tree / "bin" / "tool").write_text(TOOL, "ascii")
    (tree / "bin" / "tool").chmod(0o755)


@pytest.fixture
def site(publisher: Publisher, server: Start, tmp_path: Path) -> Site:
    publisher.create()
    with publisher.transaction() as tree:
        fill(tree, 1)
    return Site(publisher, server(publisher.storage.parent), tmp_path)


def test_a_program_that_ran_once_is_brought_at_once_on_an_empty_cache(site: Site) -> None:
    with site.mounted() as point:
        first = run(point, "one")
        assert counters(point)["prefetch_traces_asked"] == 0
    assert len(list(site.traces.iterdir())) == 1
    site.empty_cache()
    with site.mounted() as point:
        assert run(point, "one") == first
        seen = counters(point)
        assert helped(seen) >= FILES - 1
        assert seen["prefetch_traces_wasted"] == 0
        assert seen["traces_followed"] == 1
        again = counters(point)["requests"]
        assert run(point, "one") == first
        assert counters(point)["requests"] == again, "what is there is not asked for"
        assert counters(point)["traces_followed"] == 1, "a run that waits for nothing is not followed"


def test_each_use_of_a_program_is_brought_its_own_files(site: Site) -> None:
    with site.mounted() as point:
        expected = {use: run(point, use) for use in ("one", "two")}
    assert len(list(site.traces.iterdir())) == 3
    for use in ("one", "two"):
        site.empty_cache()
        with site.mounted() as point:
            assert run(point, use) == expected[use]
            seen = counters(point)
            assert helped(seen) >= FILES - 2, "the first files may be waited for"
            assert seen["prefetch_traces_wasted"] == 0
            assert seen["traces_followed"] == 2


def test_a_new_revision_is_found_by_the_same_trace(site: Site) -> None:
    with site.mounted() as point:
        run(point, "one")
    with site.publisher.transaction() as tree:
        for name in ("common", "use-one", "use-two"):
            shutil.rmtree(tree / name)
        fill(tree, 2)
    with site.mounted() as point:
        content = run(point, "one")
        seen = counters(point)
        assert len(content) > 4000 * FILES
        assert helped(seen) == FILES - 1, "the first file that changed is waited for"
        assert seen["prefetch_traces_wasted"] == 0
