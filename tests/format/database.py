"""SQLite databases as the format uses them: container checks and typed reading (format sections 4.1 and 4.2).

Owns the file header, the integrity check, column lists and the properties table. A database is read from memory,
so nothing of it is written anywhere. One connection, one thread.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator

from .errors import FormatError

Columns = tuple[tuple[str, str, int], ...]
"""(name, declared type, position in the primary key or 0) of each column, in order."""
PROPERTIES: Columns = (("key", "TEXT", 1), ("value", "TEXT", 0))
NEWEST_COLUMN = "mtimens"
"""Which came with schema revision 7; `xattr` of revision 2 stands behind all others anyway."""
_HEADER_BYTES = 100
_STEPS_A_TICK = 1_000_000
_MAX_TICKS = 20_000
"""Bounds the work of all queries on one database, as a crafted schema can make a plain SELECT endless."""


def header_problems(content: bytes, subject: str) -> Iterator[str]:
    """Yields what is wrong with the file header of a database: format, journal mode, size, encoding, ids."""
    if len(content) < _HEADER_BYTES or content[:16] != b"SQLite format 3\0":
        yield f"{subject} is not an SQLite 3 database"
        return
    page_bytes = struct.unpack(">H", content[16:18])[0]
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    if page_bytes < 512 or page_bytes & (page_bytes - 1):
        yield f"{subject} has an impossible page size of {page_bytes} bytes"
        return
    if content[18:20] != b"\1\1":
        yield f"{subject} is not in rollback-journal format (header bytes 18 and 19 are {content[18:20].hex()})"
    pages, change, valid_for = (struct.unpack(">I", content[at : at + 4])[0] for at in (28, 24, 92))
    if change == valid_for and pages * page_bytes != len(content):
        yield f"{subject} has {len(content)} bytes, its header says {pages} pages of {page_bytes}"
    for at, meaning, expected in ((56, "text encoding", 1), (60, "user_version", 0), (68, "application_id", 0)):
        value = struct.unpack(">I", content[at : at + 4])[0]
        if value != expected:
            yield f"{subject} has {meaning} {value} instead of {expected}"


class Database:
    """A read-only view of a database held in memory; text comes back as bytes, as the format has no encoding."""

    def __init__(self, content: bytes, subject: str) -> None:
        self.subject = subject
        self.content_bytes = len(content)
        problems = [text for text in header_problems(content, subject) if "rollback-journal" not in text]
        self.header_problems = list(header_problems(content, subject))
        if problems and (len(content) < _HEADER_BYTES or "SQLite 3" in problems[0]):
            raise FormatError(problems[0])
        self._connection = sqlite3.connect(":memory:")
        try:
            # An in-memory database cannot be opened in WAL mode, so the two header bytes are neutralised after
            # they have been reported above.
            self._connection.deserialize(content[:18] + b"\1\1" + content[20:])
            self._connection.text_factory = bytes
            self._ticks = 0
            self._connection.set_progress_handler(self._tick, _STEPS_A_TICK)
        except (sqlite3.Error, OverflowError) as error:
            raise FormatError(f"{subject} cannot be opened: {error}") from error

    def _tick(self) -> int:
        self._ticks += 1
        return int(self._ticks > _MAX_TICKS)

    def close(self) -> None:
        """Frees the memory of the database."""
        self._connection.close()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Returns all rows of a query; raises FormatError naming the database."""
        try:
            return self._connection.execute(query).fetchall()
        except sqlite3.Error as error:
            raise FormatError(f"{self.subject} cannot be read: {error}") from error

    def integrity_problems(self) -> Iterator[str]:
        """Yields what SQLite itself finds wrong with pages, indices and foreign keys."""
        for (text,) in self.rows("PRAGMA integrity_check(3)"):
            if text != b"ok":
                yield f"{self.subject} is damaged: {shown(text)}"
        for row in self.rows("PRAGMA foreign_key_check"):
            yield f"{self.subject} has a row in table {shown(row[0])} without its row in table {shown(row[2])}"

    def column_problems(self, table: str, expected: Columns) -> Iterator[str]:
        """Yields a problem when a table has not exactly the expected columns in the expected order.

        A catalog that a writer upgraded in place has the column that came last at its end (4.2).
        """
        actual = tuple(
            (shown(name), shown(kind), key) for _, name, kind, _, _, key in self.rows(f"PRAGMA table_info({table})")
        )
        newest = tuple(column for column in expected if column[0] == NEWEST_COLUMN)
        upgraded = tuple(column for column in expected if column[0] != NEWEST_COLUMN) + newest
        if actual not in (expected, upgraded):
            yield f"{self.subject} has table {table} with columns {actual}, expected {expected}"

    def properties(self) -> dict[str, str]:
        """Returns the properties table; every key and value has to be text."""
        found: dict[str, str] = {}
        for key, value in self.rows("SELECT key, value FROM properties"):
            if not isinstance(key, bytes) or not isinstance(value, bytes):
                raise FormatError(f"{self.subject} has property {shown(key)} that is not text")
            found[shown(key)] = shown(value)
        return found


def shown(value: object) -> str:
    """Returns text of a column for a sentence or a comparison; bytes that are not UTF-8 are escaped."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def decimal_problems(properties: dict[str, str], keys: tuple[str, ...], subject: str) -> Iterator[str]:
    """Yields the properties among `keys` that are absent or no plain decimal numbers."""
    for key in keys:
        value = properties.get(key)
        if value is None:
            yield f"{subject} has no property {key}"
        elif not (value.isascii() and value.isdigit()):
            yield f"{subject} has property {key} = {value!r}, which is no decimal number"
