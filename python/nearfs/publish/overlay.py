"""The two mounts of a publisher: the revision below, and the union that shows it writable.

Owns: mounting, remounting and unmounting `<spool>/rdonly` and `/cvmfs/<fqrn>`: root with the kernel's overlayfs, other
owners with FUSE (`fuse_union`). Does not own: which revision (the caller writes `client.local`) and when.
Threading: called by one command at a time, under the repository's locks. Every helper process has a time limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from nearfs import files, mount_table
from nearfs.errors import Busy, NearfsError, PermissionDenied, Unreachable
from nearfs.publish import fuse_processes, fuse_union

if TYPE_CHECKING:
    from pathlib import Path

    from nearfs.publish.repository import Repository

MOUNT_TIMEOUT_S = 60
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


def is_fuse(path: Path) -> bool:
    """Tells whether a process serves what is mounted there."""
    options = _mount_options(path)
    return options is not None and "fuse" in options


def _mount_options(path: Path) -> list[str] | None:
    """Returns mode, type and the file system's own options of the topmost mount on a path, None if there is none.

    The mode, `ro` or `rw`, is `ro` if either mount or file system is; the type is without what is behind its point.
    """
    # The table has resolved paths; the last component is not looked at, since a dead client would not answer.
    wanted = os.path.join(os.path.realpath(path.parent), path.name)
    entry = mount_table.top_at(wanted)
    if entry is None:
        return None
    mode = "ro" if "ro" in (*entry.options, *entry.system_options) else "rw"
    kind = entry.fstype.partition(".")[0]
    return [mode, kind, *(option for option in entry.system_options if option not in ("ro", "rw"))]


def client_answers(path: Path) -> bool:
    """Tells whether the client below a mount point is alive."""
    # Attributes may come from the kernel's cache long after the client died; statistics of the file system never do.
    # In a process of its own, since a client that is stopped would hold up whoever asks.
    try:
        _run(["stat", "--file-system", "--", str(path)], f"ask the client on {path}")
    except (Busy, Unreachable):
        return _is_closed_to_us(path)
    return True


def _is_closed_to_us(path: Path) -> bool:
    """Tells whether the kernel keeps this user out of what another one mounted, so that nothing can be told of it."""
    options = _mount_options(path) or []
    return "fuse" in options and "allow_other" not in options and not _is_ours(options)


def _is_ours(options: list[str]) -> bool:
    return f"user_id={os.geteuid()}" in options


def _check_ours(path: Path) -> None:
    """Refuses to undo what another user mounted, as the kernel would in worse words."""
    options = _mount_options(path)
    if os.geteuid() != 0 and options is not None and not _is_ours(options):
        message = f"{path} was mounted by another user; root has to unmount it first: umount {path}"
        raise PermissionDenied(message, operation="unmount", subject=str(path), exit_code=1)


def union_answers(repository: Repository) -> bool:
    """Tells whether the union is mounted and alive; the kernel's always is."""
    if not mounted_at(repository.union):
        return False
    return not is_fuse(repository.union) or client_answers(repository.union)


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
    options = f"fsname={repository.fqrn},config={configuration}"
    if os.geteuid() == 0:
        options += ",allow_other,cvmfs_suid"
    elif fuse_union.lets_others_look():
        options += ",allow_other"
    # -P: nothing is imported from the directory that the command was called in, which may be anybody's.
    command = [sys.executable, "-P", "-m", "nearfs.compat.cvmfs2", "-o", options]
    command += [repository.fqrn, str(repository.read_only)]
    _run(command, f"mount the current revision of {repository.fqrn} on {repository.read_only}")


def mount_union(repository: Repository, *, writable: bool) -> None:
    """Mounts the union above the lower mount."""
    if os.geteuid() != 0:
        command = fuse_union.mount_command(repository, writable=writable)
        _run(command, f"mount the union of {repository.fqrn} on {repository.union}")
        return
    layers = f"lowerdir={repository.read_only},upperdir={repository.scratch},workdir={repository.work}"
    mode = "rw" if writable else "ro"
    options = f"{layers},nodev,{mode},{_PLAIN_LAYERS}"
    command = ["mount", "-t", "overlay", "-o", options, f"overlay_{repository.fqrn}", str(repository.union)]
    _run(command, f"mount the union of {repository.fqrn} on {repository.union}")


