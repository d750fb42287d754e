"""`cvmfs_config bugreport`: one archive with what somebody else needs to understand a problem (client.md 2.6).

Owns: what goes in. Private keys and whatever else is no configuration file stays out.
Threading: a short-lived command, one thread; every program and every mount is asked for a bounded time.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import __version__
from nearfs.cli import output, showconfig_cmd, talk_cmd
from nearfs.client import control, status
from nearfs.config import layers, values
from nearfs.errors import NearfsError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "cvmfs-bugreport.tar.gz"
_SUFFIXES = (".conf", ".local", ".pub")
_FILE_LIMIT_BYTES = 1 << 20
_COMMAND_LIMIT_S = 20.0
_COMMANDS = {
    "uname": ["uname", "-a"],
    "mount": ["cat", "/proc/self/mountinfo"],
    "processes": ["ps", "-eo", "user,pid,ppid,stat,rss,etime,args"],
    "df": ["df", "-Pk", "-x", "fuse"],
    "memory": ["cat", "/proc/meminfo"],
    "system": ["cat", "/etc/os-release"],
    "automount": ["sh", "-c", "cat /etc/auto.master /etc/auto.master.d/*.autofs /etc/auto.cvmfs"],
    "journal": ["journalctl", "--no-pager", "-n", "2000", "-t", "cvmfs2", "-t", "automount"],
}


def write() -> int:
    """Writes the archive into a directory of its own and prints where it is."""
    directory = tempfile.mkdtemp(prefix="cvmfs-bugreport-")
    path = os.path.join(directory, NAME)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in _parts():
            content = text.encode("utf-8", "surrogateescape")
            member = tarfile.TarInfo(f"cvmfs-bugreport/{name}")
            member.size, member.mtime = len(content), int(time.time())
            archive.addfile(member, io.BytesIO(content))
    output.line(f"The report is in {path}")
    output.line("It holds configuration and process lists: look through it before you pass it on.")
    return 0


def _parts() -> Iterator[tuple[str, str]]:
    yield "version", f"nearfs {__version__}, Python {sys.version}\n"
    for name, command in _COMMANDS.items():
        yield f"{name}.txt", _output_of(command)
    root = Path(layers.DEFAULT_ROOT)
    for path in sorted(root.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            yield f"etc/{path.relative_to(root)}", _text_of(path)
    for name in values.split(layers.load(""), "CVMFS_REPOSITORIES", ","):
        yield f"showconfig/{name}.txt", _configuration(name)
    for one in status.mounted():
        yield f"stat/{one.fqrn}.txt", f"{status.statistics(one) if one.is_healthy else 'does not answer'}\n"
        yield f"talk/{one.fqrn}.txt", _talk(one.fqrn)


def _output_of(command: list[str]) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=_COMMAND_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}\n"
    return (done.stdout + done.stderr).decode("utf-8", "surrogateescape")


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            return opened.read(_FILE_LIMIT_BYTES).decode("utf-8", "surrogateescape")
    except OSError as error:
        return f"{error}\n"


def _configuration(name: str) -> str:
    try:
        settings = layers.load(layers.complete_name(name))
        return "\n".join(showconfig_cmd.config_lines(settings, skip_unset=True)) + "\n"
    except NearfsError as error:
        return f"{error}\n"


def _talk(fqrn: str) -> str:
    text = ""
    try:
        path = talk_cmd.socket_path(fqrn)
        for command in ("parameters", "host info", "proxy info", "internal affairs"):
            text += f"{command}:\n{control.ask(path, command)}\n"
    except NearfsError as error:
        text += f"{error}\n"
    return text
