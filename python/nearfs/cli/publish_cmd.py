"""Owns the command `nearfs publish`: a directory or a tar archive goes into a path of a repository, without a mount.

Decides nothing about what changes (`nearfs.publish.into` and the engine do). Main thread; the engine works beside it.
"""

from __future__ import annotations

import os

import click

from nearfs.cli import output
from nearfs.errors import InvalidInput


def _owner(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    words = text.split(":")
    if len(words) != 2 or not all(word.isascii() and word.isdigit() and int(word) < 1 << 32 for word in words):
        raise click.BadParameter("UID:GID has to be two numbers")
    return int(words[0]), int(words[1])


@click.command("publish")
@click.argument("source")
@click.argument("target", metavar="FQRN[:/PATH]")
@click.option("--dry-run", is_flag=True, help="Print what would change; store nothing.")
@click.option("--tag", default="", help="Name of the new revision.")
@click.option("--message", default="", help="Description of that name.")
@click.option(
    "--delete/--no-delete",
    default=None,
    help="Remove what the path has and the source has not.  [default: yes for a directory, no for an archive]",
)
@click.option("--owner", metavar="UID:GID", callback=_owner, help="Owner of every entry instead of the source's.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each change.")
def command(
    *, source: str, target: str, dry_run: bool, tag: str, message: str, delete: bool | None,
    owner: tuple[int, int] | None, as_json: bool, verbose: bool,
) -> None:  # fmt: skip
    """Publish SOURCE into a directory of a repository, as a new revision.

    SOURCE is a directory, a tar archive (plain or gzip), or - for an archive from standard input. Nothing is mounted:
    only the repository's storage and spool area have to be writable, and its keys readable. The path is made if it is
    missing; what equals the present revision is not read again.
    """
    from nearfs.cli import summary
    from nearfs.publish import acting, collection, into
    from nearfs.publish.repository import Repository
    from nearfs.publish.transaction import PublishOptions

    name, _, path = target.partition(":")
    if path and not path.startswith("/"):
        raise click.UsageError(f"{target}: the path in the repository has to begin with /")
    if source != into.STANDARD_INPUT and not os.path.exists(source):
        raise InvalidInput(f"{source} does not exist", operation="publish", subject=source, exit_code=1)
    is_directory = source != into.STANDARD_INPUT and os.path.isdir(source)
    repository = Repository.load(name)
    wanted = into.Wanted(
        source,
        path,
        PublishOptions(tag=tag, message=message),
        owner=owner,
        mirrors=is_directory if delete is None else delete,
    )
    with summary.watching() as watched:
        if dry_run or (verbose and source != into.STANDARD_INPUT):
            changes, warnings = into.planned(repository, wanted, watched.progress)
            if dry_run and as_json:
                output.json_document({"changes": changes, "warnings": warnings})
                return
            for change in changes:
                output.line(change) if not as_json else output.complain(change)
            if dry_run:
                for warning in warnings:
                    output.complain(f"Warning: {warning}")
                return
        say = output.complain if as_json else output.line
        committed = into.publish(repository, wanted, mounts=False, progress=watched.progress, say=say)
    if as_json:
        output.json_document({"repository": repository.fqrn, "path": path or "/", **committed})
    else:
        watched.end(repository.fqrn, committed)
    acting.as_owner(repository, lambda: collection.after_publish(repository, say))
