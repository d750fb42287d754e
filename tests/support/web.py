"""Web servers inside the test's process: a handler on a free port, a thread a connection, gone with the context."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIMIT_S = 20.0


class Server(ThreadingHTTPServer):
    """Says nothing of clients that give up: that is what many of these tests are about."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def running(server: Server) -> Iterator[None]:
    """Serves until the context ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LIMIT_S)


@contextlib.contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serves on a free port of 127.0.0.1; yields the URL."""
    server = Server(("127.0.0.1", 0), handler)
    with running(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"
