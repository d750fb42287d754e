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
    for flag, feature in (("-r", "repairing the log of references"), ("-a", "checking all repositories")):
        if options.has(flag):
            raise UsageError(f"Command check: option {flag} ({feature}) is not available in this version")
    wanted = check_cmd.CheckOptions(
        check_chunks=not options.has("-c"),
        verify_content=options.has("-i"),
        tag=options.value("-t"),
        subtree=options.value("-s"),
    )
    return check_cmd.check(options.several(), wanted)
