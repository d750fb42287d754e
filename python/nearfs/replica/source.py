"""Where a replica comes from: its source's URL, and how that is reached (server.md 2.1, `replica.conf`).

Owns: the parameters of the way. Does not own: requests (the engine's `ReplicaSource`). Threading: plain functions.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.config import layers, network
from nearfs.errors import InvalidInput, NearfsError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearfs._native import ReplicaSource
    from nearfs.publish.repository import Repository

DEFAULT_WORKERS = 16
DEFAULT_TIMEOUT_S = 10
DEFAULT_RETRIES = 3
# The reference's workers each hash and store; ours only wait. At 50 ms and 1.3 kB an object, 384 requests in flight
# take 5.0 s where the bytes alone take 3.6 s at 100 Mbit/s, and 192 take 9.0 s; web servers take so many connections.
REQUESTS_EACH_WORKER = 24
_KEY_LIMIT_BYTES = 64 << 10


def opened(url: str, fqrn: str, settings: Mapping[str, str], workers: int = DEFAULT_WORKERS) -> ReplicaSource:
    """Returns the source of a replica; nothing is asked yet."""
    from nearfs import _native

    said = {
        "CVMFS_HTTP_PROXY": settings.get("CVMFS_SERVER_PROXY") or settings.get("CVMFS_HTTP_PROXY") or "DIRECT",
        "CVMFS_TIMEOUT": settings.get("CVMFS_HTTP_TIMEOUT") or str(DEFAULT_TIMEOUT_S),
        "CVMFS_TIMEOUT_DIRECT": settings.get("CVMFS_HTTP_TIMEOUT") or str(DEFAULT_TIMEOUT_S),
        "CVMFS_MAX_RETRIES": settings.get("CVMFS_HTTP_RETRIES") or str(DEFAULT_RETRIES),
        "CVMFS_FOLLOW_REDIRECTS": "yes",
        "CVMFS_USE_SSL_SYSTEM_CA": "yes",
    }
    way = layers.Settings(fqrn)
    for name, value in said.items():
        way.set(name, value, "replica.conf")
    in_flight = workers * REQUESTS_EACH_WORKER
    return _native.ReplicaSource(url.rstrip("/"), fqrn=fqrn, network=network.read(way), in_flight=in_flight)


def of(replica: Repository) -> ReplicaSource:
    """Returns the source of a replica that is configured here."""
    url = replica.text("CVMFS_STRATUM0")
    if not url:
        message = f"CVMFS_STRATUM0 is not set in {replica.configuration / 'server.conf'}"
        raise InvalidInput(message, operation="snapshot", subject=replica.name, exit_code=1)
    workers = max(1, replica.number("CVMFS_NUM_WORKERS", DEFAULT_WORKERS))
    return opened(url, replica.fqrn, replica.settings, workers)


def key_files(listed: str) -> list[Path]:
    """Returns the public keys of a list with colons, or of a directory; raises `NotFound` where there is none."""
    found: list[Path] = []
    for part in filter(None, listed.split(":")):
        path = Path(part)
        if path.is_dir():
            found += sorted(path.glob("*.pub"))
        elif path.is_file():
            found.append(path)
        else:
            raise NotFound(f"{path}: there is no such public key", operation="read keys", subject=part, exit_code=1)
    if not found:
        raise NotFound(f"{listed}: no public key there", operation="read keys", subject=listed, exit_code=1)
    return found


def public_keys(listed: str) -> list[bytes]:
    """Returns the texts of the keys that `key_files` finds."""
    texts = []
    for path in key_files(listed):
        try:
            with path.open("rb") as stream:
                texts.append(stream.read(_KEY_LIMIT_BYTES))
        except OSError as error:
            message = f"cannot read {path}: {error.strerror}"
            raise NotFound(message, operation="read keys", subject=str(path), exit_code=1) from error
    return texts


def failed(error: NearfsError, message: str, subject: str) -> NearfsError:
    """Returns the error of the same kind that says first what did not work."""
    return type(error)(f"{message}: {error}", operation=error.operation or "ask source", subject=subject, exit_code=1)


def default_keys(listed: str) -> str:
    """Returns paths of keys as `replica.conf` has them: absolute, since commands run anywhere."""
    return ":".join(os.path.abspath(part) for part in filter(None, listed.split(":")))
