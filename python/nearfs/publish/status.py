"""`.cvmfs_status.json`: when a repository was collected and checked last, for monitoring (format.md 8.1).

Owns: the file. Does not own: what the values mean. Threading: plain functions; the last of two writers wins.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nearfs import files

if TYPE_CHECKING:
    from pathlib import Path

    from nearfs.publish.repository import Repository

_NAME = ".cvmfs_status.json"


def read(repository: Repository) -> dict[str, str]:
    """Returns the texts of the file; none where it is missing or damaged."""
    try:
        document = json.loads((repository.storage / _NAME).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {key: value for key, value in document.items() if isinstance(value, str)}


def update(repository: Repository, changes: dict[str, str]) -> None:
    """Changes some of the texts and keeps the others."""
    text = json.dumps({**read(repository), **changes}, indent=2)
    path: Path = repository.storage / _NAME
    files.replace(path, text + "\n")
