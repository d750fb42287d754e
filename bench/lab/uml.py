"""User-Mode Linux as a machine at the near end of a line: its process, its network device, its console, its channel.

Owns the start, the end and the notice of an unexpected end. Does not know what is said over the channel (`lab.guest`).
The root file system is the host's, read-only. One thread a machine; making several at once is safe.
"""

import contextlib
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.processes import CommandFailed
from bench.lab.guest_agent import PIECE_BYTES
from bench.lab.line import DEVICE, NEAR_ADDRESS, Line

PROGRAM = "linux.uml"
MEMORY_MIB = 1536
_TOOL_LIMIT_S = 30.0
_GONE_LIMIT_S = 10.0
_TAIL_BYTES = 2000
_ANSWER_LIMIT_BYTES = 32 << 20
_SHARED_MEMORY = Path("/dev/shm")
_XSTATE = Path(__file__).with_name("xstate.c")
_choosing = threading.Lock()


class GuestError(CommandFailed):
    """A guest does not start, ended, or says that something failed; the text has the console's tail where it helps."""


@dataclass(frozen=True)
class Wire:
    """The network device between a line's near end and a guest: a TAP with two addresses of its own."""

    line: Line
    device: str
    host_address: str
    guest_address: str

    def remove(self) -> None:
        """Takes the device away."""
        _tool(self.line.near_command("ip", "link", "del", self.device))


def lay_wire(line: Line) -> Wire:
    """Makes a TAP device in the near namespace, routed to the far end. Raises `GuestError`."""
    with _choosing:
        listed = _tool(line.near_command("ip", "-o", "link"))
        used = {row.split(": ")[1] for row in listed.splitlines()}
        number = next((number for number in range(1, 64) if f"guest{number}" not in used), None)
        if number is None:
            raise GuestError(f"{line.near} has 63 guests already: end some")
        device = f"guest{number}"
        _tool(line.near_command("ip", "tuntap", "add", "dev", device, "mode", "tap"))
    wire = Wire(line, device, f"10.79.{number}.1", f"10.79.{number}.2")
    try:
        _tool(line.near_command("ip", "addr", "add", f"{wire.host_address}/30", "dev", device))
        _tool(line.near_command("ip", "link", "set", device, "txqueuelen", "10000", "up"))
        _tool(line.near_command("sysctl", "-qw", "net.ipv4.ip_forward=1"))
        # As on the line's own route: the same congestion control everywhere.
        route = ["10.79.0.0/18", "via", NEAR_ADDRESS, "dev", DEVICE, "congctl", "cubic"]
        _tool(line.far_command("ip", "route", "replace", *route))
    except GuestError:
        wire.remove()
        raise
    return wire


@dataclass
class Machine:
    """A running User-Mode Linux; made by `start`."""

    process: "subprocess.Popen[bytes]"
    channel: socket.socket
    console: Path
    _pending: bytes = field(default=b"", repr=False)

    def send(self, line: bytes, limit_s: float) -> None:
        """Sends one line over the channel, piece by piece as the agent takes it."""
        whole = line + b"\n"
        self.channel.settimeout(limit_s)
        for begin in range(0, len(whole), PIECE_BYTES):
            # What is not empty answers a question that was given up.
            while begin and self.receive(limit_s):
                pass
            try:
                self.channel.sendall(whole[begin : begin + PIECE_BYTES])
            except OSError as problem:
                raise GuestError(self.told(f"the guest takes nothing any more ({problem})")) from None

    def receive(self, limit_s: float) -> bytes:
        """Returns the next line of the channel; notices at once when the machine ends. Raises `GuestError`."""
        deadline = time.monotonic() + limit_s
        pidfd = os.pidfd_open(self.process.pid) if self.process.poll() is None else None
        try:
            while b"\n" not in self._pending:
                watched: list[socket.socket | int] = [self.channel] if pidfd is None else [self.channel, pidfd]
                ready = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))[0]
                if not ready:
                    raise GuestError(self.told(f"the guest did not answer within {limit_s:g} s"))
                read = self.channel.recv(1 << 18) if self.channel in ready else b""
                if not read:
                    raise GuestError(self.told("the guest ended"))
                self._pending += read
                if len(self._pending) > _ANSWER_LIMIT_BYTES:
                    raise GuestError(self.told("the guest's answer is too long"))
        finally:
            if pidfd is not None:
                os.close(pidfd)
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def told(self, sentence: str) -> str:
        """Returns the sentence with the tail of the console."""
        with contextlib.suppress(OSError), self.console.open("rb") as log:
            log.seek(max(0, self.console.stat().st_size - _TAIL_BYTES))
            tail = log.read(_TAIL_BYTES).decode(errors="replace").strip()
            return f"{sentence}; the end of its console:\n{tail}"
        return sentence

    def end(self, limit_s: float) -> None:
        """Waits for the machine to power off, then ends what is left of it; returns when nothing is left."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(limit_s)
        # Its helpers are in its group, and live on when it is killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_GONE_LIMIT_S)
        # Every process of it holds the other end of the channel.
        self.channel.settimeout(_GONE_LIMIT_S)
        with contextlib.suppress(OSError):
            while self.channel.recv(1 << 16):
                pass
        self.channel.close()


def start(home: Path, wire: Wire, init: Path, disks: Sequence[Path], memory_mib: int) -> Machine:
    """Starts a machine with `init` as its first process and its serial line 0 as the channel."""
    console = home / "console.log"
    ours, theirs = socket.socketpair()
    # One number each way: User-Mode Linux waits for a full socket only where reading has another descriptor.
    with ours, theirs, theirs.dup() as outward, console.open("wb") as log:
        words = [
            PROGRAM,
            f"mem={memory_mib}M",
            *("rootfstype=hostfs", "rootflags=/", "root=none", "ro", f"init={init}", "quiet"),
            *("con=null", "con0=null,fd:1", "ssl=null", f"ssl0=fd:{theirs.fileno()},fd:{outward.fileno()}"),
            *(f"umid={home.name}", f"uml_dir={home}/uml/"),
            f"vec0:transport=tap,ifname={wire.device},depth=128,gro=1",
            *(f"ubd{number}={disk}" for number, disk in enumerate(disks)),
        ]
        process = subprocess.Popen(
            wire.line.near_command(*words),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[theirs.fileno(), outward.fileno()],
            env={**os.environ, "TMPDIR": str(_memory_place(home, memory_mib)), "LD_PRELOAD": str(_xstate(home))},
            start_new_session=True,
        )
        return Machine(process, socket.socket(fileno=ours.detach()), console)


def _xstate(home: Path) -> Path:
    """Returns the library that makes the machine's kernel and the processor agree; built anew for each machine."""
    library = home / "xstate.so"
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    _tool([*compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_XSTATE), "-ldl"])
    return library


def _memory_place(home: Path, memory_mib: int) -> Path:
    """Returns where the machine's memory is backed by a file; a container's /dev/shm may be tiny."""
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > memory_mib << 20:
        return _SHARED_MEMORY
    return home


def _tool(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_LIMIT_S, check=False)
    if done.returncode:
        raise GuestError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
