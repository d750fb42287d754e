"""Signed text: body, separator, hash line, raw signature (format sections 2.1, 2.3 and 3.2). Pure functions."""

from __future__ import annotations

from typing import NamedTuple

from .errors import FormatError
from .hashes import ContentHash, digest_of, parse_hash

SEPARATOR = b"--\n"


class Envelope(NamedTuple):
    """A signed text whose hash line has been found to match its body; the signature is not yet verified."""

    body: bytes
    content_hash: ContentHash
    signature: bytes

    @property
    def message(self) -> bytes:
        """What is signed: the ASCII text of the hash."""
        return self.content_hash.text.encode()


def open_envelope(content: bytes, subject: str) -> Envelope:
    """Returns the parts of a signed text; raises FormatError when the hash line is not that of the body."""
    body, separator, rest = content.partition(b"\n" + SEPARATOR)
    if not separator:
        raise FormatError(f"{subject} has no separator line")
    body += b"\n"
    line, newline, signature = rest.partition(b"\n")
    if not newline or not signature:
        raise FormatError(f"{subject} has no signature")
    stated = parse_hash(line.decode("ascii", "replace"), f"{subject}, hash line")
    actual = digest_of(stated.algorithm, body)
    if actual != stated:
        raise FormatError(f"{subject} is corrupt: its hash line says {stated.text}, its text hashes to {actual.text}")
    return Envelope(body, stated, signature)
