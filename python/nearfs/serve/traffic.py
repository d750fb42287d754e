"""Owns the counts of what was asked and sent since the start: for metrics, and the last hour for the status page.

Labels are few by construction: kinds and codes are the server's own, repositories those that exist, up to a limit.
One event loop's thread.
"""

import time
from collections import Counter, deque
from dataclasses import dataclass

from nearfs.serve.names import REPOSITORIES_LIMIT

MINUTES = 60
_MINUTE_S = 60


@dataclass(slots=True)
class Volume:
    """Requests, and bytes of answers' bodies."""

    requests: int = 0
    sent_bytes: int = 0

    def add(self, sent_bytes: int) -> None:
        """Counts one more answer."""
        self.requests += 1
        self.sent_bytes += sent_bytes


class Traffic:
    """Counts since `started` (Unix seconds)."""

    def __init__(self) -> None:
        """Begins at nothing, now."""
        self.started = time.time()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self.by_repository: dict[str, Volume] = {}
        self._minutes: deque[tuple[int, Volume]] = deque(maxlen=MINUTES)

    def count(self, kind: str, status: int, sent_bytes: int, repository: str | None) -> None:
        """Counts one answer of a kind; `repository` is one that exists, or None."""
        self.answers[kind, status] += 1
        self.sent_bytes[kind] += sent_bytes
        self._this_minute().add(sent_bytes)
        if repository is None:
            return
        volume = self.by_repository.get(repository)
        if volume is None:
            if len(self.by_repository) >= REPOSITORIES_LIMIT:
                return
            volume = self.by_repository[repository] = Volume()
        volume.add(sent_bytes)

    def total(self) -> Volume:
        """Returns all since the start."""
        return Volume(sum(self.answers.values()), sum(self.sent_bytes.values()))

    def last_hour(self) -> list[Volume]:
        """Returns the last 60 minutes, the oldest first; the last one is under way."""
        now = int(time.monotonic()) // _MINUTE_S
        known = dict(self._minutes)
        return [known.get(minute) or Volume() for minute in range(now - MINUTES + 1, now + 1)]

    def _this_minute(self) -> Volume:
        minute = int(time.monotonic()) // _MINUTE_S
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, Volume()))
        return self._minutes[-1][1]
