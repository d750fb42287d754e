"""Owns the reading of a MaxMind database of cities (GeoLite2-City.mmdb and its like) by MaxMind's own library.

The library is imported only when there is a database. Safe in any thread: a reader changes nothing.
"""

import ipaddress
from pathlib import Path
from typing import Any

from nearfs.errors import InvalidInput, NotFound
from nearfs.serve.geo import sphere
from nearfs.serve.geo.sphere import Place


class Database:
    """An open database. Owns it until `close`."""

    def __init__(self, reader: Any, damaged: type[Exception]) -> None:
        """Takes over an open reader of the library; `damaged` is its exception for records that make no sense."""
        self._reader = reader
        self._damaged = damaged

    def find(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Place | None:
        """Returns the place of `address`; None where the database has none, as for private addresses."""
        try:
            record = self._reader.get(address)
        except (ValueError, self._damaged):
            # An IPv6 address asked of a database of IPv4, or a record that nobody can read: no place is known.
            return None
        location = record.get("location") if isinstance(record, dict) else None
        if not isinstance(location, dict):
            return None
        latitude, longitude = location.get("latitude"), location.get("longitude")
        if not (isinstance(latitude, int | float) and isinstance(longitude, int | float)):
            return None
        return sphere.place(latitude, longitude)

    def close(self) -> None:
        """Closes the file."""
        self._reader.close()


def read(path: Path) -> Database:
    """Opens a database.

    Raises NotFound where the library is missing, InvalidInput where the file is no database, OSError where it cannot
    be read.
    """
    try:
        import maxminddb
    except ImportError:
        raise NotFound(
            "--geo-database needs the library maxminddb: pip install 'nearfs[geo]', or give a --geo-table",
            operation="read geo database",
            exit_code=1,
        ) from None
    try:
        # Into memory: a file that is rewritten in place must not change under the server, or end it by SIGBUS.
        return Database(maxminddb.open_database(path, maxminddb.MODE_MEMORY), maxminddb.InvalidDatabaseError)
    except maxminddb.InvalidDatabaseError as problem:
        raise InvalidInput(f"{path} is no MaxMind database: {problem}", operation="read geo database") from None
