"""The virtual directory `/.cvmfs/snapshots`: every tag as a directory (format.md 8.6).

Owns: when it is brought up to date, and the tags and references of the second commit that this takes. Does not own: the
rows (the engine), and making the revision visible (`revision`).
Threading: called by one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nearfs.publish import tags

if TYPE_CHECKING:
    from nearfs.publish.repository import Repository
    from nearfs.records import Committed


def update(
    repository: Repository, committed: Committed, history: str, now_s: int
) -> tuple[Committed, str, list[tuple[str, str]]]:
    """Makes the virtual directory show the tags of `history`, or removes it where `CVMFS_VIRTUAL_DIR` is off.

    Returns the newest revision, its history, and references (hash, suffix) for the log: where a commit was necessary,
    those of the revision and the history that it follows. The undo tags move on with that commit, as in the reference.
    """
    from nearfs import _native

    is_on = repository.is_on("CVMFS_VIRTUAL_DIR")
    if not is_on and not os.path.lexists(repository.read_only / ".cvmfs"):
        return committed, history, []
    storage = str(repository.storage)
    listed = _native.list_tags(storage, history=history, fqrn=repository.fqrn)
    snapshots = [
        (tag["name"], tag["root_hash"], tag["size"]) for tag in listed if tag["name"] not in (tags.HEAD, tags.UNDO)
    ]
    shown = _native.update_virtual_directory(
        storage,
        base_root_hash=committed["root_hash"],
        snapshots=snapshots if is_on else None,
        hash_algorithm=repository.hash_algorithm.value,
        ttl_s=committed["ttl_s"],
        now_s=now_s,
    )
    if shown is None:
        return committed, history, []
    moved = _native.edit_tags(
        storage,
        history=history,
        fqrn=repository.fqrn,
        hash_algorithm=repository.hash_algorithm.value,
        remove=[],
        add=[],
        head=tags.head_of(shown, now_s),
    )
    return _both(committed, shown), moved, [(committed["root_hash"], "C"), (history, "H")]


def _both(first: Committed, second: Committed) -> Committed:
    """Returns the second commit's revision with what both of them did."""
    return {
        **first,
        "root_hash": second["root_hash"],
        "root_size": second["root_size"],
        "revision": second["revision"],
        "objects_new": first["objects_new"] + second["objects_new"],
        "bytes_new": first["bytes_new"] + second["bytes_new"],
        "catalogs_new": first["catalogs_new"] + second["catalogs_new"],
    }
