"""A forward proxy, or a mirror in front of a server, whose behaviour a test changes while it runs.

Owns a thread for each connection; all end with the context. As a proxy it answers full URLs and CONNECT; as a mirror
(`upstream` given) paths. What each behaviour is: `Behaviour`.
"""

import contextlib
import http.client
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.support import web

Behaviour = Literal[
    "good",
    "refuse",  # new connections are reset, kept ones closed
    "silent",  # no answer at all
    "stall",  # half the body, then nothing, with the connection kept
    "trickle",  # a body of a byte now and then
    "trickle-header",  # header lines now and then, for ever
    "endless-header",  # header lines as fast as they are taken
    "endless-body",  # the right body, then noise, for ever
    "truncate",  # half the body, then the end of the connection
    "too-short",  # a length that is half of the body, which follows whole on a connection that is kept
    "corrupt",  # a wrong byte in every object
    "garbage",  # no HTTP
    "loop",  # a redirection to itself
    "astray",  # a redirection to what is no web server
    "206",  # a part of the body, which nobody asked for
    "403",
    "404",
    "503",
]
_SLICE_S = 0.05
_counting = threading.Lock()
_NOISE = os.urandom(65_536)


@dataclass
class Box:
    """A running proxy or mirror; `behaviour` and `pause_s`, before an answer, hold for requests from now on."""

    url: str
    asked: list[str] = field(default_factory=list)
    behaviour: Behaviour = "good"
    pause_s: float = 0.0
    under_way: int = 0
    most_at_a_time: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    listener: socket.socket | None = None

    @contextlib.contextmanager
    def being(self, behaviour: Behaviour) -> Iterator[None]:
        """Behaves like that for a while; the only way to "refuse"."""
        before, self.behaviour = self.behaviour, behaviour
        if behaviour == "refuse" and self.listener:
            # Linux keeps a chosen port bound, resets who connects, and listens again when told.
            self.listener.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            self.behaviour = before
            if behaviour == "refuse" and self.listener:
                self.listener.listen(_Server.request_queue_size)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    box: Box
    upstream: str | None

    def do_GET(self) -> None:
        box = self.box
        box.asked.append(self.path)
        with _counting:
            box.under_way += 1
            box.most_at_a_time = max(box.most_at_a_time, box.under_way)
        try:
            box.ended.wait(box.pause_s)
            self._answer(box)
        finally:
            with _counting:
                box.under_way -= 1

    def _answer(self, box: Box) -> None:
        behaviour = box.behaviour
        if behaviour in ("refuse", "silent", "garbage", "trickle-header", "endless-header"):
            self._answer_without_a_head(behaviour)
            return
        if behaviour in ("loop", "astray", "403", "404", "503"):
            self._answer_without_a_body(behaviour)
            return
        status, body = self._fetch()
        self.send_response(206 if behaviour == "206" else status)
        if behaviour == "corrupt" and "/data/" in self.path:
            body = bytes([body[0] ^ 0xFF]) + body[1:]
        if behaviour == "206":
            body = body[: len(body) // 2]
            self.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{2 * len(body)}")
        if behaviour in {"good", "corrupt", "206"}:
            self._end(body)
            return
        self._answer_badly(behaviour, body)

    def _answer_without_a_head(self, behaviour: Behaviour) -> None:
        self.close_connection = True
        if behaviour == "silent":
            self._pause_while("silent")
        elif behaviour == "garbage":
            self.wfile.write(b"220 mail.example.org ESMTP\r\n")
        elif behaviour != "refuse":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            pause_s = _SLICE_S if behaviour == "trickle-header" else 0.0
            while self.box.behaviour == behaviour and not self.box.ended.wait(pause_s):
                self.wfile.write(b"X-More: " + b"m" * (50 if pause_s else 8_000) + b"\r\n")

    def _answer_without_a_body(self, behaviour: Behaviour) -> None:
        self.send_response(int(behaviour) if behaviour.isdigit() else 302)
        if not behaviour.isdigit():
            self.send_header("Location", self.path if behaviour == "loop" else "ftp://ftp.example.org/")
        elif self.upstream is None:
            self.send_header("X-Squid-Error", "ERR_LAB 0")
        self._end(b"")

    def _answer_badly(self, behaviour: Behaviour, body: bytes) -> None:
        half = len(body) // 2
        if behaviour == "too-short":
            self.send_header("Content-Length", str(half))
            self.end_headers()
            self.wfile.write(body)
            return
        self.close_connection = True
        if behaviour != "endless-body":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "trickle":
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.box.ended.wait(_SLICE_S) or self.box.behaviour != "trickle":
                    break
        elif behaviour == "endless-body":
            self.wfile.write(body)
            while self.box.behaviour == behaviour and not self.box.ended.is_set():
                self.wfile.write(_NOISE)
        else:
            self.wfile.write(body[:half])
            self._pause_while("stall")

    def do_CONNECT(self) -> None:
        self.box.asked.append(f"CONNECT {self.path}")
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=web.LIMIT_S) as there:
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
        there = http.client.HTTPConnection(url.netloc, timeout=web.LIMIT_S)
        with contextlib.closing(there):
            there.request("GET", url.path)
            answer = there.getresponse()
            return answer.status, answer.read()

    def _end(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _pause_while(self, behaviour: Behaviour) -> None:
        while self.box.behaviour == behaviour and not self.box.ended.wait(_SLICE_S):
            pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        pass


class _Server(web.Server):
    def server_bind(self) -> None:
        host, port = str(self.server_address[0]), int(self.server_address[1])
        if port == 0:
            # A port that the kernel chose while binding would be given up when this refuses.
            with socket.socket() as probe:
                probe.bind((host, 0))
                port = probe.getsockname()[1]
        self.server_address = (host, port)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            # It refuses; the loop around would ask again at once.
            time.sleep(_SLICE_S)
            raise


@contextlib.contextmanager
def box(
    upstream: str | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    name: str | None = None,
    at: tuple[str, int] = ("127.0.0.1", 0),
    enter: Callable[[Callable[[], _Server]], _Server] = lambda listen: listen(),
) -> Iterator[Box]:
    """Runs a proxy, or with `upstream` (a URL without a path) a mirror of it; its URL holds `name` or its address.

    `enter` calls what listens where the caller wants it, such as in another network namespace.
    """

    class Handler(_Handler):
        pass

    server = enter(lambda: _Server(at, Handler))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    running = Box(f"{'https' if tls else 'http'}://{name or at[0]}:{server.server_address[1]}", listener=server.socket)
    Handler.box, Handler.upstream = running, upstream
    with web.running(server):
        try:
            yield running
        finally:
            running.ended.set()
