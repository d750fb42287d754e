"""How mounted repositories are doing: what `cvmfs_config stat`, `status` and `probe` tell (client.md 2.6).

Owns the collection of facts from outside: mount table, attributes, /proc. Does not own: how they are shown (`cli`).
Threading: no state; every question to a mount is bounded, because it may hang.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nearfs import mount_table

# A first access may mount: automount, the manifest, catalogs.
PROBE_LIMIT_S = 120.0
ONLINE_LIMIT_S = 10.0
UNKNOWN = "n/a"


@dataclass(frozen=True)
class MountedRepository:
    """One mounted repository; where its client does not answer, `pid` is None and `fqrn` a guess from the path."""

    fqrn: str
    point: str
    device: str
    pid: int | None

    @property
    def is_healthy(self) -> bool:
        """Tells whether its client answered."""
        return self.pid is not None

    def attribute(self, name: str) -> str:
        """Returns a magic attribute, `n/a` where this client does not have it."""
        return mount_table.attribute(self.point, f"user.{name}") or UNKNOWN


def mounted() -> list[MountedRepository]:
    """Returns the mounted repositories."""
    found = []
    for entry in mount_table.repositories():
        name = mount_table.attribute(entry.point, "user.fqrn")
        pid = mount_table.attribute(entry.point, "user.pid") if name else None
        number = int(pid) if pid and pid.isdigit() else None
        found.append(MountedRepository(name or os.path.basename(entry.point), entry.point, entry.device, number))
    return found


@dataclass(frozen=True)
class Statistics:
    """The facts of `cvmfs_config stat`, as text; sizes in KiB, times in minutes."""

    version: str
    pid: str
    uptime: str
    memory: str
    revision: str
    expires: str
    catalogs: str
    cache_used: str
    cache_size: str
    descriptors: str
    descriptor_limit: str
    io_errors: str
    opens: str
    hit_rate: str
    received: str
    speed: str
    host: str
    proxy: str
    online: str
    catalog: str
    open_directories: str
    directory_opens: str


def statistics(one: MountedRepository) -> Statistics:
    """Asks a mount for everything; `n/a` stands for what its client does not tell."""
    used, size = _cache_use(one.point)
    host, proxy = one.attribute("host"), one.attribute("proxy")
    return Statistics(
        version=one.attribute("version"),
        pid=str(one.pid),
        uptime=one.attribute("uptime"),
        memory=_memory(one.pid),
        revision=one.attribute("revision"),
        expires=one.attribute("expires"),
        catalogs=one.attribute("nclg"),
        cache_used=used,
        cache_size=size,
        descriptors=one.attribute("usedfd"),
        descriptor_limit=one.attribute("maxfd"),
        io_errors=one.attribute("nioerr"),
        opens=one.attribute("nopen"),
        hit_rate=one.attribute("hitrate"),
        received=one.attribute("rx"),
        speed=one.attribute("speed"),
        host=host,
        proxy=proxy,
        online="1" if is_online(host, proxy) else "0",
        catalog=one.attribute("root_hash"),
        open_directories=one.attribute("useddirp"),
        directory_opens=one.attribute("ndiropen"),
    )


def _memory(pid: int | None) -> str:
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return UNKNOWN
    return next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")), UNKNOWN)


def _cache_use(point: str) -> tuple[str, str]:
    """Returns used and whole size in KiB as `df` shows them: the mount reports its cache."""
    try:
        found = mount_table.within(lambda: os.statvfs(point))
    except OSError:
        return UNKNOWN, UNKNOWN
    whole, free = (blocks * found.f_frsize >> 10 for blocks in (found.f_blocks, found.f_bfree))
    return str(whole - free), str(whole)


def is_online(host: str, proxy: str, limit_s: float = ONLINE_LIMIT_S) -> bool:
    """Tells whether a repository's manifest can be had from its server, through the proxy unless that is DIRECT."""
    return fetch_failure(f"{host}/.cvmfspublished", proxy, limit_s) is None


def fetch_failure(url: str, proxy: str, limit_s: float = ONLINE_LIMIT_S) -> str | None:
    """Returns why a URL cannot be fetched, None if it can. Reads nothing but the answer's head."""
    import urllib.request

    via = {} if proxy in ("", UNKNOWN, "DIRECT") else {"http": proxy, "https": proxy}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(via))
    try:
        with opener.open(urllib.request.Request(url), timeout=limit_s):  # noqa: S310 - a server of the configuration
            return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def probe(point: str) -> bool:
    """Touches a path, which makes autofs mount it, and tells whether a repository is mounted there then."""
    try:
        mount_table.within(lambda: os.statvfs(point), PROBE_LIMIT_S)
    except OSError:
        return False
    entry = mount_table.top_at(os.path.realpath(point))
    return entry is not None and entry.is_repository
