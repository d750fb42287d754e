"""Descriptions and bare storage: update-repoinfo, update-info, skeleton.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.cli import descriptions_cmd
from nearfs.compat.server.words import UsageError, Words

if TYPE_CHECKING:
    from collections.abc import Sequence


def update_repoinfo(words: Sequence[str]) -> int:
    """Replaces the metainfo of a repository."""
    options = Words("update-repoinfo", words, "f:")
    path = Path(options.value("-f")) if options.has("-f") else None
    return descriptions_cmd.update_repoinfo(options.one(), path)


def update_info(words: Sequence[str]) -> int:
    """Makes and edits the description of this server; -p is for compatibility, mkfs writes the Apache piece."""
    return descriptions_cmd.update_info(edit=not Words("update-info", words, "pe").has("-e"))


def skeleton(words: Sequence[str]) -> int:
    """Makes the directories of a repository's storage."""
    options = Words("skeleton", words, "o:")
    if len(options.rest) != 1:
        raise UsageError(f"Too {'many' if options.rest else 'few'} arguments provided")
    return descriptions_cmd.skeleton(Path(options.rest[0]), options.value("-o"))
