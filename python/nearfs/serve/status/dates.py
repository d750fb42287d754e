"""Owns the dates of marker files, as `date --utc` prints them (format.md 8.1). Pure functions: any thread."""

import calendar
import re

_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
# Old and new releases of date(1), with or without a half of the day: `Wed Oct 21 11:55:15 UTC 2015`,
# `Wed 21 Oct 2015 11:55:15 AM UTC`.
_OLD = re.compile(r"[A-Z][a-z]{2} +([A-Z][a-z]{2}) +(\d{1,2}) +(\d\d):(\d\d):(\d\d)( [AP]M)? +UTC +(\d{4})")
_NEW = re.compile(r"[A-Z][a-z]{2} +(\d{1,2}) +([A-Z][a-z]{2}) +(\d{4}) +(\d\d):(\d\d):(\d\d)( [AP]M)? +UTC")


def parse(text: str) -> int | None:
    """Returns the Unix time of a date, or None where it is none."""
    text = text.strip()
    if (old := _OLD.fullmatch(text)) is not None:
        month, day, hour, minute, second, half, year = old.groups()
    elif (new := _NEW.fullmatch(text)) is not None:
        day, month, year, hour, minute, second, half = new.groups()
    else:
        return None
    hours = int(hour)
    if half is not None:
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if half == " PM" else 0)
    if month not in _MONTHS or hours > 23 or int(minute) > 59 or int(second) > 60:
        return None
    if not 1 <= int(day) <= calendar.monthrange(max(1970, int(year)), _MONTHS[month])[1]:
        return None
    return calendar.timegm((int(year), _MONTHS[month], int(day), hours, int(minute), int(second)))
