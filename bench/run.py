"""`make bench` and its like: measures, prints a table, keeps the result with the machine block.

`python -m bench.run [--profile quick|cold|full] [--scenario NAME]... [--contender NAME]... [--rtt MS]... [--dry-run]`.
Needs root. Refuses a debug build of the engine, whose figures would mean nothing. Everything runs in a private place
(`harness.enclosure`) of which nothing is left, at Ctrl-C or a kill either.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from bench import build_probe, scenarios
from bench.contenders import registry
from bench.demo import CannotRun, workplace
from bench.harness import enclosure, packages, plan
from bench.harness.machine import RESULTS
from bench.harness.result import LineKey
from bench.harness.scenario import Effort
from bench.lab.line import LineError, relay_program

PROFILES = {"quick": plan.quick, "cold": plan.cold, "full": plan.full}


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__.partition("\n")[0])
    made.add_argument("--profile", choices=PROFILES, default="quick", help="what is measured (default: quick)")
    made.add_argument("--scenario", action="append", metavar="NAME", help=f"only these: {', '.join(scenarios.ALL)}")
    made.add_argument("--contender", action="append", metavar="NAME", help=f"only these: {', '.join(registry.ALL)}")
    made.add_argument("--rtt", action="append", type=float, metavar="MS", help="own lines instead of the profile's")
    made.add_argument("--rate", type=float, default=100, metavar="MBIT", help="rate of own lines (default 100)")
    made.add_argument("--loss", type=float, default=0, metavar="SHARE", help="lost packets of own lines (0.01: 1 %%)")
    made.add_argument("--repeats", type=int, help="measurements of each cell, whatever they take")
    made.add_argument("--dry-run", action="store_true", help="print what would be measured")
    made.add_argument("--no-install", action="store_true", help="do not install Debian packages that are missing")
    made.add_argument("--no-result", action="store_true", help="print only, keep nothing")
    made.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where results are kept")
    made.add_argument("--fail-fast", action="store_true", help="stop at the first cell that cannot be measured")
    return made


def planned(options: argparse.Namespace) -> list[plan.Item]:
    """Returns what the command line asks for."""
    blocks = PROFILES[options.profile]()
    if options.rtt:
        lines = [LineKey(rtt_ms, options.rate, options.loss) for rtt_ms in options.rtt]
        names = tuple(options.scenario or plan.TALK)
        wanted = tuple(options.contender or ("nearfs",))
        blocks = [(names, wanted, line, Effort(3, 60)) for line in lines]
    items = plan.items(blocks, scenarios.ALL, registry.ALL)
    kept = set(options.scenario or scenarios.ALL), set(options.contender or registry.ALL)
    items = [
        replace(item, scenarios=tuple(name for name in item.scenarios if name in kept[0]))
        for item in items
        if item.contender.name in kept[1]
    ]
    if options.repeats:
        items = [replace(item, effort=Effort(options.repeats, float("inf"))) for item in items]
    return [item for item in items if item.scenarios]


def main(arguments: list[str]) -> int:
    """Runs what is asked for and returns the exit code."""
    made = parser()
    options = made.parse_args(arguments)
    for given, known in ((options.scenario, scenarios.ALL), (options.contender, registry.ALL)):
        if unknown := set(given or ()) - set(known):
            made.error(f"not known: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    items = planned(options)
    if options.dry_run:
        for item in items:
            print(f"{item.contender.name:18} {item.line!s:24} {item.tree:10} {', '.join(item.scenarios)}")
        return 0
    if os.geteuid() != 0:
        made.error("benchmarks mount file systems and make network namespaces: run as root")
    from nearfs import _native

    if _native.is_debug_build():
        made.error("the engine is a debug build: run `make build` first")
    home = enclosure.home()
    if home is None:
        try:
            place = workplace()
        except CannotRun as reason:
            made.error(str(reason))
        try:
            build_probe.build()
            relay_program()  # before anything is timed
        except (build_probe.BuildError, LineError) as reason:
            made.error(str(reason))
        packages.install([item.contender for item in items], may_install=not options.no_install)
        return enclosure.enter("bench.run", arguments, place)
    from bench.harness.runner import Runner

    enclosure.prepare()
    is_custom = options.rtt or options.scenario or options.contender or options.repeats
    runner = Runner(home, "custom" if is_custom else options.profile, fail_fast=options.fail_fast)
    return runner.run(items, None if options.no_result else options.results)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # before anything was started: while packages are installed, say
        sys.exit(130)
