"""The exception tree, its stable kinds, and exit codes.

Owns: one class for each thing that a caller may want to do about a failure, and the codes with which `cvmfs2` reports
that it could not start. Does not own: the texts (whoever raises names the object, the operation and the way out).
Threading: immutable tables, safe everywhere.

The engine has the very same list of kinds. Kinds are append-only: scripts and logs may match on them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Self


class NearfsError(Exception):
    """Base of everything that nearfs raises on purpose.

    `operation` is what was being done ("read whitelist"), `subject` what it was done to (a path, URL or repository);
    both may be empty when the message says it all. `exit_code` is what a nearfs command exits with; a compatible
    command whose specification wants another code passes it along when it raises.
    """

    kind: ClassVar[str] = "internal"
    default_exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, operation: str = "", subject: str = "", exit_code: int | None = None) -> None:
        """Takes the sentence for the user, and optionally what was done to what and the exit code."""
        super().__init__(message)
        self.operation = operation
        self.subject = subject
        self.exit_code = self.default_exit_code if exit_code is None else int(exit_code)


# Only builtins outside the OSError family are mixed in: an `except OSError` around a file operation must not swallow
# a verdict such as "untrusted" or "unreachable".


class NotFound(NearfsError, LookupError):
    """The source answered, and what was asked for is not there."""

    kind = "not-found"
    default_exit_code = 10


class Corrupt(NearfsError):
    """The bytes arrived, but they are not what their name, hash or format promises."""

    kind = "corrupt"
    default_exit_code = 11


class Unreachable(NearfsError):
    """Nobody answered, or the answer broke off; trying again later may help."""

    kind = "unreachable"
    default_exit_code = 12


class Untrusted(NearfsError):
    """The bytes are intact, but the chain of signatures does not vouch for them."""

    kind = "untrusted"
    default_exit_code = 13


class Busy(NearfsError):
    """Someone else holds the lock, the transaction or the mount point."""

    kind = "busy"
    default_exit_code = 14


class ReadOnly(NearfsError):
    """A write was asked of something that does not take writes."""

    kind = "read-only"
    default_exit_code = 15


class InvalidInput(NearfsError, ValueError):
    """An option, parameter, name or argument is wrong; the user has to change it."""

    kind = "invalid-input"
    default_exit_code = 2


class PermissionDenied(NearfsError):
    """The operating system or the repository's owner rule refused."""

    kind = "permission-denied"
    default_exit_code = 16


class NoSpace(NearfsError):
    """The cache, storage or scratch area is full."""

    kind = "no-space"
    default_exit_code = 17


class Cancelled(NearfsError):
    """The user or a signal ended the operation."""

    kind = "cancelled"
    default_exit_code = 130


class Unsupported(NearfsError):
    """Well-formed, but this version, build or machine cannot do it."""

    kind = "unsupported"
    default_exit_code = 18


class Internal(NearfsError):
    """A broken promise inside nearfs: please report it."""

    kind = "internal"
    default_exit_code = 70


KINDS: dict[str, type[NearfsError]] = {
    cls.kind: cls
    for cls in (
        NotFound,
        Corrupt,
        Unreachable,
        Untrusted,
        Busy,
        ReadOnly,
        InvalidInput,
        PermissionDenied,
        NoSpace,
        Cancelled,
        Unsupported,
        Internal,
    )
}


def from_kind(kind: str, message: str, *, operation: str = "", subject: str = "") -> NearfsError:
    """Returns the exception for a kind string of the engine; an unknown kind becomes `Internal` and is named."""
    cls = KINDS.get(kind)
    if cls is None:
        return Internal(f"{message} (unknown error kind {kind!r})", operation=operation, subject=subject)
    return cls(message, operation=operation, subject=subject)


class InitCode(IntEnum):
    """Exit status of `cvmfs2` when a mount does not come up, with the text that goes with it (client.md 2.1)."""

    text: str

    def __new__(cls, code: int, text: str = "") -> Self:
        """Makes the member an integer that carries its text."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.text = text
        return member

    OK = 0, "OK"
    UNKNOWN = 1, "unknown error"
    OPTIONS = 2, "illegal options"
    PERMISSION = 3, "permission denied"
    MOUNT = 4, "failed to mount"
    LOADER_TALK = 5, "unable to init loader talk socket"
    FUSE_LOOP = 6, "cannot run FUSE event loop"
    LOAD_LIBRARY = 7, "failed to load shared library"
    INCOMPATIBLE_VERSIONS = 8, "incompatible library version"
    CACHE_DIRECTORY = 9, "cache directory/plugin problem"
    PEERS = 10, "peering problem"
    NFS_MAPS = 11, "NFS maps init failure"
    QUOTA = 12, "quota init failure"
    MONITOR = 13, "watchdog failure"
    TALK = 14, "talk socket failure"
    SIGNATURE = 15, "signature verification failure"
    CATALOG = 16, "file catalog failure"
    MAINTENANCE_MODE = 17, "maintenance mode"
    SAVE_STATE = 18, "state saving failure"
    RESTORE_STATE = 19, "state restore failure"
    OTHER_MOUNT = 20, "already mounted"
    DOUBLE_MOUNT = 21, "double mount"
    HISTORY = 22, "history init failure"
    PROXY_DISCOVERY = 23, "proxy auto-discovery failed"
    WORKSPACE_LOCKED = 24, "workspace already locked"
    REVISION_BLACKLISTED = 25, "revision blacklisted"


def init_failure_line(message: str, code: InitCode) -> str:
    """Returns the one line that `cvmfs2` prints when it cannot start: `<message> (<code> - <text>)`."""
    return f"{message} ({int(code)} - {code.text})"
