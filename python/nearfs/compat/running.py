"""How a command of many verbs ends: its exit codes for failures, in the words of `cvmfs_server`.

Owns: turning errors into a line and a number. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.errors import NearfsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_FAILED, _INTERRUPTED = 1, 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def ended(name: str, work: Callable[[], int]) -> int:
    """Runs `work` and returns its status, or the status of what it raised."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return work()
    except NearfsError as error:
        output.complain(str(error))
        return _FAILED if error.exit_code == error.default_exit_code else error.exit_code
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        output.complain(f"{name}: {about}{error.strerror or error}")
        return _FAILED
    except KeyboardInterrupt:
        output.complain("interrupted")
        return _INTERRUPTED
