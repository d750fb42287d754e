"""Prints and merges the statistics of publishing (server.md 3.20).

Owns: the form of the output. Does not own: the database (`publish.statistics`).
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs import files
from nearfs.cli import output
from nearfs.publish import statistics
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def show(name: str, table: str, separator: str, path: Path | None) -> int:
    """Prints a table, a header line and then a line a row, to a file where one is named."""
    names, rows = statistics.rows(statistics.stored(Repository.load(name)), table)
    lines = [separator.join(names)]
    lines += [separator.join("" if cell is None else str(cell) for cell in row) for row in rows]
    if path is None:
        for line in lines:
            output.line(line)
    else:
        files.replace(path, "".join(f"{line}\n" for line in lines))
    return 0


def merge(sources: Sequence[Path], merged: Path) -> int:
    """Merges databases of one repository into a new one."""
    count = statistics.merge(sources, merged)
    output.line(f"{count} rows of {len(sources)} databases in {merged}")
    return 0
