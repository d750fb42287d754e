"""`cvmfs_config` stat, status, probe and fuser: how the mounted repositories are doing (client.md 2.6).

Owns: the texts and exit codes. Does not own: the facts (`client.status`).
Threading: a short-lived command; bounded questions in threads of `mount_table`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.client import processes, status
from nearfs.config import layers, values
from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_MOUNT_DIR = "/cvmfs"
_FAILED = 1
_HEADER = (
    "VERSION PID UPTIME(M) MEM(K) REVISION EXPIRES(M) NOCATALOGS CACHEUSE(K) CACHEMAX(K) NOFDUSE NOFDMAX NOIOERR "
    "NOOPEN HITRATE(%) RX(K) SPEED(K/S) HOST PROXY ONLINE"
)


def show_status() -> int:
    """Prints a line for each mount; fails if one of them is unhealthy."""
    mounted = status.mounted()
    for one in mounted:
        if one.is_healthy:
            output.line(f"{one.fqrn} mounted on {one.point} with pid {one.pid}")
        else:
            output.line(f"{one.fqrn} mounted on {one.point} with pid unknown - mountpoint unhealthy!")
    return 0 if all(one.is_healthy for one in mounted) else _FAILED


def show_statistics(name: str, *, verbose: bool) -> int:
    """Prints the statistics of one repository, or of all mounted ones."""
    mounted = status.mounted()
    if not name:
        flag = "-v " if verbose else ""
        for one in mounted:
            output.line()
            output.line(f"Running {sys.argv[0]} stat {flag}{one.fqrn}:")
            _print_statistics(one, verbose=verbose)
        return 0 if all(one.is_healthy for one in mounted) else _FAILED
    fqrn = layers.complete_name(name)
    found = next((one for one in mounted if one.fqrn == fqrn), None)
    if found is None:
        output.line(f"{fqrn} not mounted")
        return _FAILED
    return _print_statistics(found, verbose=verbose)


def _print_statistics(one: status.MountedRepository, *, verbose: bool) -> int:
    if not one.is_healthy:
        output.complain(f"{one.fqrn} mounted on {one.point} does not answer")
        return _FAILED
    found = status.statistics(one)
    for text in _labelled(found) if verbose else _table(found):
        output.line(text)
    return 0


def _table(found: status.Statistics) -> list[str]:
    cells = [
        *(found.version, found.pid, found.uptime, found.memory, found.revision, found.expires, found.catalogs),
        *(found.cache_used, found.cache_size, found.descriptors, found.descriptor_limit, found.io_errors, found.opens),
        *(found.hit_rate, found.received, found.speed, found.host, found.proxy, found.online),
    ]
    headings = _HEADER.split(" ")
    widths = [max(len(heading), len(cell)) for heading, cell in zip(headings, cells, strict=True)]
    rows = (headings, cells)
    return [" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _labelled(found: status.Statistics) -> list[str]:
    line = "online" if found.online == "1" else "offline"
    return [
        f"Version: {found.version}",
        f"PID: {found.pid}",
        f"Uptime: {found.uptime} minutes",
        f"Memory Usage: {found.memory}k",
        f"File Catalog Revision: {found.revision} (expires in {found.expires} minutes)",
        f"File Catalog ID: {found.catalog}",
        f"No. Active File Catalogs: {found.catalogs}",
        f"Cache Usage: {found.cache_used}k / {found.cache_size}k",
        f"File Descriptor Usage: {found.descriptors} / {found.descriptor_limit}",
        f"No. Open Directories: {found.open_directories}",
        f"No. IO Errors: {found.io_errors}",
        f"Connection: {found.host} through proxy {found.proxy} ({line})",
        f"Usage: {found.opens} open() calls (hitrate {found.hit_rate}%), {found.directory_opens} opendir() calls",
        f"Transfer Statistics: {found.received}k read, avg. speed: {found.speed}k/s",
    ]


def probe(names: Sequence[str]) -> int:
    """Touches each repository, by default those of CVMFS_REPOSITORIES; fails if one cannot be mounted."""
    settings = layers.load("")
    mount_dir = settings.get("CVMFS_MOUNT_DIR") or DEFAULT_MOUNT_DIR
    worst = 0
    for name in names or values.split(settings, "CVMFS_REPOSITORIES", ","):
        if name == "none":
            continue
        point = f"{mount_dir}/{layers.complete_name(name)}"
        works = status.probe(point)
        output.line(f"Probing {point}... {'OK' if works else 'Failed!'}")
        worst = worst if works else _FAILED
    return worst


def show_users(name: str) -> int:
    """Prints the processes that use a mounted repository, on one line."""
    if not name:
        raise InvalidInput("a repository name is needed: cvmfs_config fuser <repository>", operation="find users")
    fqrn = layers.complete_name(name)
    found = next((one for one in status.mounted() if one.fqrn == fqrn), None)
    if found is None:
        output.complain(f"{fqrn} not mounted")
        return _FAILED
    output.line(" ".join(str(pid) for pid in processes.inside(found.point)))
    return 0
