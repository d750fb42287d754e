"""What was published and collected: print-stats, merge-stats.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.cli import statistics_cmd
from nearfs.compat.server.words import UsageError, Words
from nearfs.publish import statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

_DATABASES = 2


def print_stats(words: Sequence[str]) -> int:
    """Prints a table of the statistics."""
    options = Words("print-stats", words, "o:t:s:")
    table = options.value("-t") or "publish_statistics"
    if table not in statistics.TABLES:
        raise UsageError(f"Command print-stats: there is no table '{table}', only {', '.join(statistics.TABLES)}")
    path = Path(options.value("-o")) if options.has("-o") else None
    return statistics_cmd.show(options.one(), table, options.value("-s") or "|", path)


def merge_stats(words: Sequence[str]) -> int:
    """Merges two databases into a new one."""
    options = Words("merge-stats", words, "o:")
    if len(options.rest) != _DATABASES:
        raise UsageError(f"Too {'few' if len(options.rest) < _DATABASES else 'many'} arguments provided")
    return statistics_cmd.merge([Path(name) for name in options.rest], Path(options.value("-o") or "output.db"))
