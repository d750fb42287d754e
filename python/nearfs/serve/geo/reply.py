"""Owns the geo API's answers over HTTP: who asks, the status, and how long an answer stays good.

One event loop's thread.
"""

from nearfs.serve.geo.api import Asker, BadRequestError, GeoApi
from nearfs.serve.reply import Reply

GOOD_SECONDS = 3600
BAD_SECONDS = 300


async def send_order(reply: Reply, geo: GeoApi, function: str) -> None:
    """Answers a call of the geo API."""
    asker = Asker(
        peer=reply.peer,
        cloudflare=_header_text(reply, b"cf-connecting-ip"),
        forwarded=_header_text(reply, b"x-forwarded-for"),
    )
    try:
        status, body, seconds = 200, await geo.answer(function, asker), GOOD_SECONDS
    except BadRequestError as problem:
        status, body, seconds = 400, f"Bad Request: {problem}\n", BAD_SECONDS
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"max-age=%d" % seconds)]
    await reply.whole(status, body.encode(), headers)


def _header_text(reply: Reply, name: bytes) -> str | None:
    value = reply.header(name)
    return None if value is None else value.decode("latin-1")
