"""Changes to all catalogs: catalog-chown, eliminate-hardlinks, eliminate-bulk-hashes, fix-stats; fix-permissions.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nearfs.cli import output, rewriting_cmd
from nearfs.compat.server.words import Words
from nearfs.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfs.publish.rewriting import Rule


def catalog_chown(words: Sequence[str]) -> int:
    """Gives all entries other owners."""
    options = Words("catalog-chown", words, "u:g:")
    for flag, what in (("-u", "UID"), ("-g", "GID")):
        if not os.path.isfile(options.value(flag)):
            raise NotFound(f"{what} map file not found ({flag})", operation="catalog-chown", exit_code=1)
    return rewriting_cmd.chown(options.one(), options.value("-u"), options.value("-g"))


def _rewrite(command: str, words: Sequence[str], rule: Rule) -> int:
    options = Words(command, words, "f")
    return rewriting_cmd.rewrite(options.one(), rule, force=options.has("-f"))


def eliminate_hardlinks(words: Sequence[str]) -> int:
    """Makes every name of a hardlink group a file of its own."""
    return _rewrite("eliminate-hardlinks", words, "hardlinks")


def eliminate_bulk_hashes(words: Sequence[str]) -> int:
    """Removes the hashes of whole files where there are chunks."""
    return _rewrite("eliminate-bulk-hashes", words, "bulk-hashes")


def fix_stats(words: Sequence[str]) -> int:
    """Counts the statistics of all catalogs again."""
    return _rewrite("fix-stats", words, "statistics")


def fix_permissions(_words: Sequence[str]) -> int:
    """Says why there is nothing to do."""
    output.line("Nothing to do: no program of nearfs has or needs file capabilities or a set-uid bit.")
    return 0
