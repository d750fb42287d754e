"""Owns the building of HTML from escaped parts: text from files is never markup. Pure functions: any thread."""

import html
from collections.abc import Iterable

from nearfs.serve.status import wording


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(part: str | Markup) -> Markup:
    """Returns a part as HTML: escaped, unless it is markup."""
    return part if isinstance(part, Markup) else Markup(html.escape(part))


def joined(parts: Iterable[str | Markup]) -> Markup:
    """Returns parts one after the other."""
    return Markup("".join(escaped(part) for part in parts))


def element(name: str, /, *content: str | Markup, **attributes: str) -> Markup:
    """Returns an element; `class_` stands for the attribute `class`, `aria_label` for `aria-label`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def time_element(moment: float, now: float) -> Markup:
    """Returns how long ago a moment is, with the moment for machines and for who hovers."""
    return element("time", wording.ago(moment, now), datetime=wording.iso(moment), title=wording.moment(moment))
