"""Owns `nearfs status`: what the clients on this machine counted, and what fetching ahead earned them.

Does not own the counters (`client.counted`) nor the mounts (`client.status`). Main thread; every question is bounded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nearfs.cli import output
from nearfs.config import layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfs.client.counted import Counted

_FAILED = 1


@click.command("status")
@click.argument("repositories", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print all counters as JSON.")
@click.option("--metrics", "as_metrics", is_flag=True, help="Print metrics for Prometheus's textfile collector.")
def command(*, repositories: Sequence[str], as_json: bool, as_metrics: bool) -> None:
    """Say what was fetched ahead in the mounts of this machine, and what it was good for.

    Of all mounted repositories, or of REPOSITORIES. For each mechanism: what was asked for, what was there when
    somebody read it (used), what was on its way (late), and what nobody has read so far (wasted). Ends with 1 where a
    repository is not mounted or its client does not answer.
    """
    from nearfs.client import counted, status

    if as_json and as_metrics:
        raise click.UsageError("--json and --metrics exclude each other")
    wanted = {layers.complete_name(name) for name in repositories}
    found = [counted.read(mount) for mount in status.mounted() if not wanted or mount.fqrn in wanted]
    if as_json:
        output.json_document({"mounts": [_facts(one) for one in found]})
    elif as_metrics:
        output.line(counted.metrics(found).rstrip("\n"))
    else:
        for one in found:
            _show(one)
    missing = sorted(wanted - {one.repository for one in found})
    for name in missing:
        output.complain(f"{name} is not mounted; `mount -t cvmfs` or `cvmfs2` mounts it")
    silent = [one for one in found if not one.counters]
    for one in silent:
        output.complain(f"the client of {one.mountpoint} has no counters: it hangs, or is not one of nearfs")
    if missing or silent:
        sys.exit(_FAILED)


def _facts(one: Counted) -> dict[str, object]:
    return {
        "repository": one.repository,
        "mountpoint": one.mountpoint,
        "pid": one.pid,
        "counters": one.counters,
    }


def _show(one: Counted) -> None:
    from nearfs.client import counted

    output.line(f"{one.repository} on {one.mountpoint}")
    if not one.counters:
        return
    rows = [[mechanism, *(str(count) for count in one.guesses(mechanism).values())] for mechanism in counted.MECHANISMS]
    output.table(["Fetched ahead by", *(outcome.capitalize() for outcome in counted.OUTCOMES)], rows)
    sizes = {name: one.counters.get(f"prefetch_{name}_bytes", 0) for name in ("needed", "used", "unused")}
    words = ", ".join(f"{name} {output.readable_size(size)}" for name, size in sizes.items())
    output.line(f"{one.counters.get('requests', 0)} requests; {words}")
