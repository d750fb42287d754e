"""A table of texts, in the three forms in which tables are shown: on a terminal, in a log, in Markdown.

Owns the forms only: what stands in a table is decided where it is made. Single-threaded.
"""

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table


@dataclass
class Grid:
    """A table: its title, its headings, its rows; the first `texts` columns are words, the others numbers."""

    title: str
    headings: list[str]
    rows: list[list[str]] = field(default_factory=list)
    texts: int = 1

    def without_empty_columns(self, nothing: str) -> "Grid":
        """Returns the grid without the columns of numbers in which every row says `nothing`."""
        kept = [at for at in range(len(self.headings)) if at < self.texts or any(r[at] != nothing for r in self.rows)]
        rows = [[row[at] for at in kept] for row in self.rows]
        return Grid(self.title, [self.headings[at] for at in kept], rows, self.texts)

    def plain(self) -> list[str]:
        """Returns the table as lines that stand below one another in any log."""
        table = [self.headings, *self.rows]
        widths = [max(len(row[at]) for row in table) for at in range(len(self.headings))]
        lines = []
        for row in table:
            padded = [
                text.ljust(width) if at < self.texts else text.rjust(width)
                for at, (text, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(padded).rstrip())
        return [self.title, *lines] if self.title else lines

    def markdown(self) -> list[str]:
        """Returns the table as lines of Markdown, without the title."""
        marks = ["---" if at < self.texts else "---:" for at in range(len(self.headings))]
        table = [[escape(text) for text in row] for row in (self.headings, *self.rows)]
        return [f"| {' | '.join(row)} |" for row in (table[0], marks, *table[1:])]

    def rich(self) -> "Table":
        """Returns the table for a terminal."""
        from rich import box
        from rich.markup import escape as as_text
        from rich.table import Table

        table = Table(title=as_text(self.title) or None, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
        for at, heading in enumerate(self.headings):
            table.add_column(as_text(heading), justify="left" if at < self.texts else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*map(as_text, row))
        return table


def escape(text: str) -> str:
    """Returns text that Markdown shows as it is, on one line: neither markup nor a comment can come of it."""
    text = " ".join(text.split())
    for sign in "\\`*_[]|~":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def show(*grids: Grid, stream: TextIO | None = None) -> None:
    """Prints tables: drawn where somebody looks at a terminal that is wide enough, plain lines anywhere else."""
    stream = stream or sys.stdout
    if stream.isatty():
        from rich.console import Console

        console = Console(file=stream)
        for grid in grids:
            if max(map(len, grid.plain())) <= console.width:
                console.print(grid.rich())
            else:
                stream.writelines(f"{line}\n" for line in [*grid.plain(), ""])
        return
    for grid in grids:
        stream.writelines(f"{line}\n" for line in [*grid.plain(), ""])
