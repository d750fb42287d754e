"""`make bench`: runs scenarios, prints their medians, keeps the results with the machine block.

`python -m bench.run [SCENARIO...] [--repeats N] [--no-result]`. Needs root. Refuses a debug build of the engine, whose
figures would mean nothing. Main thread only.
"""

import argparse
import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.demo import workplace
from bench.harness.machine import write_result

SCENARIOS = ("publish", "find")


def main(arguments: list[str] | None = None) -> int:
    """Runs the scenarios named, or all, and returns the exit code."""
    parser = argparse.ArgumentParser(description="Runs benchmark scenarios and keeps their results.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each measurement (default 5)")
    parser.add_argument("--no-result", action="store_true", help="print only, keep nothing under bench/results")
    options = parser.parse_args(arguments)
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.error("benchmarks mount file systems and drop caches: run as root")
    from nearfs import _native

    if _native.is_debug_build():
        parser.error("the engine is a debug build: run `make build` first")
    for name in options.scenarios or SCENARIOS:
        home = Path(tempfile.mkdtemp(prefix=f"nearfs-bench-{name}-", dir=workplace()))
        try:
            payload = importlib.import_module(f"bench.scenarios.{name}").run(home, options.repeats)
        finally:
            shutil.rmtree(home, ignore_errors=True)
        print(f"{name}: medians of {options.repeats}")
        for what, seconds in payload["median_s"].items():
            spread = payload["seconds"][what]
            print(f"  {what:40}{seconds:9.3f} s   ({min(spread):.3f} to {max(spread):.3f})")
        for what, ratio in payload["times_faster_than_reference"].items():
            print(f"  {what:40}{ratio:9.1f} times as fast as the reference's figure")
        if not options.no_result:
            print(f"  kept as {write_result(name, payload).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
