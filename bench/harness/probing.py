"""Scenarios whose system calls are timed one by one, by the Cython probe.

Owns the command line of the probe and the reading of its answer. A sample's `wall_s` is the time inside the calls: the
start of the interpreter around them is nobody's file system.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness.commands import TREE, Command, Run
from bench.harness.processes import CommandFailed
from bench.harness.result import Sample

_TOP = Path(__file__).resolve().parent.parent.parent


def command(verb: str, names: Sequence[str], *options: str) -> Command:
    """Returns the command that times `verb` over names relative to the tree."""
    paths = "".join(f"{TREE}/{name}\n" for name in names)
    argv = (sys.executable, "-m", "bench.probe_command", verb, "--paths-from", "-", "--json", *options)
    environment = {"PYTHONPATH": str(_TOP), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    return Command(argv, environment, paths)


def check(run: Run) -> None:
    """Raises where a call failed: a file system that answers with errors is not fast."""
    failures = json.loads(run.stdout)["failures"]
    if failures:
        raise CommandFailed(f"calls failed, by errno: {failures}")


def figures(run: Run) -> Sample:
    """Returns latencies in microseconds, the rate, and the histogram."""
    told = json.loads(run.stdout)
    sample: Sample = {name.replace("_ns", "_us"): told[name] / 1000 for name in ("p50_ns", "p99_ns", "max_ns")}
    sample["wall_s"] = told["total_s"]
    if told["bytes_read"]:
        sample["mib_per_s"] = told["bytes_read"] / told["total_s"] / (1 << 20)
    sample["histogram"] = [[bound / 1000, count] for bound, count in told["buckets"]]
    return sample
