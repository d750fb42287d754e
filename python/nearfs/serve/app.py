"""Owns HTTP for repositories: a plain ASGI application that answers GET and HEAD for what `names` allows.

Does not own sockets, signals or processes (`listener` does), nor which directories there are (`roots`). Runs on one
event loop; small files are read at once, because a thread switch costs more than a cached read, and large ones in
pieces by worker threads, so that neither a slow disk nor a slow client holds up other requests.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from nearfs.serve import byte_range, names
from nearfs.serve.access_log import AccessLog
from nearfs.serve.roots import OpenFile, Roots

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

# Below this a file is read in one go on the event loop: about 0.1 ms from the page cache.
READ_AT_ONCE_BYTES = 256 * 1024
# One piece of a larger file; bounds the memory of a connection together with the server's write buffer.
PIECE_BYTES = 512 * 1024

_PLAIN_TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")
_ACCEPT_RANGES: Header = (b"accept-ranges", b"bytes")


class RepositoryApp:
    """The ASGI application. `access_log`, when given, gets a line a request."""

    def __init__(self, roots: Roots, access_log: AccessLog | None = None) -> None:
        """Serves what lies under `roots`; the caller closes `access_log` after the server has stopped."""
        self._roots = roots
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request; other kinds of scope (websocket, lifespan) are refused by raising."""
        if scope["type"] != "http":
            raise RuntimeError(f"the repository server speaks HTTP only, not {scope['type']}")
        reply = _Reply(scope, send, self._access_log)
        if reply.method not in ("GET", "HEAD"):
            await reply.text(405, "only GET and HEAD are served\n", [(b"allow", b"GET, HEAD")])
            return
        name = None if _has_encoded_slash(scope) else names.parse(scope["path"])
        if name is None:
            await reply.text(404, "not found\n")
            return
        try:
            opened = self._roots.open(name)
        except OSError:
            await reply.text(500, "the file exists but cannot be read\n")
            return
        if opened is None:
            await reply.text(404, "not found\n")
            return
        try:
            await _send_file(reply, name, opened)
        finally:
            opened.close()


class _Reply:
    """One answer: what of the request it needs, and how its parts are sent and logged."""

    __slots__ = ("_access_log", "_logged", "_scope", "_send", "_sent_bytes", "_status", "method")

    def __init__(self, scope: Scope, send: Send, access_log: AccessLog | None) -> None:
        self._scope = scope
        self._send = send
        self._access_log = access_log
        self._status = 0
        self._sent_bytes = 0
        self._logged = False
        self.method: str = scope["method"]

    async def text(self, status: int, sentence: str, extra: Iterable[Header] = ()) -> None:
        """Sends a whole short answer in words."""
        body = sentence.encode()
        await self.start(status, [_PLAIN_TEXT, (b"content-length", b"%d" % len(body)), *extra])
        await self.body(b"" if self.method == "HEAD" else body, more=False)

    async def start(self, status: int, headers: list[Header]) -> None:
        """Sends status and headers."""
        self._status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, part: bytes, *, more: bool) -> None:
        """Sends `part` of the body."""
        self._sent_bytes += len(part)
        if not more:
            # Before the last byte leaves: a client that has its whole answer finds it in the log.
            self.log()
        await self._send({"type": "http.response.body", "body": part, "more_body": more})

    def log(self) -> None:
        """Writes the log line, once."""
        if self._access_log is not None and not self._logged:
            self._logged = True
            self._access_log.record(self.method, self._scope["path"], self._status, self._sent_bytes)

    def header(self, name: bytes) -> bytes | None:
        """Returns the request header `name` (lower case), joined by commas when it came several times."""
        values = [value for key, value in self._scope["headers"] if key == name]
        return b",".join(values) if values else None


def _has_encoded_slash(scope: Scope) -> bool:
    """Returns whether the path as sent hides a slash; no client of a repository escapes one."""
    raw: bytes | None = scope.get("raw_path")
    return raw is not None and b"%" in raw and b"%2f" in raw.lower()


async def _send_file(reply: _Reply, name: names.ServedName, opened: OpenFile) -> None:
    """Answers with `opened`, or with the range of it that was asked for."""
    headers: list[Header] = [
        (b"content-type", name.content_type),
        (b"cache-control", b"max-age=%d" % name.max_age_seconds),
        _ACCEPT_RANGES,
    ]
    size = opened.size
    try:
        asked = _asked_range(reply, size)
    except byte_range.UnsatisfiableRangeError:
        await reply.text(416, "the range lies outside the file\n", [(b"content-range", b"bytes */%d" % size)])
        return
    status, (offset, length) = (200, (0, size)) if asked is None else (206, asked)
    headers.append((b"content-length", b"%d" % length))
    if asked is not None:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (offset, offset + length - 1, size)))
    if reply.method == "HEAD":
        await reply.start(status, headers)
        await reply.body(b"", more=False)
    elif length < READ_AT_ONCE_BYTES:
        await _send_at_once(reply, opened, status, headers, offset, length)
    else:
        await _send_in_pieces(reply, opened, status, headers, offset, length)


def _asked_range(reply: _Reply, size: int) -> tuple[int, int] | None:
    """Returns the range to send, or None for the whole file."""
    asked = reply.header(b"range")
    # Ranges are defined for GET; and with no validator of ours, If-Range can never match: the whole file, then.
    if asked is None or reply.method != "GET" or reply.header(b"if-range") is not None:
        return None
    return byte_range.parse(asked, size)


async def _send_at_once(
    reply: _Reply, opened: OpenFile, status: int, headers: list[Header], offset: int, length: int
) -> None:
    """Reads, then answers: what cannot be read can still become an honest status."""
    try:
        body = opened.read(offset, length)
    except OSError:
        await reply.text(500, "the file exists but cannot be read\n")
        return
    await reply.start(status, headers)
    await reply.body(body, more=False)


async def _send_in_pieces(
    reply: _Reply, opened: OpenFile, status: int, headers: list[Header], offset: int, length: int
) -> None:
    """Streams; an error midway raises, and the server then cuts the connection: the client sees a short body."""
    await reply.start(status, headers)
    end = offset + length
    try:
        while offset < end:
            step = min(PIECE_BYTES, end - offset)
            piece = await asyncio.to_thread(opened.read, offset, step)
            offset += step
            await reply.body(piece, more=offset < end)
    finally:
        reply.log()
