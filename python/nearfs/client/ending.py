"""The wait for the end of a mount: by itself, or because somebody asks by a signal. It polls nothing.

Owns the handlers of the signals of a polite end. Does not own: what is done about them (`mount`).
Threading: made and asked on the main thread; one more thread sits in the engine until the mount has ended.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from nearfs.client.served import ServedMount

_POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DAY_S = 86_400.0
_ENOUGH_BYTES = 512


class Ending:
    """What the main thread waits for while a mount is served."""

    def __init__(self, mount: ServedMount) -> None:
        """Begins to watch; from here on, signals do not end the process by themselves."""
        self._mount = mount
        self._is_asked = self._has_ended = False
        self._failure: BaseException | None = None
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _POLITE:
            signal.signal(number, self._note)
        threading.Thread(target=self._watch, name="nearfs-end", daemon=True).start()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._is_asked = True

    def _watch(self) -> None:
        try:
            while not self._mount.wait(_DAY_S):
                pass
        except BaseException as error:  # noqa: BLE001 - raised again by `next`, on the main thread
            self._failure = error
        finally:
            self._has_ended = True
            os.write(self._writer, b"\0")

    def next(self) -> bool:
        """Waits; returns True when the mount has ended, False when a signal asks for its end.

        Raises what the engine raised instead of an end.
        """
        while not self._has_ended and not self._is_asked:
            # What sets one of the two writes a byte, too: the watcher after it, a signal before its handler runs,
            # which is before this thread sleeps again.
            select.select([self._reader], [], [])
            os.read(self._reader, _ENOUGH_BYTES)
        self._is_asked = False
        if self._failure is not None:
            raise self._failure
        return self._has_ended
