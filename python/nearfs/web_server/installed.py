"""The web servers that this machine has: which they are, and how they take over a piece of configuration.

Pieces are written for every server that is installed, and those that run are told. A piece that a server refuses is
taken away again: at its next start it must not fail for our sake.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import InvalidInput, Unreachable
from nearfs.web_server import pieces

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

COMMAND_LIMIT_S = 60.0
"""How long a web server's own command may take."""
ANSWER_LIMIT_S = 60.0
"""How long a piece may take until it serves."""
_REQUEST_LIMIT_S = 5.0
_PAUSE_S = 0.2
_INFO = "cvmfs.info"


def _piece_name(name: str) -> str:
    return f"cvmfs.{name}"


class _WebServer(ABC):
    """One kind of web server on this machine, below `prefix`; its pieces are in `directory`."""

    name: str
    pid_files: tuple[str, ...]

    def __init__(self, prefix: str, directory: Path) -> None:
        self.prefix = prefix
        self.directory = directory

    @classmethod
    @abstractmethod
    def find(cls, prefix: str) -> Self | None:
        """Returns the web server of the machine below `prefix`; nothing where it is not installed."""

    @property
    def is_running(self) -> bool:
        """Tells whether a process of it is there; below a prefix there is none to tell."""
        return not self.prefix and any(_is_alive(Path(path)) for path in self.pid_files)

    @abstractmethod
    def texts(self, name: str, target: Path | str, info: Path) -> dict[str, str]:
        """Returns the pieces that a repository needs, by their names; `target` is a storage, or a source's URL."""

    @abstractmethod
    def enable(self, names: Iterable[str]) -> None:
        """Lets the server read pieces, which are in their directory already, at its next look."""

    @abstractmethod
    def disable(self, names: Iterable[str]) -> None:
        """Lets the server read pieces no more; then they may be removed."""

    @abstractmethod
    def reload(self) -> None:
        """Tells the running server to look; requests under way are finished."""

    def path(self, piece: str) -> Path:
        """Returns the file of a piece."""
        return self.directory / f"{piece}.conf"

    def _command(self, *command: str) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            message = f"fail ({self.name} configuration): {command[0]}: {error}"
            raise Unreachable(message, operation="configure the web server", exit_code=1) from error
        if done.returncode:
            message = f"fail ({self.name} configuration): {' '.join(command)}: {done.stderr.strip()}"
            raise InvalidInput(message, operation="configure the web server", exit_code=1)


class Apache(_WebServer):
    """Apache as Debian or as Red Hat lays it out."""

    name = "Apache"
    pid_files = ("/run/apache2/apache2.pid", "/run/httpd/httpd.pid")
    _DEBIAN, _RED_HAT = "/etc/apache2/conf-available", "/etc/httpd/conf.d"

    @classmethod
    def find(cls, prefix: str) -> Self | None:
        """Returns the Apache of the machine."""
        places = (Path(prefix + place) for place in (cls._DEBIAN, cls._RED_HAT))
        return next((cls(prefix, place) for place in places if place.is_dir()), None)

    @property
    def _is_debian(self) -> bool:
        return self.directory.name == Path(self._DEBIAN).name

    @property
    def _control(self) -> str:
        return "apache2ctl" if self._is_debian else "apachectl"

    def texts(self, name: str, target: Path | str, info: Path) -> dict[str, str]:
        """Returns the pieces that a repository needs, by their names."""
        if isinstance(target, str):
            own = pieces.apache_pass_through(name, target)
        else:
            own = pieces.apache_repository(name, target)
        return {_piece_name(name): own, _INFO: pieces.apache_lists(info)}

    def enable(self, names: Iterable[str]) -> None:
        """Lets Apache read pieces at its next look."""
        if self.prefix:
            return
        if self._is_debian:
            passes_on = any("ProxyPass" in self.path(name).read_text("utf-8") for name in names)
            proxy = ("proxy", "proxy_http") if passes_on else ()
            self._command("a2enmod", "-q", "headers", "expires", *proxy)
            self._command("a2enconf", "-q", *names)
        self._command(self._control, "configtest")

    def disable(self, names: Iterable[str]) -> None:
        """Lets Apache read pieces no more."""
        if self._is_debian and not self.prefix:
            self._command("a2disconf", "-q", *names)

    def reload(self) -> None:
        """Tells the running Apache to look."""
        self._command(self._control, "graceful")


