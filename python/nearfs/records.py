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


class Network(TypedDict):
    """How hosts are reached; times in seconds, 0 for "never" where a time says when to go back."""

    proxies: str
    fallback_proxies: str
    timeout_s: int
    timeout_direct_s: int
    max_retries: int
    backoff_init_s: int
    backoff_max_s: int
    proxy_reset_after_s: int
    host_reset_after_s: int
    low_speed_limit: int
    follow_redirects: bool
