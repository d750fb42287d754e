"""How long `find -size` takes over 8,300 entries: kernel caches dropped, and hot; beside the same tree on a local disk.

The client's disk cache is warm throughout. Runs alternate between mount and local disk.
"""

import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.harness.site import Site, drop_kernel_caches
from bench.trees.build import build_entries

REFERENCE_S = {"dropped": 0.8, "hot": 0.144}


def find_s(tree: Path) -> float:
    """Returns the seconds of a `find` that has to know every file's size."""
    started = time.monotonic()
    subprocess.run(["find", tree, "-size", "+100000000c"], check=True, capture_output=True)
    return time.monotonic() - started


def run(home: Path, repeats: int) -> dict[str, Any]:
    """Publishes the tree once, then times both file systems in turn."""
    site = Site(home / "site")
    site.home.mkdir()
    local = home / "local"
    build_entries(local)
    seconds: dict[str, list[float]] = {f"{where}, {state}": [] for where in ("mount", "local") for state in REFERENCE_S}
    try:
        site.server("mkfs", "-p", "-o", "root")
        site.server("transaction")
        shutil.copytree(local, site.union / "entries", symlinks=True)
        site.server("publish")
        with site.serving() as url, site.mounted(url) as point:
            subprocess.run(["tar", "-cf", "/dev/null", point], check=True, capture_output=True)
            for _ in range(repeats):
                for where, tree in (("mount", point), ("local", local)):
                    drop_kernel_caches()
                    seconds[f"{where}, dropped"].append(find_s(tree))
                    seconds[f"{where}, hot"].append(find_s(tree))
    finally:
        site.unmount_all()
        shutil.rmtree(site.home, ignore_errors=True)
        shutil.rmtree(local, ignore_errors=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": seconds,
        "median_s": medians,
        "reference_s": REFERENCE_S,
        "times_faster_than_reference": {
            state: REFERENCE_S[state] / medians[f"mount, {state}"] for state in REFERENCE_S
        },
        "times_slower_than_local": {
            state: medians[f"mount, {state}"] / medians[f"local, {state}"] for state in REFERENCE_S
        },
    }
