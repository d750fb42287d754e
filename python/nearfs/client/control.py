"""The control socket of a mount: `cvmfs_io.<fqrn>`, to which `cvmfs_talk` speaks (client.md 2.7).

Owns the socket: its place, its owner, its deadlines, one command a connection. Does not own: what commands mean
(`answers`).
Threading: one thread serves one connection after the other, blocked in `accept` otherwise; each connection is bounded,
so that a caller that says nothing delays the next one by seconds only.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import threading
from typing import TYPE_CHECKING

from nearfs.client.privileges import Owner, remove_quietly
from nearfs.errors import InitCode, InvalidInput, NotFound, PermissionDenied, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND_LIMIT_BYTES = 64 << 10
# A catalog tree or a list of cached files may be long; this bounds a broken peer only.
REPLY_LIMIT_BYTES = 256 << 20
EXCHANGE_LIMIT_S = 5.0
# A caller waits longer: the mount may be busy with another caller.
REPLY_LIMIT_S = 60.0
_MODE = 0o660


class Control:
    """The listening socket of one mount."""

    def __init__(self, path: str, owner: Owner) -> None:
        """Makes the socket, owned by `owner`; raises with code 14 where that fails. The workspace must be locked."""
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            remove_quietly(path)
            with _address(path) as address:
                self._socket.bind(address)
            os.chmod(path, _MODE)
            if os.geteuid() == 0 and owner.exists_here:
                os.chown(path, owner.uid, owner.gid)
            self._socket.listen()
        except OSError as error:
            self._socket.close()
            message = f"failed to initialize talk socket {path}: {error.strerror}"
            raise PermissionDenied(message, operation="listen", subject=path, exit_code=InitCode.TALK) from error

    def serve(self, answer: Callable[[str], str]) -> None:
        """Answers from now on, in a thread that ends with the process."""
        threading.Thread(target=self._loop, args=(answer,), name="cvmfs-talk", daemon=True).start()

    def close(self) -> None:
        """Removes the socket."""
        remove_quietly(self.path)
        self._socket.close()

    def _loop(self, answer: Callable[[str], str]) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with connection, contextlib.suppress(OSError):
                connection.settimeout(EXCHANGE_LIMIT_S)
                # One packet is one command: callers neither end it nor close their side.
                command = connection.recv(COMMAND_LIMIT_BYTES).decode("utf-8", "surrogateescape")
                connection.sendall(answer(command.strip(" \t\r\n\0")).encode("utf-8", "surrogateescape"))


def talk_owner(name: str | None, otherwise: Owner) -> Owner:
    """Returns who owns the socket: the user CVMFS_TALK_OWNER, else the client's; raises `InvalidInput` (code 2)."""
    if name is None:
        return otherwise
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        message = f"unknown owner of cvmfs_talk socket: {name}"
        code = InitCode.OPTIONS
        raise InvalidInput(message, operation="read configuration", subject=name, exit_code=code) from None
    return Owner(entry.pw_uid, entry.pw_gid)


def ask(path: str, command: str, limit_s: float = REPLY_LIMIT_S) -> str:
    """Returns what the client behind a socket answers.

    Raises `NotFound` where there is no socket, `PermissionDenied` where it may not be used, `Unreachable` where nobody
    listens or no complete answer comes in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(limit_s)
        reply = bytearray()
        try:
            with _address(path) as address:
                connection.connect(address)
            connection.sendall(command.encode("utf-8", "surrogateescape"))
            while piece := connection.recv(1 << 16):
                reply += piece
                if len(reply) > REPLY_LIMIT_BYTES:
                    raise Unreachable(f"the answer of {path} does not end", operation="talk", subject=path)
        except FileNotFoundError:
            message = f"Seems like CernVM-FS is not running in {os.path.dirname(path)} (not found: {path})"
            raise NotFound(message, operation="talk", subject=path) from None
        except TimeoutError:
            message = f"Could not access {path}: no answer within {limit_s:g} s"
            raise Unreachable(message, operation="talk", subject=path) from None
        except PermissionError as error:
            message = f"Could not access {path}: {error.strerror}"
            raise PermissionDenied(message, operation="talk", subject=path) from None
        except OSError as error:
            message = f"Could not access {path}: {error.strerror}; is the repository mounted?"
            raise Unreachable(message, operation="talk", subject=path) from None
    return reply.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _address(path: str) -> Iterator[str]:
    """Yields a name of the socket that fits into the 108 bytes of an address, however deep the directory is."""
    directory, name = os.path.split(path)
    descriptor = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
