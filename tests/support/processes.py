"""Processes that tests start: each in a group of its own, marked by an environment variable, ended with a deadline.

Owns the mark by which a process of this run is found again, however often it forked or daemonised since. Called from
the test's own thread.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import DeadlineExceededError, wait_until

MARK = "NEARFS_TEST_RUN"
TERMINATE_LIMIT_S = 5.0
KILL_LIMIT_S = 5.0
COMMAND_LIMIT_S = 200.0  # below pytest's own limit, so that a command that hangs is named


@dataclass(frozen=True)
class Running:
    """A process found in /proc."""

    pid: int
    command: str


def marked_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns this process's environment with the mark of this run (conftest sets it) and `extra`."""
    if MARK not in os.environ:
        message = f"{MARK} is not set: processes may only be started below tests/conftest.py"
        raise RuntimeError(message)
    return {**os.environ, **(extra or {})}


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    check: bool = True,
    limit: float = COMMAND_LIMIT_S,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs `command` to its end and returns it with its output as text.

    Raises AssertionError with both streams where it fails and `check` is set. A command that daemonises keeps none of
    our pipes open if it closes its streams, as it must.
    """
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=limit,
            env=marked_environment(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as late:
        message = f"{_words(command)}: still running after {limit:g} s\n{late.stdout!r}\n{late.stderr!r}"
        raise DeadlineExceededError(message) from None
    if check and done.returncode != 0:
        message = f"{_words(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        raise AssertionError(message)
    return done


@contextlib.contextmanager
def started(
    command: Sequence[str | os.PathLike[str]], log: Path, *, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts `command` with both streams in `log` and ends its whole group on the way out."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=marked_environment(env),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the process group that `process` leads: asks, then kills; returns when the leader is reaped."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATE_LIMIT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(KILL_LIMIT_S)


def of_this_run() -> list[Running]:
    """Returns the live processes, this one aside, that carry the mark of this run."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # A process may end while it is looked at, and another user's is none of ours.
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(Running(int(entry.name), words.strip()))
    return found


def kill_all_of_this_run() -> None:
    """Kills what `of_this_run` finds; returns when it is gone or the deadline passed."""
    for running in of_this_run():
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGKILL)
    with contextlib.suppress(DeadlineExceededError):
        wait_until(lambda: not of_this_run(), KILL_LIMIT_S, "killed processes are gone")


def _words(command: Sequence[str | os.PathLike[str]]) -> str:
    return " ".join(str(word) for word in command)
