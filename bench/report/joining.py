"""Joins several results into one, so that contenders measured apart stand in one report.

Owns what is said when they should not be compared. Reads no file. Single-threaded.
"""

import math

from bench.harness.result import Cell
from bench.harness.results_file import CellKey, Result, key_of

# What must be the same on two machines before their seconds may stand in one table.
SAME_MACHINE = {
    "cores": "the number of cores",
    "cpu_model": "the processor",
    "kernel": "the kernel",
    "git_commit": "the commit of nearfs",
}


def join(results: list[Result]) -> Result:
    """Returns one result with the cells of all; the samples of cells that several have stand together.

    Where the commits of nearfs differ they are no samples of one thing: what the last result measured of a scenario,
    for a contender on a line, replaces what those of other commits did. The machine is that of the last one.

    What speaks against reading the figures side by side becomes a warning, never an error: the reader decides.
    """
    joined = Result(
        [name for result in results for name in result.names],
        dict(results[-1].machine),
        ", ".join(sorted({result.profile for result in results})),
        None if any(result.took_s is None for result in results) else math.fsum(r.took_s or 0 for r in results),
        warnings=_disagreements(results),
    )
    cells: dict[CellKey, Cell] = {}
    commit_of = {_measured(cell): _commit(result) for result in results for cell in result.cells}
    for result in results:
        joined.lines += [line for line in result.lines if line not in joined.lines]
        for cell in result.cells:
            if commit_of[_measured(cell)] != _commit(result):
                continue
            known = cells.setdefault(key_of(cell), Cell(cell.scenario, cell.contender, cell.state, cell.line))
            known.samples += cell.samples
            known.notes += [note for note in cell.notes if note not in known.notes]
    joined.cells = list(cells.values())
    measured = {cell.contender for cell in joined.cells if cell.samples}
    absent = dict(entry for result in results for entry in result.absent)
    joined.absent = [(name, why) for name, why in absent.items() if name not in measured]
    return joined


def _measured(cell: Cell) -> tuple[object, ...]:
    """Returns what a cell is about, in whatever state: states are compared with each other."""
    return cell.scenario, cell.contender, cell.line


def _commit(result: Result) -> object:
    return result.machine.get("git_commit")


def _disagreements(results: list[Result]) -> list[str]:
    """Returns a sentence for each thing in which the machine blocks of joined results differ."""
    found = []
    for name, words in SAME_MACHINE.items():
        values = dict.fromkeys(str(result.machine.get(name)) for result in results)
        if len(values) > 1:
            found.append(
                f"The joined results differ in {words} ({', '.join(values)}): compare figures only within one of them."
            )
    return found
