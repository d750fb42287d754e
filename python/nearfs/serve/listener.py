"""Owns the listening socket and the life of the HTTP server: start, ready, stop. Knows nothing of repositories.

`run` belongs to the main thread, because it takes over SIGTERM and SIGINT while it runs.
"""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from nearfs.errors import Busy, InvalidInput, NearfsError, PermissionDenied

# A client's pooled connection should outlive its pause between two requests: mounts ask again after their TTL.
KEEP_ALIVE_SECONDS = 75
# Together with the polling of the server loop, a stop takes less than two seconds.
GRACE_SECONDS = 1
# A client that accepts no byte for so long is gone; it would hold a descriptor for ever otherwise.
STALLED_CLIENT_SECONDS = 120
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket on `host` (a name or an address) and `port` (0: any free one).

    Raises Busy, PermissionDenied or InvalidInput, each with exit code 1.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as problem:
        raise InvalidInput(
            f"cannot listen on host {host!r}: {problem}; name another with --host", exit_code=1
        ) from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it; it also covers a client that keeps its receive window shut.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_CLIENT_SECONDS * 1000)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as problem:
        listening.close()
        raise _refusal(host, port, problem) from None
    return listening


def base_url(listening: socket.socket) -> str:
    """Returns the URL of the bound address, such as `http://127.0.0.1:8000`."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# uvicorn types an application by TypedDicts of its own; ours is the same shape in plain mappings.
def run(app: Callable[..., Any], listening: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serves `app` on `listening` until SIGTERM or SIGINT, then returns within two seconds.

    `on_ready` is called once, on the event loop, when requests are answered. Transfers that are still under way when
    the grace has passed are cut.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=BACKLOG,
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
        """Lets SIGTERM and SIGINT stop the loop; a second one ends it without grace."""
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
        self.force_exit = self.should_exit
        self.should_exit = True


def _refusal(host: str, port: int, problem: OSError) -> NearfsError:
    """Returns the error for an address that could not be bound."""
    if problem.errno == errno.EADDRINUSE:
        return Busy(
            f"cannot listen on {host} port {port}: another program uses it; "
            "choose another with --port, or --port 0 for any free one",
            exit_code=1,
        )
    if problem.errno == errno.EACCES:
        return PermissionDenied(
            f"cannot listen on {host} port {port}: permission denied; choose a port above 1023 with --port", exit_code=1
        )
    return InvalidInput(
        f"cannot listen on {host} port {port}: {problem.strerror}; choose another address with --host", exit_code=1
    )
