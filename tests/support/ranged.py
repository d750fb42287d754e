"""A web server of files that are no repository: external data. Answers byte ranges, and remembers what it was asked.

Owns a thread for each connection; all end with the context.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote_to_bytes, urlsplit

from tests.support import web


@dataclass
class Files:
    """A running server; `content` by path, as it is from now on."""

    url: str
    content: dict[bytes, bytes]
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path as it was sent, and the value of `Range`."""
    told: list[str | None] = field(default_factory=list)
    """The value of `cvmfs-info`."""


@contextlib.contextmanager
def files(content: Mapping[bytes, bytes]) -> Iterator[Files]:
    """Serves `content` on a free port; a full URL (asked of a proxy) counts as its path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers["Range"]
            shown.asked.append((self.path, asked))
            shown.told.append(self.headers["cvmfs-info"])
            body = shown.content.get(unquote_to_bytes(urlsplit(self.path).path))
            if body is None:
                self.send_response(404)
                body = b""
            elif asked is None:
                self.send_response(200)
            else:
                first, last = (int(number) for number in re.findall(r"[0-9]+", asked))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
                body = body[first : last + 1]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            pass

    with web.listening(Handler) as url:
        shown = Files(url, dict(content))
        yield shown
