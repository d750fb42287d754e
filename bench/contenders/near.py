"""Upper bounds: the tree on the local disk, and as a compressed image on it. Nothing crosses a line.

Owns making and mounting the image. Needs squashfs-tools and squashfuse for the second.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.contenders.on_host import HostClient
from bench.harness import processes
from bench.harness.commands import Counts
from bench.harness.contender import Client, Contender, Serving, Tree
from bench.lab.line import Line

_IMAGE_LIMIT_S = 900.0


class _LocalClient(HostClient):
    """The tree as it lies on the disk."""

    def __init__(self, home: Path, source: Path) -> None:
        super().__init__(home)
        self._source = source

    @property
    def tree(self) -> Path:
        return self._source

    def mount(self, *, empty_cache: bool) -> float:
        """Mounts nothing; drops the kernel's caches."""
        processes.drop_kernel_caches()
        return 0.0

    def unmount(self) -> None:
        """Does nothing."""

    def counts(self) -> Counts:
        """Returns nothing known."""
        return Counts()


class _LocalServing(Serving):
    def __init__(self, home: Path, source: Path) -> None:
        self._home, self._source = home, source

    def client(self, number: int = 0) -> Client:
        return _LocalClient(self._home / f"client-{number}", self._source)


class Local(Contender):
    """The local disk."""

    name = "local"
    is_remote = False

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Serves nothing."""
        yield _LocalServing(home, tree.source)


class _SquashfuseClient(HostClient):
    """An image under squashfuse."""

    def __init__(self, home: Path, image: Path) -> None:
        super().__init__(home)
        self._image = image
        self._point = home / "mnt"
        self._point.mkdir()

    @property
    def tree(self) -> Path:
        return self._point

    def mount(self, *, empty_cache: bool) -> float:
        """Mounts the image after dropping the kernel's caches."""
        self.unmount()
        processes.drop_kernel_caches()
        started = time.monotonic()
        command = ["squashfuse", str(self._image), str(self._point)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return time.monotonic() - started

    def unmount(self) -> None:
        """Unmounts if it is mounted."""
        if os.path.ismount(self._point):
            processes.unmount(self._point)

    def counts(self) -> Counts:
        """Returns nothing known."""
        return Counts()


class _SquashfuseServing(Serving):
    def __init__(self, home: Path, image: Path) -> None:
        self._home, self._image = home, image

    def client(self, number: int = 0) -> Client:
        return _SquashfuseClient(self._home / f"client-{number}", self._image)


class Squashfuse(Contender):
    """A gzip image of the tree on the local disk, under squashfuse."""

    name = "squashfuse"
    packages = ("squashfs-tools", "squashfuse")
    is_remote = False

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Makes the image."""
        image = home / "tree.squashfs"
        command = ["mksquashfs", str(tree.source), str(image), "-comp", "gzip", "-no-progress", "-quiet"]
        subprocess.run(command, check=True, capture_output=True, timeout=_IMAGE_LIMIT_S)
        yield _SquashfuseServing(home, image)
