"""The hand that changes a tree and its model in the same words, and writes down what it did.

Owns the system calls and commands of a person in a transaction. Does not own what to do next (`chance`). One thread.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import processes
from tests.support.life.model import Inode, Tree


@dataclass
class Hand:
    """Changes `tree` and the directory `root`; `steps` is the diary, a line a step."""

    root: Path
    tree: Tree
    steps: list[str] = field(default_factory=list)

    def place(self, path: bytes) -> bytes:
        """Returns where a path of the tree is on disk."""
        return os.fsencode(self.root) + b"/" + path

    def _note(self, verb: str, path: bytes, *about: object) -> None:
        self.steps.append(" ".join([verb, repr(path), *map(str, about)]))

    def write(self, path: bytes, content: bytes, *, holes: bool = False) -> None:
        """Creates or replaces the content of a regular file; with `holes`, blocks of zeros are left out."""
        self._note("write", path, f"{len(content)} bytes", "with holes" if holes else "")
        fresh = path not in self.tree.entries
        with open(self.place(path), "wb") as out:
            if not holes:
                out.write(content)
            for at in range(0, len(content) if holes else 0, 4096):
                block = content[at : at + 4096]
                if any(block):
                    out.seek(at)
                    out.write(block)
            out.truncate(len(content))
        if fresh:
            self.tree.put(path, Inode(stat.S_IFREG | 0o644, content=content))
            os.chmod(self.place(path), 0o644)
        else:
            changed = self.tree.own(path)
            changed.content, changed.mtime_ns = content, None

    def patch(self, path: bytes, offset: int, content: bytes) -> None:
        """Writes in the middle of a file, or behind its end."""
        self._note("patch", path, f"{len(content)} bytes at {offset}")
        with open(self.place(path), "r+b") as out:
            out.seek(offset)
            out.write(content)
        changed = self.tree.own(path)
        before = changed.content.ljust(offset, b"\0")
        changed.content = before[:offset] + content + before[offset + len(content) :]
        changed.mtime_ns = None

    def truncate(self, path: bytes, size: int) -> None:
        """Cuts a file, or lets it end in a hole."""
        self._note("truncate", path, size)
        os.truncate(self.place(path), size)
        changed = self.tree.own(path)
        changed.content = changed.content[:size].ljust(size, b"\0")
        changed.mtime_ns = None

    def make_directory(self, path: bytes, mode: int = 0o755) -> None:
        """Makes a directory."""
        self._note("mkdir", path, oct(mode))
        os.mkdir(self.place(path))
        os.chmod(self.place(path), mode)
        self.tree.put(path, Inode(stat.S_IFDIR | mode))

    def make_symlink(self, path: bytes, target: bytes) -> None:
        """Makes a symbolic link."""
        self._note("symlink", path, target)
        os.symlink(target, self.place(path))
        self.tree.put(path, Inode(stat.S_IFLNK | 0o777, content=target))

    def make_special(self, path: bytes, mode: int, rdev: tuple[int, int]) -> None:
        """Makes a pipe, socket or device."""
        self._note("mknod", path, oct(mode), rdev)
        os.mknod(self.place(path), mode, os.makedev(*rdev))
        os.chmod(self.place(path), stat.S_IMODE(mode))
        self.tree.put(path, Inode(mode, rdev=rdev))

    def link(self, source: bytes, path: bytes) -> None:
        """Gives a file one more name."""
        self._note("link", source, path)
        os.link(self.place(source), self.place(path), follow_symlinks=False)
        self.tree.put(path, self.tree.own(source))

    def remove(self, path: bytes) -> None:
        """Removes a name with everything below."""
        self._note("rm -rf", path)
        processes.run(["rm", "-rf", "--", os.fsdecode(self.place(path))])
        self.tree.remove(path)

    def move(self, source: bytes, target: bytes) -> None:
        """Moves as `mv -T` does: by renaming where the kernel can, by copying where the overlay says it cannot."""
        self._note("mv -T", source, target)
        if self.tree.entries.get(target) is self.tree.entries[source]:
            return  # two names of one file: the kernel does nothing, and mv removes one of them
        by_copying = False
        try:
            os.rename(self.place(source), self.place(target))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            by_copying = True
            processes.run(["mv", "-T", "--", os.fsdecode(self.place(source)), os.fsdecode(self.place(target))])
        self.tree.rename(source, target, by_copying=by_copying)

    def change_mode(self, path: bytes, mode: int) -> None:
        """Changes permissions."""
        self._note("chmod", path, oct(mode))
        os.chmod(self.place(path), mode)
        changed = self.tree.own(path)
        changed.mode = stat.S_IFMT(changed.mode) | mode

    def change_owner(self, path: bytes, uid: int, gid: int) -> None:
        """Changes owner and group; the kernel takes set-uid bits away with it, so the mode is set again."""
        self._note("chown", path, f"{uid}:{gid}")
        os.chown(self.place(path), uid, gid, follow_symlinks=False)
        changed = self.tree.own(path)
        changed.uid, changed.gid = uid, gid
        if not changed.is_symlink:
            os.chmod(self.place(path), stat.S_IMODE(changed.mode))

    def set_attribute(self, path: bytes, name: bytes, value: bytes) -> None:
        """Sets an extended attribute."""
        self._note("setfattr", path, name, f"{len(value)} bytes")
        os.setxattr(self.place(path), name, value)
        self.tree.own(path).xattrs[name] = value

    def remove_attribute(self, path: bytes, name: bytes) -> None:
        """Removes an extended attribute."""
        self._note("setfattr -x", path, name)
        os.removexattr(self.place(path), name)
        del self.tree.own(path).xattrs[name]

    def set_time(self, path: bytes, mtime_ns: int) -> None:
        """Sets the modification time."""
        self._note("touch", path, mtime_ns)
        os.utime(self.place(path), ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        self.tree.own(path).mtime_ns = mtime_ns

    def finish(self, moment_ns: int) -> None:
        """Sets every time that the steps left to the clock, so that all of them can be compared."""
        unset = [path for path, inode in self.tree.entries.items() if inode.mtime_ns is None]
        for number, path in enumerate(sorted(unset)):
            self.set_time(path, moment_ns + number)
