"""What a person sees of a run while it lasts, and the tables at its end.

Owns the screen: a bar that is redrawn on a terminal, plain lines with nothing redrawn anywhere else. Measures nothing.
Main thread only (the bar refreshes itself from a thread of rich's until `done`).
"""

import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from bench.harness.figures import Board, contender_title, seconds_text
from bench.harness.grid import show
from bench.harness.result import Cell, LineKey
from bench.harness.results_file import CellKey, key_of

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_S = 10  # in a log, a sample is told of when nothing was for so long


class Display:
    """The progress of one run. A context manager: whatever ends the run, the terminal is as it was.

    `start`, then for each step `step` and, for each sample taken in it, `sample` with the cell so far; `note` at any
    time; `done`. A step ends when the next one begins and then leaves one line with its medians.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stdout
        self._clock = clock
        self._started = self._spoke = clock()
        self._total = self._number = 0
        self._step = ""
        self._cells: dict[CellKey, Cell] = {}
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done()

    def start(self, total: int, title: str = "") -> None:
        """Begins a run of so many steps."""
        self._total, self._number = total, 0
        self._started = self._spoke = self._clock()
        if self._stream.isatty():
            self._draw()
        if title:
            self._say(title)

    def step(self, what: str, contender: str, line: LineKey | None) -> None:
        """Begins the next step: a scenario by a contender over a line."""
        self._end_step()
        self._number += 1
        over = f", {line}" if line else ""
        self._step = f"{what}, {contender_title(contender)}{over}"
        if self._progress is None:
            self._say(f"{self._place()} {self._step}")
        self._show(self._step, self._number - 1)

    def sample(self, cell: Cell, median: float | None = None) -> None:
        """Tells of one more sample; `cell` has it already, `median` is worked out unless it is given."""
        self._cells[key_of(cell)] = cell
        runs = len(cell.samples)
        wall = seconds_text(cell.median() if median is None else median)
        text = f"{self._step}: {cell.state} {wall} s" + (f" (median of {runs})" if runs > 1 else "")
        if self._progress is not None:
            self._show(text, self._number - 1)
        elif self._clock() - self._spoke >= QUIET_S:
            self._say(f"{self._place()} {text}")

    def note(self, text: str) -> None:
        """Says something that is to be read after the run, too."""
        self._say(f"note: {' '.join(text.split())}")

    def done(self) -> None:
        """Ends the display; does nothing the second time."""
        self._end_step()
        if self._progress is not None:
            self._show("done", self._number)
            self._progress.stop()
            self._progress = None

    def _end_step(self) -> None:
        """Leaves the line of the step that ends here."""
        if self._step and self._cells:
            figures = []
            for cell in self._cells.values():
                known = cell.values("wall_s")
                spread = f" ({seconds_text(min(known))} to {seconds_text(max(known))})" if len(known) > 1 else ""
                figures.append(f"{cell.state} {seconds_text(cell.median())} s{spread}")
            self._say(f"{self._place()} {self._step}: {', '.join(figures)}")
        self._step, self._cells = "", {}

    def _place(self) -> str:
        """Returns where in the run we are: the step's number and the minutes so far."""
        minutes, seconds = divmod(int(self._clock() - self._started), 60)
        width = len(str(self._total))
        return f"[{self._number:{width}}/{self._total} {minutes:3}:{seconds:02}]"

    def _say(self, text: str) -> None:
        """Prints one line that stays."""
        self._spoke = self._clock()
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def _draw(self) -> None:
        """Puts the bar on the terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._progress = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            # What does not fit is cut: a line that wraps and unwraps would make the screen jump.
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=Console(file=self._stream),
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("", total=self._total)
        self._progress.start()

    def _show(self, text: str, completed: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text, completed=completed)


def summary(cells: Iterable[Cell], absent: Iterable[tuple[str, str]] = (), stream: TextIO | None = None) -> None:
    """Prints the tables of a finished run: the talk's for each line, one for all other scenarios, who is missing."""
    from bench.report.tables import summary_grids

    stream = stream or sys.stdout
    show(*summary_grids(Board(cells)), stream=stream)
    for contender, why in absent:
        print(f"Not measured: {contender_title(contender)}: {why}", file=stream)
