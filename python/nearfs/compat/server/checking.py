"""What is in storage and whether it is whole: check.

Owns: its options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import check_cmd
from nearfs.compat.server.words import UsageError, Words

if TYPE_CHECKING:
    from collections.abc import Sequence


def check(words: Sequence[str]) -> int:
    """Verifies repositories."""
    options = Words("check", words, "cit:s:ra")
    wanted = check_cmd.CheckOptions(
        check_chunks=not options.has("-c"),
        verify_content=options.has("-i"),
        tag=options.value("-t"),
        subtree=options.value("-s"),
        repair=options.has("-r"),
    )
    if options.has("-a"):
        if options.rest:
            raise UsageError("Command check: -a checks all repositories, a name cannot be given as well")
        return check_cmd.check_all(wanted)
    return check_cmd.check(options.several(), wanted)
