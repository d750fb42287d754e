"""What a mount tells the system's log: when it comes, when it goes, and why it does not come.

Owns facility, level, prefix and the file instead of syslog (client.md 1.4.5), also for the engine, which writes its
lines itself.
Threading: `log` may be called from any thread; the system's log is one per process.
"""

from __future__ import annotations

import contextlib
import os
import syslog
import time
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearfs.config.model import SyslogSettings

IDENT = "cvmfs2"
# client.md 1.4.5: beyond it the file becomes `<file>.1` and a new one begins.
FILE_LIMIT_BYTES = 500 << 10
_LOCAL = (
    syslog.LOG_LOCAL0,
    syslog.LOG_LOCAL1,
    syslog.LOG_LOCAL2,
    syslog.LOG_LOCAL3,
    syslog.LOG_LOCAL4,
    syslog.LOG_LOCAL5,
    syslog.LOG_LOCAL6,
    syslog.LOG_LOCAL7,
)
_LEVELS = {1: syslog.LOG_DEBUG, 2: syslog.LOG_INFO, 3: syslog.LOG_NOTICE}


class Weight(Enum):
    """How much a line matters; normal ones have the level that CVMFS_SYSLOG_LEVEL says."""

    NORMAL = "normal"
    WARNING = "warning"
    ERROR = "error"


class Journal:
    """The log of one repository."""

    def __init__(self, settings: SyslogSettings) -> None:
        """Takes where the lines go; opens nothing, so that it may be made before a fork."""
        self._settings = settings

    def log(self, text: str, weight: Weight = Weight.NORMAL) -> None:
        """Writes `(<prefix>) text`. A log that cannot be written is no reason to fail."""
        settings = self._settings
        line = f"({settings.prefix}) {text}"
        if settings.file:
            with contextlib.suppress(OSError):
                _append(settings.file, line)
            return
        facility, normal, _ = system_log(settings)
        priorities = {Weight.WARNING: syslog.LOG_WARNING, Weight.ERROR: syslog.LOG_ERR}
        syslog.openlog(IDENT, 0, facility)
        syslog.syslog(priorities.get(weight, normal), line)


def system_log(settings: SyslogSettings) -> tuple[int, int, str]:
    """Returns facility, severity of what is neither a warning nor an error, and prefix of lines in the system's log."""
    facility = syslog.LOG_USER if settings.facility is None else _LOCAL[settings.facility]
    return facility, _LEVELS[settings.level], settings.prefix


def _append(path: str, line: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.path.getsize(path) > FILE_LIMIT_BYTES:
            os.replace(path, f"{path}.1")
    stamp = time.strftime("%b %d %H:%M:%S")
    with open(path, "a", encoding="utf-8", errors="surrogateescape") as log:
        log.write(f"{stamp} {IDENT}[{os.getpid()}]: {line}\n")
