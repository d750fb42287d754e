"""The life of a mount: lock, fork, mount, serve until unmounted.

Owns: the order in which a mount comes up and goes away, and what the caller is told. Does not own: the configuration
(`config.model`), what the engine is told (`engine_request`), the file system and its loop (the engine, or `portable`).

Threading: the command forks first and imports the engine only in the child, which then never forks again. The parent
waits on a pipe for "ready" or for the reason and its exit code. In the child the main thread waits in slices, so that
a signal is seen within a quarter of a second.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from nearfs.client import engine_request
from nearfs.errors import (
    Busy,
    InitCode,
    InvalidInput,
    NearfsError,
    NotFound,
    PermissionDenied,
    Unreachable,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from nearfs.client.options import MountOptions
    from nearfs.config.model import ClientConfig
    from nearfs.records import MountRequest

# A client that was just unmounted needs a moment to end and let go of its workspace.
LOCK_TIMEOUT_S = 15.0
# Bounds the whole start: the engine bounds each request, this bounds a helper that does not answer at all.
START_TIMEOUT_S = 600.0
_SLICE_S = 0.25
_PATH_LIMIT_BYTES = 4096
_PROCESS_NAME = "cvmfs2"


class ServedMount(Protocol):
    """A mount that a loop serves: the native one, or the portable one. Life and messages are the same."""

    def wait(self, timeout_s: float) -> bool:
        """Returns True when the mount has ended, False when the time is over."""

    def unmount(self) -> None:
        """Unmounts, lazily if it is busy; does nothing when it already ended."""


class AlreadyMounted(Exception):
    """The same repository is mounted on the same mount point: nothing to do, and no failure."""


@dataclass(frozen=True)
class Request:
    """What to mount where."""

    config: ClientConfig
    options: MountOptions
    mountpoint: str

    @property
    def fqrn(self) -> str:
        """Returns the repository name."""
        return self.config.fqrn


def run(request: Request, say: Callable[[str], None]) -> None:
    """Mounts; returns when the mount is up (or has ended, in the foreground). Raises `NearfsError` with its code."""
    _check_mountpoint(request)
    lock = _lock_workspace(request)
    try:
        if request.options.foreground:
            _serve(request, lambda: say(f"CernVM-FS: mounted cvmfs on {request.mountpoint}"))
        else:
            _serve_in_background(request)
            say(f"CernVM-FS: mounted cvmfs on {request.mountpoint}")
    finally:
        os.close(lock)


def _check_mountpoint(request: Request) -> None:
    try:
        is_directory = os.path.isdir(request.mountpoint)
        os.stat(request.mountpoint)
    except FileNotFoundError:
        message = f"Mount point {request.mountpoint} does not exist"
        code = InitCode.PERMISSION
        raise NotFound(message, operation="mount", subject=request.mountpoint, exit_code=code) from None
    except OSError:
        return  # a dead mount answers with an error; the engine clears it
    if not is_directory:
        message = f"Mount point {request.mountpoint} is not a directory"
        raise InvalidInput(message, operation="mount", subject=request.mountpoint, exit_code=InitCode.PERMISSION)


def _lock_workspace(request: Request) -> int:
    """Takes `lock.<fqrn>`; waits for a client that is on its way out.

    A shared cache serves the same repository on any number of mount points, each with a lock of its own. Raises
    `AlreadyMounted` where the mount point shows this repository, `Busy` where another one is mounted on it, where an
    exclusive cache serves another mount point, or where the holder neither ends nor shows its repository.
    """
    workspace = Path(request.config.workspace)
    path = workspace / f"lock.{request.fqrn}"
    descriptor = _open_lock(workspace, path)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, _PATH_LIMIT_BYTES, 0)
            beside = path.with_name(f"{path.name}.{hashlib.sha1(os.fsencode(request.mountpoint)).hexdigest()}")
            try:
                is_beside = path != beside and _shares_with(request, holder)
                if not is_beside and time.monotonic() > deadline:
                    message = f"workspace {workspace} is already used by another mount of {request.fqrn}"
                    code = InitCode.WORKSPACE_LOCKED
                    raise Busy(message, operation="lock workspace", subject=str(path), exit_code=code) from None
            except BaseException:
                os.close(descriptor)
                raise
            if is_beside:
                os.close(descriptor)
                path = beside
                descriptor = _open_lock(workspace, path)
            else:
                time.sleep(0.05)
        else:
            # For whoever comes next and wonders who holds it.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, os.fsencode(os.path.abspath(request.mountpoint)), 0)
            return descriptor


def _open_lock(workspace: Path, path: Path) -> int:
    try:
        workspace.mkdir(mode=0o770, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"cannot use workspace {workspace}: {error.strerror}"
        code = InitCode.CACHE_DIRECTORY
        raise PermissionDenied(message, operation="lock workspace", subject=str(workspace), exit_code=code) from error


def _shares_with(request: Request, holder: bytes) -> bool:
    """Tells whether this mount may go up beside the one at `holder`; False where that one is on its way in or out."""
    fqrn = request.fqrn
    shown = shown_repository(request.mountpoint)
    if shown == fqrn:
        raise AlreadyMounted
    if shown is not None:
        message = f"{request.mountpoint} is the mount point of {shown}; unmount it, or choose another one for {fqrn}"
        code = InitCode.OTHER_MOUNT
        raise Busy(message, operation="mount", subject=request.mountpoint, exit_code=code)
    elsewhere = os.fsdecode(holder)
    if not elsewhere or shown_repository(elsewhere) != fqrn:
        return False
    if not request.config.shared_cache:
        message = f"Repository {fqrn} is already mounted on {elsewhere}; only a shared cache serves it twice"
        raise Busy(message, operation="mount", subject=fqrn, exit_code=InitCode.DOUBLE_MOUNT)
    return True


def shown_repository(mountpoint: str) -> str | None:
    """Returns the name of the repository that is mounted there, None where none answers."""
    try:
        return os.getxattr(mountpoint, "user.fqrn").decode("ascii", "replace")
    except OSError:
        return None


def _serve_in_background(request: Request) -> None:
    """Forks the process that serves the mount; returns when it is up, raises what it reported otherwise."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(request, writer)
    os.close(writer)
    report = _read_report(reader, child)
    os.close(reader)
    if "error" in report:
        os.waitpid(child, 0)
        raise NearfsError(report["error"], operation="mount", subject=request.fqrn, exit_code=int(report["code"]))


