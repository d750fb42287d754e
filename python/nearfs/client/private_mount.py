"""A mount for one command: with an empty cache, in a mount namespace that nobody else sees.

Owns: the namespace, the client in it, and the words that put a command into it. Does not own: what is mounted (the
caller's options), nor what is done with it.

Where root calls, the namespace is the kernel's mount namespace; others get a user namespace of their own with it, which
not every system allows. The client stays this process's child, and ends with it.
Threading: called from a command's main thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.client import control
from nearfs.errors import NearfsError, NotFound, PermissionDenied, Unreachable

if TYPE_CHECKING:
    import pwd
    from collections.abc import Iterator, Sequence

START_LIMIT_S = 60.0
_END_LIMIT_S = 15.0
_POLL_S = 0.05
_SET_DEATH_SIGNAL = 1
# Changes to the directory $1, as seen from inside, and becomes what follows.
_GO_TO = 'cd -- "$1" && shift && exec "$@"'
# What is mounted there may be closed to root; inside it is in nobody's way, and outside it stays.
_CLEAR = 'umount -l -- "$1" 2>/dev/null; shift; exec "$@"'


@dataclass(frozen=True)
class PrivateMount:
    """A mount that only those see who are started with its words."""

    socket: str
    client: int

    def words(self, directory: str, account: pwd.struct_passwd | None = None) -> list[str]:
        """Returns what comes before a command that is to run in it, in a directory, as another user if root asks."""
        enter = ["nsenter", "--target", str(self.client), "--mount"]
        if os.geteuid() != 0:
            enter += ["--user", "--preserve-credentials"]
        elif account is not None and account.pw_uid != 0:
            enter += ["--setgid", str(account.pw_gid), "--setuid", str(account.pw_uid)]
        return [*enter, "--", "sh", "-c", _GO_TO, "sh", directory]


@contextlib.contextmanager
def mounted(fqrn: str, mountpoint: Path, options: Sequence[str]) -> Iterator[PrivateMount]:
    """Mounts a repository for those who are started with the words of what is yielded; unmounts it at the end.

    `options` are those of `cvmfs2 -o` that say what is mounted. Raises `PermissionDenied` where this user may have no
    namespace of his own, `NearfsError` with the client's own words where it cannot mount.
    """
    _check_tools()
    made = _make_directory(mountpoint)
    place = Path(tempfile.mkdtemp(prefix="nearfs-bundle-", dir=_roomy()))
    try:
        socket = place / "talk"
        override = place / "override"
        override.write_text(_override(place, socket), encoding="utf-8")
        given = ",".join([*options, f"override={override}", "fsname=nearfs-bundle"])
        with open(place / "log", "w+b") as log, _client(fqrn, mountpoint, given, log.fileno()) as client:
            _wait(client, str(socket), place / "log", fqrn)
            yield PrivateMount(str(socket), client.pid)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                mountpoint.rmdir()


def _check_tools() -> None:
    for tool in ("unshare", "nsenter"):
        if shutil.which(tool) is None:
            message = f"{tool} is missing, which makes the namespace of a private mount; install util-linux"
            raise NotFound(message, operation="mount privately", subject=tool)


def _roomy() -> str | None:
    """Returns where a cache may lie: what a program reads may be more than memory, which /tmp often is."""
    return None if "TMPDIR" in os.environ or not os.access("/var/tmp", os.W_OK) else "/var/tmp"  # noqa: S108 mkdtemp


def _make_directory(mountpoint: Path) -> bool:
    try:
        mountpoint.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        message = f"there is no directory {mountpoint} to mount on, and it cannot be made: {error.strerror}"
        raise PermissionDenied(message, operation="mount privately", subject=str(mountpoint)) from error
    return True


def _override(place: Path, socket: Path) -> str:
    cache = place / "cache"
    own = {"CVMFS_CACHE_BASE": cache, "CVMFS_CACHE_DIR": "", "CVMFS_WORKSPACE": cache, "CVMFS_TALK_SOCKET": socket}
    lines = [f"{name}={value}\n" for name, value in own.items()]
    return "".join([*lines, "CVMFS_SHARED_CACHE=no\n", "CVMFS_ALIEN_CACHE=\n", "CVMFS_TALK_OWNER=\n"])


@contextlib.contextmanager
def _client(fqrn: str, mountpoint: Path, options: str, log: int) -> Iterator[subprocess.Popen[bytes]]:
    # Slave: what automount mounts meanwhile is seen inside, what is mounted inside is not seen outside.
    enter = ["unshare", "--mount", "--propagation", "slave"]
    enter += ["--", "sh", "-c", _CLEAR, "sh", str(mountpoint)] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    # -P: nothing is imported from the directory that the command was called in, which may be anybody's.
    command = [*enter, sys.executable, "-P", "-m", "nearfs.compat.cvmfs2", "-f", "-o", f"{options},allow_other"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CVMFS_")}
    client = subprocess.Popen(
        [*command, fqrn, str(mountpoint)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        cwd="/",
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 this process has one thread
    )
    try:
        yield client
    finally:
        client.terminate()
        try:
            client.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            client.kill()  # the namespace goes with its last process, and the mount with it
            client.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)


def _wait(client: subprocess.Popen[bytes], socket: str, log: Path, fqrn: str) -> None:
    """Returns when the mount answers."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if client.poll() is not None:
            raise _failure(log.read_text("utf-8", "replace").strip(), fqrn)
        try:
            control.ask(socket, "mountpoint", 1.0)
        except (NotFound, Unreachable):
            time.sleep(_POLL_S)
        else:
            return
    message = f"the private mount of {fqrn} does not answer after {START_LIMIT_S:g} s"
    raise Unreachable(message, operation="mount privately", subject=fqrn)


def _failure(said: str, fqrn: str) -> NearfsError:
    reason = said.replace("\n", "; ") or "it ended without a word"
    if os.geteuid() != 0 and "unshare" in said:
        message = f"this system gives users no namespaces of their own ({reason}); call it as root"
        return PermissionDenied(message, operation="mount privately", subject=fqrn)
    return NearfsError(f"cannot mount {fqrn} privately: {reason}", operation="mount privately", subject=fqrn)
