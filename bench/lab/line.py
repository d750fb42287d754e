"""A line between two machines on one: two network namespaces joined by the relay.

Owns namespaces, TUN devices, the relay process and the self-check; a line that is not what was asked for is refused
before anything is measured over it. Does not own what runs at its ends. Needs root and /dev/net/tun. Several lines may
be up at once, each with its own namespaces, so all have the same addresses. One thread a line.
"""

import contextlib
import fcntl
import functools
import json
import os
import secrets
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.harness.result import LineKey
from bench.lab.namespaces import inside

NEAR_ADDRESS = "10.79.0.1"
FAR_ADDRESS = "10.79.0.2"
NETWORK = "10.79.0.0/30"
DEVICE = "wan0"

# A queue of 100 ms in front of the rate, as routers have it, and room for one packet of segmentation offload.
_QUEUE_S = 0.1
_QUEUE_EXTRA_BYTES = 128 * 1024
# With segmentation left to the device a "packet" is up to 64 KB, which is 5 ms of 100 Mbit/s: only where a rate is too
# high for single packets.
_SINGLE_PACKETS_UP_TO_MBIT = 500
_RTT_TOLERANCE = 0.02
# What a timer and four wake-ups cost; matters on the shortest line only.
_RTT_TOLERANCE_MS = 0.1
_RATE_TOLERANCE = 0.10
_CALIBRATIONS = 6
_EXCHANGES, _EXCHANGES_SHORT, _SHORT_MS = 15, 201, 5.0
_READY_LIMIT_S = 10.0
_TOOL_LIMIT_S = 60.0

_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6, _TUN_F_TSO_ECN = 1, 2, 4, 8


class LineError(Exception):
    """The line cannot be made, or is not what was asked for; the text says which."""


@dataclass(frozen=True)
class Traffic:
    """What crossed a line so far: bytes of IP packets and packets, to the far end (up) and from it (down)."""

    up_bytes: int
    down_bytes: int
    up_packets: int
    down_packets: int
    dropped: int


class Line:
    """A running line; made by `up`."""

    def __init__(self, key: LineKey, name: str, control: str) -> None:
        self.key = key
        self.near = f"{name}-near"
        self.far = f"{name}-far"
        self.measured_rtt_ms = 0.0
        self.measured_rate_mbit = 0.0
        self._control = control

    def near_command(self, *argv: str) -> list[str]:
        """Returns the words that run a command at the near end."""
        return ["nsenter", f"--net=/run/netns/{self.near}", *argv]

    def far_command(self, *argv: str) -> list[str]:
        """Returns the words that run a command at the far end."""
        return ["nsenter", f"--net=/run/netns/{self.far}", *argv]

    def traffic(self) -> Traffic:
        """Returns what crossed so far."""
        counts = self._ask("counts")
        up, down = counts["up"], counts["down"]
        dropped = sum(side[why] for side in (up, down) for why in ("overflowed", "lost"))
        return Traffic(up["bytes"], down["bytes"], up["packets"], down["packets"], dropped)

    def set_delay(self, one_way_s: float) -> None:
        """Changes the time of flight."""
        self._ask(f"delay {max(0, round(one_way_s * 1e9))}")

    def _ask(self, command: str) -> dict[str, dict[str, int]]:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(_READY_LIMIT_S)
            control.connect(f"\0{self._control}")
            control.sendall(f"{command}\n".encode())
            with control.makefile("r", encoding="ascii") as answer:
                parsed: dict[str, dict[str, int]] = json.loads(answer.readline())
        return parsed


@functools.cache
def relay_program() -> Path:
    """Returns the relay's binary, built if it is not up to date; once a process."""
    top = Path(__file__).resolve().parent.parent.parent
    command = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "nearfs-relay"]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise LineError(f"the relay cannot be built: {done.stderr.strip()[-2000:]}")
    target = Path(os.environ.get("CARGO_TARGET_DIR", top / "target"))
    return target / "release" / "nearfs-relay"


@contextlib.contextmanager
def up(key: LineKey, name: str, *, check: bool = True) -> Iterator[Line]:
    """Runs a line and checks it; `name` is the beginning of its namespaces' names.

    Raises `LineError` where it cannot be made, or where its round-trip time is off by more than 2 % (or 0.1 ms) or its
    rate by more than 10 %. `check=False` skips the second for tests that measure nothing.
    """
    control = f"nearfs-relay-{secrets.token_hex(8)}"  # an abstract name: no path that is too long, no file to remove
    line = Line(key, name, control)
    relay: subprocess.Popen[bytes] | None = None
    with contextlib.ExitStack() as stack:
        for namespace in (line.near, line.far):
            _run("ip", "netns", "add", namespace)
            stack.callback(_run, "ip", "netns", "del", namespace)
        near, far = (_tunnel(namespace, single=_single_packets(key)) for namespace in (line.near, line.far))
        try:
            relay = subprocess.Popen([relay_program(), *_relay_words(key, control)], stdin=near, stdout=far)
        finally:
            os.close(near)
            os.close(far)
        stack.callback(_end, relay)
        _wait_for(line, relay)
        _configure(line)
        if check:
            _check_rate(line)  # while it has no delay: over a long line the ends' buffers would be what is measured
        line.set_delay(key.rtt_ms / 2000)
        if check:
            _calibrate(line)
        yield line


