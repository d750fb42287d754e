"""Comparisons of questions to a catalog: look-up, listing, and the first look-up after opening the file.

The alternative is sqlite3 on the same file with the SQL that the format asks for: rows are found by the MD5 of their
path, entries of a directory by that of its own. Connections stay open until the process ends. One thread.
"""

import hashlib
import sqlite3
import struct
from functools import partial
from pathlib import Path
from typing import Any

from bench.micro.workload import Pair, Workload
from nearfs import _native

FIND = "SELECT mode, size, mtime, hash FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"
LIST = "SELECT name, mode, size, mtime, hash FROM catalog WHERE parent_1 = ? AND parent_2 = ? ORDER BY name"


def connect(catalog: Path) -> sqlite3.Connection:
    """Opens a catalog read-only; names are bytes."""
    connection = sqlite3.connect(f"{catalog.as_uri()}?mode=ro&immutable=1", uri=True)
    connection.text_factory = bytes
    return connection


def key(path: bytes) -> tuple[int, int]:
    """Returns the columns that a path is found by."""
    first, second = struct.unpack("<qq", hashlib.md5(path, usedforsecurity=False).digest())
    return first, second


def find(connection: sqlite3.Connection, path: bytes) -> tuple[Any, ...] | None:
    """Returns what `Catalog.find` returns."""
    row = connection.execute(FIND, key(path)).fetchone()
    return None if row is None else (*row[:3], row[3] and row[3].hex())


def entries(connection: sqlite3.Connection, directory: bytes) -> list[tuple[Any, ...]]:
    """Returns what `Catalog.entries` returns."""
    return [(*row[:4], row[4] and row[4].hex()) for row in connection.execute(LIST, key(directory))]


def look_up(workload: Workload) -> Pair:
    """Looks a thousand paths up, one in five absent."""
    catalog, connection, asked = _native.Catalog(workload.catalog), connect(workload.catalog), workload.asked
    return Pair(
        ours=lambda: [catalog.find(path) for path in asked],
        theirs=lambda: [find(connection, path) for path in asked],
        alternative="sqlite3, MD5 of the path",
        operations=len(asked),
    )


def listing(workload: Workload) -> Pair:
    """Lists each directory of the tree."""
    catalog, connection, parents = _native.Catalog(workload.catalog), connect(workload.catalog), workload.parents
    return Pair(
        ours=lambda: [catalog.entries(parent) for parent in parents],
        theirs=lambda: [entries(connection, parent) for parent in parents],
        alternative="sqlite3, MD5 of the directory",
        operations=len(parents),
    )


def first_look_up(workload: Workload) -> Pair:
    """Opens the catalog and looks one path up."""
    file, path = workload.catalog, workload.paths[-1]

    def once() -> tuple[Any, ...] | None:
        connection = connect(file)
        try:
            return find(connection, path)
        finally:
            connection.close()

    return Pair(
        ours=lambda: _native.Catalog(file).find(path),
        theirs=once,
        alternative="sqlite3, connect and one SELECT",
    )


def whole_tree(workload: Workload) -> Pair:
    """Opens the catalog and lists each directory: what `find` makes of it."""
    file, parents = workload.catalog, workload.parents

    def walk() -> list[list[tuple[Any, ...]]]:
        connection = connect(file)
        try:
            return list(map(partial(entries, connection), parents))
        finally:
            connection.close()

    def ours() -> list[Any]:
        catalog = _native.Catalog(file)
        return [catalog.entries(parent) for parent in parents]

    return Pair(ours=ours, theirs=walk, alternative="sqlite3, connect and SELECTs", operations=len(parents))


PAIRS = {
    "catalog look-up": look_up,
    "catalog listing": listing,
    "catalog open + first look-up": first_look_up,
    "catalog open + list all": whole_tree,
}
