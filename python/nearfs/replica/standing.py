"""How the replicas of a machine stand: revision, last snapshot, what is wrong, in words.

Owns: reading that from what is on disk; no source is asked. Threading: plain functions.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import InvalidInput, NearfsError
from nearfs.publish import moments, status
from nearfs.publish.repository import MANIFEST, REPLICAS, Repository
from nearfs.replica import pulling

if TYPE_CHECKING:
    from nearfs.publish.places import Places

# A replica that nobody updates serves what is old; the reference's monitoring warns after as long.
_STALE_S = 24 * 3600


@dataclass(frozen=True)
class Standing:
    """One replica. Times are Unix seconds, None where there was none yet."""

    name: str
    fqrn: str
    source: str
    revision: int | None
    published_s: int | None
    last_snapshot_s: int | None
    is_updating: bool
    problems: tuple[str, ...]


def all_of(places: Places) -> list[Standing]:
    """Returns how every replica of this machine stands."""
    found = []
    for name in Repository.all_names(places):
        if not (places.repositories / name / "replica.conf").exists():
            continue
        try:
            found.append(_of(Repository.load(name, places, roles=REPLICAS)))
        except NearfsError as error:
            found.append(Standing(name, name, "", None, None, None, is_updating=False, problems=(str(error),)))
    return found


def _of(replica: Repository) -> Standing:
    source = replica.text("CVMFS_STRATUM0")
    updating = replica.updating_lock.exists() and files.is_held(replica.updating_lock)
    problems: list[str] = []
    if replica.is_on("CVMFS_PASSTHROUGH"):
        return Standing(replica.name, replica.fqrn, source, None, None, None, is_updating=False, problems=())
    if not (replica.storage / MANIFEST).exists():
        problems.append("there was no snapshot yet: cvmfs_server snapshot " + replica.name)
        return Standing(replica.name, replica.fqrn, source, None, None, None, updating, tuple(problems))
    fields = replica.manifest().fields
    last_s = _last_snapshot_s(replica)
    if last_s is None:
        problems.append("the initial snapshot did not end")
    elif time.time() - last_s > _STALE_S:
        problems.append(f"the last snapshot was {int((time.time() - last_s) // 3600)} hours ago")
    if not updating and (replica.storage / pulling.UNDER_WAY).exists():
        problems.append("the last snapshot was killed; the next one goes on from there")
    whitelist = replica.whitelist()
    if whitelist is None or whitelist.is_expired(dt.datetime.now(dt.UTC)):
        problems.append("the whitelist is expired or missing: clients refuse the repository")
    if status.read(replica).get("check_status") == "failed":
        problems.append("the last check found problems")
    return Standing(
        replica.name, replica.fqrn, source, fields.revision, fields.timestamp, last_s, updating, tuple(problems)
    )


def _last_snapshot_s(replica: Repository) -> int | None:
    text = files.read_text(replica.storage / pulling.LAST)
    try:
        return moments.parse(text) if text else None
    except InvalidInput:
        return None
