"""Records that cross the language boundary as dictionaries: revisions, tags, findings.

Owns their keys. Importable without the extension. Immutable types; any thread.
"""

from __future__ import annotations

from typing import TypedDict


class Committed(TypedDict):
    """A revision whose objects and catalogs are stored; nothing refers to it before a manifest does. Sizes in bytes."""

    root_hash: str
    root_size: int
    revision: int
    ttl_s: int
    objects_new: int
    bytes_new: int
    catalogs_new: int
    entries_added: int
    entries_removed: int
    entries_changed: int
    warnings: list[str]


class Tag(TypedDict):
    """A row of the history: a named revision. Size in bytes, time in Unix seconds, the default branch is empty."""

    name: str
    root_hash: str
    size: int
    revision: int
    timestamp: int
    branch: str
    description: str


class Finding(TypedDict):
    """One problem that a check found: what it was found at, and what it is."""

    subject: str
    problem: str
