"""The life of an ASGI server on a socket that is there already: start, ready, stop.

Owns: how uvicorn is set up, and the signals while it serves. Does not own: the socket and what is answered, which
`nearfs serve` and the Docker volume plugin bring. `run` belongs to the main thread: it takes over SIGTERM and SIGINT.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import uvicorn


@dataclass(frozen=True)
class Limits:
    """How a server treats those who ask; what is left out is uvicorn's own."""

    keep_alive_s: int = 5
    """How long a connection may be silent between two requests."""
    grace_s: int | None = None
    """How long requests under way may take at a stop until they are cut; None lets each end by its own limit."""
    backlog: int = 2048
    """Connections that the kernel holds until they are accepted."""


# uvicorn types an application by TypedDicts of its own; ours is the same shape in plain mappings.
def run(
    app: Callable[..., Any],
    listening: socket.socket,
    on_ready: Callable[[], None],
    *,
    loop: Literal["asyncio", "uvloop"] = "asyncio",
    limits: Limits | None = None,
) -> None:
    """Serves `app` on `listening` until SIGTERM or SIGINT, then returns when requests under way had their grace.

    `on_ready` is called once, on the event loop, when requests are answered. A second signal ends all at once.
    """
    limits = limits or Limits()
    config = uvicorn.Config(
        app,
        loop=loop,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.keep_alive_s,
        timeout_graceful_shutdown=limits.grace_s,
        backlog=limits.backlog,
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
