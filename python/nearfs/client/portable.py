"""The portable loop: the engine under pyfuse3 and trio instead of the native loop (`-o loop=python`).

Owns: the kernel's requests as pyfuse3 hands them over, and the thread that runs its loop. Does not own: content, error
numbers, counters, the ways in and out of the mount (all of them the engine's), nor the life of the mount
(`client.mount`). Needs the extra `portable`; importing this module without it raises ImportError.

It is there for comparison and for debugging in Python. What pyfuse3 does not offer is missing: directories are opened
by a request each time and their listings are not kept, symlink targets are asked for each time.

Threading: trio runs on a thread of its own, which answers what is nearby at once; what needs the network waits in
worker threads, as many as the native loop has. pyfuse3 knows one mount a process.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, TypeVarTuple

import pyfuse3
import trio

from nearfs import _native
from nearfs.errors import InitCode, Internal, InvalidInput, NearfsError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from nearfs._native import Attr, Engine, Following, Route, Tracing, UnservedMount
    from nearfs.records import MountRequest

_LOG = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_Answer = TypeVar("_Answer")

# As the native loop: workers wait for the network most of their time.
_MIN_WORKERS = 16
# How long the kernel and the loop may take for the first answer.
_FIRST_ANSWER_TIMEOUT_S = 10.0
# More than a listing's buffer of one page of memory holds: most requests are answered by one page of entries.
_PAGE_ENTRIES = 32
_NAME_MAX_BYTES = 255
_NS = 1_000_000_000
_LOOP = "run FUSE loop"


def _answering(operation: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Turns what an operation raises into pyfuse3's error: the engine's number, EIO for a bug of ours.

    Anything else would end the loop, and with it the mount.
    """

    @functools.wraps(operation)
    async def answer(*arguments: _P.args, **named: _P.kwargs) -> _T:
        try:
            return await operation(*arguments, **named)
        except pyfuse3.FUSEError:
            raise
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from error
        except Exception as error:
            _LOG.exception("a request failed; answered EIO")
            raise pyfuse3.FUSEError(errno.EIO) from error

    return answer


