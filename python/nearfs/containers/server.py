"""The plugin's Unix socket and the life of its server: start, ready, stop.

Owns: making the socket or taking it over from systemd, and the signals while it serves. Does not own: what is answered
(`protocol`). `run` belongs to the main thread, because it takes over SIGTERM and SIGINT.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
from typing import TYPE_CHECKING, Any

import uvicorn

from nearfs.errors import Busy, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Only Docker, which is root, may ask: who mounts volumes is root on this machine.
SOCKET_MODE = 0o600
_FIRST_PASSED = 3  # sd_listen_fds(3)
_BACKLOG = 128
_PROBE_LIMIT_S = 2.0


def listen(path: Path) -> tuple[socket.socket, bool]:
    """Returns the listening socket, and whether systemd made it (who then also removes it).

    Raises `Busy` where another plugin answers there, `PermissionDenied` where the socket cannot be made.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
        os.set_inheritable(_FIRST_PASSED, False)
        return socket.socket(fileno=_FIRST_PASSED), True
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _clear(path)
        listening.bind(str(path))
        os.chmod(path, SOCKET_MODE)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        message = f"cannot listen on {path}: {error.strerror or error}; the plugin of Docker runs as root"
        raise PermissionDenied(message, operation="listen", subject=str(path)) from error
    except BaseException:
        listening.close()
        raise
    return listening, False


def _clear(path: Path) -> None:
    """Removes the socket of a plugin that died; raises `Busy` where one lives."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Busy(f"{path} is no socket; move it away", operation="listen", subject=str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_LIMIT_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass  # it hangs: somebody is there
    raise Busy(f"another plugin answers at {path}; stop it first", operation="listen", subject=str(path))


# uvicorn types an application by TypedDicts of its own; ours is the same shape in plain mappings.
def run(app: Callable[..., Any], listening: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serves `app` until SIGTERM or SIGINT; what is under way is answered first, within its own limit."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
    )
    _Server(config, on_ready).run(sockets=[listening])


class _Server(uvicorn.Server):
    """The server with an announcement, and with signals that end in a return instead of being raised again."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, then announces."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Lets SIGTERM and SIGINT stop the loop."""
        loop = asyncio.get_running_loop()
        stops = (signal.SIGTERM, signal.SIGINT)
        for stop in stops:
            loop.add_signal_handler(stop, self._stop)
        try:
            yield
        finally:
            for stop in stops:
                loop.remove_signal_handler(stop)

    def _stop(self) -> None:
        self.should_exit = True
