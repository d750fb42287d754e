"""The whitelist .cvmfswhitelist in its RSA form (format sections 3.1 and 3.2), without its signature.

Owns its lines and its expiry. Immutable values, free to share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .envelope import Envelope, open_envelope
from .errors import FormatError
from .hashes import ContentHash, parse_hash

FILE_NAME = ".cvmfswhitelist"
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Whitelist:
    """Expiry in UTC (only its hour counts), the name line, and all fingerprints that could be read."""

    issued: str
    expiry: datetime
    name_line: str
    fingerprints: tuple[ContentHash, ...]
    envelope: Envelope

    def is_valid_at(self, now: datetime) -> bool:
        """Returns whether `now` lies in an hour strictly before the hour of expiry."""
        moment = now.astimezone(UTC)
        expiry = self.expiry
        return (moment.year, moment.month, moment.day, moment.hour) < (
            expiry.year, expiry.month, expiry.day, expiry.hour
        )  # fmt: skip


def read_whitelist(root: Path) -> Whitelist:
    """Returns the whitelist of a repository directory; only its hash line has been compared."""
    path = root / FILE_NAME
    if not path.is_file():
        raise FormatError(f"whitelist {FILE_NAME} is missing")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise FormatError(f"whitelist is larger than {MAX_BYTES} bytes")
    envelope = open_envelope(content, "whitelist")
    lines = envelope.body.decode("utf-8", "backslashreplace").split("\n")[:-1]
    if len(lines) < 4:
        raise FormatError(f"whitelist has {len(lines)} lines, four are needed")
    fingerprints = tuple(found for line in lines[3:] if (found := _fingerprint(line)) is not None)
    return Whitelist(lines[0], _expiry(lines[1]), lines[2], fingerprints, envelope)


def _expiry(line: str) -> datetime:
    if not re.fullmatch(r"E[0-9]{14}", line):
        raise FormatError(f"whitelist has no expiry line: {line[:40]!r}")
    try:
        return datetime.strptime(line[1:], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise FormatError(f"whitelist has an impossible expiry: {line!r}") from error


def _fingerprint(line: str) -> ContentHash | None:
    """Returns the fingerprint of a line; anything else is a comment for every reader (3.1)."""
    text = re.split(r"[ \t#]", line, maxsplit=1)[0].replace(":", "").lower()
    try:
        return parse_hash(text, "whitelist fingerprint")
    except FormatError:
        return None


def whitelist_problems(whitelist: Whitelist, fqrn: str, now: datetime) -> Iterator[str]:
    """Yields what is wrong with the whitelist's own lines at a moment."""
    if not re.fullmatch(r"[0-9]{14}", whitelist.issued):
        yield f"whitelist has no time of issue in its first line: {whitelist.issued[:40]!r}"
    if whitelist.name_line != "N" + fqrn:
        yield f"whitelist is of repository {whitelist.name_line[1:]!r}, expected {fqrn!r}"
    if not whitelist.is_valid_at(now):
        yield f"whitelist has expired: {whitelist.expiry:%Y-%m-%d %H:%M:%S} UTC"
    if not whitelist.fingerprints:
        yield "whitelist lists no certificate"