class Portable(pyfuse3.Operations):
    """The engine's operations as pyfuse3 asks for them. A directory's handle is its inode number."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, engine: Engine, *, writable: bool, workers: int) -> None:
        super().__init__()
        self._engine = engine
        self._writable = writable
        self._threads = trio.CapacityLimiter(workers)
        self._entry_s, self._attr_s, self._negative_s = engine.timeouts_s()

    async def _ask(self, nearby: Callable[[*_Ts], _T | None], waiting: Callable[[*_Ts], _T], *question: *_Ts) -> _T:
        """Returns the answer that is there, else waits for it in a worker thread."""
        answer = nearby(*question)
        if answer is None:
            answer = await trio.to_thread.run_sync(waiting, *question, limiter=self._threads)
        return answer

    @_answering
    async def lookup(self, parent_inode: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        """Answers a miss so that the kernel may keep it, where the engine allows that."""
        asked_in = self._engine.generation()
        try:
            attr = await self._ask(self._engine.lookup_nearby, self._engine.lookup, parent_inode, name)
        except FileNotFoundError:
            if not self._negative_s or asked_in != self._engine.generation():
                raise
            missing = pyfuse3.EntryAttributes()
            missing.st_ino = 0
            missing.entry_timeout = missing.attr_timeout = self._negative_s
            return missing
        # The kernel has been told already what a switch made untrue.
        is_current = asked_in == self._engine.generation()
        return _entry(attr, self._entry_s * is_current, self._attr_s * is_current)

    @_answering
    async def getattr(self, inode: int, ctx: object) -> pyfuse3.EntryAttributes:
        """Waits only where the entry's catalog was let go: then all requests wait with it."""
        return _entry(self._engine.getattr(inode), self._entry_s, self._attr_s)

    @_answering
    async def readlink(self, inode: int, ctx: object) -> bytes:
        """Waits as `getattr` does."""
        return self._engine.readlink(inode)

    @_answering
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Counts only."""
        self._engine.forget(len(inode_list))

    @_answering
    async def opendir(self, inode: int, ctx: object) -> int:
        """Passes the inode number on: listings are stateless, but pyfuse3 names the handle only."""
        self._engine.count("opendir")
        return inode

    @_answering
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Fills the kernel's buffer, attributes included."""
        self._engine.count("readdirplus")
        kept_s = min(self._entry_s, self._attr_s)
        while page := await self._ask(self._engine.readdir_nearby, self._engine.readdir, fh, start_id, _PAGE_ENTRIES):
            for name, attr, start_id in page:  # noqa: PLR1704 - the next page begins behind the last entry
                if not pyfuse3.readdir_reply(token, name, _entry(attr, kept_s, kept_s), start_id):
                    return

    @_answering
    async def releasedir(self, fh: int) -> None:
        """Counts only."""
        self._engine.count("releasedir")

    @_answering
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """May fetch the whole object."""
        opened = await self._ask(self._engine.open_nearby, self._engine.open, inode, flags, ctx.pid)
        fh, keep_cache, direct_io = opened
        return pyfuse3.FileInfo(fh=fh, keep_cache=keep_cache, direct_io=direct_io)

    @_answering
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """May fetch a chunk."""
        return await self._ask(self._engine.read_nearby, self._engine.read, fh, off, size)

    @_answering
    async def release(self, fh: int) -> None:
        """Closes the handle."""
        self._engine.release(fh)

    @_answering
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """May read a cached file (`user.lhash`), fetch the metainfo object, or wait as `getattr` does."""
        return await trio.to_thread.run_sync(self._engine.getxattr, inode, name, ctx.gid, limiter=self._threads)

    @_answering
    async def listxattr(self, inode: int, ctx: object) -> Sequence[bytes]:
        """Waits as `getattr` does."""
        return self._engine.listxattr(inode)

    @_answering
    async def statfs(self, ctx: object) -> pyfuse3.StatvfsData:
        """Never waits."""
        block_bytes, blocks, blocks_free, files, files_free = self._engine.statfs()
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = block_bytes
        answer.f_blocks, answer.f_bfree, answer.f_bavail = blocks, blocks_free, blocks_free
        answer.f_files, answer.f_ffree, answer.f_favail = files, files_free, files_free
        answer.f_namemax = _NAME_MAX_BYTES
        return answer

    @_answering
    async def access(self, inode: int, mode: int, ctx: object) -> bool:
        """Refuses writers; on a read-only mount the kernel does so itself and is told not to ask again."""
        self._engine.count("access")
        if not self._writable:
            raise pyfuse3.FUSEError(errno.ENOSYS)
        if mode & os.W_OK:
            raise pyfuse3.FUSEError(errno.EROFS)
        return True

    async def _refuse(self, *_request: Any, **_named: Any) -> Never:
        self._engine.count("write")
        raise pyfuse3.FUSEError(errno.EROFS)

    async def _leave_to_kernel(self, *_request: Any, **_named: Any) -> Never:
        """Answers ENOSYS, which the kernel remembers: there is nothing to write back."""
        self._engine.count("other")
        raise pyfuse3.FUSEError(errno.ENOSYS)

    setattr = mknod = mkdir = unlink = rmdir = symlink = rename = link = write = create = _refuse
    setxattr = removexattr = _refuse
    flush = fsync = fsyncdir = _leave_to_kernel


def _entry(attr: Attr, entry_s: float, attr_s: float) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = attr.ino
    entry.st_mode = attr.mode
    entry.st_nlink = attr.nlink
    entry.st_uid = attr.uid
    entry.st_gid = attr.gid
    entry.st_rdev = attr.rdev
    entry.st_size = attr.size
    entry.st_blocks = attr.blocks
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = attr.mtime_s * _NS + attr.mtime_ns
    entry.entry_timeout = entry_s
    entry.attr_timeout = attr_s
    return entry


