"""Owns which pages the server has beside repositories, and how they are answered: read-only, for whoever asks.

Does not own what is on them. One event loop's thread.
"""

from nearfs.serve.geo.api import GeoApi
from nearfs.serve.reply import Header, Reply
from nearfs.serve.status import document, page
from nearfs.serve.status.survey import Survey
from nearfs.serve.traffic import Traffic

_COMMON: tuple[Header, ...] = (
    (b"cache-control", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
# Nothing is loaded, run, framed or sent: what is on the page came from files, and is text whatever is in it.
_POLICY: Header = (
    b"content-security-policy",
    f"default-src 'none'; style-src 'sha256-{page.STYLE_DIGEST}'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'".encode(),
)
_PAGE, _JSON, _METRICS = "/status", "/status.json", "/metrics"
_PATHS = frozenset({"/", _PAGE, _JSON, _METRICS})


class StatusPages:
    """The status page, its JSON, and metrics."""

    def __init__(self, survey: Survey, traffic: Traffic, geo: GeoApi | None) -> None:
        """Shows what `survey` finds and `traffic` counted."""
        self._survey = survey
        self._traffic = traffic
        self._geo = geo

    def has(self, path: str) -> bool:
        """Tells whether a URL path is one of the pages."""
        return path in _PATHS

    async def send(self, reply: Reply, path: str) -> None:
        """Answers with a page that is there."""
        picture = await self._survey.picture()
        headers = list(_COMMON)
        if path == _METRICS:
            from nearfs.serve.status import metrics

            accept = reply.header(b"accept")
            lookups = None if self._geo is None else self._geo.lookups
            wanted = None if accept is None else accept.decode("latin-1")
            body, content_type = metrics.rendered(self._traffic, picture, lookups, wanted)
            headers += [(b"content-type", content_type.encode()), (b"vary", b"Accept")]
        elif path == _JSON:
            body = document.rendered(self._traffic, picture)
            headers.append((b"content-type", b"application/json"))
        else:
            body = page.rendered(self._traffic, picture)
            headers += [(b"content-type", b"text/html; charset=utf-8"), _POLICY]
        await reply.whole(200, body, headers)
