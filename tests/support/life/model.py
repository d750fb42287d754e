"""The tree that a repository should have: plain dictionaries, changed by the same words as the real one.

Owns paths, inodes and what the kernel's overlay does to hard links. Knows no file system and no format. One thread.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from dataclasses import dataclass, field, replace

MARKER = b".cvmfscatalog"
DIRTAB = b".cvmfsdirtab"
DIRTAB_RULES = b"# two levels, by name\n/tab-*/*\n! /tab-*/not-*\n"
Facts = dict[str, object]
"""What one entry is, in the words of the independent reader's listing, without the path."""


@dataclass(eq=False)
class Inode:
    """One file, whatever its names; `mtime_ns` None is a time that nobody set and the next look tells."""

    mode: int
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    mtime_ns: int | None = None
    content: bytes = b""
    """Of a regular file; of a symbolic link its target."""
    rdev: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    is_lower: bool = False
    """It is of the revision below the union: a change gives the name that is changed a copy of its own."""

    def copied(self) -> Inode:
        """Returns an independent inode of the writable layer."""
        return replace(self, xattrs=dict(self.xattrs), is_lower=False)

    @property
    def is_directory(self) -> bool:
        """Tells whether entries can be made in it."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        """Tells whether it has content."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Tells whether its content is a target."""
        return stat.S_ISLNK(self.mode)

    def facts(self) -> Facts:
        """Returns what every reader should say of it."""
        found: Facts = {"mode": oct(self.mode), "uid": self.uid, "gid": self.gid, "mtime_ns": self.mtime_ns}
        if self.is_regular:
            found |= {"size": len(self.content), "sha256": hashlib.sha256(self.content).hexdigest()}
        elif self.is_symlink:
            found["target"] = encoded(self.content)
        elif stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode):
            found["rdev"] = list(self.rdev)
        if self.xattrs:
            found["xattrs"] = {os.fsdecode(name): as_base64(value) for name, value in self.xattrs.items()}
        return found


def encoded(text: bytes) -> object:
    """Returns text as listings write it: odd bytes in base64."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return {"base64": as_base64(text)}


def as_base64(value: bytes) -> str:
    """Returns bytes as listings write them."""
    return base64.b64encode(value).decode()


@dataclass
class Tree:
    """All entries by path, without a leading slash; the root itself, which nobody changes, is left out."""

    entries: dict[bytes, Inode] = field(default_factory=dict)
    keeps_times: bool = True
    """Copying an entry up leaves times alone, as the kernel's overlay does and fuse-overlayfs does not."""

    def facts(self) -> dict[bytes, Facts]:
        """Returns what a reader should see, by path."""
        return {path: inode.facts() for path, inode in self.entries.items()}

    def below(self, directory: bytes) -> list[bytes]:
        """Returns the paths strictly below a directory, parents first; all of them for the root."""
        prefix = directory + b"/" if directory else b""
        return sorted(path for path in self.entries if path.startswith(prefix))

    def is_directory(self, path: bytes) -> bool:
        """Tells whether entries can be made there."""
        return not path or (path in self.entries and self.entries[path].is_directory)

    def own(self, path: bytes) -> Inode:
        """Returns the inode of a name that is about to change: the overlay copies up one name at a time."""
        inode = self.entries[path]
        if inode.is_lower:
            inode = self.entries[path] = self._copied_up(inode)
            if not self.keeps_times:
                self.stale(path)
        return inode

    def _copied_up(self, inode: Inode) -> Inode:
        """Returns a copy for the writable layer; fuse-overlayfs gives symbolic links the time of the copy."""
        copied = inode.copied()
        if inode.is_lower and inode.is_symlink and not self.keeps_times:
            copied.mtime_ns = None
        return copied

    def changed(self) -> Tree:
        """Returns a tree that can be changed while this one stays."""
        return replace(self, entries=dict(self.entries))

    def put(self, path: bytes, inode: Inode) -> None:
        """Adds or replaces a name."""
        self.entries[path] = inode
        self.stale(path)

    def stale(self, path: bytes) -> None:
        """Notes that the directory of `path` got a time of its own."""
        parent = path.rpartition(b"/")[0]
        if parent:
            self.own(parent).mtime_ns = None

    def remove(self, path: bytes) -> None:
        """Removes a name, and of a directory everything below it."""
        for lost in [path, *self.below(path)]:
            del self.entries[lost]
        self.stale(path)

    def rename(self, source: bytes, target: bytes, *, by_copying: bool) -> None:
        """Moves a name with everything below; copying keeps links among what is moved and breaks all others."""
        copies: dict[int, Inode] = {}
        moved = {}
        for path in [source, *self.below(source)]:
            inode = self.entries[path]
            if by_copying or path == source:
                inode = copies.setdefault(id(inode), self._copied_up(inode) if by_copying or inode.is_lower else inode)
            moved[target + path[len(source) :]] = inode
        self.remove(source)
        if target in self.entries:
            self.remove(target)
        self.entries |= moved
        self.stale(target)

    def marked_by_rules(self) -> list[bytes]:
        """Returns the directories that the rules of DIRTAB_RULES give a marker that they do not have yet."""
        if DIRTAB not in self.entries:
            return []
        return [
            path
            for path, inode in self.entries.items()
            if inode.is_directory
            and path.startswith(b"tab-")
            and path.count(b"/") == 1
            and not path.split(b"/")[1].startswith(b"not-")
            and path + b"/" + MARKER not in self.entries
        ]

    def nested(self) -> set[bytes]:
        """Returns the directories that have a catalog of their own."""
        return {path.rpartition(b"/")[0] for path in self.entries if path.endswith(b"/" + MARKER)}

    def published(self) -> Tree:
        """Returns the tree as the next transaction finds it.

        Every name is a file of its own: this is what publishers on overlayfs make of hard links (format.md 10.4).
        """
        settled = {}
        for path, inode in self.entries.items():
            settled[path] = inode.copied()
            settled[path].is_lower = True
        return replace(self, entries=settled)
