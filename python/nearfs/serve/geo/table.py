"""Owns the plain table of places: a text file with a network, its latitude and its longitude a line.

    # network        latitude longitude
    192.0.2.0/24        46.23      6.05    our proxies
    2001:db8::/32       41.84    -88.26    theirs

The longest network that holds an address is its place, private ones like any other. Immutable once read: any thread.
"""

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from nearfs.errors import InvalidInput
from nearfs.serve.geo import sphere
from nearfs.serve.geo.sphere import Place

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# A table is written by hand or from a site's inventory; the world's networks come as a database.
LIMIT_BYTES = 64 << 20
_COLUMNS = 3


class Table:
    """A table of places by network."""

    def __init__(self, lines: Iterable[str], name: str) -> None:
        """Reads the table; `name` is what errors call it. Raises InvalidInput with the number of the line."""
        # By family and length of the prefix: as many dictionaries are asked as there are lengths, at most 33 or 129.
        self._networks: dict[int, dict[int, dict[int, Place]]] = {4: {}, 6: {}}
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].replace(",", " ").split()
            if words:
                self._add(words, f"{name}, line {number}")
        for by_length in self._networks.values():
            for length in sorted(by_length, reverse=True):
                by_length[length] = by_length.pop(length)

    def find(self, address: Address) -> Place | None:
        """Returns the place of `address`, or None."""
        number, bits = int(address), address.max_prefixlen
        for length, networks in self._networks[address.version].items():
            found = networks.get(number >> (bits - length))
            if found is not None:
                return found
        return None

    def close(self) -> None:
        """Does nothing: a table is memory only."""

    def _add(self, words: list[str], where: str) -> None:
        if len(words) < _COLUMNS:
            raise InvalidInput(f"{where}: a network, a latitude and a longitude are wanted", operation="read geo table")
        try:
            network = ipaddress.ip_network(words[0])
            at = sphere.place(float(words[1]), float(words[2]))
        except ValueError as problem:
            raise InvalidInput(f"{where}: {problem}", operation="read geo table") from None
        if at is None:
            raise InvalidInput(f"{where}: {words[1]} {words[2]} is no place in degrees", operation="read geo table")
        length = network.prefixlen
        key = int(network.network_address) >> (network.max_prefixlen - length)
        self._networks[network.version].setdefault(length, {})[key] = at


def read(path: Path) -> Table:
    """Returns the table of a file. Raises InvalidInput, or OSError where it cannot be read."""
    with path.open("rb") as stream:
        content = stream.read(LIMIT_BYTES + 1)
    if len(content) > LIMIT_BYTES:
        raise InvalidInput(
            f"the geo table {path} is larger than {LIMIT_BYTES >> 20} MiB: give a database with --geo-database",
            operation="read geo table",
        )
    return Table(content.decode("utf-8", "replace").splitlines(), f"geo table {path}")
