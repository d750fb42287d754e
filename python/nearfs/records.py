"""Records that cross the language boundary as dictionaries: revisions, tags, findings, and what a mount is told.

Owns their keys. Importable without the extension. Immutable types; any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import os


class Committed(TypedDict):
    """A revision whose objects and catalogs are stored; nothing refers to it before a manifest does. Sizes in bytes."""

    root_hash: str
    root_size: int
    revision: int
    ttl_s: int
    objects_new: int
    bytes_new: int
    objects_reused: int
    bytes_added: int
    catalogs_new: int
    entries_added: int
    entries_removed: int
    entries_changed: int
    counts: dict[str, int]
    """Of what changed, by the columns of the statistics (`files_added`, `sz_bytes_added`, ...)."""
    warnings: list[str]


class PublishRequest(TypedDict):
    """What the engine is told about a publish. Chunk sizes are minimum, average, maximum in bytes; None: no chunks.

    `is_fast` deflates several times faster, which gives objects other names than the reference's.

    `membership` says who may read the repository from now on: empty is everybody, None changes nothing. The maps say
    what owners and groups on disk become: these, and what all others become (None: they stay).

    Limits are MiB of a file, thousand entries of a nested and of the root catalog; `autocatalogs` the largest and the
    smallest number of entries of automatic catalogs, None for no such catalogs. `packs` keeps packs of small files.
    """

    base_root_hash: str
    source: str
    is_overlay: bool
    hash_algorithm: str
    compression: str
    is_fast: bool
    chunk_sizes: tuple[int, int, int] | None
    include_xattrs: bool
    include_mtime_ns: bool
    ignore_special_files: bool
    ttl_s: int
    revision: int | None
    now_s: int
    external: bool
    direct_io: bool
    volatile: bool
    membership: str | None
    uid_map: tuple[dict[int, int], int | None]
    gid_map: tuple[dict[int, int], int | None]
    ignore_xdir_hardlinks: bool
    limits: tuple[int, int, int]
    enforce_limits: bool
    autocatalogs: tuple[int, int] | None
    packs: bool


class Target(TypedDict):
    """Where a publish without a transaction goes: a path of the repository, and what else happens there.

    `kind` is archive, stdin, directory or nothing (deletions alone). Owner None keeps the source's numbers.
    """

    kind: str
    path: bytes
    deletions: list[bytes]
    owner: tuple[int, int] | None
    makes_catalog: bool
    mirrors: bool


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


class KeptRevision(TypedDict):
    """A revision that a garbage collection keeps; times in Unix seconds, `added_s` where the reference log knows it."""

    root_hash: str
    revision: int
    last_modified_s: int
    added_s: int | None


class Swept(TypedDict):
    """What a garbage collection deleted, or would delete; `bytes` only if measured, `reflog` where it changes."""

    revisions: int
    catalogs: int
    objects: int
    auxiliary: int
    bytes: int
    duplicates: int
    warnings: list[str]
    reflog: bytes | None


class SourceAnswer(TypedDict):
    """What a replica's source serves, verified; both files as they were served."""

    manifest: bytes
    whitelist: bytes


class Pulled(TypedDict):
    """What a pull brought over; `roots` are the root catalogs that are whole, oldest first, bytes those stored."""

    roots: list[str]
    catalogs_new: int
    objects_new: int
    bytes_new: int
    objects_seen: int
    tags: int
    warnings: list[str]


class Head(TypedDict):
    """The hashes that a manifest names."""

    root_hash: str
    history: str | None
    certificate: str | None
    metainfo: str | None


class External(TypedDict):
    """What is different on the way to external data; without `server_urls` there is none."""

    server_urls: list[str]
    proxies: str
    fallback_proxies: str
    timeout_s: int
    timeout_direct_s: int
    max_hosts: int


class Network(TypedDict):
    """How hosts are reached; times in seconds, 0 for "never" where a time says when to go back.

    `max_hosts` 0 is all of them. With a `uuid`, hosts are sorted by distance as seen from the proxy, from `place` where
    that is set, else from where the servers think the `uuid` is.
    """

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
    is_sharded: bool
    is_indefinite: bool
    max_hosts: int
    uuid: str | None
    place: str | None
    dns_server: tuple[str, int] | None
    host_aliases: str | None
    dns_timeout_s: int
    dns_retries: int
    dns_min_ttl_s: int
    dns_max_ttl_s: int
    ip_family: int | None
    ipv4_only: bool
    max_addresses_per_proxy: int | None
    headers: list[tuple[str, str]]
    agent_suffix: str
    system_authorities: bool
    authorities_dir: str | None
    authorities_file: str | None
    tells_subject: bool
    parallel_parts: bool
    external: External


class Prefetch(TypedDict):
    """What is fetched before it is asked for.

    `requests` are those that are under way at a time, `bundle_requests` those of bundles among them.
    """

    neighbours: bool
    catalogs: bool
    readahead: bool
    traces: bool
    packs: bool
    bundles: bool
    budget_bytes: int
    requests: int
    bundle_requests: int


class MountRequest(TypedDict):
    """Which revision of which repository is shown how, and where it is mounted. Times in seconds."""

    fqrn: str
    mountpoint: str | os.PathLike[str]
    server_urls: list[str]
    public_keys: list[bytes]
    blacklist_files: list[str]
    auto_update: bool
    max_ttl_s: int | None
    catalog_bytes: int
    prefetch: Prefetch
    cache_dir: str | os.PathLike[str]
    is_shared_cache: bool
    alien_cache: str | os.PathLike[str] | None
    quota_limit_bytes: int | None
    workspace: str | os.PathLike[str]
    root_hash: str | None
    tag: str | None
    date_s: int | None
    network: Network
    kernel_cache_s: int
    claimed_owner: tuple[int, int] | None
    world_readable: bool
    raw_symlinks: bool
    uid_map: tuple[dict[int, int], int | None] | None
    gid_map: tuple[dict[int, int], int | None] | None
    environment: dict[str, str]
    xattr_visibility: str
    protected_xattrs: set[str]
    privileged_gids: set[int]
    alternative_root: bool
    check_permissions: bool
    allow_other: bool
    suid: bool
    read_write: bool
    fsname: str
    worker_threads: int
