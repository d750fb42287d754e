"""A process of its own that reports when it is ready, or why it will never be.

Owns the fork, the report and its deadline. Does not own: what the process does.
Threading: forks, hence only before the engine is imported and with one thread.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import TYPE_CHECKING, NoReturn

from nearfs.errors import InitCode, NearfsError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

# Bounds the whole start: the engine bounds each request, this bounds a process that does not answer at all.
START_TIMEOUT_S = 600.0


def start(body: Callable[[Callable[[], None]], None], *, subject: str, detach: bool) -> int:
    """Runs `body(ready)` in a new process and returns its pid as soon as it calls `ready`.

    With `detach` the process leads a session of its own and lets go of the terminal as soon as it is ready. Raises
    what it reports: a `NearfsError` with the exit code of the one that ended it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run(body, writer, detach=detach)
    os.close(writer)
    report = _read_report(reader, child)
    os.close(reader)
    if "error" in report:
        os.waitpid(child, 0)
        raise NearfsError(report["error"], operation="mount", subject=subject, exit_code=int(report["code"]))
    return child


def _read_report(reader: int, child: int) -> dict[str, str]:
    received = b""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not received.endswith(b"\n"):
        readable, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            message = f"the mount did not come up within {START_TIMEOUT_S:.0f} s"
            raise Unreachable(message, operation="mount", exit_code=InitCode.UNKNOWN)
        piece = os.read(reader, 65536)
        if not piece:
            return {"error": "the mount process died before it was ready", "code": str(int(InitCode.UNKNOWN))}
        received += piece
    report: dict[str, str] = json.loads(received)
    return report


def _run(body: Callable[[Callable[[], None]], None], writer: int, *, detach: bool) -> NoReturn:
    """Runs the body and ends the process, whatever happens: it must never return into the parent's code."""
    code = int(InitCode.UNKNOWN)
    reported = False

    def report(document: dict[str, str]) -> None:
        nonlocal reported
        if not reported:
            reported = True
            os.write(writer, json.dumps(document).encode() + b"\n")
            os.close(writer)

    def ready() -> None:
        if detach:
            # Not before the mount: automount's kernel side lets only its own process group see the directory until
            # something is mounted on it, and whoever else looks there, waits for that to happen.
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            os.close(null)
        report({})

    try:
        os.chdir("/")
        body(ready)
        code = 0
    except NearfsError as error:
        report({"error": str(error), "code": str(error.exit_code)})
        code = error.exit_code
    except BaseException as error:  # noqa: BLE001 - the last resort of a process of its own
        report({"error": f"internal error: {error!r}", "code": str(int(InitCode.UNKNOWN))})
    finally:
        os._exit(code)