class PortableMount:
    """A repository that the portable loop serves; the same face as the native `Mount`."""

    def __init__(self, engine: Engine, request: MountRequest) -> None:
        """Mounts, and returns when the loop answers."""
        self._engine = engine
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        workers = request["worker_threads"] or max(_MIN_WORKERS, os.cpu_count() or 1)
        operations = Portable(engine, writable=request["read_write"], workers=workers)
        self._mount, descriptor = engine.mount()
        try:
            # The device is mounted already: libfuse then neither mounts nor unmounts, it only speaks the protocol.
            pyfuse3.init(operations, f"/dev/fd/{descriptor}", set())
        except RuntimeError as error:
            os.close(descriptor)
            self._mount.unmount()
            raise Internal(f"libfuse does not take the mount over: {error}", operation=_LOOP) from error
        threading.Thread(target=self._run, name="nearfs-portable", daemon=True).start()
        _await_first_answer(self._mount, os.fspath(request["mountpoint"]))
        self._mount.set_read_ahead()

    def _run(self) -> None:
        try:
            trio.run(pyfuse3.main)
        except BaseException as error:  # noqa: BLE001 - told by `wait`, from the main thread
            self._failure = error
        finally:
            self._mount.give_up()
            pyfuse3.close(unmount=False)
            self._engine.close()
            self._ended.set()

    def wait(self, timeout_s: float) -> bool:
        """Returns True when the mount has ended, False when the time is over. Raises `Internal` if the loop failed."""
        ended = self._ended.wait(timeout_s)
        if ended and self._failure is not None:
            raise self._failed() from self._failure
        return ended

    def _failed(self) -> Internal:
        message = f"the portable loop failed: {self._failure!r}"
        return Internal(message, operation=_LOOP, exit_code=InitCode.FUSE_LOOP)

    def _ask(self, question: Callable[[Engine], _Answer]) -> _Answer:
        """Asks the engine, which a loop that failed has closed: then that is what there is to tell."""
        try:
            return question(self._engine)
        except InvalidInput:
            if self._failure is None:
                raise
            raise self._failed() from self._failure

    def unmount(self) -> None:
        """Unmounts, lazily if it is busy; does nothing when it already ended."""
        self._mount.unmount()

    def counters(self) -> dict[str, int]:
        """Returns what the engine counted."""
        return self._ask(lambda engine: engine.counters())

    @property
    def revision(self) -> int:
        """Returns the revision that is shown."""
        return self._ask(lambda engine: engine.revision)

    @property
    def updates(self) -> Following:
        """Returns how it follows the repository."""
        return self._ask(lambda engine: engine.updates)

    @property
    def tracing(self) -> Tracing:
        """Returns what records the files that programs open."""
        return self._ask(lambda engine: engine.tracing)

    @property
    def route(self) -> Route:
        """Returns its ways to the hosts."""
        return self._ask(lambda engine: engine.route)

    @property
    def external_route(self) -> Route:
        """Returns its ways to external data."""
        return self._ask(lambda engine: engine.external_route)


def _await_first_answer(mount: UnservedMount, mountpoint: str) -> None:
    """Returns when the mount answers; gives it up and raises `Unreachable` when it does not within its time."""
    settled = threading.Event()
    reasons = [f"no answer within {_FIRST_ANSWER_TIMEOUT_S:.0f} s"]

    def ask() -> None:
        try:
            os.statvfs(mountpoint)
            reasons.clear()
        except OSError as error:
            reasons[:] = [str(error.strerror)]
        finally:
            settled.set()

    # A thread of its own, because nothing else bounds statvfs on a mount that hangs.
    threading.Thread(target=ask, name="nearfs-first", daemon=True).start()
    settled.wait(_FIRST_ANSWER_TIMEOUT_S)
    if reasons:
        mount.give_up()
        raise Unreachable(f"{mountpoint}: {reasons[0]}", operation=_LOOP, subject=mountpoint)


def mount(request: MountRequest) -> PortableMount:
    """Verifies a snapshot, mounts it and serves it. Raises as the native `mount` does."""
    engine = _native.open_engine(**request)
    try:
        return PortableMount(engine, request)
    except NearfsError:
        engine.close()
        raise
