"""What the clients of this machine count, and their metrics for Prometheus (docs/cold-start.md).

Owns: reading the counters of mounts from outside, and the names of metrics. Does not own: the counting (the engine),
nor which mounts there are (`status`). Threading: no state; every question to a mount is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from nearfs.client.status import MountedRepository

MECHANISMS = ("traces", "bundles", "packs", "neighbours", "catalogs", "readahead")
OUTCOMES = ("asked", "used", "late", "wasted")
_ATTRIBUTE = "nearfs_counters"
_LABELS = ("repository", "mountpoint")
# Counter -> (what it is called, what it says); what may fall is a gauge.
_SUMS = {
    "requests": ("requests", "Requests that were sent."),
    "request_bytes": ("received_bytes", "Bytes of answers' bodies."),
    "connections": ("connections", "Connections that were opened."),
    "opens": ("opens", "Files that were opened."),
    "io_errors": ("io_errors", "Requests of the kernel that failed for want of content."),
    "prefetch_needed_bytes": ("needed_bytes", "Stored bytes that somebody read or waited for."),
    "prefetch_packs_fetched": ("packs", "Packs that came."),
    "traces_followed": ("traces_followed", "Lists of earlier runs that were followed."),
    "traces_learned": ("traces_learned", "Lists of runs that were written."),
}
_LEVELS = {
    "prefetch_used_bytes": ("prefetch_used_bytes", "Stored bytes that were fetched ahead and read."),
    "prefetch_unused_bytes": ("prefetch_unused_bytes", "Stored bytes that were fetched ahead and not read so far."),
    "prefetch_pending_bytes": ("prefetch_pending_bytes", "Bytes of guesses that wait or are under way, at most."),
    "prefetch_air_bytes": ("prefetch_air_bytes", "Bytes of guesses that may be under way at a time now."),
}


@dataclass(frozen=True)
class Counted:
    """A mount, and what its client counted by name; empty where it does not answer, or is no client of nearfs."""

    repository: str
    mountpoint: str
    pid: int | None
    counters: dict[str, int]

    def guesses(self, mechanism: str) -> dict[str, int]:
        """Returns how many guesses of a mechanism were asked for, used, late and wasted."""
        return {outcome: self.counters.get(f"prefetch_{mechanism}_{outcome}", 0) for outcome in OUTCOMES}


def read(mount: MountedRepository) -> Counted:
    """Asks a mount for its counters."""
    text = mount.attribute(_ATTRIBUTE) if mount.is_healthy else ""
    pairs = (line.rpartition(",") for line in text.splitlines())
    counters = {name: int(value) for name, _, value in pairs if name and value.isdigit()}
    # A path may be any bytes, JSON and metrics are text.
    point = mount.point.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return Counted(mount.fqrn, point, mount.pid, counters)


def metrics(mounts: Sequence[Counted]) -> str:
    """Returns the metrics of all mounts in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_Values(mounts))
    return generate_latest(registry).decode("utf-8")


class _Values(Collector):
    """The metrics at one moment."""

    def __init__(self, mounts: Sequence[Counted]) -> None:
        self._mounts = mounts

    def collect(self) -> Iterable[Metric]:
        """Yields all of them."""
        up = GaugeMetricFamily("nearfs_client_up", "1 where the client of a mount answers.", labels=_LABELS)
        for mount in self._mounts:
            up.add_metric((mount.repository, mount.mountpoint), int(bool(mount.counters)))
        yield up
        yield from self._of_counters()
        labels = (*_LABELS, "mechanism", "outcome")
        # Wasted may fall: what somebody reads later was not fetched in vain.
        guesses = GaugeMetricFamily("nearfs_client_guesses", "Objects that were fetched ahead.", labels=labels)
        for mount in self._mounts:
            for mechanism in MECHANISMS if mount.counters else ():
                for outcome, count in mount.guesses(mechanism).items():
                    guesses.add_metric((mount.repository, mount.mountpoint, mechanism, outcome), count)
        yield guesses

    def _of_counters(self) -> Iterator[Metric]:
        for families, kind in ((_SUMS, CounterMetricFamily), (_LEVELS, GaugeMetricFamily)):
            for counter, (name, words) in families.items():
                family = kind(f"nearfs_client_{name}", words, labels=_LABELS)
                for mount in self._mounts:
                    if counter in mount.counters:
                        family.add_metric((mount.repository, mount.mountpoint), mount.counters[counter])
                yield family
