"""Looking at revisions: diff, list-catalogs.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import diff_cmd
from nearfs.compat.server.words import UsageError, Words

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIFF_WORDS = ["machine-readable", "header", "from=", "to=", "keychain=", "worktree", "ignore-timediff"]


def diff(words: Sequence[str]) -> int:
    """Compares revisions."""
    options = Words("diff", words, "mhs:d:k:wi", _DIFF_WORDS)
    is_worktree = options.has("-w", "--worktree")
    if is_worktree and options.has("-s", "--from", "-d", "--to"):
        raise UsageError("Command diff: -w compares with the newest revision; it takes no -s and no -d")
    wanted = diff_cmd.DiffOptions(
        old=options.value("-s", "--from") or "trunk-previous",
        new=options.value("-d", "--to") or "trunk",
        machine=options.has("-m", "--machine-readable"),
        header=options.has("-h", "--header"),
        worktree=is_worktree,
        ignore_times=options.has("-i", "--ignore-timediff"),
    )
    return diff_cmd.diff(options.one(), wanted)


def list_catalogs(words: Sequence[str]) -> int:
    """Lists the catalogs of the newest revision."""
    options = Words("list-catalogs", words, "sehx")
    return diff_cmd.list_catalogs(
        options.one(),
        sizes=options.has("-s"),
        entries=options.has("-e"),
        hashes=options.has("-h"),
        machine=options.has("-x"),
    )
