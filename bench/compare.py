"""Compares two results cell by cell: `python -m bench.compare A.json B.json [--json] [--scenario NAME]`.

Owns the arithmetic and its table: medians, their ratio, whether the spreads overlap, and the difference of counts.
Decides nothing, except with `--fail-on-more-requests`, which looks at counts only: times are a matter for people.
Single-threaded.
"""

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.figures import NOTHING, SCENARIOS, bytes_text, count_text, line_rank, seconds_text, spread_text
from bench.harness.grid import Grid, show
from bench.harness.result import Cell
from bench.harness.results_file import Result, UnreadableResult, key_of, read_result

COUNTS = ("requests", "fetched_bytes", "upcalls")
# What makes two results hard to compare, and what a comparison is about: both are said first.
_MACHINE = {
    "cores": "cores",
    "cpu_model": "processor",
    "kernel": "kernel",
    "git_commit": "commit",
    "git_dirty": "uncommitted changes",
}

# Two results of different profiles share few cells: a hundred names would bury what they share (--json has all).
_LISTED = 5


@dataclass(frozen=True)
class Pair:
    """One cell in two results. Medians; None where one has no such figure."""

    scenario: str
    contender: str
    state: str
    line: str | None
    a_s: float | None
    b_s: float | None
    ratio: float | None  # b / a
    a_spread_s: tuple[float, float] | None
    b_spread_s: tuple[float, float] | None
    verdict: str
    counts: dict[str, tuple[float | None, float | None]]

    def grown(self) -> list[str]:
        """Returns the counts that are greater in the second result."""
        return [name for name, (a, b) in self.counts.items() if a is not None and b is not None and b > a]


