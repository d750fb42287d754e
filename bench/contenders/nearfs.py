"""nearfs: our client, from our server or nginx, directly or through a Squid of the site; and the reference client.

Owns which server stands at the far end and which client at the near end. All take the same published repository.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from bench.contenders.cvmfs_client import CvmfsClient
from bench.harness.contender import Client, Contender, Serving, Tree
from bench.lab import servers
from bench.lab.line import Line

REFERENCE_VARIABLE = "BENCH_REFERENCE_CVMFS2"


def our_program() -> str:
    """Returns our client's command, as installed beside this interpreter."""
    return str(Path(sys.executable).parent / "cvmfs2")


class _Clients(Serving):
    def __init__(self, home: Path, line: Line, tree: Tree, url: str, program: str, options: str = "") -> None:
        self._home, self._line, self._tree = home, line, tree
        self._url, self._program, self._options = url, program, options

    def client(self, number: int = 0) -> Client:
        home = self._home / f"client-{number}"
        return CvmfsClient(home, self._line, self._tree, self._url, program=self._program, options=self._options)


class Nearfs(Contender):
    """Our client and our server."""

    name = "nearfs"
    title = "nearfs"
    has_disk_cache = True

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Runs `nearfs serve`."""
        with servers.nearfs_serve(home, line, tree.storage) as url:
            yield _Clients(home, line, tree, url, our_program())


class NearfsNginx(Contender):
    """Our client, nginx as the server."""

    name = "nearfs-nginx"
    title = "nearfs from nginx"
    packages = ("nginx-light",)
    has_disk_cache = True

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Runs nginx."""
        with servers.nginx(home, line, tree.storage) as url:
            yield _Clients(home, line, tree, url, our_program())


class Portable(Contender):
    """Our engine under the Python loop."""

    name = "portable"
    title = "nearfs, loop in Python"
    has_disk_cache = True

    def missing(self) -> str | None:
        """Says whether pyfuse3 is missing."""
        import importlib.util

        return (
            None if importlib.util.find_spec("pyfuse3") else "pyfuse3 is not installed (pip install nearfs[portable])"
        )

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Runs `nearfs serve`."""
        with servers.nearfs_serve(home, line, tree.storage) as url:
            yield _Clients(home, line, tree, url, our_program(), ",loop=python")


class _BehindSquid(CvmfsClient):
    """A client whose site's proxy is empty when its own cache is."""

    def __init__(self, home: Path, line: Line, tree: Tree, url: str, squid: servers.Squid) -> None:
        super().__init__(home, line, tree, url, program=our_program(), proxy=squid.url)
        self._squid = squid

    def mount(self, *, empty_cache: bool) -> float:
        """Empties the proxy as well where the cache is to be empty."""
        if empty_cache:
            self.unmount()
            self._squid.start_empty()
        return super().mount(empty_cache=empty_cache)


class _SquidServing(Serving):
    def __init__(self, home: Path, line: Line, tree: Tree, url: str, squid: servers.Squid) -> None:
        self._home, self._line, self._tree, self._url, self._squid = home, line, tree, url, squid

    def client(self, number: int = 0) -> Client:
        return _BehindSquid(self._home / f"client-{number}", self._line, self._tree, self._url, self._squid)


class NearfsSquid(Contender):
    """Our client behind a Squid at the near end, our server at the far end."""

    name = "nearfs-squid"
    title = "nearfs through Squid"
    packages = ("squid",)
    has_disk_cache = True

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Runs `nearfs serve` and a Squid."""
        squid = servers.Squid(home, line)
        try:
            with servers.nearfs_serve(home, line, tree.storage) as url:
                yield _SquidServing(home, line, tree, url, squid)
        finally:
            squid.stop()


class Reference(Contender):
    """The reference system's client, where one is given by path; nginx as the server."""

    name = "reference"
    title = "CernVM-FS client"
    packages: ClassVar[tuple[str, ...]] = ("nginx-light",)
    has_disk_cache = True

    def missing(self) -> str | None:
        """Says whether it was given."""
        program = os.environ.get(REFERENCE_VARIABLE)
        if not program:
            return f"not given ({REFERENCE_VARIABLE}=/path/to/cvmfs2)"
        return None if shutil.which(program) else f"{REFERENCE_VARIABLE}={program} is no program"

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Runs nginx."""
        with servers.nginx(home, line, tree.storage) as url:
            yield _Clients(home, line, tree, url, os.environ[REFERENCE_VARIABLE])
