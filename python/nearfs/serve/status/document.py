"""Owns the state of the server as a JSON document: the names of its fields, which stay (`schema` says when not).

Times are UTC in ISO 8601, sizes bytes. Pure functions: any thread.
"""

import json
from typing import Any

import nearfs
from nearfs.serve.status.survey import Picture, Surveyed
from nearfs.serve.status.wording import iso
from nearfs.serve.traffic import Traffic, Volume

SCHEMA = 1


def rendered(traffic: Traffic, picture: Picture) -> bytes:
    """Returns the document."""
    total = traffic.total()
    hour = traffic.last_hour()
    document = {
        "schema": SCHEMA,
        "moment": iso(picture.moment),
        "version": nearfs.__version__,
        "started": iso(traffic.started),
        "site": picture.site,
        "traffic": {
            "since_start": {"requests": total.requests, "bytes": total.sent_bytes},
            "last_hour": {
                "requests": sum(minute.requests for minute in hour),
                "bytes": sum(minute.sent_bytes for minute in hour),
            },
        },
        "trouble": picture.trouble,
        "omitted": picture.omitted,
        "repositories": [_repository(one, traffic.by_repository.get(one.facts.name)) for one in picture.repositories],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _repository(one: Surveyed, volume: Volume | None) -> dict[str, Any]:
    found, head, served = one.facts, one.head, volume or Volume()
    return {
        "name": found.name,
        "fqrn": found.fqrn or None,
        "type": "replica" if one.is_replica else "master",
        "revision": found.revision,
        "root_hash": found.root_hash,
        "published": _iso(found.published),
        "whitelist_expires": _iso(found.whitelist_expires),
        "last_snapshot": _iso(found.last_snapshot),
        "snapshotting_since": _iso(found.snapshotting_since),
        "last_gc": _iso(found.last_gc),
        "last_check": _iso(found.last_check),
        "check_failed": found.has_failed_check,
        "stratum0": None
        if head is None
        else {"asked": iso(head.asked), "revision": head.revision, "published": _iso(head.published)},
        "revisions_behind": one.behind,
        "traffic": {"requests": served.requests, "bytes": served.sent_bytes},
        "problems": [{"severity": problem.severity.value, "text": problem.text} for problem in one.problems],
    }


def _iso(unix_s: int | None) -> str | None:
    return iso(unix_s) if unix_s else None
