"""A client's own number, by which servers that sort hosts by distance know it (client.md 3.8).

Owns: `<workspace>/uuid`. Threading: any; two clients that begin at once agree on what is in the file.
"""

from __future__ import annotations

import os
import tempfile
import uuid


def of(workspace: str) -> str:
    """Returns the number that is kept in the workspace; a new one if there is none, kept if that is possible."""
    path = os.path.join(workspace, "uuid")
    try:
        return _read(path)
    except (OSError, ValueError):
        number = str(uuid.uuid4())
    try:
        os.makedirs(workspace, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=workspace, prefix=".uuid", encoding="ascii", delete=False) as file:
            file.write(f"{number}\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(file.name, 0o644)
        try:
            os.link(file.name, path)
        except FileExistsError:
            if not _is_number(path):
                os.replace(file.name, path)
                return number
        os.unlink(file.name)
        return _read(path)
    except (OSError, ValueError):
        return number


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return str(uuid.UUID(file.readline(64).strip()))


def _is_number(path: str) -> bool:
    try:
        _read(path)
    except (OSError, ValueError):
        return False
    return True
