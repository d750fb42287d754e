"""What a repository and a server say of themselves: metainfo objects and the server's `meta.json` (format.md 8.2, 8.3).

Owns: reading, checking and putting them in place. Does not own: the editor (`cli`).
Threading: one command at a time; metainfo is replaced under the repository's publishing lock.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import InvalidInput, NotFound, PermissionDenied
from nearfs.publish import editing, revision, server_files

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from nearfs.publish.places import Places
    from nearfs.publish.repository import Repository
    from nearfs.signing import ManifestFields

# Clients show no more of it.
METAINFO_LIMIT_BYTES = 65536
_SKELETON = {"administrator": "Your Name", "email": "you@organisation.org", "organisation": "Your Organisation"}


def metainfo(repository: Repository) -> bytes:
    """Returns the repository's metainfo, or the skeleton where it has none."""
    from nearfs import _native

    named = repository.manifest().fields.meta_info
    if named is None:
        return server_files.metainfo_skeleton()
    return _native.read_object(str(repository.storage), named, suffix="M", limit=METAINFO_LIMIT_BYTES)


def check_json(content: bytes) -> None:
    """Raises `InvalidInput` for a text that is no JSON object or too large for clients."""
    if len(content) > METAINFO_LIMIT_BYTES:
        message = f"the JSON file has more than {METAINFO_LIMIT_BYTES} bytes, which clients do not show"
        raise InvalidInput(message, operation="check JSON", exit_code=1)
    try:
        is_object = isinstance(json.loads(content), dict)
    except (ValueError, RecursionError) as error:
        message = f"The provided JSON file is invalid. See below:\n{error}"
        raise InvalidInput(message, operation="check JSON", exit_code=1) from error
    if not is_object:
        message = "The provided JSON file is invalid. See below:\nit holds no object, {...}"
        raise InvalidInput(message, operation="check JSON", exit_code=1)


def provided(path: Path) -> bytes:
    """Returns a file that holds new metainfo."""
    if not path.is_file():
        raise NotFound(f"Provided file '{path}' doesn't exist", operation="read metainfo", exit_code=1)
    with path.open("rb") as source:
        return source.read(METAINFO_LIMIT_BYTES + 1)


def check_closed(repository: Repository) -> None:
    """Refuses, before somebody edits, what would be refused afterwards."""
    with _editing(repository):
        pass


def replace_metainfo(repository: Repository, content: bytes) -> None:
    """Stores new metainfo and signs a manifest that names it; the revision stays."""
    from nearfs import _native

    check_json(content)
    with _editing(repository) as present:
        stored = _native.put_object(
            str(repository.storage), content, suffix="M", hash_algorithm=repository.hash_algorithm.value
        )
        revision.activate(
            repository,
            revision.Head(present.root_hash, present.root_size, present.revision, present.ttl_s),
            history=present.history,
            metainfo=stored,
            garbage_collectable=present.garbage_collectable,
        )
        files.remove(revision.note_path(repository))


def _editing(repository: Repository) -> AbstractContextManager[ManifestFields]:
    return editing.exclusive(
        repository,
        in_transaction="Cannot edit repository meta info while in a transaction",
        publishing=f"Another publish process is active for {repository.fqrn}",
    )


def server_description(places: Places) -> Path:
    """Returns the server's `meta.json`, made from a skeleton where there is none. Root only."""
    if os.geteuid() != 0:
        message = "Only root can edit the description of this server"
        raise PermissionDenied(message, operation="update-info", exit_code=1)
    path = places.info / "meta.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, json.dumps({**_SKELETON, "custom": {}}, indent=2) + "\n")
    return path
