"""The process of root beside a client that is not root: it unmounts for it, also when the client dies.

Owns the wait for the client and the way out of the mount. Does not own: mounting (`premount`), serving (`mount`).
Threading: one thread, blocked in a read until the client asks for something or ends; it polls nothing.

Without it a client that dies leaves a mount on which every access fails, and autofs never mounts there again.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from nearfs.client import background
from nearfs.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from nearfs.client.premount import Mounted

_UNMOUNT = b"u"


def guard(
    mounted: Mounted,
    serve: Callable[[Callable[[], None], Callable[[], None]], None],
    ready: Callable[[], None],
    *,
    subject: str,
    detach: bool,
) -> None:
    """Runs `serve(ready, unmount)` in a process of its own and watches it until it has ended.

    `unmount` may be called in that process, from any thread or signal. Raises what the process reports if it does not
    become ready; in every case the mount is gone when this returns.
    """
    reader, writer = os.pipe()

    def body(child_ready: Callable[[], None]) -> None:
        os.close(reader)
        serve(child_ready, lambda: _ask(writer, mounted.point))

    try:
        child = background.start(body, subject=subject, detach=detach)
        os.close(writer)
        # The client's alone from now on: while any descriptor is open, the kernel waits for answers.
        os.close(mounted.descriptor)
        _forward_signals(child)
        ready()
        while os.read(reader, 1) == _UNMOUNT:
            mounted.unmount()
        os.waitpid(child, 0)
    finally:
        mounted.unmount()
        os.close(reader)


def _ask(writer: int, point: str) -> None:
    """Asks the watchdog to unmount; raises `Unreachable` where somebody killed it, and then the client can only end."""
    try:
        os.write(writer, _UNMOUNT)
    except OSError as error:
        message = f"nobody is left who may unmount {point}: use `umount -l {point}`"
        raise Unreachable(message, operation="unmount", subject=point) from error


def _forward_signals(child: int) -> None:
    def forward(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)
