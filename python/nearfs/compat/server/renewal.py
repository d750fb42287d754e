"""Signatures made anew: resign.

Owns: its options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import whitelist
from nearfs.cli import resign_cmd
from nearfs.compat.server.words import UsageError, Words, is_number
from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence


def resign(words: Sequence[str]) -> int:
    """Renews whitelists or manifests."""
    options = Words("resign", words, "w:d:fp")
    if options.has("-p"):
        for flag, sentence in (("-d", "Cannot use -d with -p"), ("-w", "Cannot use both -w and -p")):
            if options.has(flag):
                raise InvalidInput(sentence, operation="resign", exit_code=1)
        return resign_cmd.manifests(options.several())
    days = options.value("-d") or str(whitelist.DEFAULT_DAYS)
    if not is_number(days):
        raise UsageError(f"Command resign: '{days}' is not a number of days")
    path = Path(options.value("-w")) if options.has("-w") else None
    names = options.several() if path is None else [options.one()]
    return resign_cmd.whitelists(names, days=int(days), path=path, force=options.has("-f"))
