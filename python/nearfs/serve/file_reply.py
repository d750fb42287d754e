"""Owns how a file is answered: its headers, ranges, and its bytes in pieces that bound memory.

Does not own which file (`roots`) nor who may have it (`names`). One event loop's thread; worker
threads read large files.
"""

import asyncio

from nearfs.serve import byte_range, names
from nearfs.serve.reply import Header, Reply
from nearfs.serve.roots import OpenFile

# Below this a file is read in one go on the event loop: about 0.1 ms from the page cache.
READ_AT_ONCE_BYTES = 256 * 1024
# One piece of a larger file; bounds the memory of a connection together with the server's write buffer.
PIECE_BYTES = 512 * 1024

_ACCEPT_RANGES: Header = (b"accept-ranges", b"bytes")


async def send_file(reply: Reply, name: names.ServedName, opened: OpenFile) -> None:
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
        reply.end()
