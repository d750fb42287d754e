"""A forward proxy for tests, as a site has one: every GET by a full URL is passed on.

Owns a thread for each connection; all end with the context. Counts what it was asked.
"""

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.support import web


@dataclass
class Proxy:
    """A running proxy; `is_broken` makes it answer 503 in its own name."""

    url: str
    asked: list[str] = field(default_factory=list)
    is_broken: bool = False


@contextlib.contextmanager
def proxying() -> Iterator[Proxy]:
    """Runs a proxy on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            proxy.asked.append(self.path)
            if proxy.is_broken:
                self.send_response(503)
                self.send_header("X-Squid-Error", "ERR_CANNOT_FORWARD 0")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            url = urlsplit(self.path)
            host = http.client.HTTPConnection(url.netloc, timeout=web.LIMIT_S)
            host.request("GET", url.path)
            answer = host.getresponse()
            body = answer.read()
            host.close()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            pass

    with web.listening(Handler) as url:
        proxy = Proxy(url)
        yield proxy
