"""Owns how times and sizes are said to people. Pure functions: any thread."""

import time

_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))
_JUST_NOW_S = 60
# Up to here the smaller unit is said: `47 hours` tells more than `1 day`.
_AT_LEAST = 2
_KIB = 1024
_THREE_DIGITS = 100


def duration(seconds: float) -> str:
    """Returns a span of time in its largest sensible unit, such as `3 days`."""
    whole = max(0, int(seconds))
    for name, unit in _UNITS:
        if whole >= _AT_LEAST * unit or (name == "minute" and whole >= unit):
            count = whole // unit
            return f"{count:,} {name}{'' if count == 1 else 's'}"
    return "under a minute"


def ago(moment: float, now: float) -> str:
    """Returns how long ago a moment (Unix seconds) is, or how far ahead."""
    past = now - moment
    if abs(past) < _JUST_NOW_S:
        return "just now"
    return f"{duration(past)} ago" if past > 0 else f"in {duration(-past)}"


def moment(unix_s: float) -> str:
    """Returns a moment in UTC, such as `2026-01-31 12:00 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(unix_s))


def iso(unix_s: float) -> str:
    """Returns a moment in UTC for machines, such as `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))


def size(count: float) -> str:
    """Returns a number of bytes, such as `1.5 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < _KIB:
            return f"{int(value)} B" if unit == "B" else f"{value:.{0 if value >= _THREE_DIGITS else 1}f} {unit}"
        value /= _KIB
    return f"{value:,.1f} PiB"
