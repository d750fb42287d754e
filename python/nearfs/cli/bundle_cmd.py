"""Owns the command `nearfs bundle`: lists of files that are read together are recorded, shown and published.

Decides nothing about bundles (`nearfs.cli.bundling` and what it uses do). Main thread.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import click

from nearfs.cli import output
from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

_IN_REPOSITORY = re.compile(r"/cvmfs/([A-Za-z0-9._-]+\.[A-Za-z0-9-]+)(?:/|$)")


@click.group("bundle")
def command() -> None:
    """Say which files are read together, so that clients fetch them when the first of them is opened."""


def _repository_of(words: Sequence[str]) -> str:
    names: set[str] = {found for word in words for found in _IN_REPOSITORY.findall(word)}
    if len(names) != 1:
        raise click.UsageError("which repository? give it with --repository FQRN")
    return names.pop()


@command.command("record", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--repository", metavar="FQRN", default="", help="Whose files count.  [default: that of COMMAND's paths]")
@click.option("--trigger", metavar="PATH", default="", help="From which file on.  [default: the first that is opened]")
@click.option("--mount", "is_private", is_flag=True, help="On a mount of its own, with an empty cache (as root).")
@click.option("--limit", "limit_s", type=click.FloatRange(0.1), default=300.0, metavar="SECONDS", show_default=True,
              help="How long COMMAND may take.")  # fmt: skip
@click.option("-o", "--output", "target", metavar="FILE", default="", help="Where to.  [default: standard output]")
@click.argument("words", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def record(
    *, repository: str, trigger: str, is_private: bool, limit_s: float, target: str, words: tuple[str, ...]
) -> int:
    """Run COMMAND and write the bundle specification of what it opens in a repository.

    COMMAND runs as you, on the mount that is there, or on one that only it sees; what it prints goes to standard error.
    The specification belongs beside its trigger, as `.cvmfsbundle-NAME`, in a transaction. Ends with COMMAND's own
    exit status.
    """
    from nearfs import _native
    from nearfs.cli import bundling
    from nearfs.config import layers
    from nearfs.publish import bundles

    fqrn = layers.complete_name(repository) if repository else _repository_of(words)
    with bundling.place(fqrn, is_private=is_private) as place:
        done = place.run(words, limit_s)
    if done.status != 0:
        output.complain(f"nearfs: {words[0]}: {done.complaint}")
    bundle = bundles.of_run(done.paths, os.fsencode(_below_mount(trigger, fqrn)))
    text, left_out = _native.encode_bundle(list(bundle.dependencies))
    if left_out or done.is_cut:
        output.complain(f"nearfs: a specification cannot hold all of it: {left_out} files are left out")
    if target:
        with open(target, "w", encoding="utf-8") as out:
            out.write(text)
    else:
        output.line(text.rstrip("\n"))
    shown = os.fsdecode(bundle.specification)
    output.complain(f"{len(bundle.dependencies)} files; publish it as {shown}")
    return 1 if done.status is None else done.status if done.status >= 0 else 128 - done.status


def _below_mount(trigger: str, fqrn: str) -> str:
    """Returns a path of a repository, given as such or as it is seen in the mount."""
    return re.sub(rf"^/cvmfs/{re.escape(fqrn)}(?=/)", "", trigger)


@command.command("show")
@click.argument("what", metavar="FILE|PATH|FQRN")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(what: str, *, as_json: bool) -> None:
    """Show a bundle with its files, or list bundles.

    FILE is a specification; PATH is, in a mount, a specification, a trigger, or a directory whose bundles are listed;
    FQRN lists those of a repository of this machine.
    """
    from nearfs.cli import bundle_view

    found, is_list = bundle_view.look(what)
    if as_json:
        shown = [bundle_view.document(bundle) for bundle in found]
        output.json_document(shown if is_list else shown[0])
    elif is_list:
        output.table(bundle_view.HEADINGS, [bundle_view.row(bundle) for bundle in found])
    else:
        for text in bundle_view.lines(found[0]):
            output.line(text)


@command.command("publish")
@click.argument("repository", metavar="FQRN")
@click.option("--dry-run", is_flag=True, help="Run the commands and print what is new; publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def publish(repository: str, *, dry_run: bool, as_json: bool) -> None:
    """Record the commands that a repository states, and publish the bundles that changed.

    The commands stand in /etc/cvmfs/repositories.d/FQRN/bundles.conf, one a line. They run as the owner of the
    repository, on a mount of the newest revision that only they see, 300 seconds each at most (NEARFS_BUNDLES_LIMIT in
    server.conf). Nothing new, no revision.
    """
    from nearfs.cli import bundling
    from nearfs.publish.repository import Repository

    made = Repository.load(repository)
    made.check_owner()
    outcome = bundling.publish(made, dry_run=dry_run, say=output.complain if as_json else output.line)
    triggers = [os.fsdecode(bundle.trigger) for bundle in outcome.new]
    if as_json:
        unchanged = [os.fsdecode(bundle.trigger) for bundle in outcome.all if bundle not in outcome.new]
        document = {"repository": made.fqrn, "published": [] if dry_run else triggers, "unchanged": unchanged}
        output.json_document({**document, **({"new": triggers} if dry_run else {}), "failed": outcome.failed})
    else:
        for bundle in outcome.new:
            output.line(f"[bundle] {os.fsdecode(bundle.trigger)} ({len(bundle.dependencies)} files)")
        if not outcome.new:
            output.line(f"No bundle of {made.fqrn} has changed")
    if outcome.failed:
        message = f"{outcome.failed} commands gave no bundle"
        raise InvalidInput(message, operation="publish bundles", subject=made.fqrn, exit_code=1)
