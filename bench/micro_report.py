"""Turns the results of bench/micro into ratios: `python -m bench.micro_report RESULT.json [--json]`.

Owns the arithmetic and the table. A ratio says how many times as fast as the alternative nearfs is, by medians; its
range comes from the quartiles of both sides. Where it is below 1, the alternative wins, and the table says so. Measures
nothing. Main thread only.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ratio:
    """One comparison. Seconds are those of one operation."""

    name: str
    alternative: str
    ours_s: float
    theirs_s: float
    ratio: float
    low: float
    high: float
    content_bytes: int
    """Bytes of content that an operation handles; 0 where this is no measure."""

    @property
    def verdict(self) -> str:
        """Says who is faster: nobody, as long as the range holds 1."""
        if self.low <= 1 <= self.high:
            return "even"
        return "faster" if self.ratio > 1 else "SLOWER"


def ratios(document: dict[str, Any]) -> list[Ratio]:
    """Returns the comparisons of a pytest-benchmark result, in its order. Raises ValueError where a side is missing."""
    sides: dict[str, dict[str, dict[str, Any]]] = {}
    for benchmark in document["benchmarks"]:
        sides.setdefault(benchmark["group"], {})[benchmark["extra_info"]["side"]] = benchmark
    found = []
    for name, pair in sides.items():
        if set(pair) != {"ours", "theirs"}:
            raise ValueError(f"{name}: only {', '.join(pair)} was measured; run both sides")
        ours, theirs, about = pair["ours"]["stats"], pair["theirs"]["stats"], pair["ours"]["extra_info"]
        found.append(
            Ratio(
                name=name,
                alternative=about["alternative"],
                ours_s=ours["median"] / about["operations"],
                theirs_s=theirs["median"] / about["operations"],
                ratio=theirs["median"] / ours["median"],
                low=theirs["q1"] / ours["q3"],
                high=theirs["q3"] / ours["q1"],
                content_bytes=about["content_bytes"],
            )
        )
    return found


def table(found: list[Ratio]) -> str:
    """Returns the comparisons as a Markdown table."""
    lines = [
        "| function | nearfs | alternative | of the alternative | ratio | quartiles | nearfs is |",
        "| --- | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {one.name} | {amount(one.ours_s, one.content_bytes)} | {one.alternative} "
        f"| {amount(one.theirs_s, one.content_bytes)} | {one.ratio:.2f} | {one.low:.2f} to {one.high:.2f} "
        f"| {one.verdict} |"
        for one in found
    ]
    return "\n".join(lines)


def amount(seconds: float, content_bytes: int) -> str:
    """Returns a time in microseconds, with the rate where there is one."""
    time = f"{seconds * 1e6:,.2f} µs"
    return f"{time} ({content_bytes / seconds / 1e6:,.0f} MB/s)" if content_bytes else time


def main(arguments: list[str] | None = None) -> int:
    """Prints the ratios of one result and returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.micro_report", description="Prints ratios of the micro benchmarks.")
    parser.add_argument("result", type=Path, help="what `python -m pytest bench/micro --benchmark-json FILE` wrote")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args(arguments)
    try:
        found = ratios(json.loads(options.result.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"bench.micro_report: {options.result}: no result that can be compared: {error!r}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"ratios": [{**asdict(one), "verdict": one.verdict} for one in found]}, indent=2))
    else:
        print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
