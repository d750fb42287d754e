"""What `cvmfs_swissknife` can do: every verb and the function that runs it, and what to use instead of the others.

Owns: the table, and the reading of single-letter options. Threading: constants; a short-lived command.
"""

from __future__ import annotations

import getopt
from typing import TYPE_CHECKING

from nearfs.compat.server.words import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = {
    "info": "repository:info",
    "check": "repository:check",
    "lsrepo": "repository:lsrepo",
    "pull": "repository:pull",
    "tag_list": "repository:tag_list",
    "dirtab": "repository:dirtab",
    "zpipe": "content:zpipe",
    "hash": "content:hash_text",
    "letter": "content:letter",
    "graft": "content:graft",
    "scrub": "content:scrub",
    "peek": "content:peek",
}

INSTEAD = {
    "create": "use: cvmfs_server mkfs",
    "sync": "use: cvmfs_server publish",
    "sign": "use: cvmfs_server resign -p",
    "upload": "copy the file into the storage",
    "remove": "remove the file from the storage",
    "gc": "use: cvmfs_server gc",
    "ingest": "use: cvmfs_server ingest",
    "list_reflog": "use: cvmfs_server check, which compares the log of references",
    "reconstruct_reflog": "use: cvmfs_server check -r",
    "tag_edit": "use: cvmfs_server tag -a or -r",
    "tag_info": "use: cvmfs_server tag -i",
    "tag_rollback": "use: cvmfs_server rollback",
    "tag_empty_bin": "a garbage collection needs no preparation here",
    "migrate": "use: cvmfs_server catalog-chown, eliminate-hardlinks, eliminate-bulk-hashes, fix-stats",
    "filestats": "query the catalogs with SQLite",
    "lease": "repository gateways come with a later version",
    "notify": "the notification system is experimental in the reference and not part of this version",
}


class Letters:
    """The single-letter options of a verb; `-@ PROXY` is taken everywhere and says nothing here."""

    def __init__(self, verb: str, words: Sequence[str], short: str, mandatory: str = "") -> None:
        try:
            flags, rest = getopt.getopt(list(words), short + "@:")
        except getopt.GetoptError as error:
            raise UsageError(f"{verb}: {error}") from None
        if rest:
            raise UsageError(f"{verb}: unexpected argument {rest[0]}")
        self._values = {flag[1]: value for flag, value in flags}
        for letter in mandatory:
            if not self._values.get(letter):
                raise UsageError(f"{verb}: parameter -{letter} missing")

    def has(self, letter: str) -> bool:
        """Tells whether an option was given."""
        return letter in self._values

    def value(self, letter: str) -> str:
        """Returns the value of an option, empty where it was not given."""
        return self._values.get(letter, "")
