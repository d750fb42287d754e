"""Owns the listening socket of `nearfs serve` and its limits. Knows nothing of repositories.

`run` belongs to the main thread (`asgi_server`).
"""

import errno
import socket
from collections.abc import Callable
from typing import Any

from nearfs import asgi_server
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


def run(app: Callable[..., Any], listening: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serves `app` on `listening` until SIGTERM or SIGINT, then returns within two seconds.

    `on_ready` is called once, on the event loop, when requests are answered. Transfers that are still under way when
    the grace has passed are cut.
    """
    limits = asgi_server.Limits(keep_alive_s=KEEP_ALIVE_SECONDS, grace_s=GRACE_SECONDS, backlog=BACKLOG)
    asgi_server.run(app, listening, on_ready, loop="uvloop", limits=limits)


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
