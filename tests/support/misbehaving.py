"""A forward proxy, or a mirror in front of a server, whose behaviour a test changes while it runs.

Owns a thread for each connection; all end with the context. As a proxy it answers full URLs and CONNECT; as a mirror
(`upstream` given) paths.
"""

import contextlib
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Behaviour = Literal["good", "silent", "trickle", "truncate", "corrupt", "503", "404", "loop"]
LIMIT_S = 20.0
_SLICE_S = 0.05


@dataclass
class Box:
    """A running proxy or mirror; `behaviour` holds for requests from now on."""

    url: str
    asked: list[str] = field(default_factory=list)
    behaviour: Behaviour = "good"
    ended: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    box: Box
    upstream: str | None

    def do_GET(self) -> None:
        box = self.box
        box.asked.append(self.path)
        if box.behaviour == "silent":
            self._be_silent()
            return
        if box.behaviour in ("503", "404", "loop"):
            self.send_response(302 if box.behaviour == "loop" else int(box.behaviour))
            if box.behaviour == "loop":
                self.send_header("Location", self.path)
            self._end(b"")
            return
        status, body = self._fetch()
        self.send_response(status)
        if box.behaviour == "corrupt" and "/data/" in self.path:
            body = bytes([body[0] ^ 0xFF]) + body[1:]
        if box.behaviour in {"good", "corrupt"}:
            self._end(body)
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if box.behaviour == "trickle":
            for byte in body:
                self.wfile.write(bytes([byte]))
                if box.ended.wait(_SLICE_S) or box.behaviour != "trickle":
                    break
        else:
            self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def do_CONNECT(self) -> None:
        self.box.asked.append(f"CONNECT {self.path}")
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=LIMIT_S) as there:
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            ends = {self.connection: there, there: self.connection}
            while not self.box.ended.is_set():
                for end in select.select(list(ends), [], [], _SLICE_S)[0]:
                    piece = end.recv(65_536)
                    if not piece:
                        self.close_connection = True
                        return
                    ends[end].sendall(piece)
        self.close_connection = True

    def _fetch(self) -> tuple[int, bytes]:
        url = urlsplit((self.upstream or "") + self.path)
        there = http.client.HTTPConnection(url.netloc, timeout=LIMIT_S)
        with contextlib.closing(there):
            there.request("GET", url.path)
            answer = there.getresponse()
            return answer.status, answer.read()

    def _end(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _be_silent(self) -> None:
        while self.box.behaviour == "silent" and not self.box.ended.wait(_SLICE_S):
            pass
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Clients that give up are what these tests are about.
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def box(
    upstream: str | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    name: str | None = None,
    at: tuple[str, int] = ("127.0.0.1", 0),
) -> Iterator[Box]:
    """Runs a proxy, or with `upstream` (a URL without a path) a mirror of it; its URL holds `name` or its address."""

    class Handler(_Handler):
        pass

    server = _Server(at, Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    running = Box(f"{'https' if tls else 'http'}://{name or at[0]}:{server.server_address[1]}")
    Handler.box, Handler.upstream = running, upstream
    thread = threading.Thread(target=server.serve_forever, args=(_SLICE_S,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(LIMIT_S)
