"""Owns the directories that are served, and the opening of files beneath them, never outside.

Knows no HTTP. Safe in any thread: nothing changes after construction. Calls may block on the file system.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from nearfs.errors import InvalidInput, NotFound
from nearfs.serve.names import ServedName, is_repository_name

# O_NONBLOCK: a FIFO under an object's name must not stop the server.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
# What tells a repository's directory from others: the first to come, and the last.
_SIGNS = ("data", ".cvmfspublished")


class OpenFile:
    """A regular file that is open for reading. Owns the descriptor until `close`."""

    __slots__ = ("descriptor", "size")

    def __init__(self, descriptor: int, size: int) -> None:
        """Takes over `descriptor`; `size` is in bytes."""
        self.descriptor = descriptor
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes from `offset`. Raises OSError, also when the file has become shorter."""
        part = os.pread(self.descriptor, length, offset)
        if len(part) == length:
            return part
        parts = [part]
        missing = length - len(part)
        while missing:
            part = os.pread(self.descriptor, missing, offset + length - missing)
            if not part:
                raise OSError("the file became shorter while it was sent")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Closes the descriptor. Not idempotent: call it once."""
        os.close(self.descriptor)


class Roots:
    """The served directories: roots with a directory per repository, and single repositories anywhere."""

    def __init__(self, roots: Iterable[Path], repositories: Mapping[str, Path]) -> None:
        """Resolves every directory once. Raises NotFound (a directory) or InvalidInput (a name, a file)."""
        self._roots = [_directory(root, "--root") for root in roots]
        self._repositories: dict[str, str] = {}
        for name, directory in repositories.items():
            if not is_repository_name(name):
                raise InvalidInput(f"cannot serve {name!r}: this is not a repository name (--repository FQRN=DIR)")
            self._repositories[name] = _directory(directory, "--repository")

    def open(self, name: ServedName) -> OpenFile | None:
        """Returns the file of `name`, or None when it is missing, not a regular file, or outside its directory.

        The first root that has the repository answers for it. Raises OSError when the file exists but cannot be
        read (permissions, I/O): that is not the same as missing.
        """
        for root, base in self._bases(name.repository):
            opened = _open_beneath(root, base, name.path)
            if opened is not None or (name.repository is not None and os.path.isdir(base)):
                return opened
        return None

    def repositories(self) -> list[str]:
        """Returns the names of what is served, sorted: directories that hold a manifest, objects, or are to get some.

        Raises OSError where a root cannot be listed. Blocks.
        """
        found = set(self._repositories)
        for root in self._roots:
            with os.scandir(root) as entries:
                # `is_dir` follows links: an alias is a repository by another name.
                found.update(entry.name for entry in entries if is_repository_name(entry.name) and _is_storage(entry))
        return sorted(found)

    def _bases(self, repository: str | None) -> Iterator[tuple[str, str]]:
        """Yields (root, directory in which a name of `repository` may lie), in the order of asking."""
        explicit = None if repository is None else self._repositories.get(repository)
        if explicit is not None:
            yield explicit, explicit
            return
        for root in self._roots:
            yield root, f"{root}/{'info' if repository is None else repository}"


def _is_storage(entry: "os.DirEntry[str]") -> bool:
    """Returns whether a directory is a repository's, even an empty one."""
    return entry.is_dir() and any(os.path.exists(f"{entry.path}/{name}") for name in _SIGNS)


def _directory(path: Path, option: str) -> str:
    """Returns the resolved directory `path`."""
    try:
        resolved = path.resolve(strict=True)
    except OSError as problem:
        raise NotFound(
            f"cannot serve {path}: {problem.strerror}; name an existing directory with {option}", exit_code=1
        ) from None
    if not resolved.is_dir():
        raise InvalidInput(f"cannot serve {path}: it is not a directory; name a directory with {option}")
    return str(resolved).rstrip("/")


def _open_beneath(root: str, base: str, path: str) -> OpenFile | None:
    """Opens `path` below `base`, itself `root` or a directory (or link to one) below it.

    Symbolic links may lead anywhere below that directory, never out of it.
    """
    try:
        descriptor = os.open(f"{base}/{path}", _OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        # A looping link, a socket: no file. An unreadable one is for the caller to tell.
        if os.path.isfile(f"{base}/{path}"):
            raise
        return None
    try:
        # Asked of the descriptor, after the open: no exchange of a link in between can lead outside.
        status = os.fstat(descriptor)
        inside = _is_inside(os.readlink(f"/proc/self/fd/{descriptor}"), root, base)
    except OSError:
        os.close(descriptor)
        raise
    if not inside or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    return OpenFile(descriptor, status.st_size)


def _is_inside(opened: str, root: str, base: str) -> bool:
    """Returns whether the resolved path `opened` lies below `base`, and `base` not outside `root`."""
    if opened.startswith(base + "/"):
        return True
    # The repository's directory may be a link to another one of the same root: an alias.
    resolved = os.path.realpath(base)
    return resolved.startswith(root + "/") and opened.startswith(resolved + "/")
