"""What a publish says at its end, and the bar that it draws meanwhile: one form for every command that publishes.

Owns: the lines of the summary, and drawing progress where a person is looking. Does not own: counting (the engine).
Threading: a command's main thread; on a terminal a second thread draws.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.cli.output import readable_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearfs._native import Progress
    from nearfs.records import Committed

_DRAW_EVERY_S = 0.2


class Watched:
    """One publish being watched: its counters and when it began."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.started_s = time.monotonic()

    def end(self, fqrn: str, committed: Committed, say: Callable[[str], None] = output.line) -> None:
        """Prints the warnings of a publish, then its summary, with `say`."""
        for warning in committed["warnings"]:
            output.complain(f"Warning: {warning}")
        for text in lines(fqrn, committed, self.progress.counts(), time.monotonic() - self.started_s):
            say(text)


@contextlib.contextmanager
def watching() -> Iterator[Watched]:
    """Yields new counters and draws a progress bar of them, where a person is looking."""
    from nearfs import _native

    progress = _native.Progress()
    with drawn(progress):
        yield Watched(progress)


@contextlib.contextmanager
def drawn(progress: Progress) -> Iterator[None]:
    """Draws a progress bar while a publish runs, where a person is looking."""
    if not output.on_terminal():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=output.follow, args=(progress.counts, done, _DRAW_EVERY_S), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=2)


def lines(fqrn: str, committed: Committed, counts: dict[str, int], seconds: float) -> list[str]:
    """Returns the summary: what changed and what was stored, then what was read and how fast."""
    rate_s = max(seconds, 1e-3)
    files, read, reused = counts["files_done"], counts["bytes_done"], committed["objects_reused"]
    changed = (
        f"{committed['entries_added']} added, {committed['entries_changed']} changed, "
        f"{committed['entries_removed']} removed"
    )
    stored = (
        f"{committed['objects_new']} new objects, {committed['bytes_new']} bytes, {committed['catalogs_new']} catalogs"
    )
    speed = f"{files / rate_s:.0f} files/s, {readable_size(int(read / rate_s))}/s"
    return [
        f"Published revision {committed['revision']} of {fqrn}: {changed}; {stored}",
        f"Read {files} files, {readable_size(read)}, in {seconds:.2f} s: {speed}; reused {reused} objects",
    ]
