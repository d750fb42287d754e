"""Owns HTTP for repositories: a plain ASGI application that answers GET and HEAD for what `names` allows.

Does not own sockets, signals or processes (`listener` does), nor which directories there are (`roots`). Runs on one
event loop; small files are read at once, because a thread switch costs more than a cached read, and large ones in
pieces by worker threads, so that neither a slow disk nor a slow client holds up other requests.
"""

from nearfs.serve import names
from nearfs.serve.access_log import AccessLog
from nearfs.serve.file_reply import send_file
from nearfs.serve.geo import api
from nearfs.serve.geo.api import GeoApi
from nearfs.serve.geo.reply import send_order
from nearfs.serve.reply import Receive, Reply, Scope, Send
from nearfs.serve.roots import Roots
from nearfs.serve.status.pages import StatusPages
from nearfs.serve.traffic import Traffic


class RepositoryApp:
    """The ASGI application. `access_log`, when given, gets a line a request."""

    def __init__(
        self,
        roots: Roots,
        access_log: AccessLog | None = None,
        *,
        geo: GeoApi | None = None,
        pages: StatusPages | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        """Serves what lies under `roots`, and `geo` and `pages` where there are some; counts into `traffic`.

        The caller closes `access_log` after the server has stopped.
        """
        self._roots = roots
        self._access_log = access_log
        self._geo = geo
        self._pages = pages
        self._traffic = traffic or Traffic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request; other kinds of scope (websocket, lifespan) are refused by raising."""
        if scope["type"] != "http":
            raise RuntimeError(f"the repository server speaks HTTP only, not {scope['type']}")
        reply = Reply(scope, send, self._traffic, self._access_log)
        path: str = scope["path"]
        if reply.method not in ("GET", "HEAD"):
            await reply.text(405, "only GET and HEAD are served\n", [(b"allow", b"GET, HEAD")])
        elif (name := None if _has_encoded_slash(scope) else names.parse(path)) is not None:
            await self._send_named(reply, name)
        elif self._geo is not None and (function := api.function_of(path)) is not None:
            reply.kind = "geo"
            await send_order(reply, self._geo, function)
        elif self._pages is not None and self._pages.has(path):
            reply.kind = "status"
            await self._pages.send(reply, path)
        else:
            await reply.text(404, "not found\n")

    async def _send_named(self, reply: Reply, name: names.ServedName) -> None:
        """Answers with the file of `name`."""
        reply.kind = name.kind
        try:
            opened = self._roots.open(name)
        except OSError:
            await reply.text(500, "the file exists but cannot be read\n")
            return
        if opened is None:
            await reply.text(404, "not found\n")
            return
        reply.repository = name.repository
        try:
            await send_file(reply, name, opened)
        finally:
            opened.close()


def _has_encoded_slash(scope: Scope) -> bool:
    """Returns whether the path as sent hides a slash; no client of a repository escapes one."""
    raw: bytes | None = scope.get("raw_path")
    return raw is not None and b"%" in raw and b"%2f" in raw.lower()
