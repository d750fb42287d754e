"""Machines of one local network: each a network namespace, all at one switch, any of which a test unplugs.

Owns the namespaces and devices of one test, all named `nearfs-*` and gone with the context. For machines of which one
is near and all others far, see cables. Called from the test's own thread; needs root.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.support import processes
from tests.support.cables import LIMIT_S, ip, namespace, network_name, skip_without_namespaces, within


@dataclass(frozen=True)
class Machine:
    """One machine: its namespace, its only address, and its port of the switch."""

    namespace: str
    address: str
    switch: str
    port: str

    @property
    def command(self) -> Sequence[str]:
        """Returns the words before a command that runs there."""
        return within(self.namespace)

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        """Takes the cable out at the switch: nobody hears of the machine any more, and nobody is told."""
        ip("-n", self.switch, "link", "set", self.port, "nomaster")
        try:
            yield
        finally:
            ip("-n", self.switch, "link", "set", self.port, "master", "switch")

    @contextlib.contextmanager
    def slowed(self, bits_per_second: int) -> Iterator[None]:
        """Sends no faster than that for a while, so that what it sends can be met on its way."""
        shape = ("root", "tbf", "rate", f"{bits_per_second}bit", "burst", "16kb", "latency", "400ms")
        processes.run(["tc", "-n", self.namespace, "qdisc", "add", "dev", "lan", *shape], limit=LIMIT_S)
        try:
            yield
        finally:
            processes.run(["tc", "-n", self.namespace, "qdisc", "del", "dev", "lan", "root"], limit=LIMIT_S)


@contextlib.contextmanager
def wired(names: Sequence[str]) -> Iterator[dict[str, Machine]]:
    """Yields a machine for each name; skips where namespaces cannot be had."""
    skip_without_namespaces()
    network = network_name()
    switch = f"{network}-switch"
    with contextlib.ExitStack() as stack:
        namespace(stack, switch)
        ip("-n", switch, "link", "add", "switch", "type", "bridge")
        ip("-n", switch, "link", "set", "switch", "up")
        machines = {}
        for number, name in enumerate(names):
            machine = Machine(f"{network}-{name}", f"10.81.0.{number + 1}", switch, f"p{number}")
            namespace(stack, machine.namespace)
            pair = ("type", "veth", "peer", "name", "lan", "netns", machine.namespace)
            ip("-n", switch, "link", "add", machine.port, *pair)
            ip("-n", switch, "link", "set", machine.port, "master", "switch", "up")
            ip("-n", machine.namespace, "addr", "add", f"{machine.address}/24", "dev", "lan")
            ip("-n", machine.namespace, "link", "set", "lan", "up")
            machines[name] = machine
        yield machines
