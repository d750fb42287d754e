"""Owns the picture of all repositories at one moment: gathered by a worker thread, and kept for some seconds.

However many ask for it, one gathers, so that pages and metrics cost the disks the same under any load. One event loop's
thread, but for the gathering.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field

from nearfs.serve import names
from nearfs.serve.roots import Roots
from nearfs.serve.status import facts, problems
from nearfs.serve.status.facts import Facts
from nearfs.serve.status.problems import Problem, Severity
from nearfs.serve.status.stratum0 import Head, Masters

KEEP_S = 5.0
_SITE_LIMIT_BYTES = 64 << 10
_SITE_TEXTS = ("organisation", "administrator", "email")


@dataclass(frozen=True)
class Surveyed:
    """One repository at a moment: its facts, what its stratum 0 says, and what is wrong."""

    moment: float
    facts: Facts
    is_replica: bool
    has_master: bool
    head: Head | None
    problems: list[Problem]

    @property
    def severity(self) -> Severity | None:
        """The gravest problem's; None where all is well."""
        return self.problems[0].severity if self.problems else None

    @property
    def snapshot_age_s(self) -> float | None:
        """How long ago the last snapshot ended; None where there was none, or at a time that nobody knows."""
        return self.moment - self.facts.last_snapshot if self.facts.last_snapshot else None

    @property
    def behind(self) -> int | None:
        """How many revisions stratum 0 is ahead; None where nobody knows."""
        if self.head is None or self.head.revision is None or self.facts.revision is None:
            return None
        return self.head.revision - self.facts.revision


@dataclass(frozen=True)
class Picture:
    """All repositories, those with problems first; `omitted` is how many more there are than are looked at."""

    moment: float
    repositories: list[Surveyed]
    omitted: int = 0
    site: dict[str, str] = field(default_factory=dict)
    trouble: str | None = None


class Survey:
    """The last picture, and the next."""

    def __init__(self, roots: Roots, masters: Masters) -> None:
        """Looks at what `roots` serves, and asks `masters`."""
        self._roots = roots
        self._masters = masters
        self._gathering: asyncio.Task[Picture] | None = None
        self._good_until = 0.0

    async def picture(self) -> Picture:
        """Returns a picture that is a few seconds old at most."""
        # Shielded: one reader that goes away must not take it from the others.
        if self._gathering is None or (self._gathering.done() and time.monotonic() >= self._good_until):
            self._masters.ask()
            self._gathering = asyncio.create_task(self._gather())
        return await asyncio.shield(self._gathering)

    async def _gather(self) -> Picture:
        picture = await asyncio.to_thread(self._look)
        self._good_until = time.monotonic() + KEEP_S
        return picture

    def _look(self) -> Picture:
        now = time.time()
        try:
            found = self._roots.repositories()
        except OSError as problem:
            return Picture(now, [], trouble=f"The served directories cannot be listed: {problem.strerror}.")
        looked_at = [self._look_at(name, now) for name in found[: names.REPOSITORIES_LIMIT]]
        grave = [*Severity, None]
        looked_at.sort(key=lambda one: (grave.index(one.severity), one.facts.name))
        return Picture(now, looked_at, max(0, len(found) - len(looked_at)), self._site())

    def _look_at(self, name: str, now: float) -> Surveyed:
        found, head = facts.gather(self._roots, name), self._masters.head(name)
        has_master = self._masters.has(name)
        is_replica = found.is_replica or has_master
        return Surveyed(now, found, is_replica, has_master, head, problems.find(found, head, now))

    def _site(self) -> dict[str, str]:
        """Returns who keeps the server, as far as the public `meta.json` says."""
        name = names.parse("/cvmfs/info/v1/meta.json")
        try:
            opened = None if name is None else self._roots.open(name)
            if opened is None:
                return {}
            try:
                document = json.loads(opened.read(0, min(opened.size, _SITE_LIMIT_BYTES)))
            finally:
                opened.close()
        except (OSError, ValueError, RecursionError):
            return {}
        values = document if isinstance(document, dict) else {}
        return {key: values[key] for key in _SITE_TEXTS if isinstance(values.get(key), str) and values[key]}
