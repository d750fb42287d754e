"""The tables of a result: the talk's, one for each scenario, the lines, the machine.

Owns which figures stand in which column. Writes no page and reads no file; `bench.harness.grid` knows the forms.
Single-threaded.
"""

import statistics
from typing import Any

from bench.harness.figures import (
    NOTHING,
    TALK,
    Board,
    bytes_text,
    contender_title,
    count_text,
    figure_text,
    heading,
    scenario_title,
    seconds_text,
    spread_text,
    stall_text,
)
from bench.harness.grid import Grid
from bench.harness.result import STATES, Cell, LineKey, Sample
from bench.harness.results_file import Result

HEADLINE_CONTENDERS = ("nfs3", "nfs4", "reference", "nearfs", "nearfs-packs", "nearfs-bundles", "guest-local", "local")
HEADLINE_RTT_MS, HEADLINE_RATE_MBIT = 50, 100

_TALK_STATES = ("cold", "seen", "warm", "hot")
_PROGRAM_FIGURES = ("stall", "stall seen", "requests", "bytes", "in vain")
_HEADLINE_STATES = ("cold", "warm", "hot")
_SHORT = {"json-tool": "json.tool", "module-avail": "module avail"}
_COUNTS = ("requests", "fetched_bytes", "upcalls", "wire_bytes")
# Too many for a table: in the results only.
_UNSHOWN = ("prefetch_", "program_")
_BASE = {"wall_s", "user_s", "system_s", "histogram", *_COUNTS}


def talk_grids(board: Board) -> list[Grid]:
    """Returns the talk's table for every line over which its programs ran."""
    return [talk_grid(board, line) for line in board.lines(*TALK)]


def talk_grid(board: Board, line: LineKey) -> Grid:
    """Returns the talk's table for one line: a row a contender, then those for which no line makes a difference."""
    headings = ["", "mount"]
    for scenario in TALK:
        short = _SHORT[scenario]
        headings += [f"{short} {state}" for state in _TALK_STATES]
        headings += [f"{short} {figure}" for figure in _PROGRAM_FIGURES]
    rows = [_talk_row(board, name, line) for name in board.contenders(*TALK) if _has_talk(board, name, line)]
    return Grid(f"{line}: seconds, and what the cold run asked for", headings, rows).without_empty_columns(NOTHING)


def program_grid(board: Board, scenario: str, line: LineKey) -> Grid:
    """Returns one program's half of the talk's table, narrow enough for a terminal."""
    headings = ["", "mount", *_TALK_STATES, *_PROGRAM_FIGURES]
    rows = [
        [contender_title(name), _seconds(board.mount(name, line)), *_program(board, scenario, name, line)]
        for name in board.contenders(scenario)
        if any(board.near(scenario, name, state, line) for state in _TALK_STATES)
    ]
    return Grid(f"{scenario_title(scenario)} over {line}", headings, rows).without_empty_columns(NOTHING)


def headline_line(board: Board) -> LineKey | None:
    """Returns the line of the headline: 50 ms and 100 Mbit/s without loss, or the nearest to it that was measured."""
    return min(
        board.lines(*TALK),
        key=lambda line: (line.loss, abs(line.rtt_ms - HEADLINE_RTT_MS), abs(line.rate_mbit - HEADLINE_RATE_MBIT)),
        default=None,
    )


def headline_grid(board: Board, line: LineKey) -> Grid:
    """Returns the short table for the README: seconds, and the stall of each program."""
    headings = ["", "mount"]
    for scenario in TALK:
        headings += [f"{_SHORT[scenario]} {state}" for state in (*_HEADLINE_STATES, "stall")]
    rows = []
    for name in HEADLINE_CONTENDERS:
        if not _has_talk(board, name, line):
            continue
        row = [contender_title(name), _seconds(board.mount(name, line))]
        for scenario in TALK:
            row += [_seconds(board.near(scenario, name, state, line)) for state in _HEADLINE_STATES]
            row.append(stall_text(board.stall(scenario, name, line)))
        rows.append(row)
    return Grid(f"{line}: seconds", headings, rows).without_empty_columns(NOTHING)


def scenario_grid(board: Board, scenario: str) -> Grid:
    """Returns everything that was measured in one scenario: a row a cell, with spread, counts and its own figures."""
    cells = board.cells(scenario)
    found = {figure for cell in cells for sample in cell.samples for figure in sample} - _BASE
    own = sorted(figure for figure in found if not figure.startswith(_UNSHOWN))
    headings = ["line", "contender", "state", "seconds", "least to greatest", "runs", "CPU (s)"]
    headings += [heading(figure) for figure in (*_COUNTS, *own)]
    rows = []
    for cell in cells:
        walls = cell.values("wall_s")
        row = [str(cell.line or "none"), contender_title(cell.contender), cell.state]
        row += [_seconds(cell), spread_text(walls) if walls else NOTHING, str(len(cell.samples))]
        row += [seconds_text(_processor_s(cell.samples))]
        row += [figure_text(figure, cell.median(figure)) for figure in (*_COUNTS, *own)]
        rows.append(row)
    return Grid(scenario_title(scenario), headings, rows, texts=3).without_empty_columns(NOTHING)


