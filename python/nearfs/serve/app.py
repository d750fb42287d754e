"""Owns HTTP for repositories: a plain ASGI application that answers GET and HEAD for what `names` allows.

Does not own sockets, signals or processes (`listener` does), nor which directories there are (`roots`). Runs on one
event loop; small files are read at once, because a thread switch costs more than a cached read, and large ones in
pieces by worker threads, so that neither a slow disk nor a slow client holds up other requests.
"""

import asyncio

from nearfs.serve import byte_range, names
from nearfs.serve.access_log import AccessLog
from nearfs.serve.geo import api
from nearfs.serve.geo.api import Asker, BadRequestError, GeoApi
from nearfs.serve.reply import Header, Receive, Reply, Scope, Send
from nearfs.serve.roots import OpenFile, Roots

# Below this a file is read in one go on the event loop: about 0.1 ms from the page cache.
READ_AT_ONCE_BYTES = 256 * 1024
# One piece of a larger file; bounds the memory of a connection together with the server's write buffer.
PIECE_BYTES = 512 * 1024

_ACCEPT_RANGES: Header = (b"accept-ranges", b"bytes")


class RepositoryApp:
    """The ASGI application. `access_log`, when given, gets a line a request."""

    def __init__(self, roots: Roots, access_log: AccessLog | None = None, *, geo: GeoApi | None = None) -> None:
        """Serves what lies under `roots`, and `geo` where there is one.

        The caller closes `access_log` after the server has stopped.
        """
        self._roots = roots
        self._access_log = access_log
        self._geo = geo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request; other kinds of scope (websocket, lifespan) are refused by raising."""
        if scope["type"] != "http":
            raise RuntimeError(f"the repository server speaks HTTP only, not {scope['type']}")
        reply = Reply(scope, send, self._access_log)
        if reply.method not in ("GET", "HEAD"):
            await reply.text(405, "only GET and HEAD are served\n", [(b"allow", b"GET, HEAD")])
            return
        function = None if self._geo is None else api.function_of(scope["path"])
        if self._geo is not None and function is not None:
            await _send_order(reply, self._geo, function)
            return
        name = None if _has_encoded_slash(scope) else names.parse(scope["path"])
        if name is None:
            await reply.text(404, "not found\n")
            return
        await self._send_named(reply, name)

    async def _send_named(self, reply: Reply, name: names.ServedName) -> None:
        """Answers with the file of `name`."""
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


def _has_encoded_slash(scope: Scope) -> bool:
    """Returns whether the path as sent hides a slash; no client of a repository escapes one."""
    raw: bytes | None = scope.get("raw_path")
    return raw is not None and b"%" in raw and b"%2f" in raw.lower()


async def _send_order(reply: Reply, geo: GeoApi, function: str) -> None:
    """Answers a call of the geo API."""
    asker = Asker(
        peer=reply.peer,
        cloudflare=_header_text(reply, b"cf-connecting-ip"),
        forwarded=_header_text(reply, b"x-forwarded-for"),
    )
    try:
        status, body, seconds = 200, await geo.answer(function, asker), api.GOOD_SECONDS
    except BadRequestError as problem:
        status, body, seconds = 400, f"Bad Request: {problem}\n", api.BAD_SECONDS
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"max-age=%d" % seconds)]
    await reply.whole(status, body.encode(), headers)


def _header_text(reply: Reply, name: bytes) -> str | None:
    value = reply.header(name)
    return None if value is None else value.decode("latin-1")


async def _send_file(reply: Reply, name: names.ServedName, opened: OpenFile) -> None:
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


def _asked_range(reply: Reply, size: int) -> tuple[int, int] | None:
    """Returns the range to send, or None for the whole file."""
    asked = reply.header(b"range")
    # Ranges are defined for GET; and with no validator of ours, If-Range can never match: the whole file, then.
    if asked is None or reply.method != "GET" or reply.header(b"if-range") is not None:
        return None
    return byte_range.parse(asked, size)


async def _send_at_once(
    reply: Reply, opened: OpenFile, status: int, headers: list[Header], offset: int, length: int
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
    reply: Reply, opened: OpenFile, status: int, headers: list[Header], offset: int, length: int
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
