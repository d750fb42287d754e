"""Tar archives: ingest.

Owns: its options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import ingest_cmd
from nearfs.compat.server.words import Words
from nearfs.errors import InvalidInput
from nearfs.publish.into import Wanted
from nearfs.publish.transaction import PublishOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT = "t:b:d:cu:g:k"
_LONG = ["tar_file=", "base_dir=", "delete=", "catalog", "user=", "group=", "keep-ownership"]


def ingest(words: Sequence[str]) -> int:
    """Publishes a tar archive, removes paths, or both."""
    options = Words("ingest", words, _SHORT, _LONG)
    archive, base = options.value("-t", "--tar_file"), options.value("-b", "--base_dir")
    deletions = tuple(value for flag, value in options.flags if flag in ("-d", "--delete"))
    user, group = options.value("-u", "--user"), options.value("-g", "--group")
    keeps_ownership = options.has("-k", "--keep-ownership")
    if not (archive or base or deletions):
        raise _refused("Please provide some parameters, use -t or --tar_file with -b or --base_dir, or -d or --delete")
    if base and not archive:
        raise _refused("Please provide the tarball to extract, use -t or --tar_file (- for standard input)")
    if archive and not base:
        raise _refused("Please set the base directory where to extract the tarball, use -b or --base_dir")
    if keeps_ownership and (user or group):
        raise _refused(
            "You cannot provide both: either provide user (-u)/group (-g) or keep the ownership (-k) of the tarball"
        )
    if group and not user:
        raise _refused("If providing a group name, you also must provide a user (use -u) for the ingested files")
    wanted = Wanted(archive, base, PublishOptions(), deletions=deletions, makes_catalog=options.has("-c", "--catalog"))
    name = options.one().partition("/")[0]
    return ingest_cmd.ingest(name, wanted, user=user, group=group, keeps_ownership=keeps_ownership)


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, operation="ingest", exit_code=1)
