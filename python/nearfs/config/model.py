"""What a mount needs to know, out of the parameters: defaults, precedence and the checks (client.md 1.4).

Owns: `ClientConfig` and the rules that make it. Does not own: reading the files (`layers`) and the table of known
parameters (`parameters`).
Threading: `ClientConfig` is immutable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nearfs.config import network, prefetch, process, values
from nearfs.errors import InitCode, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearfs.config.layers import Settings
    from nearfs.records import Network, Prefetch

DEFAULT_CACHE_BASE = "/var/lib/cvmfs"
_MAX_SECONDS = 1 << 31
_MAX_QUOTA_MB = 1 << 32
_SCHEMES = ("http://", "https://", "file://")
_VISIBILITIES = ("rootonly", "never", "always")


@dataclass(frozen=True)
class SyslogSettings:
    """Level 1 debug, 2 info, 3 notice; facility None is LOG_USER, else local0 to local7; file None is syslog itself."""

    level: int
    facility: int | None
    prefix: str
    file: str | None


@dataclass(frozen=True)
class ClientConfig:
    """Everything a mount is told by its configuration. Paths are absolute as configured; times are in seconds.

    The snapshot is chosen by `root_hash`, else `repository_tag`, else `repository_date` (Unix seconds), else it is
    the current one.
    """

    fqrn: str
    server_urls: tuple[str, ...]
    network: Network
    pac_urls: tuple[str, ...]
    public_keys: tuple[str, ...]
    blacklists: tuple[str, ...]
    cache_dir: str
    shared_cache: bool
    alien_cache: str | None
    quota_limit_bytes: int | None
    workspace: str
    talk_socket: str
    root_hash: str | None
    repository_tag: str | None
    repository_date: int | None
    auto_update: bool
    max_ttl_s: int | None
    prefetch: Prefetch
    kcache_timeout_s: int
    claim_ownership: bool
    check_permissions: bool
    world_readable: bool
    uid_map: values.IdMap | None
    gid_map: values.IdMap | None
    mount_rw: bool
    suid: bool
    nfiles: int | None
    server_cache_mode: bool
    magic_xattrs_visibility: str
    protected_xattrs: tuple[str, ...]
    privileged_gids: tuple[int, ...]
    alternative_root: bool
    syslog: SyslogSettings
    debug_log: str | None
    user: str | None
    mount_dir: str | None
    process: process.ProcessSettings
    environment: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()


def client_config(settings: Settings) -> ClientConfig:
    """Returns the checked configuration of one repository.

    Raises `InvalidInput` naming parameter, value and file; its `exit_code` is the `InitCode` that `cvmfs2` exits with.
    """
    cache_dir = cache_directory(settings)
    workspace = settings.get("CVMFS_WORKSPACE") or cache_dir
    kcache_timeout = values.integer(settings, "CVMFS_KCACHE_TIMEOUT", 60, -_MAX_SECONDS, _MAX_SECONDS)
    max_ttl_minutes = values.integer(settings, "CVMFS_MAX_TTL", 0, 0, _MAX_SECONDS // 60)
    return ClientConfig(
        fqrn=settings.fqrn,
        server_urls=_server_urls(settings),
        network=network.read(settings),
        pac_urls=network.pac_urls(settings),
        public_keys=public_key_files(settings),
        blacklists=_blacklists(settings),
        cache_dir=cache_dir,
        shared_cache=settings.is_on("CVMFS_SHARED_CACHE"),
        alien_cache=_alien_cache(settings),
        quota_limit_bytes=_quota_limit_bytes(settings),
        workspace=workspace,
        talk_socket=settings.get("CVMFS_TALK_SOCKET") or f"{workspace}/cvmfs_io.{settings.fqrn}",
        root_hash=values.root_hash(settings, "CVMFS_ROOT_HASH"),
        repository_tag=settings.get("CVMFS_REPOSITORY_TAG") or None,
        repository_date=values.date(settings, "CVMFS_REPOSITORY_DATE"),
        auto_update=settings.get("CVMFS_AUTO_UPDATE") is None or settings.is_on("CVMFS_AUTO_UPDATE"),
        max_ttl_s=max_ttl_minutes * 60 or None,
        prefetch=prefetch.read(settings),
        kcache_timeout_s=max(0, kcache_timeout),
        claim_ownership=settings.is_on("CVMFS_CLAIM_OWNERSHIP"),
        check_permissions=settings.is_on("CVMFS_CHECK_PERMISSIONS"),
        world_readable=settings.is_on("CVMFS_WORLD_READABLE"),
        uid_map=values.read_id_map(settings, "CVMFS_UID_MAP"),
        gid_map=values.read_id_map(settings, "CVMFS_GID_MAP"),
        mount_rw=settings.is_on("CVMFS_MOUNT_RW"),
        suid=settings.is_on("CVMFS_SUID"),
        nfiles=values.optional_integer(settings, "CVMFS_NFILES", 1, 1 << 30),
        server_cache_mode=settings.is_on("CVMFS_SERVER_CACHE_MODE"),
        magic_xattrs_visibility=_magic_xattrs_visibility(settings),
        protected_xattrs=values.split(settings, "CVMFS_XATTR_PROTECTED_XATTRS", ","),
        privileged_gids=_privileged_gids(settings),
        alternative_root=settings.is_on("CVMFS_ALT_ROOT_PATH"),
        syslog=_syslog(settings),
        debug_log=settings.get("CVMFS_DEBUGLOG") or None,
        user=settings.get("CVMFS_USER") or None,
        mount_dir=settings.get("CVMFS_MOUNT_DIR") or None,
        process=process.process_settings(settings),
        environment=symlink_environment(settings),
        warnings=tuple(settings.warnings),
    )


def cache_directory(settings: Settings) -> str:
    """Returns the cache directory: CVMFS_CACHE_DIR as it is, else `<base>/shared` or `<base>/<fqrn>`."""
    base, exact = settings.get("CVMFS_CACHE_BASE"), settings.get("CVMFS_CACHE_DIR")
    if base and exact:
        message = "'CVMFS_CACHE_BASE' and 'CVMFS_CACHE_DIR' are mutually exclusive"
        code = InitCode.OPTIONS
        raise InvalidInput(message, operation="read configuration", subject=settings.fqrn, exit_code=code)
    last = "shared" if settings.is_on("CVMFS_SHARED_CACHE") else settings.fqrn
    chosen = exact or f"{base or DEFAULT_CACHE_BASE}/{last}"
    if not chosen.startswith("/"):
        # The process that serves a mount works in `/`; its starter, which takes the lock, does not.
        message = f"cache directory {chosen} is not an absolute path: see CVMFS_CACHE_BASE or CVMFS_CACHE_DIR"
        raise InvalidInput(message, operation="read configuration", subject=settings.fqrn, exit_code=InitCode.OPTIONS)
    return chosen


def _quota_limit_bytes(settings: Settings) -> int | None:
    """Returns the limit of the cache; None where it grows as it may (0 or less)."""
    limit_mb = values.integer(settings, "CVMFS_QUOTA_LIMIT", 1024, -_MAX_QUOTA_MB, _MAX_QUOTA_MB)
    return limit_mb << 20 if limit_mb > 0 else None


def _alien_cache(settings: Settings) -> str | None:
    """Returns the directory of a cache that belongs to several machines, which no client may clean up."""
    name = "CVMFS_ALIEN_CACHE"
    directory = settings.get(name)
    if not directory:
        return None
    if not directory.startswith("/"):
        raise values.refusal(settings, name, "expected an absolute path")
    if settings.is_on("CVMFS_SHARED_CACHE"):
        raise values.refusal(settings, name, "an alien cache excludes CVMFS_SHARED_CACHE")
    if _quota_limit_bytes(settings) is not None:
        raise values.refusal(settings, name, "an alien cache needs CVMFS_QUOTA_LIMIT=-1")
    return directory


def public_key_files(settings: Settings) -> tuple[str, ...]:
    """Returns the master public key files: CVMFS_PUBLIC_KEY, else `*.pub` of CVMFS_KEYS_DIR, else of `<root>/keys`.

    A file that is listed but cannot be read is the business of whoever loads the keys: it makes the mount fail.
    """
    listed = values.split(settings, "CVMFS_PUBLIC_KEY", ":")
    if listed:
        return listed
    directory = settings.get("CVMFS_KEYS_DIR") or f"{settings.root}/keys"
    try:
        entries = os.listdir(directory)
    except OSError as error:
        message = f"cannot list public keys in {directory}: {error.strerror}; set CVMFS_PUBLIC_KEY or CVMFS_KEYS_DIR"
        code = InitCode.SIGNATURE
        raise InvalidInput(message, operation="list public keys", subject=directory, exit_code=code) from error
    keys = tuple(os.path.join(directory, entry) for entry in sorted(entries) if entry.endswith(".pub"))
    if not keys:
        message = f"no public key (*.pub) in {directory}; set CVMFS_PUBLIC_KEY or CVMFS_KEYS_DIR"
        code = InitCode.SIGNATURE
        raise InvalidInput(message, operation="list public keys", subject=directory, exit_code=code)
    return keys


def symlink_environment(settings: Settings) -> dict[str, str]:
    """Returns what `$(NAME)` in symlinks may see: the environment, all parameters, and the machine's CVMFS_ARCH."""
    return {**settings.environment, "CVMFS_ARCH": os.uname().machine}


