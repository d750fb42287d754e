"""What the engine is told about a mount: configuration and mount options as its request.

Owns: the reading of keys, and which setting becomes which field. Does not own: the settings' meaning
(`config.model`), the mount. Threading: called once, while a mount comes up; waits for files, and for the site's proxies
where they are to be discovered.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nearfs.client import discovery
from nearfs.errors import InitCode, InvalidInput, NotFound

if TYPE_CHECKING:
    from nearfs.client.request import Request
    from nearfs.config.model import ClientConfig
    from nearfs.records import MountRequest, Network

# Bounds key files: a path that is wrong may name a device.
KEY_LIMIT_BYTES = 1 << 20
# About what the decoded nested catalogs may take; more than that are decoded anew when they are needed again.
CATALOG_MEMORY_BYTES = 24 << 20
# Chosen by the loop.
_WORKER_THREADS = 0


def build(request: Request, mountpoint: str) -> MountRequest:
    """Returns what the loop is told; raises `NotFound` or `PermissionDenied` for a key that cannot be read.

    `mountpoint` is a path, or the `/dev/fd/N` of what was mounted before.
    """
    config, options = request.config, request.options
    return {
        "fqrn": config.fqrn,
        "mountpoint": mountpoint,
        "server_urls": list(config.server_urls),
        "public_keys": [_key(path) for path in config.public_keys],
        "blacklist_files": list(config.blacklists),
        "auto_update": config.auto_update,
        "max_ttl_s": config.max_ttl_s,
        "catalog_bytes": CATALOG_MEMORY_BYTES,
        "prefetch": config.prefetch,
        "cache_dir": config.cache_dir,
        "is_shared_cache": config.shared_cache,
        "alien_cache": config.alien_cache,
        "quota_limit_bytes": config.quota_limit_bytes,
        "workspace": config.workspace,
        "root_hash": config.root_hash,
        "tag": config.repository_tag,
        "date_s": config.repository_date,
        "network": _network(config),
        "kernel_cache_s": config.kcache_timeout_s,
        "claimed_owner": (request.owner.uid, request.owner.gid) if config.claim_ownership else None,
        "world_readable": config.world_readable,
        "raw_symlinks": config.server_cache_mode,
        "uid_map": (dict(config.uid_map.exact), config.uid_map.otherwise) if config.uid_map else None,
        "gid_map": (dict(config.gid_map.exact), config.gid_map.otherwise) if config.gid_map else None,
        "environment": dict(config.environment),
        "xattr_visibility": config.magic_xattrs_visibility,
        "protected_xattrs": set(config.protected_xattrs),
        "privileged_gids": set(config.privileged_gids),
        "alternative_root": config.alternative_root,
        "check_permissions": config.check_permissions,
        "allow_other": options.allow_other or os.geteuid() == 0,
        "suid": request.allows_suid,
        "read_write": config.mount_rw,
        "fsname": options.fsname,
        "worker_threads": 1 if options.single_threaded else config.process.worker_threads or _WORKER_THREADS,
    }


def _network(config: ClientConfig) -> Network:
    network = config.network
    external = network["external"]
    if discovery.is_wanted(network["proxies"]):
        note = f"{config.workspace}/proxies.{config.fqrn}-{config.fqrn}"
        proxies = discovery.resolve(network["proxies"], config.server_urls, config.pac_urls, note)
        network = {**network, "proxies": proxies}
    if discovery.is_wanted(external["proxies"]):
        network = {**network, "external": {**external, "proxies": _external_proxies(config)}}
    if network["uuid"] is None:
        return network
    from nearfs.client import identity

    return {**network, "uuid": identity.of(config.workspace)}


def _external_proxies(config: ClientConfig) -> str:
    external = config.network["external"]
    if not external["server_urls"]:
        return discovery.DIRECT  # nothing will ever be asked for
    note = f"{config.workspace}/proxies-external.{config.fqrn}-{config.fqrn}"
    parameter = "CVMFS_EXTERNAL_HTTP_PROXY"
    return discovery.resolve(external["proxies"], external["server_urls"], config.pac_urls, note, parameter=parameter)


def _bounded(path: str) -> bytes:
    """Returns the content of a small file; raises `InvalidInput` if it is not small (a device, a log)."""
    with open(path, "rb") as opened:
        content = opened.read(KEY_LIMIT_BYTES + 1)
    if len(content) > KEY_LIMIT_BYTES:
        message = f"{path} is larger than {KEY_LIMIT_BYTES} bytes; it is no key and no list of certificates"
        raise InvalidInput(message, operation="read key", subject=path, exit_code=InitCode.SIGNATURE)
    return content


def _key(path: str) -> bytes:
    try:
        return _bounded(path)
    except OSError as error:
        message = f"failed to load public key(s): {path}: {error.strerror}"
        raise NotFound(message, operation="read key", subject=path, exit_code=InitCode.SIGNATURE) from error
