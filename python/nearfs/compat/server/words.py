"""The words of a `cvmfs_server` command line: options, names, numbers (server.md 1.2).

Owns: reading options as the reference does (short, combinable, before the name), which repository is meant where none
is named, and wildcards. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import fnmatch
import getopt
from typing import TYPE_CHECKING

from nearfs.errors import NotFound
from nearfs.publish.places import Places
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence


class UsageError(Exception):
    """The command line is wrong; the text is the reason."""


class Words:
    """The options of one command, read once. Raises `UsageError` for an option that the command does not have."""

    def __init__(self, command: str, words: Sequence[str], short: str, long: Sequence[str] = ()) -> None:
        try:
            self.flags, self.rest = getopt.getopt(list(words), short, list(long))
        except getopt.GetoptError as error:
            raise UsageError(f"Command {command}: Unrecognized option: {error.opt}") from None

    def has(self, *names: str) -> bool:
        """Tells whether one of these options was given."""
        return any(flag in names for flag, _ in self.flags)

    def value(self, *names: str) -> str:
        """Returns the last value given to one of these options, empty where there is none."""
        found = [value for flag, value in self.flags if flag in names]
        return found[-1] if found else ""

    def one(self) -> str:
        """Returns the one name of the command line, or the machine's only repository."""
        if len(self.rest) > 1:
            raise UsageError("Too many arguments provided")
        return self.rest[0] if self.rest else only_repository()

    def several(self) -> list[str]:
        """Returns the names of the command line with wildcards resolved, or the machine's only repository."""
        if not self.rest:
            return [only_repository()]
        known = Repository.all_names(Places.here())
        found: list[str] = []
        for pattern in self.rest:
            matching = fnmatch.filter(known, pattern) if any(mark in pattern for mark in "*?[") else [pattern]
            if not matching:
                message = f"The repository {pattern} does not exist."
                raise NotFound(message, operation="look for repositories", subject=pattern, exit_code=1)
            found += matching
        return list(dict.fromkeys(found))


def is_number(text: str) -> bool:
    """Tells whether a word is a number of ASCII digits."""
    return text.isascii() and text.isdigit()


def only_repository() -> str:
    """Returns the name of this machine's only repository; raises `UsageError` if there is not exactly one."""
    known = Repository.all_names(Places.here())
    if len(known) != 1:
        raise UsageError("Please provide a repository name")
    return known[0]