def _blacklists(settings: Settings) -> tuple[str, ...]:
    """Returns the blacklist of this machine, and the one of the configuration repository (client.md 1.3)."""
    own = settings.get("CVMFS_BLACKLIST") or f"{settings.root}/blacklist"
    return (own,) if settings.external_base is None else (own, f"{settings.external_base}/blacklist")


def _server_urls(settings: Settings) -> tuple[str, ...]:
    urls = tuple(url.rstrip("/") for url in values.split(settings, "CVMFS_SERVER_URL", ";"))
    if not urls:
        message = f"CVMFS_SERVER_URL required: no configuration file below {settings.root} sets it for {settings.fqrn}"
        code = InitCode.OPTIONS
        raise InvalidInput(message, operation="read configuration", subject="CVMFS_SERVER_URL", exit_code=code)
    for url in urls:
        if not url.startswith(_SCHEMES):
            raise values.refusal(
                settings, "CVMFS_SERVER_URL", f"{url} does not begin with http://, https:// or file://"
            )
    return urls


def _magic_xattrs_visibility(settings: Settings) -> str:
    name = "CVMFS_MAGIC_XATTRS_VISIBILITY"
    text = (settings.get(name) or "").lower()
    if text:
        if text not in _VISIBILITIES:
            raise values.refusal(settings, name, "expected rootonly, never or always")
        return text
    if settings.is_on("CVMFS_HIDE_MAGIC_XATTRS"):
        return "never"
    return "always" if settings.is_off("CVMFS_HIDE_MAGIC_XATTRS") else "rootonly"


def _privileged_gids(settings: Settings) -> tuple[int, ...]:
    """Returns the primary groups that may read protected attributes; group 0 always may."""
    name = "CVMFS_XATTR_PRIVILEGED_GIDS"
    entries = values.split(settings, name, ",")
    if not all(entry.isascii() and entry.isdigit() for entry in entries):
        raise values.refusal(settings, name, "expected group ids separated by commas")
    return tuple(sorted({0, *(int(entry) for entry in entries)}))


def _syslog(settings: Settings) -> SyslogSettings:
    return SyslogSettings(
        level=values.integer(settings, "CVMFS_SYSLOG_LEVEL", 3, 1, 3),
        facility=values.optional_integer(settings, "CVMFS_SYSLOG_FACILITY", 0, 7),
        prefix=settings.get("CVMFS_SYSLOG_PREFIX") or settings.fqrn,
        file=settings.get("CVMFS_USYSLOG") or None,
    )
