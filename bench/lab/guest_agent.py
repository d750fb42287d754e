"""What runs inside a guest: takes one request at a time from a serial line, carries it out, answers in one line.

Standard library only, and of this project `lab.guest_command` alone: the guest has the host's file system, but starts
with an empty cache. The other end is `lab.guest`. When the line hangs up, the guest powers off: nobody is there any
more. Single thread; whatever comes in while a command runs ends that command.
"""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import sys
import time
import tty
from collections.abc import Callable
from typing import Any

from bench.lab.guest_command import OUTPUT_LIMIT_BYTES, run_command

REQUEST_LIMIT_BYTES = 4 << 20
# The other end sends so much at most before it waits for an empty line: the serial line of User-Mode Linux sticks when
# a terminal's buffer of 4 KiB is full.
PIECE_BYTES = 2048
MOUNT_LIMIT_S = 120.0
PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_POWER_OFF = 0x4321FEDC
_FINIT_MODULE = 313  # on x86-64, the one architecture for which the guest's kernel is packaged


class HungUp(Exception):
    """The other end of the line is gone."""


class Line:
    """The serial line: whole lines in and out."""

    def __init__(self, device: str) -> None:
        self.fd = os.open(device, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd)
        self._pending = b""

    def receive(self) -> Any:
        """Returns the next request; raises `HungUp` at the end, ValueError for what is none."""
        taken = 0
        while b"\n" not in self._pending:
            try:
                read = os.read(self.fd, 65536)
            except OSError as problem:
                raise HungUp from problem
            if not read:
                raise HungUp
            self._pending += read
            if len(self._pending) > REQUEST_LIMIT_BYTES:
                raise HungUp
            if len(self._pending) - taken >= PIECE_BYTES and b"\n" not in self._pending:
                taken += PIECE_BYTES
                self._write(b"\n")
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def send(self, answer: Any) -> None:
        """Sends one line."""
        self._write(json.dumps(answer).encode("ascii") + b"\n")

    def _write(self, rest: bytes) -> None:
        while rest:
            try:
                rest = rest[os.write(self.fd, rest) :]
            except OSError as problem:
                raise HungUp from problem


class Agent:
    """The verbs. Each takes a request's fields and returns what goes back as `result`."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def run(
        self, argv: list[str], environment: dict[str, str], stdin: str, limit_s: float, scratch: str
    ) -> dict[str, Any]:
        """Runs a command with `scratch` made before and removed afterwards."""
        os.makedirs(scratch)
        try:
            return run_command(argv, environment, stdin.encode(), limit_s, self.line.fd)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def mount(self, kind: str, source: str, point: str, options: str) -> float:
        """Mounts with `mount` and returns its seconds."""
        os.makedirs(point, exist_ok=True)
        words = ["mount", "-t", kind, *(["-o", options] if options else []), source, point]
        return self._command(words, MOUNT_LIMIT_S)

    def unmount(self, point: str) -> float:
        """Unmounts and returns the seconds; 0 where nothing is mounted."""
        if not os.path.ismount(point):
            return 0.0
        return self._command(["umount", point], MOUNT_LIMIT_S)

    def drop_caches(self) -> None:
        """Empties page, dentry and inode caches of the guest."""
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as control:
            control.write("3")

    def mountstats(self) -> str:
        """Returns what the kernel counts for each NFS mount."""
        with open("/proc/self/mountstats", encoding="utf-8", errors="replace") as statistics:
            return statistics.read(OUTPUT_LIMIT_BYTES)

    def attribute(self, path: str, name: str) -> str | None:
        """Returns an extended attribute, None where there is none."""
        try:
            return os.getxattr(path, name).decode("utf-8", "replace")
        except OSError:
            return None

    def await_end(self, name: str, limit_s: float) -> None:
        """Returns when no process of that name is left; raises TimeoutError."""
        deadline = time.monotonic() + limit_s
        while name in _names_of_processes():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} still runs after {limit_s:g} s")
            time.sleep(0.02)

    def write(self, path: str, text: str) -> None:
        """Writes a file, with the directories above it."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def modules(self, folder: str, names: list[str]) -> None:
        """Loads kernel modules of `folder` with what they need."""
        # Not by modprobe: that is a package that small machines do not have.
        folder = os.path.join(folder, os.uname().release)
        needs = {}
        with open(os.path.join(folder, "modules.dep"), encoding="utf-8") as table:
            for row in table:
                path, _, needed = row.partition(":")
                needs[os.path.basename(path).removesuffix(".ko")] = [path, *needed.split()]
        for name in names:
            for path in reversed(needs[name]):
                _insert(os.path.join(folder, path))

    def _command(self, words: list[str], limit_s: float) -> float:
        done = run_command(words, PATH, b"", limit_s, self.line.fd)
        if done["exit_code"]:
            raise RuntimeError(f"{' '.join(words)}: exit code {done['exit_code']}: {done['stderr'].strip()}")
        return float(done["wall_s"])


def _names_of_processes() -> set[str]:
    names = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as comm:
                names.add(comm.read().strip())
    return names


def _insert(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.syscall(_FINIT_MODULE, descriptor, b"", 0) and ctypes.get_errno() != errno.EEXIST:
            raise OSError(ctypes.get_errno(), f"load the kernel module {path}")
    finally:
        os.close(descriptor)


def power_off() -> None:
    """Ends the guest, at once."""
    os.sync()
    ctypes.CDLL(None).reboot(_POWER_OFF)


def serve(line: Line) -> None:
    """Answers requests until one says `power_off` or the line hangs up."""
    agent = Agent(line)
    verbs: dict[str, Callable[..., Any]] = {
        verb.__name__: verb
        for verb in (
            agent.run,
            agent.mount,
            agent.unmount,
            agent.drop_caches,
            agent.mountstats,
            agent.attribute,
            agent.await_end,
            agent.write,
            agent.modules,
        )
    }
    line.send({"number": 0, "result": "ready"})
    while True:
        request = line.receive()
        if request["verb"] == "power_off":
            return
        try:
            answer = {"result": verbs[request["verb"]](**request["fields"])}
        except TimeoutError as problem:
            answer = {"late": str(problem)}
        except (OSError, RuntimeError, TypeError, KeyError, ValueError) as problem:
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        line.send({"number": request["number"], **answer})


if __name__ == "__main__":
    with contextlib.suppress(HungUp):
        serve(Line(sys.argv[1]))
    power_off()
