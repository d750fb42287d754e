"""Mounts one volume with the client of this machine, and says in a sentence why that failed.

Owns: the file of parameters of a volume's client, running the client's command within a limit, the words of a failure.
Does not own: who asks for the mount (`volumes`), the client (`mount.cvmfs` and what it starts).
Threading: no state; callers see to it that nobody else mounts the same volume meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import mount_table
from nearfs.config import layers
from nearfs.containers import kernel_mounts, state
from nearfs.errors import InvalidInput, LocalIo, NearfsError, NotFound, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nearfs.containers.naming import Volume

_KILLED_LIMIT_S = 5.0
_TAIL_BYTES = 8192

# Words of the client -> the way out. The first one that fits is said.
_WAYS_OUT = (
    ("no such tag", "`cvmfs_server lstags`, or .cvmfs/snapshots of a mount, lists the tags"),
    ("no repository state as early", "the repository has no tagged revision of that time or before"),
    (".cvmfspublished: HTTP status 404", "is the name of the repository right?"),
    ("HTTP status 404", "the server does not have this revision (any more)"),
    ("cannot connect", "is the network up, and are CVMFS_SERVER_URL and CVMFS_HTTP_PROXY right?"),
    ("has no address", "is the network up, and are CVMFS_SERVER_URL and CVMFS_HTTP_PROXY right?"),
    ("timed out", "is the network up, and are CVMFS_SERVER_URL and CVMFS_HTTP_PROXY right?"),
    ("CVMFS_SERVER_URL required", "write one into /etc/cvmfs/config.d or domain.d"),
    ("CVMFS_HTTP_PROXY required", "write it into /etc/cvmfs/default.local; DIRECT is for trying out"),
)


@dataclass(frozen=True)
class Mounter:
    """How volumes are mounted: `command` are the words before `-o OPTIONS REPOSITORY MOUNTPOINT`.

    `points` holds the mount points, `clients` what clients keep beside their cache (locks, sockets, parameters).
    """

    command: Sequence[str]
    points: Path
    clients: Path

    def point(self, volume: Volume) -> str:
        """Returns where a volume is mounted."""
        return str(self.points / volume.identity)

    def shown(self, volume: Volume) -> mount_table.Entry | None:
        """Returns the mount of a volume, dead or alive; None where there is none."""
        return mount_table.top_at(self.point(volume))

    def is_seen_elsewhere(self, mount: mount_table.Entry) -> bool | None:
        """Tells whether a container, or another directory, shows the mount; None where that cannot be known."""
        return kernel_mounts.seen_elsewhere(mount)

    def check(self, volume: Volume, deadline: float) -> None:
        """Raises `InvalidInput` where this machine has no configuration by which the repository could be mounted."""
        settings = self._settings(volume, deadline)
        given = dict(volume.parameters)
        for name in ("CVMFS_SERVER_URL", "CVMFS_HTTP_PROXY"):
            if not (given.get(name) or settings.get(name)):
                way_out = next(words for fragment, words in _WAYS_OUT if fragment.startswith(name))
                message = f"no configuration for {volume.repository}: {name} is not set; {way_out}"
                raise InvalidInput(message, operation="read configuration", subject=volume.repository)

    def mount(self, volume: Volume, deadline: float) -> None:
        """Mounts; returns when the kernel shows it. Raises `NearfsError` with a sentence, by `deadline` at the latest.

        A volume that is mounted already stays as it is; a dead mount is replaced. `deadline` is of time.monotonic().
        """
        point = self.point(volume)
        if self.shown(volume) is not None:
            if kernel_mounts.answers(point, _left(deadline)):
                return
            kernel_mounts.detach(point)
        state.make_directory(self.points, 0o711)
        state.make_directory(self.points / volume.identity, 0o755)
        file = self._write_parameters(volume, deadline)
        words = [*self.command, "-o", f"override={file}", volume.repository, point]
        begun = time.monotonic()
        try:
            code, said = _run(words, deadline)
        except TimeoutError:
            self._clear(point)
            waited = f"no answer from any server or proxy within {time.monotonic() - begun:.0f} s: is the network up?"
            message = f"cannot mount {volume.described()}: {waited}"
            raise Unreachable(message, operation="mount", subject=volume.repository) from None
        except BaseException:
            self._clear(point)
            raise
        if code or self.shown(volume) is None:
            self._clear(point)
            raise _failure(volume, said)

    def unmount(self, volume: Volume) -> None:
        """Takes a volume out of the tree; its client ends. Raises `LocalIo` where the kernel refuses."""
        point = self.point(volume)
        kernel_mounts.detach(point)
        # A directory that is not empty is none of ours; the next mount uses it as it is.
        with contextlib.suppress(OSError):
            os.rmdir(point)

    def forget(self, volume: Volume) -> None:
        """Removes what the volume's client kept, its cache apart: that one belongs to all of them."""
        import shutil

        shutil.rmtree(self.clients / volume.identity, ignore_errors=True)

    def _clear(self, point: str) -> None:
        with contextlib.suppress(LocalIo):  # the reason why there is something to clear is what counts
            kernel_mounts.detach(point)
        with contextlib.suppress(OSError):
            os.rmdir(point)

    def _settings(self, volume: Volume, deadline: float) -> layers.Settings:
        try:
            return mount_table.within(lambda: layers.load(volume.repository), _left(deadline))
        except TimeoutError:
            message = f"the configuration of {volume.repository} in /etc/cvmfs could not be read in time"
            raise Unreachable(message, operation="read configuration", subject=volume.repository) from None

    def _write_parameters(self, volume: Volume, deadline: float) -> Path:
        """Writes what this client has of its own: a workspace, so that it shares the cache with any other client."""
        directory = self.clients / volume.identity
        state.make_directory(self.clients, 0o711)
        state.make_directory(directory, 0o711)
        parameters = {"CVMFS_WORKSPACE": str(directory / "workspace"), "CVMFS_TALK_SOCKET": ""}
        if not self._settings(volume, deadline).get("CVMFS_ALIEN_CACHE"):
            parameters["CVMFS_SHARED_CACHE"] = "yes"
        parameters |= volume.settings()
        file = directory / "parameters"
        # Quoted, an empty value would be a pair of quotes (client.md 1.2).
        lines = [f'{name}="{value}"' if value else f"{name}=" for name, value in sorted(parameters.items())]
        state.replace(file, "".join(f"{line}\n" for line in lines), 0o644)
        return file


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _run(words: Sequence[str], deadline: float) -> tuple[int, str]:
    """Returns exit status and complaints of a command; raises TimeoutError and kills what it started when too late."""
    with tempfile.TemporaryFile() as complaints:  # a pipe would be held open by whatever outlives the command
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            message = f"cannot run {words[0]}: {error.strerror}"
            raise NotFound(message, operation="mount", subject=words[0]) from error
        try:
            code = process.wait(_left(deadline))
        except BaseException as error:
            # A client that is up leads a session of its own; until then, all of it is in this group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_KILLED_LIMIT_S)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise TimeoutError from None
        size = complaints.seek(0, os.SEEK_END)
        complaints.seek(max(0, size - _TAIL_BYTES))
        return code, complaints.read().decode("utf-8", "replace")


def _failure(volume: Volume, said: str) -> NearfsError:
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("CernVM-FS: warning")]
    reason = lines[-1].strip() if lines else "its client ended without a word"
    way_out = next((words for fragment, words in _WAYS_OUT if fragment in reason), "")
    message = f"cannot mount {volume.described()}: {reason}" + (f"; {way_out}" if way_out else "")
    return NearfsError(message, operation="mount", subject=volume.repository)
