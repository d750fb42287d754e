"""Signals during the steps that belong together.

Owns: holding off an interrupt where stopping half-way would leave work for the next command. Does not own: what an
interrupt does elsewhere (it raises `KeyboardInterrupt`). Threading: signal handlers belong to the main thread; in any
other thread no signal arrives, and nothing is done.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_HELD_OFF = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def held_off() -> Iterator[None]:
    """Drops interrupts while the last steps of a command are done, each of them bounded in time.

    Dropped, not delivered afterwards: the command is about to end, and "interrupted" would be said of something
    that is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ignore(_number: int, _frame: FrameType | None) -> None:
        # A function instead of SIG_IGN: processes that are started meanwhile would inherit that.
        pass

    before = {number: signal.signal(number, ignore) for number in _HELD_OFF}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
