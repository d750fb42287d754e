"""The only place that prints: lines, complaints, JSON and tables, for people and for scripts.

Owns: standard output and standard error of every command. Does not own: what is said.
Threading: called from the command's main thread. `rich` is imported only for a table on a terminal, because a command
whose output goes into a pipe must start fast and stay plain.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from threading import Event
    from typing import TextIO

_KIB = 1024


def end_with_reader() -> None:
    """Lets a short-lived command end silently when its reader does (`... | head`), as other Unix tools do.

    Not for commands that write elsewhere too: the signal would end those in the middle of it.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def on_terminal() -> bool:
    """Tells whether a person is looking at standard output."""
    return sys.stdout.isatty()


def line(text: str = "") -> None:
    """Prints one line to standard output; bytes that were no UTF-8 in the source come out as they were."""
    _print(sys.stdout, text)
    # A command that works for minutes is watched through its log file.
    sys.stdout.flush()


def content(block: bytes) -> None:
    """Writes bytes to standard output, as they are."""
    sys.stdout.buffer.write(block)


def complain(text: str) -> None:
    """Prints one line to standard error."""
    _print(sys.stderr, text)
    sys.stderr.flush()


@contextlib.contextmanager
def step(text: str, note: str = "") -> Iterator[None]:
    """Prints `text... note` before a step and `done` behind it; `fail` if the step raises."""
    _write(sys.stdout, f"{text}... {note}")
    sys.stdout.flush()
    try:
        yield
    except BaseException:
        line("fail")
        raise
    line("done")
    sys.stdout.flush()


@contextlib.contextmanager
def into(path: Path) -> Iterator[None]:
    """Appends what is printed meanwhile, complaints included, to a log file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def prompt(question: str) -> None:
    """Prints a question and leaves the cursor behind it."""
    _write(sys.stdout, question)
    sys.stdout.flush()


def follow(counts: Callable[[], dict[str, int]], done: Event, every_s: float) -> None:
    """Draws a progress bar of files and bytes from counters until `done` is set; runs in a thread of its own."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("reading changes", total=None)
        while not done.wait(every_s):
            now = counts()
            # How many files a stream holds is known at its end.
            files = f"{now['files_done']:,}" + (f" of {now['files_total']:,}" if now["files_total"] else "") + " files"
            bar.update(task, description=files, total=_bytes_expected(now), completed=now["bytes_done"])


def _bytes_expected(now: dict[str, int]) -> float | None:
    """Returns how many bytes there will be: counted, or as many a file as so far; None where nothing is known."""
    if now["bytes_total"]:
        return now["bytes_total"]
    if now["files_total"] and now["files_done"]:
        return now["bytes_done"] / now["files_done"] * now["files_total"]
    return None


def json_document(document: object) -> None:
    """Prints one value as JSON, keys sorted, for `--json`."""
    line(json.dumps(document, indent=2, sort_keys=True))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: columns aligned by blanks, or drawn by rich on a terminal."""
    if on_terminal():
        _drawn_table(headings, rows)
        return
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _drawn_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*headings)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: a `[` in a cell is no markup
    Console().print(drawn)


def readable_size(size: int) -> str:
    """Returns a size in bytes with the reference's units."""
    if size < _KIB:
        return f"{size} Byte"
    for exponent, unit in ((3, "GiB"), (2, "MiB"), (1, "kiB")):
        if size >= _KIB**exponent:
            return f"{size / _KIB**exponent:.2f} {unit}"
    raise AssertionError(size)


def _print(stream: TextIO, text: str) -> None:
    _write(stream, text + "\n")


def _write(stream: TextIO, text: str) -> None:
    """Writes through the byte layer where there is one: a locale must not decide whether a path can be printed."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(text)
        return
    stream.flush()
    buffer.write(text.encode("utf-8", "surrogateescape"))
