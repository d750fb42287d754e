"""Owns one answer of the server: what of the request it needs, how its parts are sent, logged and counted.

Does not own what is answered. One event loop's thread.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from nearfs.serve.access_log import AccessLog
from nearfs.serve.traffic import Traffic

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_PLAIN_TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")


class Reply:
    """One answer to one request."""

    __slots__ = (
        "_access_log",
        "_logged",
        "_scope",
        "_send",
        "_sent_bytes",
        "_status",
        "_traffic",
        "kind",
        "method",
        "repository",
    )

    def __init__(self, scope: Scope, send: Send, traffic: Traffic, access_log: AccessLog | None) -> None:
        """Answers the request of `scope` by `send`; `access_log`, when given, gets a line.

        `kind` and `repository` are what `traffic` counts it under: the caller says when it knows.
        """
        self._scope = scope
        self._send = send
        self._traffic = traffic
        self._access_log = access_log
        self.kind = "other"
        self.repository: str | None = None
        self._status = 0
        self._sent_bytes = 0
        self._logged = False
        self.method: str = scope["method"]

    @property
    def peer(self) -> str | None:
        """The address that the request came from; None where there is none, as on a Unix socket."""
        client = self._scope.get("client")
        return client[0] if client else None

    async def text(self, status: int, sentence: str, extra: Iterable[Header] = ()) -> None:
        """Sends a whole short answer in words."""
        await self.whole(status, sentence.encode(), [_PLAIN_TEXT, *extra])

    async def whole(self, status: int, body: bytes, headers: Iterable[Header]) -> None:
        """Sends a whole answer, or its head where only that was asked for."""
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
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
            self.end()
        await self._send({"type": "http.response.body", "body": part, "more_body": more})

    def end(self) -> None:
        """Counts the answer and writes its log line, once."""
        if self._logged:
            return
        self._logged = True
        self._traffic.count(self.kind, self._status, self._sent_bytes, self.repository)
        if self._access_log is not None:
            self._access_log.record(self.method, self._scope["path"], self._status, self._sent_bytes)

    def header(self, name: bytes) -> bytes | None:
        """Returns the request header `name` (lower case), joined by commas when it came several times."""
        values = [value for key, value in self._scope["headers"] if key == name]
        return b",".join(values) if values else None
