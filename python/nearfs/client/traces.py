"""Learned traces as files: where a client keeps them, and taking them to another machine (docs/cold-start.md).

Owns the directory as an administrator sees it, and the form in which traces travel: their texts one after the other,
behind a line that names the repository. Does not own: what is learned, the form of one trace (both are the engine's).
Threading: short-lived commands, one thread; a client may write the same directory meanwhile.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.client import privileges
from nearfs.config import layers, model
from nearfs.errors import Corrupt, InvalidInput, LocalIo, NearfsError, NotFound, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What the engine keeps of one repository.
TRACES_LIMIT = 512
BYTES_LIMIT = 32 << 20
_TRACE_LIMIT_BYTES = 1 << 20
_NAME = re.compile(r"[0-9a-f]{40}(\.[0-9a-f]{40})?")
_HEAD = b"nearfs-traces 1 "
_MODE = 0o600


@dataclass(frozen=True)
class Trace:
    """One trace: the files that are opened after `trigger`, or where `after` is given, after that file."""

    name: str
    content: bytes
    trigger: bytes
    after: bytes | None
    #: `whole`; `unordered`: it begins with another of its files each time; `shared`: uses go on differently after it.
    listing: str
    items: tuple[tuple[bytes, list[int] | None], ...]
    modified_s: float

    @property
    def age_s(self) -> float:
        """Returns the time since it was learned, or held good, within an hour."""
        return max(0.0, time.time() - self.modified_s)


def places(fqrn: str, cache_dir: str | None) -> list[Path]:
    """Returns the directories in which a repository's traces may be, the one first where a client would put them."""
    if cache_dir is not None:
        directories = [cache_dir]
    else:
        settings = layers.load(fqrn)
        cache = model.cache_directory(settings)
        directories = list(dict.fromkeys([cache, settings.get("CVMFS_WORKSPACE") or cache]))
    return [Path(directory) / "traces" / fqrn for directory in directories]


def become_owner(candidates: Iterable[Path]) -> Path:
    """Returns the first directory that exists, or else the first one; root becomes who owns the cache around it.

    So nothing is left behind that a client cannot read, and no link that its user made is followed by root.
    """
    candidates = list(candidates)
    directory = next((path for path in candidates if path.is_dir()), candidates[0])
    cache = directory.parents[1]
    if os.geteuid() == 0 and cache.is_dir():
        status = cache.stat()
        owner = privileges.Owner(status.st_uid, status.st_gid)
        if not owner.is_current:
            from nearfs import _native  # noqa: F401 - the owner need not be able to read the installation

            privileges.drop(owner)
    return directory


def read_all(directory: Path) -> tuple[list[Trace], int]:
    """Returns the traces of a directory, sorted by trigger, and how many files are none.

    Raises `PermissionDenied` where they are somebody else's.
    """
    try:
        names = [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        message = f"cannot read the traces in {directory}: {error.strerror}; they are for root and the client's user"
        raise PermissionDenied(message, operation="read traces", subject=str(directory)) from error
    found = []
    for name in names:
        try:
            found.append(_read(directory, name))
        except (OSError, NearfsError):
            continue  # a client passes over it as well
    found.sort(key=lambda trace: (trace.trigger, trace.after or b""))
    return found, len(names) - len(found)


def packed(fqrn: str, traces: Iterable[Trace]) -> bytes:
    """Returns traces in the form in which they travel."""
    return _HEAD + fqrn.encode() + b"\n" + b"".join(trace.content for trace in traces)


def unpacked(fqrn: str, content: bytes) -> list[Trace]:
    """Returns the traces of a file that `packed` made, all of them checked.

    Raises `Corrupt` for anything else, and `InvalidInput` for the traces of another repository.
    """
    head, _, rest = content.partition(b"\n")
    if not head.startswith(_HEAD) or len(content) > BYTES_LIMIT + _TRACE_LIMIT_BYTES:
        raise Corrupt("it is no file that `nearfs trace export` wrote", operation="import traces")
    name = head.removeprefix(_HEAD).decode("ascii", "replace")
    if name != fqrn:
        message = f"these are traces of {name}, not of {fqrn}"
        raise InvalidInput(message, operation="import traces", subject=name)
    texts = re.split(rb"(?m)^(?=nearfs-trace )", rest)[1:] if rest.startswith(b"nearfs-trace ") else []
    if len(texts) > TRACES_LIMIT or (rest and not texts):
        raise Corrupt("it is no file that `nearfs trace export` wrote", operation="import traces")
    return [_parsed(text, time.time()) for text in texts]


def put(directory: Path, traces: Iterable[Trace]) -> None:
    """Writes traces beside those that are there, in place of those of the same name."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for trace in traces:
            files.replace(directory / trace.name, trace.content, _MODE)
    except OSError as error:
        message = f"cannot write traces to {directory}: {error.strerror}"
        raise LocalIo(message, operation="import traces", subject=str(directory)) from error


def forget(directory: Path, trigger: bytes | None) -> int:
    """Removes the traces of a trigger, or everything; returns how many there were.

    Raises `NotFound` for a trigger that has none.
    """
    if trigger is None:
        names = [name for name in os.listdir(directory) if _NAME.fullmatch(name)] if directory.is_dir() else []
    else:
        names = [trace.name for trace in of_trigger(directory, trigger)]
    for name in names:
        (directory / name).unlink(missing_ok=True)
    return len(names)


def of_trigger(directory: Path, trigger: bytes) -> list[Trace]:
    """Returns the traces of one trigger; raises `NotFound` where there is none."""
    found = [trace for trace in read_all(directory)[0] if trace.trigger == trigger]
    if not found:
        shown = os.fsdecode(trigger)
        message = f"nothing was learned of {shown} in {directory}; nearfs trace list shows what was"
        raise NotFound(message, operation="read traces", subject=shown)
    return found


def _read(directory: Path, name: str) -> Trace:
    descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Corrupt("it is no file", operation="read trace", subject=name)
        trace = _parsed(opened.read(_TRACE_LIMIT_BYTES + 1), status.st_mtime)
    if trace.name != name:
        raise Corrupt("it is the trace of another trigger", operation="read trace", subject=name)
    return trace


def _parsed(content: bytes, modified_s: float) -> Trace:
    from nearfs import _native

    name, trigger, after, listing, items = _native.parse_trace(content)
    return Trace(name, content, trigger, after, listing, tuple(items), modified_s)


def lines(trace: Trace) -> Iterator[str]:
    """Yields the paths of a trace as its text has them: what is no printable ASCII is escaped."""
    text = trace.content.decode("ascii", "replace")
    yield from (line for line in text.splitlines() if line.startswith("/"))
