"""Typed reading of parameter values: integers, lists, dates, hashes, and the id map files.

Owns: turning text into a value, or into an error that names parameter, value and file. Does not own: which parameters
exist (`parameters`) and what a mount makes of them (`model`).
Threading: pure functions; `read_id_map` reads one file.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.config import syntax
from nearfs.errors import InitCode, InvalidInput

if TYPE_CHECKING:
    from nearfs.config.layers import Settings

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
# The content hashes of format.md 1.3; MD5 never names a catalog.
_HASH = re.compile(r"[0-9a-f]{40}(-rmd160|-shake128)?")
_ID = re.compile(r"[0-9]{1,10}")
_MAX_ID = 0xFFFF_FFFF


def refusal(settings: Settings, name: str, wanted: str, code: InitCode = InitCode.OPTIONS) -> InvalidInput:
    """Returns the error for a value that cannot be used, naming parameter, value and file."""
    message = f"{name}={settings.get(name) or ''} in {settings.origin(name)}: {wanted}"
    return InvalidInput(message, operation="read configuration", subject=name, exit_code=code)


def integer(settings: Settings, name: str, default: int, minimum: int, maximum: int) -> int:
    """Returns an integer parameter; unset or empty means `default`."""
    text = settings.get(name)
    if not text:
        return default
    if _INTEGER.fullmatch(text) is None:
        raise refusal(settings, name, "expected an integer")
    number = int(text)
    if not minimum <= number <= maximum:
        raise refusal(settings, name, f"expected an integer from {minimum} to {maximum}")
    return number


def optional_integer(settings: Settings, name: str, minimum: int, maximum: int) -> int | None:
    """Returns an integer parameter, or None if it is unset or empty."""
    return integer(settings, name, 0, minimum, maximum) if settings.get(name) else None


def split(settings: Settings, name: str, separator: str) -> tuple[str, ...]:
    """Returns the entries of a list parameter, trimmed, empty ones dropped."""
    return tuple(entry.strip() for entry in (settings.get(name) or "").split(separator) if entry.strip())


def root_hash(settings: Settings, name: str) -> str | None:
    """Returns a content hash in text form, or None if the parameter is unset or empty."""
    text = settings.get(name)
    if text and _HASH.fullmatch(text) is None:
        raise refusal(
            settings, name, "expected 40 lower-case hex digits, -rmd160 or -shake128 behind them if not SHA-1"
        )
    return text or None


def date(settings: Settings, name: str) -> int | None:
    """Returns Unix seconds of a `YYYY-MM-DDTHH:MM:SSZ` parameter, or None if it is unset or empty."""
    text = settings.get(name)
    if not text:
        return None
    try:
        moment = dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)
    except ValueError as error:
        message = f"invalid timestamp in {name}: {text}. Use YYYY-MM-DDTHH:MM:SSZ"
        code = InitCode.HISTORY
        raise InvalidInput(message, operation="read configuration", subject=name, exit_code=code) from error
    return int(moment.timestamp())


@dataclass(frozen=True)
class IdMap:
    """User or group ids to be replaced: the exact ones, and what all others become (None: they stay)."""

    exact: dict[int, int]
    otherwise: int | None = None


def read_id_map(settings: Settings, name: str) -> IdMap | None:
    """Returns the map of a CVMFS_UID_MAP or CVMFS_GID_MAP file (lines `from to`, `*` for any), or None if unset."""
    path = settings.get(name)
    if not path:
        return None
    lines = syntax.read_lines(path)
    if lines is None:
        raise refusal(settings, name, "there is no such map file")
    exact: dict[int, int] = {}
    otherwise: int | None = None
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        pair = _id_pair(words)
        if pair is None:
            raise refusal(settings, name, f"line {number} of the map file is not `<id or *> <id>`: {line.strip()!r}")
        source, target = pair
        if source is None:
            otherwise = target
        else:
            exact[source] = target
    return IdMap(exact, otherwise)


def _id_pair(words: list[str]) -> tuple[int | None, int] | None:
    match words:
        case ["*", target] if _is_id(target):
            return None, int(target)
        case [source, target] if _is_id(source) and _is_id(target):
            return int(source), int(target)
    return None


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None and int(text) <= _MAX_ID
