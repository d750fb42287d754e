"""What `ps`, `pgrep` and /proc call this process: `cvmfs2`, as monitoring and clean-up scripts expect.

Owns the process's command name and command line as the kernel shows them. Does not own: when (`mount`, `watchdog`).
Threading: called from the main thread of a process before its engine starts.

The interpreter was started as `python .../cvmfs2 ...`. Starting it anew under another first word would cost its start
time twice and could hide its virtual environment from it, hence the words are written over in place: nothing but the
kernel's /proc reads them once the interpreter runs.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND_NAME = "cvmfs2"
# Fields 48 and 49 of /proc/self/stat; counted from behind the command name, which may hold blanks, the first is 3.
_ARGUMENTS_START, _ARGUMENTS_END = 48 - 3, 49 - 3


def take(*choices: Sequence[str]) -> bool:
    """Makes the process look like `choices[0]`, or the first choice that fits; returns whether one did.

    The command name becomes `cvmfs2` in any case. Call it before privileges are dropped: afterwards the kernel no
    longer lets the process write its name.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(COMMAND_NAME, encoding="ascii")
    with contextlib.suppress(OSError, ValueError):
        return _overwrite(choices)
    return False


def _overwrite(choices: Sequence[Sequence[str]]) -> bool:
    fields = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    start, end = int(fields[_ARGUMENTS_START]), int(fields[_ARGUMENTS_END])
    length = end - start
    # The kernel shows exactly this area; anything else means that these are not the addresses they are taken for.
    if start == 0 or length != len(Path("/proc/self/cmdline").read_bytes()):
        return False
    for words in choices:
        text = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
        if len(text) <= length:
            import ctypes

            ctypes.memmove(start, text.ljust(length, b"\0"), length)
            return True
    return False
