"""One run of a command with its opens recorded by the client of a mount.

Owns: beginning and ending a recording around a run, the run's time limit, what became of it. Does not own: the recorder
(the client behind the socket), nor what is made of the list.
Threading: called from a command's main thread; waits with a bound.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.client import control
from nearfs.errors import NearfsError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

# Stops itself, so that nothing is opened before the recording has begun, and then becomes the command.
_STOPPED = 'kill -STOP $$; exec "$@"'
_STOP_LIMIT_S = 10.0
_GRACE_S = 5.0
_POLL_S = 0.02
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Run:
    """How to run a command: at most `limit_s` seconds; with `words` before it, such as those that enter a namespace.

    Without `is_alone`, others use the mount as well, and only what the command's own session opens is recorded. What
    it prints is kept where `quiet`, and goes to standard error otherwise.
    """

    command: Sequence[str]
    limit_s: float
    words: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    is_alone: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Recorded:
    """What a run opened, in order, from the root of the repository on; and how it ended.

    `status` is its exit status, None where its time was over; `tail` the end of what it printed.
    """

    paths: list[bytes]
    is_cut: bool
    status: int | None
    tail: str

    @property
    def complaint(self) -> str:
        """Says what was wrong with the run, nothing where nothing was."""
        if self.status == 0:
            return ""
        ended = "its time was over" if self.status is None else f"it ended with status {self.status}"
        return ended + (f":\n{self.tail}" if self.tail else "")


def record(socket: str, run: Run) -> Recorded:
    """Runs a command and returns what it opened in the mount behind a control socket.

    Raises `Unsupported` where the mount does not record, `NearfsError` where the command cannot be started.
    """
    with tempfile.TemporaryFile() as printed:
        token = _begin(socket, "") if run.is_alone else None
        started = _start(run, printed)
        try:
            if token is None:
                _wait_until_stopped(started)
                token = _begin(socket, f" {started.pid}")
                os.kill(started.pid, signal.SIGCONT)
            status = _finish(started, run.limit_s)
        except BaseException:
            if token is not None:
                with contextlib.suppress(NearfsError):
                    control.ask(socket, f"trace end {token}")
            raise
        finally:
            _end(started)
        paths, is_cut = _listed(control.ask(socket, f"trace end {token}"))
        return Recorded(paths, is_cut, status, _tail(printed))


def _begin(socket: str, group: str) -> str:
    reply = control.ask(socket, f"trace begin{group}").strip()
    if not (reply.isascii() and reply.isdigit()):
        message = f"the client behind {socket} does not record: {reply}; mount again with this version, or use --mount"
        raise Unsupported(message, operation="record", subject=socket)
    return reply


def _listed(reply: str) -> tuple[list[bytes], bool]:
    try:
        document = json.loads(reply)
        return [os.fsencode(item["path"]) for item in document["items"]], bool(document["is_cut"])
    except (ValueError, KeyError, TypeError):
        message = f"the client's recording cannot be read: {reply[:200]}"
        raise Unsupported(message, operation="record") from None


def _start(run: Run, printed: IO[bytes]) -> subprocess.Popen[bytes]:
    stopped = [] if run.is_alone else ["sh", "-c", _STOPPED, "sh"]
    command = [*run.words, *stopped, *run.command]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if run.quiet else None,
            stdout=printed if run.quiet else 2,
            stderr=subprocess.STDOUT if run.quiet else None,
            env=run.environment,
            start_new_session=True,
        )
    except OSError as error:
        message = f"cannot run {command[0]}: {error.strerror}"
        raise NearfsError(message, operation="record", subject=command[0]) from error


def _wait_until_stopped(started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STOP_LIMIT_S
    while time.monotonic() < deadline:
        pid, status = os.waitpid(started.pid, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            return
        if pid:
            started.returncode = os.waitstatus_to_exitcode(status)
            break
        time.sleep(_POLL_S)
    raise NearfsError("the command could not be held before it began", operation="record")


def _finish(started: subprocess.Popen[bytes], limit_s: float) -> int | None:
    try:
        return started.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None


def _end(started: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a run: also what it started and left behind."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(started.pid, number)
            os.killpg(started.pid, signal.SIGCONT)
        if started.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(_GRACE_S)


def _tail(printed: IO[bytes]) -> str:
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - _TAIL_BYTES))
    text = printed.read().decode("utf-8", "replace").strip()
    # It is shown on the terminal of whoever publishes, which must not take it for commands.
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
