"""The life of a mount: lock, fork, mount, serve until unmounted.

Owns: the order in which a mount comes up and goes away, and what the caller is told. Does not own: the configuration
(`config.model`), what the engine is told (`engine_request`), the file system and its loop (the engine, or `portable`).

Threading: the command forks first and imports the engine only in the child, which then never forks again. The parent
waits on a pipe for "ready" or for the reason and its exit code. In the child the main thread waits for the mount's end
or a signal (`ending`). A client that is to be another user than its starter has a process of root beside it
(`watchdog`), which mounts and unmounts for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.client import answers, background, control, engine_request, premount, privileges, title, watchdog, workspace
from nearfs.client.ending import Ending
from nearfs.client.journal import Journal, Weight, system_log
from nearfs.errors import InitCode, InvalidInput, NearfsError, NotFound, PermissionDenied, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfs.client.request import Request
    from nearfs.client.served import ServedMount
    from nearfs.records import MountRequest


def run(request: Request, say: Callable[[str], None]) -> None:
    """Mounts; returns when the mount is up (or has ended, in the foreground). Raises `NearfsError` with its code."""
    _check_mountpoint(request)
    _check_user(request)
    lock = workspace.lock(request)
    request = request.talking_at(lock.beside)

    def announce() -> None:
        say(f"CernVM-FS: mounted cvmfs on {request.mountpoint}")

    try:
        if request.changes_user:
            os.fchown(lock.descriptor, request.owner.uid, request.owner.gid)
            for directory in {request.config.cache_dir, request.config.workspace}:
                privileges.give(directory, request.owner)
        if request.options.grab_mountpoint and request.changes_user:
            premount.clear_stale(request.mountpoint, request.options.fsname)
            privileges.grab(request.mountpoint, request.owner)
        if request.options.foreground:
            _serve(request, announce)
        else:
            background.start(lambda ready: _serve(request, ready), subject=request.fqrn, detach=True)
            announce()
    finally:
        os.close(lock.descriptor)


def _serve(request: Request, ready: Callable[[], None]) -> None:
    if request.changes_user:
        _serve_beside_watchdog(request, ready)
    else:
        _Server(request, request.mountpoint).serve(ready)


def _check_user(request: Request) -> None:
    """Refuses what only root may ask for, and what a loop cannot do."""
    if request.changes_user and request.options.python_loop:
        message = "loop=python serves as the user who mounts: leave out uid and gid, or choose loop=native"
        raise InvalidInput(message, operation="read options", subject="loop", exit_code=InitCode.OPTIONS)
    if os.geteuid() == 0:
        return
    if request.changes_user:
        message = f"only root may run the client as user {request.owner.uid} and group {request.owner.gid}"
        code = InitCode.PERMISSION
        raise PermissionDenied(message, operation="mount", subject=request.mountpoint, exit_code=code)
    if request.config.suid:
        message = "must be root to mount with suid option"
        code = InitCode.PERMISSION
        raise PermissionDenied(message, operation="mount", subject=request.mountpoint, exit_code=code)


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


def _serve_beside_watchdog(request: Request, ready: Callable[[], None]) -> None:
    """Mounts as root, serves as another user, and unmounts as root when that ends."""
    options = request.options
    flags = premount.Flags(
        fsname=options.fsname,
        read_write=request.config.mount_rw,
        suid=request.allows_suid,
        allow_other=True,
        check_permissions=request.config.check_permissions,
    )
    watchdog_pid = os.getpid()
    mounted = premount.mount(request.mountpoint, flags)

    def serve(child_ready: Callable[[], None], unmount: Callable[[], None]) -> None:
        _Server(request, f"/dev/fd/{mounted.descriptor}", watchdog_pid).serve(child_ready, unmount)

    title.take(*request.titles())
    watchdog.guard(mounted, serve, ready, subject=request.fqrn, detach=not options.foreground)


@dataclass(frozen=True)
class _Server:
    """The process that serves: `engine_mountpoint` is a path, or the descriptor of what was mounted before."""

    request: Request
    engine_mountpoint: str
    watchdog: int | None = None

    def serve(self, ready: Callable[[], None], unmount: Callable[[], None] | None = None) -> None:
        """Mounts and waits until the mount ends: by a signal, by `umount`, by the kernel."""
        request, journal = self.request, Journal(self.request.config.syslog)
        talk = self._prepare(journal)
        try:
            mount = _mount(request, self.engine_mountpoint)
            ending = Ending(mount)
            facts = (mount, request.config, request.mountpoint, self.watchdog, mount.revision)
            talk.serve(answers.Answers(*facts))
            journal.log(f"CernVM-FS: linking {request.mountpoint} to repository {request.fqrn}")
            ready()
            while not ending.next():
                (unmount or mount.unmount)()
            if unmount is None:
                # Where the engine gave up what it shows, the mount is still there; elsewhere this does nothing.
                mount.unmount()
            journal.log(f"CernVM-FS: unmounted {request.mountpoint} ({request.fqrn})")
        finally:
            talk.close()

    def _prepare(self, journal: Journal) -> control.Control:
        """Does what needs root, then becomes the client's user; returns the control socket, which listens already."""
        request, config = self.request, self.request.config

        def warn(text: str) -> None:
            journal.log(text, Weight.WARNING)

        title.take(*request.titles())
        privileges.raise_file_limit(config.nfiles, is_system_mount=request.options.system_mount, warn=warn)
        privileges.bind_to_processors(config.process.cpu_affinity)
        privileges.adjust_memory_killer(config.process.oom_score_adj, warn)
        _start_log(request)
        owner = control.talk_owner(config.process.talk_owner, request.owner)
        talk = control.Control(config.talk_socket, owner)
        if request.changes_user:
            from nearfs import _native  # noqa: F401 - the other user need not be able to read the installation

            privileges.drop(request.owner)
        return talk


def _mount(request: Request, mountpoint: str) -> ServedMount:
    from nearfs import _native

    try:
        # The extra is looked for before anything is fetched.
        portable_mount = _portable_mount() if request.options.python_loop else None
        wanted = engine_request.build(request, mountpoint)
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
    """Sends the engine's log to the file that the configuration names, or to standard error where a person debugs.

    What an operator wants to see goes to the system's log as well, unless a file stands for it.
    """
    from nearfs import _native

    config = request.config
    system = None if config.syslog.file else system_log(config.syslog)
    if config.debug_log:
        _native.start_log("debug", config.debug_log, system)
    elif request.options.debug:
        _native.start_log("debug", None, system)
    elif config.syslog.file:
        _native.start_log("info", config.syslog.file)
    else:
        _native.start_log(system=system)


_LOAD_LOOP = "load FUSE loop"
_CODE_OF_OPERATION = {
    _LOAD_LOOP: InitCode.OPTIONS,
    "run FUSE loop": InitCode.FUSE_LOOP,
    "find revision of": InitCode.HISTORY,
    "discover proxies": InitCode.PROXY_DISCOVERY,
    "check blacklist of": InitCode.REVISION_BLACKLISTED,
    "mount": InitCode.MOUNT,
    "mount on": InitCode.MOUNT,
    "mount or unmount": InitCode.MOUNT,
    "mount with fusermount3 on": InitCode.MOUNT,
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
