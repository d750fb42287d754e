"""Moments in time as administrators write them: `3 days ago`, `2024-01-31 12:00`.

Owns: what date(1) is asked, without a shell. Threading: plain functions; each starts a process and waits for it.
"""

from __future__ import annotations

import subprocess
import time

from nearfs.errors import InvalidInput, NotFound

_LIMIT_S = 10.0


def parse(expression: str) -> int:
    """Returns the Unix time that date(1) reads from an expression; raises `InvalidInput` if it cannot."""
    refused = InvalidInput(f"Cannot parse time stamp '{expression}'", operation="read time stamp", exit_code=1)
    if not expression.strip() or "\0" in expression:
        raise refused
    try:
        # One word: an expression that begins with a dash is no option then.
        command = ["date", "-u", f"--date={expression}", "+%s"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    except FileNotFoundError:
        message = "the program 'date' is missing, which reads time stamps: install coreutils"
        raise NotFound(message, operation="read time stamp", exit_code=1) from None
    except subprocess.TimeoutExpired:
        raise refused from None
    if done.returncode != 0:
        raise refused
    return int(done.stdout)


def written(unix_s: float) -> str:
    """Returns a moment as `date --utc` prints it in the C locale."""
    # Python leaves the names of days and months in the C locale.
    return time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime(unix_s))