def main(arguments: list[str] | None = None) -> int:
    """Prints the comparison and returns the exit code: 0, 1 if counts grew and that was asked, 2 without a result."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="Compares two kept results.")
    parser.add_argument("a", type=Path, metavar="A.json", help="the earlier result")
    parser.add_argument("b", type=Path, metavar="B.json", help="the later one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="only this one; may be given again")
    parser.add_argument("--fail-on-more-requests", action="store_true", help="end with 1 if any count grew")
    options = parser.parse_args(arguments)
    try:
        a, b = read_result(options.a), read_result(options.b)
    except UnreadableResult as reason:
        print(f"compare: {reason}", file=sys.stderr)
        return 2
    found = pairs(a, b, options.scenario)
    alone = only_in_one(a, b, options.scenario)
    if options.json:
        print(json.dumps({"machine": differences(a, b), "cells": list(map(_as_json, found)), "alone": alone}, indent=2))
    else:
        _print(a, b, found, alone)
    grown = [pair for pair in found if pair.grown()]
    return 1 if grown and options.fail_on_more_requests else 0


def pairs(a: Result, b: Result, scenarios: list[str] | None = None) -> list[Pair]:
    """Returns the cells that both results have with samples, in reading order."""
    later = {key_of(cell): cell for cell in b.cells if cell.samples}
    both = [cell for cell in a.cells if cell.samples and key_of(cell) in later and _wanted(cell, scenarios)]
    return [_pair(cell, later[key_of(cell)]) for cell in sorted(both, key=_order)]


def only_in_one(a: Result, b: Result, scenarios: list[str] | None = None) -> dict[str, list[str]]:
    """Returns what cannot be compared, because one result lacks it."""
    cells = [{key_of(cell): cell for cell in result.cells if cell.samples} for result in (a, b)]
    alone = {}
    for name, mine, other in (("a", cells[0], cells[1]), ("b", cells[1], cells[0])):
        rest = sorted((cell for key, cell in mine.items() if key not in other), key=_order)
        alone[name] = [_label(cell) for cell in rest if _wanted(cell, scenarios)]
    return alone


def differences(a: Result, b: Result) -> dict[str, list[Any]]:
    """Returns in what the machine blocks differ, with both values."""
    return {
        words: [a.machine.get(name), b.machine.get(name)]
        for name, words in _MACHINE.items()
        if a.machine.get(name) != b.machine.get(name)
    }


def verdict(a: list[float], b: list[float]) -> str:
    """Says what the seconds of two cells allow to say: ranges that overlap are noise, whatever the medians are."""
    if not a or not b:
        return "no time"
    if len(a) == 1 or len(b) == 1:
        return "one run"
    if max(a) < min(b):
        return "slower"
    return "faster" if max(b) < min(a) else "noise"


def _pair(a: Cell, b: Cell) -> Pair:
    a_s, b_s = a.median(), b.median()
    walls = a.values("wall_s"), b.values("wall_s")
    spreads = [(min(values), max(values)) if values else None for values in walls]
    return Pair(
        a.scenario,
        a.contender,
        a.state,
        str(a.line) if a.line else None,
        a_s,
        b_s,
        b_s / a_s if a_s and b_s is not None else None,
        spreads[0],
        spreads[1],
        verdict(*walls),
        {name: (a.median(name), b.median(name)) for name in COUNTS},
    )


def _print(a: Result, b: Result, found: list[Pair], alone: dict[str, list[str]]) -> None:
    for words, values in differences(a, b).items():
        print(f"The machine blocks differ in {words}: {values[0]} and {values[1]}.")
    if a.machine.get("git_dirty") and b.machine.get("git_dirty"):
        print("Both were measured with uncommitted changes.")
    if found:
        show(grid(found))
        print("Ratio: B / A. Noise: the ranges of the two overlap.")
    else:
        print("The two results have no cell in common.")
    for name, labels in alone.items():
        if labels:
            listed = "; ".join(labels[:_LISTED]) + ("; ..." if len(labels) > _LISTED else "")
            print(f"Only in {name.upper()} ({len(labels)}): {listed}.")
    for pair in found:
        if pair.grown():
            print(f"More {' and '.join(pair.grown())}: {pair.scenario}, {pair.contender}, {pair.state}, {pair.line}.")


def grid(found: list[Pair]) -> Grid:
    """Returns the table of a comparison."""
    headings = ["cell", "line", "A (s)", "A spread", "B (s)", "B spread", "ratio", "", *COUNTS]
    table = Grid("", headings, texts=2)
    for pair in found:
        row = [f"{pair.scenario} {pair.contender} {pair.state}", pair.line or NOTHING]
        row += [seconds_text(pair.a_s), _spread(pair.a_spread_s), seconds_text(pair.b_s), _spread(pair.b_spread_s)]
        row += [NOTHING if pair.ratio is None else f"{pair.ratio:.3g}", pair.verdict]
        row += [_count(name, *pair.counts[name]) for name in COUNTS]
        table.rows.append(row)
    return table.without_empty_columns(NOTHING)


def _count(name: str, a: float | None, b: float | None) -> str:
    text = bytes_text if name == "fetched_bytes" else count_text
    if a is None and b is None:
        return NOTHING
    if a is None or b is None:
        return f"{text(a)} / {text(b)}"
    return text(a) if a == b else f"{text(a)} / {text(b)} ({'+' if b > a else '-'}{text(abs(b - a))})"


def _spread(spread: tuple[float, float] | None) -> str:
    return NOTHING if spread is None or spread[0] == spread[1] else spread_text(list(spread))


def _as_json(pair: Pair) -> dict[str, Any]:
    counts = {
        name: {"a": a, "b": b, "difference": None if a is None or b is None else b - a}
        for name, (a, b) in pair.counts.items()
    }
    return {**dataclasses.asdict(pair), "counts": counts}


def _wanted(cell: Cell, scenarios: list[str] | None) -> bool:
    return not scenarios or cell.scenario in scenarios


def _order(cell: Cell) -> tuple[Any, ...]:
    order = list(SCENARIOS)
    place = order.index(cell.scenario) if cell.scenario in order else len(order)
    return place, cell.scenario, line_rank(cell.line), cell.contender, cell.state


def _label(cell: Cell) -> str:
    line = f" over {cell.line}" if cell.line else ""
    return f"{cell.scenario} {cell.contender} {cell.state}{line}"


if __name__ == "__main__":
    sys.exit(main())