def _read_report(reader: int, child: int) -> dict[str, str]:
    import select

    received = b""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not received.endswith(b"\n"):
        readable, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            message = f"the mount did not come up within {START_TIMEOUT_S:.0f} s"
            raise Unreachable(message, operation="mount", exit_code=InitCode.UNKNOWN)
        piece = os.read(reader, 65536)
        if not piece:
            return {"error": "the mount process died before it was ready", "code": str(int(InitCode.UNKNOWN))}
        received += piece
    report: dict[str, str] = json.loads(received)
    return report


def _child(request: Request, writer: int) -> NoReturn:
    """Serves the mount and ends the process, whatever happens: it must never return into the parent's code."""
    code = int(InitCode.UNKNOWN)
    reported = False

    def report(document: dict[str, str]) -> None:
        nonlocal reported
        if not reported:
            reported = True
            os.write(writer, json.dumps(document).encode() + b"\n")
            os.close(writer)

    def ready() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        report({})

    try:
        os.setsid()
        os.chdir("/")
        _serve(request, ready)
        code = 0
    except NearfsError as error:
        report({"error": str(error), "code": str(error.exit_code)})
        code = error.exit_code
    except BaseException as error:  # noqa: BLE001 - the last resort of a process of its own
        report({"error": f"internal error: {error!r}", "code": str(int(InitCode.UNKNOWN))})
    finally:
        os._exit(code)


def _serve(request: Request, ready: Callable[[], None]) -> None:
    """Mounts and waits until the mount ends: by a signal, by `umount`, by the kernel."""
    mount = _mount(request)
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    Path("/proc/self/comm").write_text(_PROCESS_NAME, encoding="ascii")
    ready()
    while not mount.wait(_SLICE_S):
        if stopping:
            mount.unmount()
            stopping = False


def _mount(request: Request) -> ServedMount:
    from nearfs import _native

    _raise_file_limit(request.config.nfiles)
    try:
        _start_log(request)
        # The extra is looked for before anything is fetched.
        portable_mount = _portable_mount() if request.options.python_loop else None
        wanted = engine_request.build(request.config, request.options, request.mountpoint)
        return portable_mount(wanted) if portable_mount else _native.mount(**wanted)
    except NearfsError as error:
        error.exit_code = _code(error)
        raise


def _portable_mount() -> Callable[[MountRequest], ServedMount]:
    """Returns what mounts with the portable loop; raises `Unsupported` where the extra is not installed."""
    try:
        from nearfs.client import portable
    except ImportError as error:
        message = f"loop=python needs pyfuse3 and trio ({error}); pip install 'nearfs[portable]' brings them"
        raise Unsupported(message, operation=_LOAD_LOOP, subject="python") from error
    return portable.mount


def _start_log(request: Request) -> None:
    """Sends the engine's log to the file that the configuration names, or to standard error where a person debugs."""
    from nearfs import _native

    config = request.config
    if config.debug_log:
        _native.log_to(config.debug_log, "debug")
    elif request.options.debug:
        _native.log_to(None, "debug")
    elif config.syslog.file:
        _native.log_to(config.syslog.file, "info")


def _raise_file_limit(wanted: int | None) -> None:
    """Allows as many open files as CVMFS_NFILES says; only root goes beyond the hard limit, others get that."""
    if wanted is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


_LOAD_LOOP = "load FUSE loop"
_CODE_OF_OPERATION = {
    _LOAD_LOOP: InitCode.OPTIONS,
    "run FUSE loop": InitCode.FUSE_LOOP,
    "find revision of": InitCode.HISTORY,
    "mount": InitCode.MOUNT,
    "read key": InitCode.SIGNATURE,
    "open cache": InitCode.CACHE_DIRECTORY,
}
_CODE_OF_KIND = {
    "untrusted": InitCode.SIGNATURE,
    "invalid-input": InitCode.OPTIONS,
    "local-io": InitCode.CACHE_DIRECTORY,
    "no-space": InitCode.CACHE_DIRECTORY,
}


def _code(error: NearfsError) -> int:
    """Returns the start-up code: what the operation says, else what the kind says, else a root catalog problem."""
    by_kind = _CODE_OF_KIND.get(error.kind, InitCode.CATALOG)
    return int(_CODE_OF_OPERATION.get(error.operation, by_kind))
