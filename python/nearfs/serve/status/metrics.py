"""Owns the metrics for Prometheus: their names, and their values from traffic and a picture of the repositories.

Does not own the counting (`traffic`) nor the facts (`survey`). One event loop's thread. Labels are bounded: kinds and
codes are the server's own, repositories those that a picture holds.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import nearfs
from nearfs.serve.status.problems import Severity
from nearfs.serve.status.survey import Picture, Surveyed
from nearfs.serve.traffic import Traffic

_Value = float | int | None
_OF_REPOSITORY: tuple[tuple[str, str, Callable[[Surveyed], _Value]], ...] = (
    ("revision", "Revision that is served.", lambda one: one.facts.revision),
    (
        "published_timestamp_seconds",
        "When the served revision was published.",
        lambda one: one.facts.published,
    ),
    ("ttl_seconds", "How long clients keep a manifest.", lambda one: one.facts.ttl_s),
    (
        "whitelist_expiry_timestamp_seconds",
        "When clients will refuse the repository.",
        lambda one: one.facts.whitelist_expires,
    ),
    ("replica", "1 for a replica, 0 for a master copy.", lambda one: int(one.is_replica)),
    (
        "last_snapshot_timestamp_seconds",
        "When the last snapshot ended.",
        lambda one: one.facts.last_snapshot or None,
    ),
    (
        "last_snapshot_age_seconds",
        "How long ago the last snapshot ended.",
        lambda one: one.snapshot_age_s,
    ),
    (
        "snapshotting",
        "1 while a snapshot is under way.",
        lambda one: int(one.facts.snapshotting_since is not None) if one.is_replica else None,
    ),
    ("revisions_behind", "Revisions that stratum 0 is ahead.", lambda one: one.behind),
    ("last_gc_timestamp_seconds", "When garbage was collected.", lambda one: one.facts.last_gc),
    ("last_check_timestamp_seconds", "When it was checked.", lambda one: one.facts.last_check),
    (
        "check_failed",
        "1 when the last check found damage.",
        lambda one: int(one.facts.has_failed_check) if one.facts.last_check else None,
    ),
)


class _Values(Collector):
    """The metrics at one moment."""

    def __init__(self, traffic: Traffic, picture: Picture, geo_lookups: int | None) -> None:
        self._traffic = traffic
        self._picture = picture
        self._geo_lookups = geo_lookups

    def collect(self) -> Iterable[Metric]:
        """Yields all of them."""
        yield InfoMetricFamily("nearfs_build", "What serves.", {"version": nearfs.__version__})
        yield GaugeMetricFamily("nearfs_start_time_seconds", "When it started.", self._traffic.started)
        if self._geo_lookups is not None:
            yield CounterMetricFamily("nearfs_geo_lookups", "Names looked up for the geo API.", self._geo_lookups)
        yield from self._of_traffic()
        yield from self._of_repositories()

    def _of_traffic(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("nearfs_http_requests", "Answers by kind and status.", labels=("kind", "code"))
        for (kind, code), count in sorted(self._traffic.answers.items()):
            requests.add_metric((kind, str(code)), count)
        sent = CounterMetricFamily("nearfs_http_response_bytes", "Bytes of bodies by kind.", labels=("kind",))
        for kind, count in sorted(self._traffic.sent_bytes.items()):
            sent.add_metric((kind,), count)
        asked = CounterMetricFamily("nearfs_repository_requests", "Answers by repository.", labels=("repository",))
        given = CounterMetricFamily("nearfs_repository_response_bytes", "Bytes by repository.", labels=("repository",))
        for name, volume in sorted(self._traffic.by_repository.items()):
            asked.add_metric((name,), volume.requests)
            given.add_metric((name,), volume.sent_bytes)
        yield from (requests, sent, asked, given)

    def _of_repositories(self) -> Iterator[Metric]:
        shown = sorted(self._picture.repositories, key=lambda one: one.facts.name)
        yield GaugeMetricFamily("nearfs_repositories", "Repositories served.", len(shown) + self._picture.omitted)
        for name, text, value_of in _OF_REPOSITORY:
            family = GaugeMetricFamily(f"nearfs_repository_{name}", text, labels=("repository",))
            for one in shown:
                value = value_of(one)
                if value is not None:
                    family.add_metric((one.facts.name,), value)
            yield family
        troubled = GaugeMetricFamily("nearfs_repository_problems", "Problems.", labels=("repository", "severity"))
        for one in shown:
            for severity in Severity:
                count = sum(problem.severity is severity for problem in one.problems)
                troubled.add_metric((one.facts.name, severity.value), count)
        yield troubled


def rendered(traffic: Traffic, picture: Picture, geo_lookups: int | None, accept: str | None) -> tuple[bytes, str]:
    """Returns the metrics as text and its content type, in the form that `accept` (a header) prefers."""
    registry = CollectorRegistry()
    registry.register(_Values(traffic, picture, geo_lookups))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept or "")
    return encode(registry), content_type
