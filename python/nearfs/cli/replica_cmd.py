"""Owns `nearfs replica`: snapshots on a schedule, and how the replicas of this machine stand.

Replicas are made and updated by `cvmfs_server add-replica` and `snapshot`. Main thread.
"""

from __future__ import annotations

import dataclasses
import os
import sys

import click

from nearfs.cli import output
from nearfs.errors import PermissionDenied

_HOUR_MIN = 60


@click.group("replica")
def command() -> None:
    """Keep the replicas (stratum 1) of this machine up to date.

    They are made with `cvmfs_server add-replica` and brought up to date with `cvmfs_server snapshot`.
    """


def _check_root(what: str) -> None:
    if os.geteuid() != 0 and not os.environ.get("NEARFS_PREFIX"):
        raise PermissionDenied(f"Only root can {what}", operation="schedule snapshots", exit_code=1)


@command.command("schedule")
@click.option("--every", "minutes", type=click.IntRange(1, 1440), default=15, show_default=True, help="Minutes.")
@click.option("--cron", is_flag=True, help="Write a line for cron instead of a systemd timer.")
@click.option("--group", default="", help="Only replicas of this group.")
def schedule_command(*, minutes: int, cron: bool, group: str) -> None:
    """Let `cvmfs_server snapshot -a` run every few minutes, and its log be rotated."""
    from nearfs.publish.places import Places
    from nearfs.replica import schedule

    _check_root("schedule snapshots")
    places = Places.here()
    words = [sys.executable, "-m", "nearfs.compat.cvmfs_server", "snapshot", "-a", *(["-g", group] if group else [])]
    if cron and minutes >= _HOUR_MIN:
        raise click.UsageError("--cron takes --every up to 59 minutes; longer ones need the systemd timer")
    make = schedule.cron_files if cron else schedule.timer_files
    schedule.remove(places)
    for path in schedule.write(places, make(places, words, minutes)):
        output.line(f"written: {path}")
    if not cron:
        output.line(f"Start it: systemctl daemon-reload && systemctl enable --now {schedule.UNIT}.timer")


@command.command("unschedule")
def unschedule_command() -> None:
    """Remove what `schedule` wrote; the rotation of the log stays."""
    from nearfs.publish.places import Places
    from nearfs.replica import schedule

    _check_root("change the schedule of snapshots")
    removed = schedule.remove(Places.here())
    for path in removed:
        output.line(f"removed: {path}")
    if any(path.suffix == ".timer" for path in removed):
        output.line("Forget it: systemctl daemon-reload")


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(*, as_json: bool) -> None:
    """Show every replica: revision, last snapshot, what is wrong. Exit code 1 where anything is."""
    from nearfs.publish import moments
    from nearfs.publish.places import Places
    from nearfs.replica import standing

    found = standing.all_of(Places.here())
    if as_json:
        output.json_document({"replicas": [dataclasses.asdict(one) for one in found]})
    else:
        rows = []
        for one in found:
            last = moments.written(one.last_snapshot_s) if one.last_snapshot_s is not None else "never"
            state = "; ".join(one.problems) or ("being updated" if one.is_updating else "up to date when last looked")
            rows.append([one.name, "-" if one.revision is None else str(one.revision), last, state])
        output.table(["Replica", "Revision", "Last snapshot", "State"], rows)
    if any(one.problems for one in found):
        raise SystemExit(1)
