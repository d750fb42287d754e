"""Owns the judgement on a repository's state: what is a problem, how grave, and what to do, in words.

Does not own the facts (`facts`). Pure functions: any thread.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from nearfs.serve.status.facts import Facts
from nearfs.serve.status.stratum0 import Head
from nearfs.serve.status.wording import ago, duration

HOUR_S = 3600
DAY_S = 24 * HOUR_S
# A whitelist is signed for 30 days; a week is enough to fetch the key from its drawer.
EXPIRES_SOON_S = 7 * DAY_S
SNAPSHOT_OLD_S = DAY_S
SNAPSHOT_LONG_S = DAY_S
# A replica is behind for as long as its schedule and a transfer take; then something is wrong.
BEHIND_LONG_S = 2 * HOUR_S


class Severity(StrEnum):
    """How grave: clients fail, or soon will."""

    ERROR = "error"
    WARNING = "warning"


class Problem(NamedTuple):
    """One thing that is wrong, and the way out."""

    severity: Severity
    text: str


def find(facts: Facts, head: Head | None, now: float) -> list[Problem]:
    """Returns the problems of a repository, the gravest first. `head` is what its stratum 0 says, if that is known."""
    found = [*_of_files(facts), *_of_whitelist(facts, now), *_of_replica(facts, now), *_of_head(facts, head, now)]
    if facts.has_failed_check:
        when = ago(facts.last_check, now) if facts.last_check else "some time ago"
        found.append(Problem(Severity.ERROR, f"The last check ({when}) found damage: run “cvmfs_server check”."))
    return sorted(found, key=lambda problem: list(Severity).index(problem.severity))


def _of_files(facts: Facts) -> Iterator[Problem]:
    for fault in facts.faults:
        yield Problem(Severity.ERROR, f"{fault[:1].upper()}{fault[1:]}.")
    if facts.revision is None and not facts.faults:
        if facts.snapshotting_since is not None:
            yield Problem(Severity.WARNING, "Nothing to serve yet: the first snapshot is still under way.")
        else:
            yield Problem(Severity.ERROR, "Nothing to serve: there is no manifest. Publish, or run “snapshot”, first.")


def _of_whitelist(facts: Facts, now: float) -> Iterator[Problem]:
    expires = facts.whitelist_expires
    if expires is None:
        if facts.revision is not None and not any("whitelist" in fault for fault in facts.faults):
            yield Problem(Severity.ERROR, "There is no whitelist: clients refuse the repository.")
        return
    remedy = "sign it at the stratum 0 with “cvmfs_server resign”."
    if expires <= now:
        yield Problem(Severity.ERROR, f"The whitelist expired {ago(expires, now)}, and clients refuse it: {remedy}")
    elif expires - now < EXPIRES_SOON_S:
        yield Problem(Severity.WARNING, f"The whitelist expires in {duration(expires - now)}: {remedy}")


def _of_replica(facts: Facts, now: float) -> Iterator[Problem]:
    since = facts.snapshotting_since
    if since is not None and now - since > SNAPSHOT_LONG_S:
        when = f"began {ago(since, now)}" if since else "began at a time that its mark does not tell"
        yield Problem(Severity.WARNING, f"A snapshot {when} and has not ended: is it still running?")
    last = facts.last_snapshot
    if last is not None and now - last > SNAPSHOT_OLD_S:
        when = f"was {ago(last, now)}" if last else "was at a time that its mark does not tell"
        yield Problem(Severity.WARNING, f"The last snapshot {when}: is the schedule of “snapshot” at work?")


def _of_head(facts: Facts, head: Head | None, now: float) -> Iterator[Problem]:
    if head is None:
        return
    if head.trouble is not None:
        yield Problem(Severity.WARNING, f"How far it is behind is not known: stratum 0 was asked, and {head.trouble}.")
    if head.revision is None or facts.revision is None:
        return
    behind = head.revision - facts.revision
    if behind < 0:
        text = f"Its revision {facts.revision} is newer than stratum 0's, {head.revision}: was stratum 0 restored?"
        yield Problem(Severity.ERROR, text)
    elif behind and head.published is not None and now - head.published > BEHIND_LONG_S:
        text = f"Stratum 0 published revision {head.revision} ({ago(head.published, now)}); it is not here yet."
        yield Problem(Severity.WARNING, text)
