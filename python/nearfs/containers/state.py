"""What the plugin must remember: the volumes there are, and who uses which mount. One JSON file, replaced as a whole.

Owns: the file and its form. Does not own: what a change means (`volumes`). Threading: `State` is changed and saved
under its owner's lock.

    {"version": 1, "boot": "<id of the boot>",
     "volumes": {"<name>": {"repository", "kind", "value", "parameters": {}, "created"}},
     "users": {"<mount>": {"<id of Docker's>": {"count", "pending", "since_s"}}}}
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nearfs import files
from nearfs.containers.naming import Kind, Volume, check_volume_name
from nearfs.errors import Corrupt, InvalidInput, LocalIo

if TYPE_CHECKING:
    from pathlib import Path

_VERSION = 1
_SIZE_LIMIT_BYTES = 64 << 20


@dataclass
class User:
    """One of Docker's identifiers that uses a mount: how often it asked and was answered, and since when.

    `pending` counts requests that are not answered yet; those of a plugin that died never will be.
    """

    count: int
    pending: int
    since_s: float
    """The last request, in seconds since the machine was started."""


@dataclass
class Record:
    """A volume and when it was made (RFC 3339)."""

    volume: Volume
    created: str


@dataclass
class State:
    """All of it, and the file in which it is kept."""

    path: Path
    boot: str
    volumes: dict[str, Record] = field(default_factory=dict)
    users: dict[str, dict[str, User]] = field(default_factory=dict)

    def save(self) -> None:
        """Replaces the file; raises `LocalIo` where the disk refuses, and then the old one is whole."""
        document = {
            "version": _VERSION,
            "boot": self.boot,
            "volumes": {name: _as_document(record) for name, record in self.volumes.items()},
            "users": {mount: {who: vars(user) for who, user in users.items()} for mount, users in self.users.items()},
        }
        replace(self.path, json.dumps(document, indent=1, sort_keys=True) + "\n")


def load(path: Path, boot: str) -> State:
    """Returns what a plugin before this one remembered. Users of another boot are gone with their mounts.

    Raises `Corrupt` for a file that nobody of ours wrote: forgetting users would unmount what containers use.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_SIZE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return State(path, boot)
    except OSError as error:
        raise LocalIo(f"cannot read {path}: {error.strerror}", operation="read state", subject=str(path)) from error
    try:
        return _from_document(path, boot, json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = (
            f"{path} is not a state of this plugin ({error!r}); stop the containers that use volumes, move it away"
        )
        raise Corrupt(message, operation="read state", subject=str(path)) from error


def _from_document(path: Path, boot: str, document: dict[str, Any]) -> State:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']}")
    state = State(path, boot)
    for name, kept in document["volumes"].items():
        parameters = tuple(sorted((str(key), str(value)) for key, value in kept["parameters"].items()))
        volume = Volume(str(kept["repository"]), Kind(kept["kind"]), str(kept["value"]), parameters)
        state.volumes[check_volume_name(name)] = Record(volume, str(kept["created"]))
    if document["boot"] == boot:
        for mount, users in document["users"].items():
            kept_users = {
                # What a plugin that died did not answer, Docker asks again.
                str(who): User(int(user["count"]), 0, float(user["since_s"]))
                for who, user in users.items()
                if int(user["count"]) > 0
            }
            if kept_users:
                state.users[str(mount)] = kept_users
    return state


def _as_document(record: Record) -> dict[str, object]:
    volume = record.volume
    return {
        "repository": volume.repository,
        "kind": volume.kind.value,
        "value": volume.value,
        "parameters": dict(volume.parameters),
        "created": record.created,
    }


def replace(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file all or nothing; raises `LocalIo`."""
    try:
        files.replace(path, text, mode)
    except OSError as error:
        raise LocalIo(f"cannot write {path}: {error.strerror}", operation="write file", subject=str(path)) from error


def make_directory(path: Path, mode: int) -> None:
    """Makes a directory with its parents; raises `InvalidInput` where that is impossible."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make directory {path}: {error.strerror}"
        raise InvalidInput(message, operation="make directory", subject=str(path)) from error
