"""Stratum 1: add-replica and snapshot.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import repository_cmd, snapshot_cmd
from nearfs.compat.server.repositories import storage_of
from nearfs.compat.server.words import UsageError, Words
from nearfs.replica.creation import NewReplica

if TYPE_CHECKING:
    from collections.abc import Sequence


def add_replica(words: Sequence[str]) -> int:
    """Makes a replica of a repository."""
    options = Words("add-replica", words, "o:u:n:w:azs:pg:Px:")
    if options.has("-s"):
        raise UsageError("Command add-replica: S3 storage (-s) is not available in this version; local storage is")
    pass_through = options.has("-P")
    if len(options.rest) != (1 if pass_through else 2):
        raise UsageError("Please provide a stratum 0 URL" + ("" if pass_through else " and the public key(s)"))
    url = options.rest[0]
    wanted = NewReplica(
        url=url,
        keys="" if pass_through else options.rest[1],
        owner=options.value("-o") or repository_cmd.ask_owner(url),
        alias=options.value("-n"),
        replica_url=options.value("-w"),
        storage=storage_of(options.value("-u")),
        group=options.value("-g"),
        collects=options.has("-z"),
        pass_through=pass_through,
        configure_apache=not options.has("-p"),
        proxy=options.value("-x"),
    )
    return snapshot_cmd.add_replica(wanted)


def snapshot(words: Sequence[str]) -> int:
    """Brings replicas up to date."""
    options = Words("snapshot", words, "atsnig:")
    if not options.has("-a"):
        if options.has("-s", "-n", "-i", "-g"):
            raise UsageError("Command snapshot: -s, -n, -i and -g go with -a only")
        return snapshot_cmd.snapshot(options.several(), waits=not options.has("-t"))
    if options.rest:
        raise UsageError("Command snapshot: -a takes no repository name")
    return snapshot_cmd.snapshot_all(
        snapshot_cmd.AllOptions(
            separate_logs=options.has("-s"),
            asks_for_rotation=not options.has("-n"),
            only_initialized=options.has("-i"),
            group=options.value("-g"),
        )
    )
