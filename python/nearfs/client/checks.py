"""What may be wrong with a client's machine and configuration: `cvmfs_config chksetup` (client.md 2.6).

Owns the checks; each yields findings and changes nothing. Does not own: how they are shown.
Threading: one thread; servers are asked one after the other, each with a deadline.
"""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import mount_table
from nearfs.client import installation, status
from nearfs.config import layers, model, values
from nearfs.errors import NearfsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearfs.config.layers import Settings
    from nearfs.config.model import ClientConfig

_REACH_LIMIT_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that keeps mounts from working (`is_error`), or may."""

    is_error: bool
    text: str

    def __str__(self) -> str:
        """Returns the line that chksetup prints."""
        return f"{'Error' if self.is_error else 'Warning'}: {self.text}"


def _error(text: str) -> Finding:
    return Finding(is_error=True, text=text)


def _warning(text: str) -> Finding:
    return Finding(is_error=False, text=text)


def all_findings() -> Iterator[Finding]:
    """Yields what is wrong with the machine, then with each repository of CVMFS_REPOSITORIES."""
    settings = layers.load("")
    yield from _machine(settings)
    yield from _automount(settings.get("CVMFS_MOUNT_DIR") or "/cvmfs")
    names = values.split(settings, "CVMFS_REPOSITORIES", ",")
    if not names:
        yield _warning("CVMFS_REPOSITORIES is empty: no repository is checked")
    for name in names:
        yield from _repository(name)


def _machine(settings: Settings) -> Iterator[Finding]:
    root = settings.root
    if not os.path.exists(f"{root}/default.conf"):
        yield _error(f"{root}/default.conf does not exist (cvmfs_config setup writes one)")
    if not os.path.exists("/dev/fuse"):
        yield _error("/dev/fuse does not exist: FUSE is not loaded (modprobe fuse)")
    if shutil.which("fusermount3") is None:
        yield _warning("fusermount3 is not installed: only root can mount")
    if not os.path.lexists(installation.MOUNT_HELPER):
        yield _error(f"{installation.MOUNT_HELPER} does not exist: `mount -t cvmfs` cannot work")
    user = settings.get("CVMFS_USER")
    if not user:
        yield _error(f"CVMFS_USER is not set in {root}")
    elif not _is_user(user):
        yield _error(f"user {user} (CVMFS_USER) does not exist (cvmfs_config setup makes it)")
    for warning in settings.warnings:
        yield _warning(warning)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _automount(mount_dir: str) -> Iterator[Finding]:
    if not os.path.isdir(mount_dir):
        yield _error(f"mount directory {mount_dir} does not exist")
    if not os.access(installation.AUTOMOUNT_MAP, os.X_OK):
        yield _warning(f"{installation.AUTOMOUNT_MAP} does not exist or may not be executed: no automount")
        return
    if not any(installation.names_map(text) for text in _master_texts()):
        yield _warning(f"{installation.AUTOMOUNT_MAP} stands in no master map of automount")
    entry = mount_table.top_at(mount_dir)
    if entry is None or entry.fstype != "autofs":
        yield _warning(f"automount does not serve {mount_dir}: start autofs")


def _master_texts() -> Iterator[str]:
    paths = [Path(installation.MASTER_FILE), *Path(installation.MASTER_DIRECTORY).glob("*.autofs")]
    for path in paths:
        if path.is_file():
            yield path.read_text("utf-8", "replace")


def _repository(name: str) -> Iterator[Finding]:
    try:
        settings = layers.load(layers.complete_name(name))
        config = model.client_config(settings)
    except NearfsError as error:
        yield _error(f"{name}: {error}")
        return
    for path in config.public_keys:
        if not os.access(path, os.R_OK):
            yield _error(f"{config.fqrn}: public key {path} cannot be read")
    yield from _cache(config)
    # Servers are asked directly: which proxy leads to which of them is for the client to find out.
    reasons = [(url, status.fetch_failure(f"{url}/.cvmfspublished", "", _REACH_LIMIT_S)) for url in config.server_urls]
    for url, reason in reasons:
        if reason is not None:
            yield _warning(f"{config.fqrn}: failed to access {url}/.cvmfspublished directly: {reason}")


def _cache(config: ClientConfig) -> Iterator[Finding]:
    place = Path(config.cache_dir)
    existing = next(path for path in (place, *place.parents) if path.exists())
    if not existing.is_dir():
        yield _error(f"{config.fqrn}: {existing}, where the cache is to be, is no directory")
        return
    limit = config.environment.get("CVMFS_QUOTA_LIMIT", "")
    if limit.isdigit() and shutil.disk_usage(existing).total < int(limit) << 20:
        yield _warning(f"{config.fqrn}: the file system of {place} is smaller than CVMFS_QUOTA_LIMIT={limit} MB")
