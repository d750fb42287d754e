"""How long a publish takes: 30,000 small files in 50 nested catalogs, then a change of one file.

Compares with the reference's figures of its own run on a like machine (given by the issue that asked), and with the
floor of this run: reading, deflating and hashing the same files on all cores, with nothing stored.
"""

import hashlib
import os
import shutil
import statistics
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench.harness.site import Site
from bench.trees.build import build_small_files

REFERENCE_S = {"publish 30,000 files": 10.1, "publish a change of one file": 0.93}


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


def run(home: Path, repeats: int) -> dict[str, Any]:
    """Publishes into a fresh repository `repeats` times; returns seconds, medians and ratios."""
    source = home / "source"
    build_small_files(source)
    seconds: dict[str, list[float]] = {name: [] for name in (*REFERENCE_S, "floor")}
    for number in range(repeats):
        site = Site(home / f"run-{number}")
        site.home.mkdir()
        try:
            site.server("mkfs", "-p", "-o", "root")
            site.server("transaction")
            shutil.copytree(source, site.union / "many", symlinks=True)
            seconds["publish 30,000 files"].append(site.server("publish"))
            site.server("transaction")
            changed = min((site.union / "many").rglob("*.py"))
            changed.write_text(f"print({number})\n", "ascii")
            seconds["publish a change of one file"].append(site.server("publish"))
            seconds["floor"].append(floor_s(source))
        finally:
            # What it stored stays until the end: ext4 is slow to create files right after as many were deleted.
            site.unmount_all()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": seconds,
        "median_s": medians,
        "reference_s": REFERENCE_S,
        "times_faster_than_reference": {name: REFERENCE_S[name] / medians[name] for name in REFERENCE_S},
        "floor": "read, zlib level 6 and SHA-1 of all files on all cores, nothing stored",
    }