def _single_packets(key: LineKey) -> bool:
    return key.loss > 0 or 0 < key.rate_mbit <= _SINGLE_PACKETS_UP_TO_MBIT


def _relay_words(key: LineKey, control: str) -> list[str]:
    rate_bps = round(key.rate_mbit * 1e6)
    queue = round(rate_bps / 8 * _QUEUE_S) + _QUEUE_EXTRA_BYTES
    return [control, str(rate_bps), str(queue), str(round(key.loss * 1e6)), "1"]


def _end(relay: subprocess.Popen[bytes]) -> None:
    relay.kill()
    relay.wait(_READY_LIMIT_S)


def _wait_for(line: Line, relay: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_LIMIT_S
    while True:
        try:
            line.traffic()
        except ConnectionRefusedError:
            if relay.poll() is not None or time.monotonic() > deadline:
                raise LineError("the relay does not start") from None
            time.sleep(0.01)
        else:
            return


def _tunnel(namespace: str, *, single: bool) -> int:
    """Opens a TUN device in a namespace and returns its descriptor."""

    def make() -> int:
        tunnel = os.open("/dev/net/tun", os.O_RDWR)
        flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tunnel, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), flags))
        fcntl.ioctl(tunnel, _TUNSETOFFLOAD, 0 if single else _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN)
        return tunnel

    try:
        return inside(namespace, make)
    except OSError as error:
        raise LineError(f"no TUN device in {namespace}: {error}") from error


def _configure(line: Line) -> None:
    for namespace, address in ((line.near, NEAR_ADDRESS), (line.far, FAR_ADDRESS)):
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
        _run("ip", "-n", namespace, "addr", "add", f"{address}/30", "dev", DEVICE)
        _run("ip", "-n", namespace, "link", "set", DEVICE, "txqueuelen", "10000", "up")
        # By the route, since a namespace may not choose an algorithm that the machine reserves; the same everywhere.
        _run("ip", "-n", namespace, "route", "change", NETWORK, "dev", DEVICE, "src", address, "congctl", "cubic")
    for command in (line.near_command, line.far_command):
        # What one connection learned of the line must not make the next one's start faster: cold is cold.
        _run(*command("sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1"))


def _calibrate(line: Line) -> None:
    """Takes what the relay itself costs off the delay, then insists on the round-trip time."""
    wanted = line.key.rtt_ms
    one_way_ms = wanted / 2
    tolerance = max(wanted * _RTT_TOLERANCE, _RTT_TOLERANCE_MS)
    exchanges = _EXCHANGES_SHORT if wanted < _SHORT_MS else _EXCHANGES
    for _ in range(_CALIBRATIONS):
        line.measured_rtt_ms = statistics.median(_measure(line, "rtt", str(exchanges)))
        error = line.measured_rtt_ms - wanted
        if abs(error) <= tolerance / 2:
            return
        # Half of what would be right: one noisy measurement must not turn a short line into none.
        one_way_ms = max(0.0, one_way_ms - error / 4)
        line.set_delay(one_way_ms / 1000)
    line.measured_rtt_ms = statistics.median(_measure(line, "rtt", str(2 * exchanges)))
    if abs(line.measured_rtt_ms - wanted) > tolerance:
        raise LineError(f"asked for {wanted:g} ms of round trip, measured {line.measured_rtt_ms:.2f} ms: not measuring")


def _check_rate(line: Line) -> None:
    if line.key.loss or not line.key.rate_mbit:  # loss lowers what a connection reaches: that is its point
        line.measured_rate_mbit = line.key.rate_mbit
        return
    # Long enough to leave slow start behind: two seconds of the rate, most of them at it.
    size = round(line.key.rate_mbit * 1e6 / 8 * 2)
    line.measured_rate_mbit = _measure(line, "rate", str(size))[0]
    if abs(line.measured_rate_mbit / line.key.rate_mbit - 1) > _RATE_TOLERANCE:
        measured = f"measured {line.measured_rate_mbit:.1f}"
        raise LineError(f"asked for {line.key.rate_mbit:g} Mbit/s, {measured}: not measuring (is the machine busy?)")


def _measure(line: Line, *words: str) -> list[float]:
    check = str(Path(__file__).with_name("line_check.py"))
    server = subprocess.Popen(line.far_command(sys.executable, check, "serve", FAR_ADDRESS), stdout=subprocess.PIPE)
    try:
        if server.stdout is None or server.stdout.readline() != b"ready\n":
            raise LineError("the far end of the line does not answer")
        asker = line.near_command(sys.executable, check, *words, FAR_ADDRESS)
        done = subprocess.run(asker, capture_output=True, text=True, timeout=_TOOL_LIMIT_S, check=False)
        if done.returncode:
            raise LineError(f"nothing comes back over the line: {done.stderr.strip()[-500:]}")
        return [float(word) for word in done.stdout.split()]
    finally:
        server.kill()
        server.communicate()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_LIMIT_S, check=False)
    if done.returncode:
        raise LineError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