def states_grid(board: Board, scenarios: list[str]) -> Grid:
    """Returns the compact table of a run's end: a row a contender over a line, the median of each state."""
    states = list(STATES)
    rows: dict[tuple[str, str, LineKey | None], dict[str, Cell]] = {}
    for scenario in scenarios:
        for cell in board.cells(scenario):
            rows.setdefault((scenario, cell.contender, cell.line), {})[cell.state] = cell
            if cell.state not in states:
                states.append(cell.state)
    counts = ["stall", "stall seen", "requests", "bytes", "in vain", "upcalls"]
    grid = Grid("Seconds", ["scenario", "contender", "line", *states, *counts], texts=3)
    for (scenario, contender, line), found in rows.items():
        first = next((found[state] for state in ("cold", *states) if state in found), None)
        asked = [first.median(figure) if first else None for figure in (*_COUNTS[:2], "unused_bytes", _COUNTS[2])]
        stalls = [board.stall(scenario, contender, line, state) if line else None for state in ("cold", "seen")]
        grid.rows.append(
            [scenario, contender, str(line or "none")]
            + [_seconds(found.get(state)) for state in states]
            + [stall_text(stall) for stall in stalls]
            + [count_text(asked[0]), bytes_text(asked[1]), bytes_text(asked[2]), count_text(asked[3])]
        )
    return grid.without_empty_columns(NOTHING)


def summary_grids(board: Board) -> list[Grid]:
    """Returns the tables that a run prints at its end: the talk's programs over each line, then everything else."""
    grids = [program_grid(board, scenario, line) for line in board.lines(*TALK) for scenario in TALK]
    # Without a line the talk's programs have no table of their own.
    others = [name for name in board.scenarios() if not board.lines(*TALK) or name not in {"mount", *TALK}]
    return [*(grid for grid in grids if grid.rows), *([states_grid(board, others)] if others else [])]


def lines_grid(result: Result) -> Grid:
    """Returns what was asked of each line and what it measured when it came up."""
    rows = []
    for line in result.lines:
        loss = line.get("loss")
        rows.append(
            [
                f"{_known(line, 'rtt_ms')} ms, {_known(line, 'rate_mbit')} Mbit/s",
                f"{loss:.1%}" if isinstance(loss, int | float) else NOTHING,
                f"{_known(line, 'measured_rtt_ms')} ms",
                f"{_known(line, 'measured_rate_mbit')} Mbit/s",
            ]
        )
    return Grid("Lines", ["asked", "loss asked", "RTT measured", "rate measured"], rows)


def machine_grid(result: Result) -> Grid:
    """Returns what the figures depend on."""
    block = result.machine
    ram = block.get("ram_bytes")
    commit = str(block.get("git_commit") or "unknown")[:12]
    if block.get("git_dirty"):
        commit += ", with changes that are not committed"
    took = NOTHING if result.took_s is None else f"{result.took_s / 60:,.0f} minutes"
    facts = {
        "processor": f"{block.get('cores', '?')} cores of {block.get('cpu_model', 'an unknown model')}",
        "memory": f"{ram / 2**30:.1f} GiB" if isinstance(ram, int | float) and ram else "unknown",
        "kernel": str(block.get("kernel", "unknown")),
        "Python, Rust": f"{block.get('python', 'unknown')}, {block.get('rustc', 'unknown')}",
        "Debian packages": block.get("packages") or "unknown",
        "commit": commit,
        "date, profile": f"{block.get('date', 'unknown')}, {result.profile}",
        "took": took,
    }
    return Grid("Machine", ["", ""], [list(fact) for fact in facts.items() if fact[1] != NOTHING], texts=2)


def notes(board: Board, scenario: str) -> list[str]:
    """Returns what was noted in a scenario, each once, with whom it is about."""
    about: dict[str, dict[str, None]] = {}
    for cell in board.cells(scenario):
        for note in cell.notes:
            about.setdefault(note, {})[contender_title(cell.contender)] = None
    return [f"{', '.join(names)}: {note}" for note, names in about.items()]


def _talk_row(board: Board, contender: str, line: LineKey) -> list[str]:
    row = [contender_title(contender), _seconds(board.mount(contender, line))]
    for scenario in TALK:
        row += _program(board, scenario, contender, line)
    return row


def _program(board: Board, scenario: str, contender: str, line: LineKey) -> list[str]:
    """Returns the seconds of each state, the stalls, and what the cold run asked for."""
    cold = board.near(scenario, contender, "cold", line)
    return [
        *(_seconds(board.near(scenario, contender, state, line)) for state in _TALK_STATES),
        *(stall_text(board.stall(scenario, contender, line, state)) for state in ("cold", "seen")),
        count_text(cold.median("requests") if cold else None),
        *(bytes_text(cold.median(figure) if cold else None) for figure in ("fetched_bytes", "unused_bytes")),
    ]


def _has_talk(board: Board, contender: str, line: LineKey) -> bool:
    return any(board.near(scenario, contender, state, line) for scenario in TALK for state in _TALK_STATES)


def _seconds(cell: Cell | None) -> str:
    return NOTHING if cell is None else seconds_text(cell.median())


def _processor_s(samples: list[Sample]) -> float | None:
    """Returns the median of user and system time together."""
    spent = [
        sample["user_s"] + sample["system_s"]
        for sample in samples
        if sample.get("user_s") is not None and sample.get("system_s") is not None
    ]
    return statistics.median(spent) if spent else None


def _known(line: dict[str, Any], name: str) -> str:
    value = line.get(name)
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int | float) else "?"
