"""Owns the status page: one document without any other file, for people on any screen.

Does not own the cards of repositories (`cards`) nor the facts (`survey`). Pure functions: any thread.
"""

import base64
import hashlib
from importlib import resources

import nearfs
from nearfs.serve.status import wording
from nearfs.serve.status.cards import card
from nearfs.serve.status.markup import Markup, element, joined
from nearfs.serve.status.problems import Severity
from nearfs.serve.status.survey import Picture
from nearfs.serve.traffic import MINUTES, Traffic, Volume

REFRESH_S = 60
_STYLE = resources.files(__package__ or "nearfs.serve.status").joinpath("style.css").read_text("utf-8")
STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_BAR_WIDTH, _CHART_HEIGHT = 10, 100
# Of the sign before the verdict: a tick, or a mark of exclamation, inside a circle.
_SIGNS = {"ok": "M7 12.5l3.2 3.2L17 9", "warning": "M12 7v6M12 16.4v.2", "error": "M12 7v6M12 16.4v.2"}
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
"""


def rendered(traffic: Traffic, picture: Picture) -> bytes:
    """Returns the page."""
    mood, verdict = _verdict(picture)
    who = picture.site.get("organisation", "")
    title = f"Repositories of {who}" if who else "CernVM-FS repositories"
    sign = {"ok": "✓", "warning": "!", "error": "✕"}[mood]
    head = joined(
        [
            Markup(_HEAD),
            Markup(f'<meta http-equiv="refresh" content="{REFRESH_S}">\n'),
            element("title", f"{sign} {title}"),
            Markup(f"\n<style>{_STYLE}</style>\n</head>\n"),
        ]
    )
    as_of = f"As of {wording.moment(picture.moment)}"
    contact = " · ".join(picture.site[key] for key in ("administrator", "email") if key in picture.site)
    body = element(
        "body",
        element("header", element("h1", title), element("p", as_of + (f" · {contact}" if contact else ""))),
        element(
            "main",
            element("p", _sign(mood), element("span", verdict), class_=f"verdict {mood}", role="status"),
            _tiles(traffic, picture),
            _chart(traffic.last_hour()),
            _repositories(traffic, picture),
        ),
        _footer(),
    )
    return f"{head}{body}\n</html>\n".encode()


def _verdict(picture: Picture) -> tuple[str, str]:
    """Returns ok, warning or error, and all in one sentence."""
    if picture.trouble is not None:
        return "error", picture.trouble
    count = len(picture.repositories)
    if count == 0:
        return "warning", "There is no repository here yet."
    failing = sum(one.severity is Severity.ERROR for one in picture.repositories)
    uneasy = sum(one.severity is Severity.WARNING for one in picture.repositories)
    if failing:
        return "error", f"{_of(failing, count)} failing" + (_more(uneasy) if uneasy else ".")
    if uneasy:
        return "warning", f"{_of(uneasy, count)} in need of attention."
    return "ok", "The repository is healthy." if count == 1 else f"All {count:,} repositories are healthy."


def _of(some: int, count: int) -> str:
    if count == 1:
        return "The repository is"
    return f"{some:,} of {count:,} repositories {'is' if some == 1 else 'are'}"


def _more(uneasy: int) -> str:
    return f", {uneasy:,} more {'needs' if uneasy == 1 else 'need'} attention."


def _sign(mood: str) -> Markup:
    return Markup(
        '<svg width="28" height="28" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
        'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
        f'<circle cx="12" cy="12" r="10"/><path d="{_SIGNS[mood]}"/></svg>'
    )


def _tiles(traffic: Traffic, picture: Picture) -> Markup:
    replicas = sum(one.is_replica for one in picture.repositories)
    count, total, hour = len(picture.repositories) + picture.omitted, traffic.total(), _sum(traffic.last_hour())
    tiles = (
        ("Repositories", f"{count:,}", f"{replicas:,} of them replicas"),
        ("Sent in the last hour", wording.size(hour.sent_bytes), f"{hour.requests:,} requests"),
        ("Sent since start", wording.size(total.sent_bytes), f"{total.requests:,} requests"),
        ("Running for", wording.duration(picture.moment - traffic.started), f"nearfs {nearfs.__version__}"),
    )
    shown = [
        element("div", element("dt", name), element("dd", value, element("small", more)), class_="tile")
        for name, value, more in tiles
    ]
    return element("dl", *shown, class_="tiles")


def _sum(minutes: list[Volume]) -> Volume:
    return Volume(sum(minute.requests for minute in minutes), sum(minute.sent_bytes for minute in minutes))


def _chart(minutes: list[Volume]) -> Markup:
    """Returns the last hour as bars, one a minute."""
    peak = max(minute.sent_bytes for minute in minutes)
    bars = []
    for number, minute in enumerate(minutes):
        if minute.sent_bytes:
            # Never thinner than a line: a minute with something in it is not a minute with nothing.
            height = max(1.5, minute.sent_bytes / peak * _CHART_HEIGHT)
            bars.append(
                f'<rect x="{number * _BAR_WIDTH + 1}" y="{_CHART_HEIGHT - height:.1f}" width="{_BAR_WIDTH - 2}" '
                f'height="{height:.1f}" rx="1"/>'
            )
    said = f"at most {wording.size(peak)} in a minute" if peak else "nothing was sent"
    width = MINUTES * _BAR_WIDTH
    drawing = Markup(
        f'<svg viewBox="0 0 {width} {_CHART_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Bytes sent in each minute of the last hour: {said}.">{"".join(bars)}'
        f'<line x1="0" y1="{_CHART_HEIGHT - 0.5}" x2="{width}" y2="{_CHART_HEIGHT - 0.5}"/></svg>'
    )
    caption = element("figcaption", element("strong", "Sent per minute"), element("span", said))
    axis = element("div", element("span", "an hour ago"), element("span", "now"), class_="axis", aria_hidden="true")
    return element("figure", caption, drawing, axis)


def _repositories(traffic: Traffic, picture: Picture) -> Markup:
    cards = [card(one, traffic.by_repository.get(one.facts.name), picture.moment) for one in picture.repositories]
    more = element("p", f"{picture.omitted:,} more are served and not shown.") if picture.omitted else Markup()
    return element(
        "section",
        element("h2", "Repositories", id="repositories"),
        element("div", *cards, class_="cards"),
        more,
        aria_labelledby="repositories",
    )


def _footer() -> Markup:
    links = joined([element("a", "status.json", href="/status.json"), " · ", element("a", "metrics", href="/metrics")])
    return element(
        "footer",
        element("p", f"This page renews itself every {REFRESH_S} seconds. Times are UTC."),
        element("p", f"Served by nearfs {nearfs.__version__} · ", links),
    )
