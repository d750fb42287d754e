"""Owns how one repository is shown on the status page. Pure functions: any thread."""

from collections.abc import Iterator

from nearfs.serve.status import problems, wording
from nearfs.serve.status.markup import Markup, element, joined, time_element
from nearfs.serve.status.problems import Severity
from nearfs.serve.status.survey import Surveyed
from nearfs.serve.traffic import Volume

_BADGES = {None: "✓ Healthy", Severity.WARNING: "! Attention", Severity.ERROR: "✕ Failing"}
_Fact = tuple[str, str | Markup, str]


def card(one: Surveyed, volume: Volume | None, now: float) -> Markup:
    """Returns the card of one repository."""
    mood = one.severity.value if one.severity else "ok"
    found = one.facts
    kind = "Replica" if one.is_replica else "Master copy"
    if found.fqrn and found.fqrn != found.name:
        kind += f" of {found.fqrn}"
    badge = element("span", _BADGES[one.severity], class_=f"badge {mood}")
    listed = [element("li", problem.text, class_=problem.severity.value) for problem in one.problems]
    told = [
        element("dt", name) + element("dd", text, **({"class_": how} if how else {}))
        for name, text, how in _facts(one, volume or Volume(), now)
    ]
    return element(
        "article",
        element("h3", found.name),
        element("p", element("span", kind), badge, class_="kind"),
        element("ul", *listed, class_="problems") if listed else Markup(),
        element("dl", joined(Markup(pair) for pair in told), class_="facts"),
        _details(one),
        class_=mood,
    )


def _facts(one: Surveyed, volume: Volume, now: float) -> Iterator[_Fact]:
    found = one.facts
    yield "Revision", "none" if found.revision is None else f"{found.revision:,}", ""
    if found.published is not None:
        yield "Published", time_element(found.published, now), ""
    if one.is_replica:
        yield _behind(one)
        yield _snapshot(one, now)
    yield _whitelist(one, now)
    yield "Garbage collection", time_element(found.last_gc, now) if found.last_gc else "never here", ""
    if found.last_check is None:
        yield "Check", "never here", ""
    else:
        verdict = "failed " if found.has_failed_check else "passed "
        yield "Check", joined([verdict, time_element(found.last_check, now)]), "error" if found.has_failed_check else ""
    yield "Served", f"{volume.requests:,} requests, {wording.size(volume.sent_bytes)}", ""


def _behind(one: Surveyed) -> _Fact:
    title, behind = "Behind stratum 0", one.behind
    if behind is None:
        return title, "asking …" if one.has_master and one.head is None else "not known", ""
    if behind <= 0:
        return title, "up to date" if behind == 0 else "ahead of it", "" if behind == 0 else "error"
    return title, f"{behind:,} revision{'' if behind == 1 else 's'}", "warning"


def _snapshot(one: Surveyed, now: float) -> _Fact:
    title, last = "Last snapshot", one.facts.last_snapshot
    is_old = last is not None and now - last > problems.SNAPSHOT_OLD_S
    text: str | Markup = "not yet" if last is None else time_element(last, now) if last else "at an unknown time"
    if one.facts.snapshotting_since is not None:
        text = joined([text, ", one is under way"])
    return title, text, "warning" if is_old else ""


def _whitelist(one: Surveyed, now: float) -> _Fact:
    title, expires = "Whitelist", one.facts.whitelist_expires
    if expires is None:
        return title, "none", "error" if one.facts.revision is not None else ""
    if expires <= now:
        return title, joined(["expired ", time_element(expires, now)]), "error"
    soon = expires - now < problems.EXPIRES_SOON_S
    left = element(
        "time",
        f"valid for {wording.duration(expires - now)}",
        datetime=wording.iso(expires),
        title=wording.moment(expires),
    )
    return title, left, "warning" if soon else ""


def _details(one: Surveyed) -> Markup:
    found = one.facts
    if found.root_hash is None:
        return Markup()
    facts: list[tuple[str, str | Markup]] = [("Root catalog", element("code", found.root_hash))]
    if found.ttl_s is not None:
        facts.append(("Clients ask again after", f"{found.ttl_s:,} s"))
    facts.append(("Garbage collectable", "yes" if found.is_garbage_collectable else "no"))
    pairs = [Markup(element("dt", name) + element("dd", text)) for name, text in facts]
    return element("details", element("summary", "Details"), element("dl", *pairs, class_="facts"))
