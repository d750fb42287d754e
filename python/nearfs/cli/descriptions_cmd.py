"""Edits what a repository and a server say of themselves; makes the directories of a storage (server.md 3.20).

Owns: the editor and the words of the output. Does not own: the files (`publish.descriptions`).
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import files, keys
from nearfs.cli import output
from nearfs.errors import InvalidInput
from nearfs.publish import acting, descriptions
from nearfs.publish.places import Places

if TYPE_CHECKING:
    from nearfs.publish.repository import Repository


@acting.by_owner
def update_repoinfo(repository: Repository, path: Path | None) -> int:
    """Replaces the metainfo of a repository by a file, or by what an editor makes of it."""
    if path is not None:
        content = descriptions.provided(path)
    else:
        descriptions.check_closed(repository)
        content = _edited(descriptions.metainfo(repository))
    descriptions.replace_metainfo(repository, content)
    output.line(f"Updated the meta info of {repository.fqrn}")
    return 0


def update_info(*, edit: bool) -> int:
    """Makes the description of this server, and opens it in an editor."""
    path = descriptions.server_description(Places.here())
    if edit:
        files.replace(path, _edited(path.read_bytes()))
    output.line(f"The description of this server is in {path}")
    return 0


def _edited(content: bytes) -> bytes:
    """Returns a text as an editor leaves it; raises `InvalidInput` if it is no JSON, and keeps it."""
    editor = shlex.split(os.environ.get("EDITOR") or os.environ.get("VISUAL") or "vi")
    with tempfile.NamedTemporaryFile(prefix="cvmfs-edit-", suffix=".json", delete=False) as file:
        file.write(content)
    try:
        done = subprocess.run([*editor, file.name], check=False)
    except OSError as error:
        os.unlink(file.name)
        message = f"{editor[0]}: {error.strerror}; set EDITOR to the command of an editor"
        raise InvalidInput(message, operation="edit", exit_code=1) from error
    edited = Path(file.name).read_bytes()
    try:
        if done.returncode:
            message = f"{editor[0]} ended with status {done.returncode}; nothing was changed"
            raise InvalidInput(message, operation="edit", exit_code=1)
        descriptions.check_json(edited)
    except InvalidInput as error:
        error.args = (f"{error}\nWhat was written is kept in {file.name}",)
        raise
    os.unlink(file.name)
    return edited


def skeleton(directory: Path, owner: str) -> int:
    """Makes the directories of a repository's storage, and gives them to their owner."""
    from nearfs import _native

    try:
        entry = pwd.getpwnam(owner) if owner else None
    except KeyError:
        raise InvalidInput(f"No user {owner}", operation="skeleton", exit_code=1) from None
    new_owner = keys.Owner(entry.pw_uid, entry.pw_gid) if entry else None
    directory.mkdir(parents=True, exist_ok=True)
    _native.create_storage(str(directory))
    if new_owner:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, new_owner.uid, new_owner.gid, follow_symlinks=False)
    return 0