def remount_union(repository: Repository, *, writable: bool, force: bool = False) -> None:
    """Makes the union writable, or read-only again; the latter is refused while files are open for writing.

    An owner who is not root cannot change a mount: there the union is another mount afterwards. Making it read-only is
    then refused while it is used in any way, unless `force`; whoever uses it loses it with that.
    """
    mode = "rw" if writable else "ro"
    if os.geteuid() == 0:
        command = ["mount", "-i", "-o", f"remount,{mode}", f"overlay_{repository.fqrn}", str(repository.union)]
        _run(command, f"remount {repository.union} {mode}")
        return
    if writable:
        unmount(repository.union)  # who still uses the read-only one may keep it
    else:
        _unmount_unused(repository, force=force)
        fuse_processes.end(repository.union)  # from here on nothing of it changes
    mount_union(repository, writable=writable)


def _unmount_unused(repository: Repository, *, force: bool) -> None:
    _check_ours(repository.union)
    try:
        _run(_unmount_command(repository.union, lazily=False), f"unmount {repository.union}")
    except Busy as error:
        if not force:
            message = f"{error}; it is in use: close what is open there (other users' processes too), or use -f"
            raise Busy(message, operation="unmount", subject=str(repository.union), exit_code=1) from None
        unmount(repository.union)


def reopen(repository: Repository) -> None:
    """Makes the union of an open transaction writable again, after something else failed."""
    if mounted_at(repository.union) or os.geteuid() != 0:
        remount_union(repository, writable=True)


def unmount(path: Path) -> None:
    """Unmounts whatever is mounted there, lazily if it is busy; returns when it is gone from the mount table."""
    deadline = time.monotonic() + MOUNT_TIMEOUT_S
    _check_ours(path)
    while mounted_at(path):
        if time.monotonic() > deadline:
            message = f"{path} is still mounted after {MOUNT_TIMEOUT_S} s; who uses it? (fuser -vm {path})"
            raise Busy(message, operation="unmount", subject=str(path), exit_code=1)
        try:
            _run(_unmount_command(path, lazily=False), f"unmount {path}")
        except (Busy, Unreachable):  # in use, or its client does not answer
            _run(_unmount_command(path, lazily=True), f"unmount {path}")


def _unmount_command(path: Path, *, lazily: bool) -> list[str]:
    if os.geteuid() != 0:
        return fuse_union.unmount_command(path, lazily=lazily)
    return ["umount", *(["-l"] if lazily else []), str(path)]


def unmount_all(repository: Repository) -> None:
    """Unmounts the union and the revision below it."""
    has_server = is_fuse(repository.union)
    unmount(repository.union)
    unmount(repository.read_only)
    if has_server:
        fuse_processes.end(repository.union)
    fuse_processes.end(repository.read_only)


def make_directories(repository: Repository) -> None:
    """Makes the directories that the two mounts need."""
    for directory in (repository.read_only, repository.scratch, repository.wastebin, repository.work, repository.union):
        directory.mkdir(parents=True, exist_ok=True)


def discard_scratch(repository: Repository) -> None:
    """Sets the writable layer aside and makes an empty one; the old one is removed in the background."""
    if os.geteuid() != 0 and repository.scratch.exists():
        # The tree's root may have been made read-only, and then only root may move it.
        repository.scratch.chmod(repository.scratch.stat().st_mode | 0o700)
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
    removing = subprocess.Popen(
        # Directories that may not be written keep their entries, except from root.
        ["sh", "-c", 'chmod -R u+rwX -- "$@"; rm -rf -- "$@"', "sh", *map(str, waste)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    if not repository.is_on("CVMFS_ASYNC_SCRATCH_CLEANUP", default=True):
        removing.wait()


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
