"""A machine of its own for clients, and cables from it to other machines that a test cuts or pulls out.

Owns the network namespaces and veth pairs of one test, all named `nearfs-*` and gone with the context. Each far machine
has a network of its own, so that one can be lost while others answer. Called from the test's own thread; needs root.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.support import processes

LIMIT_S = 20.0


def within(namespace: str) -> list[str]:
    """Returns the words before a command that runs in a network namespace."""
    return ["nsenter", f"--net=/run/netns/{namespace}"]


@dataclass(frozen=True)
class Cable:
    """One cable: `near` and `far` are namespaces, `device` is the name of both its ends."""

    near: str
    far: str
    device: str
    near_address: str
    far_address: str

    @property
    def near_command(self) -> Sequence[str]:
        """Returns the words before a command that runs at the near end."""
        return within(self.near)

    @property
    def far_command(self) -> Sequence[str]:
        """Returns the words before a command that runs at the far end."""
        return within(self.far)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Has the far machine drop every packet without a word: both ends still believe in the cable."""
        # Without a way back, the kernel takes a packet for a forged one and drops it as it comes in.
        route = ("blackhole", f"{self.near_address}/32")
        ip("-n", self.far, "route", "add", *route)
        try:
            yield
        finally:
            ip("-n", self.far, "route", "del", *route)

    @contextlib.contextmanager
    def pulled(self) -> Iterator[None]:
        """Takes the near machine's end out: its kernel knows no way any more."""
        ip("-n", self.near, "link", "set", self.device, "down")
        try:
            yield
        finally:
            ip("-n", self.near, "link", "set", self.device, "up")


@contextlib.contextmanager
def laid(count: int) -> Iterator[list[Cable]]:
    """Yields `count` cables from one near machine, each to a far machine; skips where namespaces cannot be had."""
    skip_without_namespaces()
    name = network_name()
    near = f"{name}-near"
    with contextlib.ExitStack() as stack:
        namespace(stack, near)
        made = []
        for number in range(count):
            cable = Cable(near, f"{name}-far{number}", f"c{number}", f"10.80.{number}.1", f"10.80.{number}.2")
            namespace(stack, cable.far)
            pair = ("type", "veth", "peer", "name", cable.device, "netns", cable.far)
            ip("-n", near, "link", "add", cable.device, *pair)
            for end, address in ((near, cable.near_address), (cable.far, cable.far_address)):
                ip("-n", end, "addr", "add", f"{address}/30", "dev", cable.device)
                ip("-n", end, "link", "set", cable.device, "up")
            made.append(cable)
        yield made


def skip_without_namespaces() -> None:
    """Skips the test where network namespaces cannot be had."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("nsenter")):
        pytest.skip("network namespaces need root, ip and nsenter")


def network_name() -> str:
    """Returns what the names of a test's namespaces begin with: another run beside this one has others."""
    return f"nearfs-run-{os.environ[processes.MARK]}-{secrets.token_hex(4)}"


def namespace(stack: contextlib.ExitStack, name: str) -> None:
    """Makes a network namespace that is gone with `stack`."""
    ip("netns", "add", name)
    stack.callback(ip, "netns", "del", name)
    ip("-n", name, "link", "set", "lo", "up")


def ip(*words: str) -> None:
    """Runs `ip` with `words`."""
    processes.run(["ip", *words], limit=LIMIT_S)
