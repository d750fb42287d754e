"""What no revision needs any more: gc.

Owns: its options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.cli import gc_cmd
from nearfs.compat.server.words import UsageError, Words, is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST = (1 << 63) - 1


def gc(words: Sequence[str]) -> int:
    """Collects garbage."""
    options = Words("gc", words, "r:t:lL:fda")
    number = options.value("-r")
    if options.has("-r") and not (is_number(number) and int(number) <= _LARGEST):
        raise UsageError(f"Command gc: '{number}' is not a number of revisions")
    if options.has("-a") and options.rest:
        raise UsageError("Command gc: -a collects in all repositories, a name cannot be given as well")
    wanted = gc_cmd.GcOptions(
        keep_revisions=int(number) if number else None,
        keep_newer_than=options.value("-t"),
        list_objects=options.has("-l"),
        deletion_log=str(Path(options.value("-L")).absolute()) if options.value("-L") else "",
        force=options.has("-f"),
        dry_run=options.has("-d"),
    )
    return gc_cmd.collect_all(wanted) if options.has("-a") else gc_cmd.collect(options.several(), wanted)
