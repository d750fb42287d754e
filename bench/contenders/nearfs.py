"""nearfs: our client, from our server or nginx, directly or through a Squid of the site; and the reference client.

Owns which server stands at the far end and which client at the near end. All take the same published repository.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType

from bench.contenders.cvmfs_client import CvmfsClient
from bench.harness import ours
from bench.harness.commands import Counts
from bench.harness.contender import Client, Contender, Serving, Tree
from bench.harness.variant import BUNDLES, PACKS, PLAIN, Variant
from bench.lab import servers
from bench.lab.line import Line

REFERENCE_VARIABLE = "BENCH_REFERENCE_CVMFS2"
_ASK_LIMIT_S = 60.0

StartServer = Callable[[Path, Line, Path], AbstractContextManager[servers.WebServer]]


def our_program() -> str:
    """Returns our client's command, as installed beside this interpreter."""
    return str(ours.BIN / "cvmfs2")


class _BehindSquid(CvmfsClient):
    """A client whose site's proxy is empty when its own cache is."""

    def __init__(self, home: Path, line: Line, tree: Tree, url: str, way: "OverHttp", squid: servers.Squid) -> None:
        super().__init__(home, line, tree, url, program=way.program(), proxy=squid.url, settings=way.settings)
        self._squid = squid

    def mount(self, *, empty_cache: bool) -> float:
        """Empties the proxy as well where the cache is to be empty."""
        if empty_cache:
            self.unmount()
            self._squid.start_empty()
        return super().mount(empty_cache=empty_cache)

    def forget_content(self) -> None:
        """Empties the proxy as well."""
        super().forget_content()
        self._squid.start_empty()


class _Serving(Serving):
    """A running web server, and the Squid before it where there is one."""

    def __init__(self, way: "OverHttp", home: Path, line: Line, tree: Tree, server: servers.WebServer) -> None:
        self._way, self._home, self._line, self._tree, self._server = way, home, line, tree, server
        self.squid = servers.Squid(home, line) if way.has_squid else None

    def client(self, number: int = 0) -> Client:
        home, way, url = self._home / f"client-{number}", self._way, self._server.url
        if self.squid is not None:
            return _BehindSquid(home, self._line, self._tree, url, way, self.squid)
        words = {"program": way.program(), "options": way.options}
        return CvmfsClient(home, self._line, self._tree, url, **words, settings=way.settings)

    def served(self) -> Counts:
        """Returns what the server logged."""
        return self._server.served()


class OverHttp(Contender):
    """A client of CernVM-FS repositories and a web server, with or without a Squid at the near end."""

    has_disk_cache = True

    def __init__(
        self,
        name: str,
        server: StartServer,
        *,
        has_squid: bool = False,
        options: str = "",
        learns: bool = False,
        variant: Variant = PLAIN,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.has_squid = has_squid
        self.learns = learns
        self.variant = variant
        #: Further parameters of the client.
        self.settings = settings
        #: Further mount options, each with a comma before it.
        self.options = options
        self._start_server = server
        nginx = ("nginx-light",) if server is servers.nginx else ()
        self.packages = (*nginx, "squid") if has_squid else nginx

    def program(self) -> str:
        """Returns the client's command."""
        return our_program()

    @contextlib.contextmanager
    def serving(self, home: Path, line: Line, tree: Tree) -> Iterator[Serving]:
        """Runs the server, and ends the Squid that clients started."""
        with self._start_server(home, line, tree.storage) as server:
            serving = _Serving(self, home, line, tree, server)
            try:
                yield serving
            finally:
                if serving.squid is not None:
                    serving.squid.stop()


class Bundled(OverHttp):
    """A repository in which what programs read was recorded."""

    def __init__(self, name: str, *, has_squid: bool = False) -> None:
        super().__init__(name, servers.nearfs_serve, has_squid=has_squid, learns=True, variant=BUNDLES)

    def missing(self) -> str | None:
        """Says whether this build cannot record."""
        command = [str(ours.BIN / "nearfs"), "bundle", "--help"]
        done = subprocess.run(command, capture_output=True, timeout=_ASK_LIMIT_S, check=False)
        return "this build of nearfs has no command `bundle`" if done.returncode else None


class Portable(OverHttp):
    """Our engine under the Python loop."""

    def missing(self) -> str | None:
        """Says whether pyfuse3 is missing."""
        is_there = importlib.util.find_spec("pyfuse3") is not None
        return None if is_there else "pyfuse3 is not installed (pip install 'nearfs[portable]')"


class Reference(OverHttp):
    """The reference system's client, where one is given by path."""

    def program(self) -> str:
        """Returns the command that was given."""
        return os.environ[REFERENCE_VARIABLE]

    def missing(self) -> str | None:
        """Says whether it was given."""
        program = os.environ.get(REFERENCE_VARIABLE)
        if not program:
            return f"not given ({REFERENCE_VARIABLE}=/path/to/cvmfs2)"
        return None if shutil.which(program) else f"{REFERENCE_VARIABLE}={program} is no program"


ALL = (
    OverHttp("nearfs", servers.nearfs_serve, learns=True),
    OverHttp("nearfs-packs", servers.nearfs_serve, learns=True, variant=PACKS),
    Bundled("nearfs-bundles"),
    OverHttp("nearfs-off", servers.nearfs_serve, settings={"NEARFS_PREFETCH": "no"}),
    OverHttp("nearfs-nginx", servers.nginx),
    OverHttp("nearfs-squid", servers.nearfs_serve, has_squid=True, learns=True),
    OverHttp("nearfs-packs-squid", servers.nearfs_serve, has_squid=True, learns=True, variant=PACKS),
    Bundled("nearfs-bundles-squid", has_squid=True),
    OverHttp("nearfs-nginx-squid", servers.nginx, has_squid=True),
    Portable("portable", servers.nearfs_serve, options=",loop=python"),
    Reference("reference", servers.nginx),
)
