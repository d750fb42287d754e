"""Storages as a server finds them, in any state: a manifest, a whitelist and the marker files of format.md 8.1.

Signatures are none: a server proves nothing, clients do. Called from the test's own thread.
"""

import datetime as dt
import json
import time
from pathlib import Path

from nearfs import envelope, hashes, signing, whitelist

HOUR_S = 3600
DAY_S = 24 * HOUR_S
_FINGERPRINT = ":".join(["AB"] * 20)


def dated(unix_s: float) -> str:
    """Returns a moment as `date --utc` prints it."""
    return time.strftime("%a %b %e %H:%M:%S UTC %Y\n", time.gmtime(unix_s))


def manifest(name: str, revision: int, published: float, *, root_hash: str = "c" * 40) -> bytes:
    """Returns a manifest of the format, signed by nobody."""
    fields = signing.ManifestFields(
        root_hash=root_hash,
        root_size=4096,
        revision=revision,
        name=name,
        certificate="d" * 40,
        timestamp=int(published),
        garbage_collectable=True,
    )
    body = signing.manifest_body(fields)
    return envelope.seal(body, hashes.hash_text(body, hashes.HashAlgorithm.SHA1), b"nobody")


def write(
    root: Path,
    name: str,
    *,
    revision: int,
    published_s: float = HOUR_S,
    whitelist_s: float | None = 20 * DAY_S,
    master: bool = False,
    snapshot_s: float | None = None,
    snapshotting_s: float | None = None,
    status: dict[str, str] | None = None,
) -> Path:
    """Writes a storage and returns it; times are seconds before now, but for the whitelist's, which is left."""
    now = time.time()
    storage = root / name
    (storage / "data").mkdir(parents=True, exist_ok=True)
    (storage / ".cvmfspublished").write_bytes(manifest(name, revision, now - published_s))
    if whitelist_s is not None:
        issued = dt.datetime.fromtimestamp(now + whitelist_s - 30 * DAY_S, dt.UTC)
        body = whitelist.whitelist_body(name, [whitelist.Fingerprint(_FINGERPRINT)], issued)
        signed = envelope.seal(body, hashes.hash_text(body, hashes.HashAlgorithm.SHA1), b"nobody")
        (storage / ".cvmfswhitelist").write_bytes(signed)
    if master:
        (storage / ".cvmfs_master_replica").write_text("replicate me\n")
    for marker, age in (("last_snapshot", snapshot_s), ("is_snapshotting", snapshotting_s)):
        if age is not None:
            (storage / f".cvmfs_{marker}").write_text(dated(now - age))
    if status is not None:
        (storage / ".cvmfs_status.json").write_text(json.dumps(status))
    return storage
