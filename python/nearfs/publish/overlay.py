"""The two mounts of a publisher: the revision below, and the union that shows it writable.

Owns: mounting, remounting and unmounting `<spool>/rdonly` and `/cvmfs/<fqrn>` with kernel overlayfs. Does not own:
which revision (the caller writes `client.local`) and when.
Threading: called by one command at a time, under the repository's locks. Every helper process has a time limit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import Busy, NearfsError, Unreachable

if TYPE_CHECKING:
    from nearfs.publish.repository import Repository

MOUNT_TIMEOUT_S = 60
# A client whose mount is gone ends within a moment, unless somebody still uses a file of it.
_CLIENT_GRACE_S = 2.0
# metacopy, redirect_dir and index would let the writable layer refer to the layer below by other means than names;
# the scan reads whole entries only, so they are off whatever the kernel's defaults are.
_PLAIN_LAYERS = "redirect_dir=off,metacopy=off,index=off,xino=off"


def mounted_at(path: Path) -> bool:
    """Tells whether something is mounted on exactly this path."""
    return _mount_options(path) is not None


def is_writable(path: Path) -> bool:
    """Tells whether what is mounted there was mounted read-write."""
    options = _mount_options(path)
    return options is not None and "rw" in options


def _mount_options(path: Path) -> list[str] | None:
    """Returns the per-mount and per-file-system options of the topmost mount on a path: `ro` if either says so."""
    # The table has resolved paths; the last component is not looked at, since a dead client would not answer.
    wanted = os.path.join(os.path.realpath(path.parent), path.name)
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            words = line.split(" ")
            if _unescaped(words[4]) == wanted:
                per_mount = words[5].split(",")
                per_system = words[-1].strip().split(",")
                read_only = "ro" in per_mount or "ro" in per_system
                found = ["ro" if read_only else "rw"]
    return found


def _unescaped(text: str) -> str:
    for escape, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, plain)
    return text


def client_answers(path: Path) -> bool:
    """Tells whether the client below a mount point is alive."""
    # Attributes may come from the kernel's cache long after the client died; statistics of the file system never do.
    # In a process of its own, since a client that is stopped would hold up whoever asks.
    try:
        _run(["stat", "--file-system", "--", str(path)], f"ask the client on {path}")
    except (Busy, Unreachable):
        return False
    return True


def _note(path: Path, text: str) -> None:
    """Writes a small file unless it says so already: putting mounts right must work on a full disk."""
    if files.read_text(path) != text.strip():
        files.replace(path, text)


def set_root(repository: Repository, root_hash: str) -> None:
    """Notes the revision that the next mount of the lower layer shows."""
    _note(repository.spool / "client.local", f"CVMFS_ROOT_HASH={root_hash}\n")


def mount_read_only(repository: Repository) -> None:
    """Mounts the revision that `client.local` names; the storage is read directly, so no web server is needed."""
    local = repository.spool / "nearfs.local"
    _note(local, f"CVMFS_SERVER_URL=file://{repository.storage}\n")
    configuration = f"{repository.configuration / 'client.conf'}:{repository.spool / 'client.local'}:{local}"
    options = f"allow_other,fsname={repository.fqrn},config={configuration},cvmfs_suid"
    # -P: nothing is imported from the directory that the command was called in, which may be anybody's.
    command = [sys.executable, "-P", "-m", "nearfs.compat.cvmfs2", "-o", options]
    command += [repository.fqrn, str(repository.read_only)]
    _run(command, f"mount the current revision of {repository.fqrn} on {repository.read_only}")


def mount_union(repository: Repository, *, writable: bool) -> None:
    """Mounts the union above the lower mount."""
    layers = f"lowerdir={repository.read_only},upperdir={repository.scratch},workdir={repository.work}"
    mode = "rw" if writable else "ro"
    options = f"{layers},nodev,{mode},{_PLAIN_LAYERS}"
    command = ["mount", "-t", "overlay", "-o", options, f"overlay_{repository.fqrn}", str(repository.union)]
    _run(command, f"mount the union of {repository.fqrn} on {repository.union}")


def remount_union(repository: Repository, *, writable: bool) -> None:
    """Makes the union writable, or read-only again; the latter is refused while files are open for writing."""
    mode = "rw" if writable else "ro"
    command = ["mount", "-i", "-o", f"remount,{mode}", f"overlay_{repository.fqrn}", str(repository.union)]
    _run(command, f"remount {repository.union} {mode}")


def unmount(path: Path) -> None:
    """Unmounts whatever is mounted there, lazily if it is busy; returns when it is gone from the mount table."""
    deadline = time.monotonic() + MOUNT_TIMEOUT_S
    while mounted_at(path):
        if time.monotonic() > deadline:
            message = f"{path} is still mounted after {MOUNT_TIMEOUT_S} s; who uses it? (fuser -vm {path})"
            raise Busy(message, operation="unmount", subject=str(path), exit_code=1)
        try:
            _run(["umount", str(path)], f"unmount {path}")
        except (Busy, Unreachable):  # in use, or its client does not answer
            _run(["umount", "-l", str(path)], f"unmount {path}")


def unmount_all(repository: Repository) -> None:
    """Unmounts the union and the revision below it."""
    unmount(repository.union)
    unmount(repository.read_only)
    _end_client(repository.read_only)


def _end_client(path: Path) -> None:
    """Ends a client whose mount point is gone but that readers of a lazily unmounted union keep alive.

    It would keep its cache locked, and the next revision could not be mounted before the last reader leaves.
    """
    patience = time.monotonic() + _CLIENT_GRACE_S
    deadline = patience + MOUNT_TIMEOUT_S
    while clients := _clients_of(path):
        now = time.monotonic()
        if now > deadline:
            message = f"the client that served {path} (process {clients[0]}) does not end"
            raise Busy(message, operation="unmount", subject=str(path), exit_code=1)
        if now > patience:
            for pid in clients:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _clients_of(path: Path) -> list[int]:
    """Returns the processes in our mount namespace that were started to serve a mount point."""
    found = []
    here = os.readlink("/proc/self/ns/mnt")
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            # What the client calls itself, and what it was started as where it could not rename itself.
            if (words[0] == b"cvmfs2" or b"nearfs.compat.cvmfs2" in words) and os.fsencode(path) in words:
                found += [int(process.name)] if os.readlink(process / "ns" / "mnt") == here else []
        except OSError:  # it ended meanwhile
            continue
    return found


def make_directories(repository: Repository) -> None:
    """Makes the directories that the two mounts need."""
    for directory in (repository.read_only, repository.scratch, repository.wastebin, repository.work, repository.union):
        directory.mkdir(parents=True, exist_ok=True)


def discard_scratch(repository: Repository) -> None:
    """Sets the writable layer aside and makes an empty one; the old one is removed in the background."""
    if repository.scratch.exists() and any(repository.scratch.iterdir()):
        aside = repository.wastebin / f"{time.time_ns()}"
        repository.wastebin.mkdir(parents=True, exist_ok=True)
        os.rename(repository.scratch, aside)
    make_directories(repository)
    empty_wastebin(repository)


def empty_wastebin(repository: Repository) -> None:
    """Removes discarded writable layers, in a process of its own where the configuration allows it."""
    waste = list(repository.wastebin.iterdir()) if repository.wastebin.is_dir() else []
    if not waste:
        return
    if not repository.is_on("CVMFS_ASYNC_SCRATCH_CLEANUP", default=True):
        for path in waste:
            shutil.rmtree(path, ignore_errors=True)
        return
    subprocess.Popen(
        ["rm", "-rf", "--", *map(str, waste)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def _run(command: list[str], what: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CVMFS_")}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=MOUNT_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            process_group=0,  # an interrupt typed at the terminal is for us: a mount is never cut short by it
        )
    except subprocess.TimeoutExpired:
        message = f"failed to {what}: no answer within {MOUNT_TIMEOUT_S} s"
        raise Unreachable(message, operation=what, exit_code=1) from None
    except OSError as error:
        message = f"failed to {what}: cannot run {command[0]}: {error.strerror}"
        raise NearfsError(message, operation=what, exit_code=1) from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().replace("\n", "; ") or f"exit status {done.returncode}"
        raise Busy(f"failed to {what}: {reason}", operation=what, exit_code=1)
