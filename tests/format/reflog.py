"""The reference log .cvmfsreflog (format section 7).

Owns its parsed form and which references a manifest needs in it. Immutable values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .database import PROPERTIES, Columns, Database, shown
from .errors import FormatError
from .hashes import ContentHash, digest_of, parse_hash
from .manifest import Manifest
from .store import MAX_DATABASE_BYTES

FILE_NAME = ".cvmfsreflog"
REFS: Columns = (("hash", "TEXT", 1), ("type", "INTEGER", 0), ("timestamp", "INTEGER", 0))
SUFFIXES = "CXHM"
"""Suffix letters by the number in column `type`; also the manifest's field letters of the same objects."""


@dataclass(frozen=True)
class Reflog:
    """Suffix letter and Unix time of each referenced object, and the bytes' own size and properties."""

    references: dict[ContentHash, tuple[str, int]]
    properties: dict[str, str]
    content: bytes


def read_reflog(root: Path) -> tuple[Reflog, list[str]]:
    """Returns the reflog of a repository directory and the problems of its container."""
    path = root / FILE_NAME
    if not path.is_file():
        raise FormatError(f"reflog {FILE_NAME} is missing")
    if path.stat().st_size > MAX_DATABASE_BYTES:
        raise FormatError(f"reflog is larger than {MAX_DATABASE_BYTES} bytes")
    content = path.read_bytes()
    database = Database(content, "reflog")
    try:
        problems = [*database.header_problems, *database.integrity_problems()]
        problems += database.column_problems("properties", PROPERTIES)
        problems += database.column_problems("refs", REFS)
        return Reflog(dict(_read_references(database)), database.properties(), content), problems
    finally:
        database.close()


def _read_references(database: Database) -> Iterator[tuple[ContentHash, tuple[str, int]]]:
    for text, kind, timestamp in database.rows("SELECT hash, type, timestamp FROM refs"):
        if not isinstance(text, bytes) or not isinstance(kind, int) or not isinstance(timestamp, int):
            raise FormatError(f"reflog has reference {shown(text)} with a column of a wrong type")
        if not 0 <= kind < len(SUFFIXES):
            raise FormatError(f"reflog has reference {shown(text)} of unknown type {kind}")
        yield parse_hash(shown(text), "reflog"), (SUFFIXES[kind], timestamp)


def reflog_problems(reflog: Reflog, manifest: Manifest, fqrn: str, *, strict: bool) -> Iterator[str]:
    """Yields what is wrong within a reflog; `strict` compares its checksum with Y, which is stale after a gc."""
    for key, expected in (("schema", "1.0"), ("schema_revision", "0"), ("fqrn", fqrn)):
        if reflog.properties.get(key) != expected:
            yield f"reflog has property {key} = {reflog.properties.get(key)!r} instead of {expected!r}"
    for letter in SUFFIXES:
        content_hash = manifest.hash(letter)
        if content_hash is not None and reflog.references.get(content_hash, ("", 0))[0] != letter:
            yield f"reflog does not list {content_hash.text}{letter}, which the manifest names"
    checksum = manifest.hash("Y")
    if strict and checksum is None:
        yield "manifest has no reflog checksum (field Y)"
    if strict and checksum is not None:
        actual = digest_of(manifest.root_hash.algorithm, reflog.content)
        if actual != checksum:
            yield f"reflog hashes to {actual.text}, the manifest says {checksum.text}"
