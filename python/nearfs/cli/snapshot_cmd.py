"""Makes replicas and brings them up to date (server.md 3.2 and 3.15).

Owns: what is said, the log of `snapshot -a` and how many of those run at a time. Does not own: what is brought over.
Threading: a short-lived command, one thread; the engine works beside it.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.cli import output, summary
from nearfs.errors import Busy, InvalidInput, NearfsError
from nearfs.publish import acting, collection, moments
from nearfs.publish.places import Places
from nearfs.publish.repository import REPLICAS, Repository
from nearfs.replica import creation, pulling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nearfs.records import Pulled

_SLOTS = Path("/dev/shm/cvmfs_snapshot_all")  # noqa: S108 - where the reference's commands look for each other
_ROTATION = "/etc/logrotate.d/cvmfs"


@dataclass(frozen=True)
class AllOptions:
    """Of `snapshot -a`: which replicas, and where the log goes."""

    separate_logs: bool = False
    asks_for_rotation: bool = True
    only_initialized: bool = False
    group: str = ""


def add_replica(wanted: creation.NewReplica) -> int:
    """Makes an empty replica, and says what comes next."""
    replica = creation.create(wanted, Places.here(), output.step)
    if wanted.pass_through:
        output.line(f"Requests for {replica.name} are passed on to {wanted.url}; nothing is kept here")
        return 0
    output.line()
    output.line(f"The replica is empty. Run 'cvmfs_server snapshot {replica.name}' for the initial replica; then let")
    output.line("'cvmfs_server snapshot -a' run every few minutes (nearfs replica schedule)")
    return 0


def snapshot(names: Sequence[str], *, waits: bool) -> int:
    """Brings replicas up to date, one after the other."""
    return max((_snapshot(name, waits=waits) for name in names), default=0)


def _snapshot(name: str, *, waits: bool) -> int:
    replica = Repository.load(name, roles=REPLICAS)
    replica.check_owner()
    return acting.as_owner(replica, lambda: _brought(replica, waits=waits))


def _brought(replica: Repository, *, waits: bool) -> int:
    with summary.watching() as watched:
        wanted = pulling.Snapshotting(watched.progress, output.line, waits=waits)
        pulled = pulling.snapshot(replica, wanted)
        if pulled is not None:
            seconds = time.monotonic() - watched.started_s
            output.line(_summary(pulled, seconds))
    if pulled is not None:
        collection.after_publish(replica, output.line)
    return 0


def pull(replica: Repository) -> int:
    """Brings a storage over as it is told, without a configured replica: whoever calls it keeps others out."""
    with summary.watching() as watched:
        pulled = pulling.brought_over(replica, pulling.Snapshotting(watched.progress, output.line))
        output.line(_summary(pulled, time.monotonic() - watched.started_s))
    return 0


def _summary(pulled: Pulled, seconds: float) -> str:
    size = output.readable_size(pulled["bytes_new"])
    rate = output.readable_size(int(pulled["bytes_new"] / max(seconds, 1e-3)))
    return (
        f"Brought {pulled['objects_new']} objects, {size}, and {pulled['catalogs_new']} catalogs in {seconds:.2f} s: "
        f"{rate}/s"
    )


def snapshot_all(options: AllOptions) -> int:
    """Brings the active replicas of this machine up to date, the one that waits longest first, into a log.

    Returns 0 even if one fails, as the reference does: the log says so. Returns 1 where nobody rotates the log.
    """
    places = Places.here()
    if options.asks_for_rotation and not Path(places.prefix + _ROTATION).exists():
        output.complain(_rotation(places))
        return 1
    log = places.logs / "snapshots.log"
    with _slot(places, log) as is_ours:
        if is_ours:
            for replica in _due(places, options):
                with output.into(places.logs / f"{replica.name}.log" if options.separate_logs else log):
                    _snapshot_logged(replica)
    return 0


def _rotation(places: Places) -> str:
    return (
        f"{_ROTATION} does not exist: the log {places.logs / 'snapshots.log'} would grow for ever.\n"
        f"Create it, for example with\n{places.logs}/*.log {{\n    weekly\n    missingok\n    notifempty\n}}\n"
        "or use -n"
    )


def _due(places: Places, options: AllOptions) -> list[Repository]:
    """Returns the replicas to be brought up to date, the oldest first."""
    found: list[tuple[float, Repository]] = []
    for name in Repository.all_names(places):
        try:
            replica = Repository.load(name, places, roles=REPLICAS)
        except NearfsError:
            continue
        initial = pulling.is_initial(replica)
        left_out = replica.text("CVMFS_REPLICA_ACTIVE", "yes").lower() == "no" or (options.only_initialized and initial)
        if left_out or (options.group and replica.text("CVMFS_SNAPSHOT_GROUP") != options.group):
            continue
        found.append((0.0 if initial else (replica.storage / pulling.LAST).stat().st_mtime, replica))
    return [replica for _, replica in sorted(found, key=lambda one: one[0])]


def _snapshot_logged(replica: Repository) -> None:
    output.line(f"Starting {replica.name} at {moments.written(time.time())}")
    try:
        if acting.as_owner(replica, lambda: _brought(replica, waits=False)):
            output.line("ERROR from cvmfs_server snapshot!")
    except (NearfsError, OSError) as error:
        output.line(f"{error}\nERROR from cvmfs_server snapshot!")
    output.line(f"Finished {replica.name} at {moments.written(time.time())}")


@contextlib.contextmanager
def _slot(places: Places, log: Path) -> Iterator[bool]:
    """Takes one of the places for `snapshot -a`s that run at a time; yields False where all are taken."""
    limit = _limit()
    directory = Path(places.prefix + str(_SLOTS))
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        for number in range(limit):
            try:
                held.enter_context(files.exclusive(directory / f"{number}", "taken"))
            except Busy:
                continue
            yield True
            return
        with output.into(log):
            moment = moments.written(time.time())
            output.line(f"Hit limit of {limit} parallel 'snapshot -a's at {moment}; this one does nothing")
        yield False


def _limit() -> int:
    text = os.environ.get("CVMFS_MAX_PARALLEL_SNAPSHOTS") or str(os.cpu_count() or 1)
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        message = f"CVMFS_MAX_PARALLEL_SNAPSHOTS={text} is not a number above 0"
        raise InvalidInput(message, operation="snapshot", exit_code=1)
    return int(text)
