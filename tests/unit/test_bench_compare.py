"""Comparing two results, and what a run shows while it lasts."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import compare
from bench.harness.display import Display, summary
from bench.harness.grid import Grid, escape
from bench.harness.result import Cell, LineKey

PROJECT = Path(__file__).resolve().parents[2]
NEAR = LineKey(50, 100)


def cell(contender: str, *walls: float | None, line: LineKey | None = NEAR, **more: Any) -> Cell:
    return Cell("find", contender, "cold", line, [{"wall_s": wall, **more} for wall in walls])


def kept(path: Path, *cells: Cell, **machine: Any) -> str:
    value = {"schema": 1, "machine": machine, "cells": [each.to_json() for each in cells]}
    path.write_text(json.dumps(value), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([1.0, 1.2], [1.3, 1.4], "slower"),
        ([1.3, 1.4], [1.0, 1.2], "faster"),
        ([1.0, 1.3], [1.3, 1.9], "noise"),
        ([1.0, 9.0], [2.0, 3.0], "noise"),
        ([1.0], [2.0, 3.0], "one run"),
        ([], [2.0, 3.0], "no time"),
    ],
)
def test_ranges_that_overlap_are_noise(a: list[float], b: list[float], said: str) -> None:
    assert compare.verdict(a, b) == said


def test_cells_in_both_are_compared_and_the_others_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = kept(
        tmp_path / "a.json",
        cell("nearfs", 2.0, 2.2, 2.1, requests=10, fetched_bytes=None),
        cell("nfs3", 5.0),
        cell("local", None, line=None),
        cores=2,
        git_commit="one",
    )
    b = kept(
        tmp_path / "b.json",
        cell("nearfs", 4.2, 4.0, 4.4, requests=13, fetched_bytes=5000),
        cell("local", 0.0, line=None),
        cell("nearfs", 1.0, line=LineKey(100, 100)),
        cores=4,
        git_commit="one",
    )
    assert compare.main([a, b]) == 0
    said = capsys.readouterr().out
    assert "differ in cores: 2 and 4" in said and "commit" not in said
    (row,) = [line for line in said.splitlines() if line.startswith("find nearfs cold")]
    figures = " ".join(row.split()[7:])
    assert figures == "2.10 2.00 to 2.20 4.20 4.00 to 4.40 2 slower 10 / 13 (+3) - / 5 kB"
    assert "Only in A (1): find nfs3 cold over 50 ms" in said and "Only in B (1): find nearfs cold over 100 ms" in said
    assert "More requests: find, nearfs, cold" in said
    assert compare.main([a, b, "--fail-on-more-requests"]) == 1
    assert compare.main([b, a, "--fail-on-more-requests"]) == 0
    assert compare.main([a, b, "--fail-on-more-requests", "--scenario", "tar"]) == 0


def test_json_has_the_same_arithmetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = kept(tmp_path / "a.json", cell("nearfs", 2.0, 4.0, upcalls=7), cell("local", 0.0, line=None))
    b = kept(tmp_path / "b.json", cell("nearfs", 1.5, upcalls=5), cell("local", 1.0, line=None))
    assert compare.main([a, b, "--json"]) == 0
    found = {pair["contender"]: pair for pair in json.loads(capsys.readouterr().out)["cells"]}
    near = found["nearfs"]
    assert (near["a_s"], near["b_s"], near["ratio"], near["a_spread_s"]) == (3.0, 1.5, 0.5, [2.0, 4.0])
    assert near["counts"]["upcalls"] == {"a": 7, "b": 5, "difference": -2}
    assert found["local"]["ratio"] is None


def test_a_file_that_is_no_result_ends_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old.json"
    old.write_text('{"machine": {}, "seconds": {}}', "utf-8")
    assert compare.main([str(old), str(old)]) == 2
    assert "before results had a schema" in capsys.readouterr().err


def test_reading_results_needs_no_plotting_library() -> None:
    code = "import sys, bench.compare, bench.report.write, bench.harness.display; sys.exit('matplotlib' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, env=environment, cwd=PROJECT)


class Clock:
    """Seconds that pass only when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def run_of_two(stream: io.StringIO) -> str:
    clock = Clock()
    with Display(stream, clock) as display:
        display.start(12, "the quick profile")
        display.step("find", "nfs3", NEAR)
        display.sample(cell("nfs3", 5.0))
        clock.now = 75
        display.sample(cell("nfs3", 5.0, 7.0))
        display.note("the server\nwas slow")
        display.step("find", "local", None)
        display.sample(cell("local", 0.25, line=None))
    display.done()
    return stream.getvalue()


def test_a_log_has_one_line_a_step_and_nothing_redrawn() -> None:
    assert run_of_two(io.StringIO()).splitlines() == [
        "the quick profile",
        "[ 1/12   0:00] find, NFSv3, 50 ms, 100 Mbit/s",
        "[ 1/12   1:15] find, NFSv3, 50 ms, 100 Mbit/s: cold 6.00 s (median of 2)",
        "note: the server was slow",
        "[ 1/12   1:15] find, NFSv3, 50 ms, 100 Mbit/s: cold 6.00 s (5.00 to 7.00)",
        "[ 2/12   1:15] find, ext4, local",
        "[ 2/12   1:15] find, ext4, local: cold 0.250 s",
    ]


def test_a_terminal_has_a_bar_and_its_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    screen = run_of_two(Terminal())
    assert "find, NFSv3, 50 ms, 100 Mbit/s: cold 6.00 s (5.00 to 7.00)" in screen
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")


def test_the_summary_has_the_talks_programs_the_others_and_the_absent() -> None:
    cells = [
        Cell("json-tool", "nearfs", state, NEAR, [{"wall_s": wall}]) for state, wall in (("cold", 2.0), ("hot", 1.0))
    ]
    out = io.StringIO()
    summary([*cells, cell("nearfs", 0.5), cell("nfs3")], [("nfs4", "no guest")], out)
    text = out.getvalue()
    assert "python3 -m json.tool over 50 ms, 100 Mbit/s" in text and "find" in text
    assert [line.split() for line in text.splitlines() if line.startswith("nearfs")] == [
        ["nearfs", "2.00", "1.00", "20"]
    ]
    assert "Not measured: NFSv4.2: no guest" in text
    summary([], stream=out)


def test_markdown_cannot_be_broken_out_of() -> None:
    assert escape("a|b <!-- `c`\n[d](e)_") == "a\\|b &lt;!-- \\`c\\` \\[d\\](e)\\_"
    table = Grid("t", ["", "n"], [["a|b", "1"]])
    assert table.markdown() == ["|  | n |", "| --- | ---: |", "| a\\|b | 1 |"]
