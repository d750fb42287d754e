"""A line between two machines on one: two network namespaces joined by the relay.

Being written: the interface is what stands here.
"""

from dataclasses import dataclass

from bench.harness.result import LineKey

NEAR_ADDRESS = "10.79.0.1"
FAR_ADDRESS = "10.79.0.2"


@dataclass(frozen=True)
class Traffic:
    """What crossed a line so far: bytes of IP packets and packets, to the far end (up) and from it (down)."""

    up_bytes: int
    down_bytes: int
    up_packets: int
    down_packets: int
    dropped: int


class Line:
    """A running line; made by `line.up`."""

    key: LineKey
    near: str  # names of the namespaces, as `ip netns` knows them
    far: str

    def near_command(self, *argv: str) -> list[str]:
        """Returns the words that run a command at the near end."""
        return ["nsenter", f"--net=/run/netns/{self.near}", *argv]

    def far_command(self, *argv: str) -> list[str]:
        """Returns the words that run a command at the far end."""
        return ["nsenter", f"--net=/run/netns/{self.far}", *argv]

    def traffic(self) -> Traffic:
        """Returns what crossed so far."""
        raise NotImplementedError
