"""Owns the source of places that is in use, a table or a database, and its renewal when the file is replaced.

Does not own names (`naming`). `find` is for any thread; `renew` for one at a time: it reads a file.
"""

import ipaddress
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from nearfs.errors import InvalidInput, NearfsError, NotFound
from nearfs.serve.geo import database, table
from nearfs.serve.geo.sphere import Place
from nearfs.serve.geo.table import Address

_LOG = logging.getLogger(__name__)


class Places(Protocol):
    """What knows the places of addresses."""

    def find(self, address: Address) -> Place | None:
        """Returns the place of an address, or None."""

    def close(self) -> None:
        """Gives back what it holds. Called once."""


class Atlas:
    """A file of places. `changed` counts how often another file has taken its place."""

    def __init__(self, path: Path, read: Callable[[Path], Places]) -> None:
        """Reads the file. Raises InvalidInput or NotFound, with exit code 1."""
        self._path = path
        self._read = read
        self.changed = 0
        try:
            self._stamp = _stamp(path)
            self._places = read(path)
        except OSError as problem:
            message = (
                f"cannot read {path}: {problem.strerror}; name a file of places with --geo-table or --geo-database"
            )
            raise NotFound(message, operation="read places", exit_code=1) from None
        except NearfsError as problem:
            problem.exit_code = 1
            raise

    def find(self, address: Address) -> Place | None:
        """Returns the place of `address`, or None. An IPv4 address inside an IPv6 one is looked for as itself."""
        inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return self._places.find(inner or address)

    def renew(self) -> None:
        """Reads the file again if it is another one. A file that cannot be used is told, and the old one stays."""
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            places = self._read(self._path)
        except (OSError, NearfsError) as problem:
            _LOG.warning("the places of %s stay as they were: %s", self._path, problem)
            return
        # Not closed here: a look-up in another thread may be under way. Memory only, and collected with the last user.
        self._places = places
        self.changed += 1

    def close(self) -> None:
        """Gives back what the source holds. Called once, at the end."""
        self._places.close()


def open_atlas(table_file: Path | None, database_file: Path | None) -> Atlas | None:
    """Returns the atlas of the one file that is given, or None. Raises InvalidInput where both are."""
    if table_file is not None and database_file is not None:
        message = "--geo-table and --geo-database exclude each other: give the one that knows more places"
        raise InvalidInput(message, operation="read places")
    if table_file is not None:
        return Atlas(table_file, table.read)
    return None if database_file is None else Atlas(database_file, database.read)


def _stamp(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns
