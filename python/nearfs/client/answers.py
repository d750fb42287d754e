"""What a mount answers to `cvmfs_talk` (client.md 2.7): one table of commands.

Owns the texts. Does not own: the socket (`control`), hosts and proxies (`routing`), revisions (`following`), opens
(`tracing`), the facts, which the engine and the configuration have.
Threading: called from the control thread; asks the engine for counters and, bounded, the mount itself for attributes.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nearfs import mount_table
from nearfs.client import following, routing, tracing
from nearfs.errors import InvalidInput, NearfsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfs._native import Mount
    from nearfs.client.served import ServedMount
    from nearfs.config.model import ClientConfig

RELEASE = "2.12.0"
_ATTRIBUTE_LIMIT_S = 3.0
_MAX_NUMBER = 1 << 32
_LOWEST_LIMIT_MB = 1000
_TIME = "%d %b %Y %H:%M:%S"

# Commands of the reference that need what the engine does not offer yet: the first words, and what is missing.
NOT_YET = {
    "chroot": "the engine cannot change its root catalog while it serves",
    "tracebuffer flush": "nothing is traced",
    "latency": "latencies are not recorded",
    "vfs inodes": "the engine does not list inodes",
    "vfs entries": "the engine does not list entries",
    "tear down to read-only": "the cache has no read-only mode",
    "send mount fd": "the device file is not handed on",
    "pid cachemgr": "there is no cache process: mounts share the cache directly",
}


@dataclass(frozen=True)
class Answers:
    """The facts of one mount; `watchdog` is the pid of the process that unmounts for it, if there is one."""

    mount: ServedMount
    config: ClientConfig
    mountpoint: str
    watchdog: int | None
    first_revision: int
    started_s: float = field(default_factory=time.time)

    def __call__(self, command: str) -> str:
        """Returns the reply to one command, with its newline."""
        words = " ".join(command.split())
        found, taken = COMMANDS.get(words), WITH_NUMBER.get(words.rpartition(" ")[0])
        with contextlib.suppress(ValueError):
            number = int(words.rpartition(" ")[2])
            if taken is not None and 0 <= number < _MAX_NUMBER:
                return _or_reason(lambda: taken(self, number)) + "\n"
        verb, _, path = command.strip().partition(" ")
        with_path = WITH_PATH.get(verb)
        if with_path is not None:
            return (_or_reason(lambda: with_path(self, path)) if path else f"Usage: {verb} <path>") + "\n"
        if found is not None:
            return _or_reason(lambda: found(self)) + "\n"
        about_revisions = following.answer(lambda: self.mount.updates, words)
        if about_revisions is not None:
            return f"{about_revisions}\n"
        about_route = routing.answer(self.mount, lambda: self.config, words)
        if about_route is not None:
            return f"{about_route}\n"
        about_opens = tracing.answer(lambda: self.mount.tracing, words)
        if about_opens is not None:
            return f"{about_opens}\n"
        reason = next((why for name, why in NOT_YET.items() if f"{words} ".startswith(f"{name} ")), None)
        if reason is not None:
            return f"'{words}' is not available in this version of nearfs: {reason}\n"
        return "unknown command\n"

    def attribute(self, name: str) -> str:
        """Returns a magic attribute of the mount, empty where it cannot be asked."""
        return mount_table.attribute(self.mountpoint, name, _ATTRIBUTE_LIMIT_S) or ""


def _device(one: Answers) -> str:
    entry = mount_table.top_at(one.mountpoint)
    return entry.device if entry is not None and entry.is_repository else "0:0"


def _watchdog(one: Answers) -> str:
    return "no watchdog: the client unmounts by itself" if one.watchdog is None else str(one.watchdog)


def _history(one: Answers) -> str:
    moment = time.strftime(_TIME, time.localtime(one.started_s)).lstrip("0")
    return f"{moment}    (start of CernVM-FS loader {RELEASE})\n{moment}    (loaded CernVM-FS Fuse Module {RELEASE})"


def _internal_affairs(one: Answers) -> str:
    revisions = f"init-catalog-revision: {one.first_revision}  current-catalog-revision: {one.mount.revision}"
    updates = one.mount.updates
    generation = f"incarnation: {updates.generation}  inode generation: {updates.next_inode}"
    lines = [
        "Inode Generation:",
        f"  {revisions}  {generation}",
        "Cache Mode: read-write",
        "Drainout Mode: no",
        "Maintenance Mode: no",
        "Raw Counters:",
        "Name|Value|Description",
    ]
    return "\n".join(lines + [f"{name}|{value}|" for name, value in sorted(one.mount.counters().items())])


def _or_reason(answer: Callable[[], str]) -> str:
    """Returns the answer, or why there is none: a cache that others clean up is no reason to stop answering."""
    try:
        return answer()
    except NearfsError as error:
        return str(error)


def _limited(one: Answers) -> Mount | None:
    """Returns the mount where it has a cache with a limit, of which alone there are sizes and lists."""
    from nearfs import _native

    if isinstance(one.mount, _native.Mount) and one.config.quota_limit_bytes is not None:
        return one.mount
    return None


def _cache_size(one: Answers) -> str:
    limited = _limited(one)
    sizes = limited.cache_size() if limited else None
    if sizes is None:
        return "Cache cannot report its size"
    used, pinned = (f"{size >> 20}MB ({size} Bytes)" for size in sizes)
    return f"Current cache size is {used}, pinned: {pinned}"


def _cache_list(one: Answers, *, catalogs: bool = False, pinned: bool = False) -> str:
    limited = _limited(one)
    if limited is None:
        return "Cache cannot list its objects"
    listed = limited.cache_list()
    return "\n".join(
        text for _, _, text, is_catalog, is_pinned in listed if is_catalog >= catalogs and is_pinned >= pinned
    )


def _clean_up(one: Answers, goal_mb: int) -> str:
    limited = _limited(one)
    if limited is None:
        return "Unable to cleanup cache: it has no limit"
    return "OK" if limited.cache_cleanup(goal_mb << 20) else "Not fully cleaned (there might be pinned chunks)"


def _clean_ups(one: Answers, minutes: int) -> str:
    limited = _limited(one)
    made = limited.cache_cleanups(minutes * 60) if limited else None
    return "Unable to count clean-ups: the cache has no limit" if made is None else str(made)


def _set_limit(one: Answers, limit_mb: int) -> str:
    if limit_mb < _LOWEST_LIMIT_MB:
        return f"New limit too low (minimum {_LOWEST_LIMIT_MB})"
    limited = _limited(one)
    return "OK" if limited is not None and limited.set_cache_limit(limit_mb << 20) else "Limit not reset"


def _done_with(one: Answers, act: Callable[[Mount, bytes], bool | None], path: str) -> bool:
    """Says whether something was done with a file; what is no path at all is no file either."""
    limited = _limited(one)
    with contextlib.suppress(InvalidInput):
        return limited is not None and bool(act(limited, os.fsencode(path)))
    return False


def _evict(one: Answers, path: str) -> str:
    return "OK" if _done_with(one, lambda mount, path: mount.evict(path), path) else "No such regular file"


def _pin(one: Answers, path: str) -> str:
    is_pinned = _done_with(one, lambda mount, path: mount.pin(path), path)
    return "OK" if is_pinned else "No such regular file or pinning failed"


# Commands that end with a number: megabytes, minutes.
WITH_NUMBER: dict[str, Callable[[Answers, int], str]] = {
    "cleanup": _clean_up,
    "cleanup rate": _clean_ups,
    "cache limit set": _set_limit,
}
# Commands that end with a path from the root of the repository, which may hold blanks.
WITH_PATH: dict[str, Callable[[Answers, str], str]] = {"evict": _evict, "pin": _pin}
COMMANDS: dict[str, Callable[[Answers], str]] = {
    "pid": lambda _: str(os.getpid()),
    "pid watchdog": _watchdog,
    "mountpoint": lambda one: one.mountpoint,
    "device id": _device,
    "version": lambda _: f"{RELEASE} (CernVM-FS Fuse Module)\n{RELEASE} (Loader)",
    "version patchlevel": lambda _: "0",
    "revision": lambda one: str(one.mount.revision),
    "cache instance": lambda one: f"Posix cache manager (cache directory: {one.config.cache_dir})",
    "cache size": _cache_size,
    "cache list": _cache_list,
    "cache list pinned": lambda one: _cache_list(one, pinned=True),
    "cache list catalogs": lambda one: _cache_list(one, catalogs=True),
    "cache limit get": lambda one: one.config.environment.get("CVMFS_QUOTA_LIMIT", ""),
    "parameters": lambda one: "\n".join(one.config.process.parameters),
    "hotpatch history": _history,
    "internal affairs": _internal_affairs,
}
