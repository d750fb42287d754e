"""Runs commands of a measurement on this machine and accounts for them.

Owns wall time by the monotonic clock and processor time by the system's accounting (`wait4`: the command and every
child that it waited for). Each run is bounded and leaves no process behind.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from bench.harness.commands import Run

_OUTPUT_LIMIT_BYTES = 64 << 20


class CommandFailed(Exception):
    """A command of a measurement ended badly: there is nothing to measure."""


def run_measured(argv: list[str], environment: dict[str, str], stdin: str, limit_s: float) -> Run:
    """Runs a command with exactly this environment and returns what it took; ends it and raises when time is over."""
    with tempfile.TemporaryFile() as fed, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        fed.write(stdin.encode())
        fed.seek(0)
        started = time.monotonic()
        process = subprocess.Popen(
            argv, stdin=fed, stdout=out, stderr=err, env=environment, cwd="/", start_new_session=True
        )
        overtime = threading.Event()

        def end() -> None:
            overtime.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit_s, end)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            end()
            raise
        finally:
            timer.cancel()
        wall_s = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(_OUTPUT_LIMIT_BYTES).decode("utf-8", "replace"))
        if overtime.is_set():
            raise CommandFailed(f"{argv} did not end within {limit_s:g} s: {texts[1][-500:]}")
        return Run(wall_s, usage.ru_utime, usage.ru_stime, process.returncode, *texts)


def unmount(point: Path) -> None:
    """Unmounts, lazily if it is busy."""
    if subprocess.run(["umount", point], check=False, capture_output=True, timeout=120).returncode:
        subprocess.run(["umount", "-l", point], check=False, capture_output=True, timeout=120)


def drop_kernel_caches() -> None:
    """Writes dirty pages and empties page, dentry and inode caches. Needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")
