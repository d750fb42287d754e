"""Collects garbage on request (server.md 3.14).

Owns: the summary, its confirmation, and the log of `gc -a`. Does not own: what a collection does.
Threading: a short-lived command, one thread; the engine works beside it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.cli.asking import confirm
from nearfs.errors import InvalidInput, NearfsError
from nearfs.publish import acting, collection, moments, references
from nearfs.publish.places import Places
from nearfs.publish.repository import ANY_ROLE, Repository

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class GcOptions:
    """What to collect, and how: `keep_newer_than` is an expression of date(1), None and empty mean the default."""

    keep_revisions: int | None = None
    keep_newer_than: str = ""
    list_objects: bool = False
    deletion_log: str = ""
    force: bool = False
    dry_run: bool = False

    def for_repository(self, repository: Repository, since_s: int) -> collection.Collecting:
        """Returns the request for one repository."""
        return collection.Collecting(
            keep_revisions=self.keep_revisions,
            keep_since_s=since_s,
            dry_run=self.dry_run,
            list_objects=self.list_objects,
            deletion_log=collection.deletion_log(repository, self.deletion_log),
        )


def collect(names: Sequence[str], options: GcOptions) -> int:
    """Collects in repositories one after the other, after a confirmation."""
    since_s = _threshold(options)
    repositories = [Repository.load(name, roles=ANY_ROLE) for name in names]
    for repository in repositories:
        repository.check_owner()
        if not collection.is_empty(repository):
            collection.check_collectable(repository)
    if not _confirmed(repositories, options, since_s):
        return 1
    for repository in repositories:
        _collect(repository, options, since_s)
    return 0


def _collect(repository: Repository, options: GcOptions, since_s: int) -> None:
    def collect() -> int:
        collection.collect(repository, options.for_repository(repository, since_s), output.line)
        return 0

    acting.as_owner(repository, collect)


def collect_all(options: GcOptions) -> int:
    """Collects in every repository of this machine that allows it, into a log.

    Returns 0 even if one fails, as the reference does: the log says so.
    """
    since_s = _threshold(options)
    places = Places.here()
    repositories = [found for name in Repository.all_names(places) if (found := _collectable(name))]
    if not repositories:
        output.line("There are no active garbage-collectable repositories")
        return 0
    if not options.force and not _confirmed(repositories, options, since_s):
        return 1
    with output.into(places.logs / "gc.log"):
        for repository in repositories:
            output.line(f"Starting {repository.fqrn} at {moments.written(time.time())}")
            try:
                _collect(repository, options, since_s)
            except (NearfsError, OSError) as error:
                output.line(f"{error}\nERROR from cvmfs_server gc!")
            output.line(f"Finished {repository.fqrn} at {moments.written(time.time())}")
    return 0


def _collectable(name: str) -> Repository | None:
    """Returns a repository that allows collection, None for one that does not or cannot be used."""
    try:
        repository = Repository.load(name, roles=ANY_ROLE)
        collection.check_collectable(repository)
    except NearfsError:
        return None
    return repository


def _threshold(options: GcOptions) -> int:
    if options.keep_revisions is not None and options.keep_newer_than:
        message = "Please specify either timestamp OR revision thresholds (-r and -t are mutual exclusive)"
        raise InvalidInput(message, operation="collect garbage", exit_code=1)
    if options.keep_revisions is not None:
        return 0
    return moments.parse(options.keep_newer_than or collection.DEFAULT_SPAN)


def _confirmed(repositories: Sequence[Repository], options: GcOptions, since_s: int) -> bool:
    """Prints what is going to happen; asks, unless nothing is deleted or nobody wants to be asked."""
    asks = not options.force and not options.dry_run
    if asks:
        output.line("YOU ARE ABOUT TO DELETE DATA! Are you sure you want to do the following:")
    rebuilds = any(
        references.are_missing(repository) for repository in repositories if not collection.is_empty(repository)
    )
    output.line(f"Affected Repositories:         {' '.join(repository.fqrn for repository in repositories)}")
    output.line(f"Dry Run (no actual deletion):  {_yes(options.dry_run)}")
    output.line(f"Needs Reflog reconstruction:   {_yes(rebuilds)}")
    if options.keep_revisions is None:
        moment = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(since_s))
        output.line(f"Preserve Revisions newer than: {moment}")
    elif options.keep_revisions > 0:
        output.line(f"Preserved Legacy Revisions:    {options.keep_revisions}")
    else:
        output.line("Only the latest revision will be preserved.")
    return not asks or confirm("Please confirm this action (y/N)? ")


def _yes(value: bool) -> str:  # noqa: FBT001 - a word for a fact
    return "yes" if value else "no"
