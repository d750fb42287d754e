"""The tables of cold starts: stalls by program, what was fetched in vain, ten programs at once, NFS beside it.

Owns which figures stand in which column. Writes no page and reads no file. Single-threaded.
"""

from bench.harness.figures import (
    NOTHING,
    Board,
    bytes_text,
    contender_title,
    count_text,
    scenario_title,
    seconds_text,
    stall_text,
)
from bench.harness.grid import Grid
from bench.harness.result import Cell, LineKey

#: What the account of guesses allows beyond what was needed (NEARFS_PREFETCH_BUDGET).
BUDGET_BYTES = 2 << 20

_SHORT = {
    "json-tool": "json.tool",
    "module-avail": "module avail",
    "sourced-shell": "200 sourced files",
    "package-import": "import sympy",
    "stat-storm": "git status",
    "untuned-1": "perl",
    "untuned-2": "docutils",
    "untuned-3": "g++",
}
_NFS = ("nfs3", "nfs4")
_CROWD = "ten-programs"
_OFF = "nearfs-off"
_WAITED = {"read_p50_ms": "reader beside them, median (ms)", "read_p95_ms": "reader, 95th percentile (ms)"}


def grids(board: Board) -> list[Grid]:
    """Returns all tables of cold starts that have a row."""
    found = [stalls_grid(board, line) for line in board.lines(*_SHORT)]
    found += [in_vain_grid(board, line) for line in board.lines()]
    found += [crowd_grid(board, line) for line in board.lines(_CROWD)]
    found += [nfs_grid(board, line) for line in board.lines("module-avail")]
    return [grid for grid in found if grid.rows]


def stalls_grid(board: Board, line: LineKey) -> Grid:
    """Returns the stall of each program over a line, never seen before and seen before: a row a contender."""
    headings = ["", "mount"]
    rows = []
    for short in _SHORT.values():
        headings += [short, f"{short}, seen"]
    for contender in board.contenders(*_SHORT):
        row = [contender_title(contender), stall_text(board.mount_stall(contender, line))]
        for scenario in _SHORT:
            row += [stall_text(board.stall(scenario, contender, line, state)) for state in ("cold", "seen")]
        if set(row[1:]) != {NOTHING}:
            rows.append(row)
    return Grid(f"Stall over {line}, in round trips", headings, rows).without_empty_columns(NOTHING)


def in_vain_grid(board: Board, line: LineKey) -> Grid:
    """Returns the most that a run fetched in vain of what it may: a row a scenario, a column a contender."""
    contenders = _ahead(board)
    grid = Grid(f"Fetched in vain over {line}, of what is allowed", ["", *map(contender_title, contenders)])
    for scenario in board.scenarios():
        texts = [
            _in_vain([board.cell(scenario, contender, state, line) for state in ("cold", "seen")])
            for contender in contenders
        ]
        if set(texts) != {NOTHING}:
            grid.rows.append([scenario_title(scenario), *texts])
    return grid.without_empty_columns(NOTHING)


def crowd_grid(board: Board, line: LineKey) -> Grid:
    """Returns the seconds of each of the programs at once, and what the reader beside them waited."""
    cells = [cell for cell in board.cells(_CROWD) if cell.line == line]
    off = next((cell for cell in cells if cell.contender == _OFF), None)
    names = sorted(
        {name for cell in cells for sample in cell.samples for name in sample if name.startswith("program_")}
    )
    grid = Grid(
        f"{scenario_title(_CROWD)} over {line}: seconds, and times those with nothing ahead",
        ["", *(f"{contender_title(cell.contender)}, {cell.state}" for cell in cells)],
    )
    titles = {"wall_s": "all", **{name: name[len("program_") : -len("_s")].replace("_", " ") for name in names}}
    for name, title in {**titles, **_WAITED}.items():
        text = seconds_text if name in titles else count_text
        row = [title]
        for cell in cells:
            value, base = cell.median(name), off.median(name) if off else None
            row.append(text(value if name in titles or value is None else round(value)))
            if value is not None and base and cell is not off:
                row[-1] += f" ({value / base:.2f})"
        grid.rows.append(row)
    return grid


def nfs_grid(board: Board, line: LineKey) -> Grid:
    """Returns `module avail` beside NFS: seconds, and how many times as long NFS takes."""
    nfs = [name for name in _NFS if board.cell("module-avail", name, "cold", line)]
    headings = [""]
    for state in ("cold", "hot"):
        headings += [state, *(f"{contender_title(name)} {state}" for name in nfs)]
    grid = Grid(
        f"{scenario_title('module-avail')} over {line}: seconds, and how often they go into those of NFS", headings
    )
    for contender in board.contenders("module-avail"):
        row = [contender_title(contender)]
        for state in ("cold", "hot"):
            ours, *theirs = (_seconds(board.cell("module-avail", name, state, line)) for name in (contender, *nfs))
            row += [seconds_text(ours), *(_times(seconds, None if contender in nfs else ours) for seconds in theirs)]
        if nfs and set(row[1:]) != {NOTHING}:
            grid.rows.append(row)
    return grid


def _ahead(board: Board) -> list[str]:
    """Returns the contenders that fetched something ahead of demand."""
    return [
        contender
        for contender in board.contenders()
        if any(
            cell.contender == contender and cell.median("unused_bytes") is not None and cell.contender != _OFF
            for scenario in board.scenarios()
            for cell in board.cells(scenario)
        )
    ]


def _in_vain(cells: list[Cell | None]) -> str:
    """Returns the bytes in vain of the run that comes nearest to what it may, and what it may."""
    accounts = [
        (sample["unused_bytes"], sample["needed_bytes"] + BUDGET_BYTES)
        for cell in cells
        if cell is not None
        for sample in cell.samples
        if sample.get("unused_bytes") is not None and sample.get("needed_bytes") is not None
    ]
    if not accounts:
        return NOTHING
    unused, allowed = max(accounts, key=lambda account: account[0] / account[1])
    return f"{bytes_text(unused)} of {bytes_text(allowed)}"


def _seconds(cell: Cell | None) -> float | None:
    return cell.median() if cell else None


def _times(theirs: float | None, ours: float | None) -> str:
    return (
        f"{count_text(round(theirs / ours, 1 if theirs < 10 * ours else None))} times" if theirs and ours else NOTHING
    )
