"""One command in a guest: run, watched, accounted for, and killed when its time is over or somebody interrupts.

Standard library only; runs inside the guest. Owns nothing but the command. Single thread.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import Any

OUTPUT_LIMIT_BYTES = 1 << 20
_KILLED_LIMIT_S = 10.0


def run_command(
    argv: list[str], environment: dict[str, str], stdin: bytes, limit_s: float, interrupt: int
) -> dict[str, Any]:
    """Runs a command to its end and returns the fields of a `Run`; of each stream the first 1 MiB is kept.

    It ends early when the descriptor `interrupt` is readable. Raises TimeoutError where it was killed, OSError where it
    cannot be started.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        argv,
        env=environment,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    streams = _Streams(process, stdin, interrupt)
    try:
        ended, given_up = streams.follow(limit_s)
        if given_up is not None:
            _kill(process)
            tail = bytes(streams.kept["stderr"][-500:]).decode(errors="replace")
            raise TimeoutError(f"{argv[0]} {given_up}: {tail}")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        streams.close()
    return {
        "wall_s": ended - started,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "exit_code": process.returncode,
        **{name: bytes(kept).decode(errors="replace") for name, kept in streams.kept.items()},
    }


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process that waits for a dead server cannot die: it is left alone.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILLED_LIMIT_S)


class _Streams:
    """A running command's pipes and its end, watched together with what may interrupt it."""

    def __init__(self, process: "subprocess.Popen[bytes]", stdin: bytes, interrupt: int) -> None:
        self.kept = {"stdout": bytearray(), "stderr": bytearray()}
        self._process = process
        self._stdin = memoryview(stdin)
        self._pidfd = os.pidfd_open(process.pid)
        self._selector = selectors.DefaultSelector()
        for stream, event, name in (
            (process.stdin, selectors.EVENT_WRITE, "stdin"),
            (process.stdout, selectors.EVENT_READ, "stdout"),
            (process.stderr, selectors.EVENT_READ, "stderr"),
        ):
            assert stream is not None  # noqa: S101  # all three were asked for
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream.fileno(), event, name)
        self._selector.register(self._pidfd, selectors.EVENT_READ, "end")
        self._selector.register(interrupt, selectors.EVENT_READ, "interrupt")

    def follow(self, limit_s: float) -> tuple[float, str | None]:
        """Returns (when the command ended or was given up, why it was given up or None)."""
        deadline = time.monotonic() + limit_s
        while True:
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            names = {key.data for key, _ in ready}
            if "end" in names:
                ended = time.monotonic()
                self._drain()
                return ended, None
            if "interrupt" in names:
                return time.monotonic(), "was ended by another request"
            if time.monotonic() >= deadline:
                return time.monotonic(), f"was still running after {limit_s:g} s"
            for key, _ in ready:
                self._move(key.fd, str(key.data))

    def close(self) -> None:
        """Closes what was opened."""
        self._selector.close()
        os.close(self._pidfd)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def _drain(self) -> None:
        # Children that live on may hold the pipes: only what is there already is read.
        for key in list(self._selector.get_map().values()):
            if key.data in self.kept:
                while self._move(key.fd, str(key.data)):
                    pass

    def _move(self, fd: int, name: str) -> bool:
        """Moves what can be moved without waiting; False at the end of a stream or when there is nothing now."""
        try:
            if name == "stdin":
                if self._stdin:
                    self._stdin = self._stdin[os.write(fd, self._stdin[:65536]) :]
                    return True
            elif read := os.read(fd, 65536):
                kept = self.kept[name]
                kept += read[: OUTPUT_LIMIT_BYTES - len(kept)]
                return True
        except BlockingIOError:
            return False
        except BrokenPipeError:
            pass
        self._selector.unregister(fd)
        if name == "stdin" and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        return False
