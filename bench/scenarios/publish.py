"""How long a publish takes: 30,000 small files in 50 nested catalogs, then a change of one file.

Beside it the floor of the same run: reading, deflating and hashing the same files on all cores, with nothing stored.
"""

import hashlib
import os
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.harness.result import Sample
from bench.harness.scenario import Scenario, Setting
from bench.harness.site import Site, copy_into


def _deflated(paths: list[str]) -> int:
    total = 0
    for path in paths:
        with open(path, "rb") as source:
            stored = zlib.compress(source.read())
        hashlib.sha1(stored, usedforsecurity=False).digest()
        total += len(stored)
    return total


def floor_s(tree: Path) -> float:
    """Returns the seconds for reading, deflating and hashing every file of a tree on all cores."""
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names]
    cores = os.cpu_count() or 1
    started = time.monotonic()
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(_deflated, [paths[number::cores] for number in range(cores)]))
    return time.monotonic() - started


def measure(setting: Setting) -> None:
    """Records `publish-30000` and `publish-one-file`, and the floor of the first."""
    source = setting.tree.source
    done = 0
    while setting.goes_on(done):
        # What an earlier run stored stays until the end: ext4 is slow to create files right after as many were deleted.
        site = Site(setting.site.home.with_name(f"publish-{done}"), f"publish{done}.bench.example.org")
        site.create()
        setting.record("publish-30000", "cold", _seconds(site.change(copy_into(source))), "nearfs")
        setting.record("publish-30000", "cold", _seconds(floor_s(source)), "floor")
        setting.record("publish-one-file", "hot", _seconds(site.change(_change_one)), "nearfs")
        done += 1


def _seconds(wall_s: float) -> Sample:
    return {"wall_s": wall_s}


def _change_one(union: Path) -> None:
    changed = min(union.rglob("*.py"))
    changed.write_text(f"print({time.time_ns()})\n", "ascii")


SCENARIO = Scenario("publish", "many", measure, frozenset({"local"}))