class Nginx(_WebServer):
    """nginx, with a server of its own for all repositories."""

    name = "nginx"
    pid_files = ("/run/nginx.pid",)

    @classmethod
    def find(cls, prefix: str) -> Self | None:
        """Returns the nginx of the machine. The directory of pieces is ours alone: it comes with the first of them."""
        place = Path(prefix + "/etc/nginx")
        return cls(prefix, place / "cvmfs.d") if (place / "conf.d").is_dir() else None

    @property
    def _server(self) -> Path:
        return self.directory.parent / "conf.d" / "cvmfs.conf"

    def texts(self, name: str, target: Path | str, info: Path) -> dict[str, str]:
        """Returns the pieces that a repository needs, by their names."""
        if isinstance(target, str):
            own = pieces.nginx_pass_through(name, target)
        else:
            own = pieces.nginx_repository(name, target)
        return {_piece_name(name): own, _INFO: pieces.nginx_lists(info)}

    def enable(self, names: Iterable[str]) -> None:
        """Lets nginx read pieces at its next look."""
        hosts = list(dict.fromkeys(("localhost", socket.gethostname(), socket.getfqdn())))
        has_ipv6 = Path("/proc/net/if_inet6").exists()
        files.replace(self._server, pieces.nginx_server(hosts, self.directory, has_ipv6=has_ipv6))
        if not self.prefix:
            self._command("nginx", "-t", "-q")

    def disable(self, names: Iterable[str]) -> None:
        """Forgets the server where none of its pieces stays."""
        if set(self.directory.glob("*.conf")) <= {self.path(name) for name in names}:
            files.remove(self._server)

    def reload(self) -> None:
        """Tells the running nginx to look; returns when processes with the former configuration accept nothing more.

        nginx itself only passes the word on. Bounded: what has not noticed in time is left alone.
        """
        before = [worker for path in self.pid_files for worker in _workers(Path(path))]
        self._command("nginx", "-s", "reload")
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while any(_is_accepting(worker) for worker in before) and time.monotonic() < deadline:
            time.sleep(_PAUSE_S / 4)


def installed(prefix: str) -> list[_WebServer]:
    """Returns the web servers of the machine below `prefix`."""
    return [server for kind in (Apache, Nginx) if (server := kind.find(prefix)) is not None]


def write(prefix: str, name: str, target: Path | str, info: Path) -> None:
    """Writes and activates the pieces for repository `name`; `info` is the directory of the lists.

    `target` is the storage, or for one that is passed through the URL of its source.

    Raises InvalidInput or Unreachable (exit code 1) where no server runs or one refuses its piece, which is gone then.
    """
    servers = installed(prefix)
    if not prefix and not any(server.is_running for server in servers):
        message = "fail (Apache configuration): neither Apache nor nginx is running"
        raise InvalidInput(message, operation="configure the web server", exit_code=1)
    for server in servers:
        texts = server.texts(name, target, info)
        own = _piece_name(name)
        for piece, text in texts.items():
            server.path(piece).parent.mkdir(parents=True, exist_ok=True)
            files.replace(server.path(piece), text)
        try:
            server.enable(texts)
        except (InvalidInput, Unreachable):
            server.disable([own])
            files.remove(server.path(own))
            raise
        if server.is_running:
            server.reload()


def remove(prefix: str, name: str, *, is_last: bool) -> None:
    """Deactivates and removes the pieces of a repository, where there are some; the lists' go with the last one."""
    for server in installed(prefix):
        wanted = [_piece_name(name)] + ([_INFO] if is_last else [])
        doomed = [piece for piece in wanted if server.path(piece).exists()]
        if not doomed:
            continue
        server.disable(doomed)
        for piece in doomed:
            files.remove(server.path(piece))
        if server.is_running:
            server.reload()


def wait_until_served(url: str, limit_s: float = ANSWER_LIMIT_S) -> None:
    """Waits until a web server of this machine answers `url`; raises Unreachable (exit code 1) after `limit_s`."""
    deadline = time.monotonic() + limit_s
    # Asked directly: no proxy of the environment is to answer for this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(url, timeout=_REQUEST_LIMIT_S):
                return
        except (OSError, urllib.error.URLError, ValueError) as error:
            if time.monotonic() > deadline:
                message = f"fail (Apache configuration): {url} is not served: {error}"
                raise Unreachable(message, operation="configure the web server", exit_code=1) from error
        time.sleep(_PAUSE_S)


def _workers(pid_file: Path) -> list[Path]:
    """Returns the processes that a master process has now, by their directories under /proc."""
    try:
        parent = int(pid_file.read_text("ascii"))
    except (OSError, ValueError):
        return []
    return [process for process in Path("/proc").glob("[0-9]*") if _parent(process) == parent]


def _parent(process: Path) -> int | None:
    try:
        # The name, in parentheses, may hold anything; state and parent follow it.
        return int((process / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _is_accepting(worker: Path) -> bool:
    """Tells whether a worker takes connections: one that is about to end has closed its ports, and says so."""
    try:
        title = (worker / "cmdline").read_bytes()
    except OSError:
        return False
    return title.startswith(b"nginx:") and b"shutting down" not in title


def _is_alive(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text("ascii")), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True
