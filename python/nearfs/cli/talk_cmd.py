"""Speaks to running mounts over their control sockets: what `cvmfs_talk` does (client.md 2.7).

Owns: which sockets are spoken to, and what is printed. Does not own: the exchange (`client.control`).
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from nearfs.cli import output
from nearfs.client import control
from nearfs.config import layers, model, values
from nearfs.errors import NearfsError

_FAILED = 1


def socket_path(fqrn: str) -> str:
    """Returns where the control socket of a repository is, mounted or not."""
    settings = layers.load(fqrn)
    workspace = settings.get("CVMFS_WORKSPACE") or model.cache_directory(settings)
    return settings.get("CVMFS_TALK_SOCKET") or f"{workspace}/cvmfs_io.{fqrn}"


def talk(path: str, command: str) -> int:
    """Prints one answer; returns the exit status."""
    try:
        answer = control.ask(path, command)
    except NearfsError as error:
        output.complain(str(error))
        return _FAILED
    for text in answer.splitlines():
        output.line(text)
    return 0


def talk_to_instance(name: str, command: str) -> int:
    """Asks the mount of one repository."""
    try:
        path = socket_path(layers.complete_name(name))
    except NearfsError as error:
        output.complain(f"cvmfs_talk: {error}")
        return _FAILED
    return talk(path, command)


def talk_to_all(command: str) -> int:
    """Asks the mount of each repository in CVMFS_REPOSITORIES."""
    try:
        names = values.split(layers.load(""), "CVMFS_REPOSITORIES", ",")
    except NearfsError as error:
        output.complain(f"cvmfs_talk: {error}")
        return _FAILED
    if not names:
        output.line("Warning: no instance was specified and CVMFS_REPOSITORIES is empty: nobody was asked (see -i)")
    worst = 0
    for name in names:
        output.line(f"{name}:")
        worst = max(worst, talk_to_instance(name, command))
    return worst
