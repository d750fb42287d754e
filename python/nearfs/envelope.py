"""Signed text as it lies on disk (format.md 2.1): body, separator, hash line, signature bytes.

Owns: taking a signed text apart and putting it together. Does not own: the fields in the body (`signing`), nor any
judgement on the signature: what comes out of `open_envelope` is intact, not trusted. Trust is the engine's to give.
Threading: pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass

from nearfs import hashes
from nearfs.errors import Corrupt, InvalidInput

# Generous: a manifest stays below 4 KiB, a whitelist has some hundred fingerprints at most.
MAX_SIGNED_TEXT_BYTES = 1 << 20
_SEPARATOR = b"\n--\n"
# 49 is the longest hash text; anything much longer is no hash line.
_MAX_HASH_LINE_BYTES = 64


@dataclass(frozen=True)
class Envelope:
    """The parts of a signed text; `body` ends with the newline before the separator and is what `hash_text` covers."""

    body: bytes
    hash_text: str
    signature: bytes


def seal(body: bytes, hash_text: str, signature: bytes) -> bytes:
    """Returns body, `--`, hash line and signature as one text."""
    if not body.endswith(b"\n"):
        raise InvalidInput("the body of a signed text must end with a newline", operation="sign")
    if body.startswith(b"--\n") or _SEPARATOR in body:
        raise InvalidInput("the body of a signed text must not contain a line that is just '--'", operation="sign")
    return body + b"--\n" + hash_text.encode("ascii") + b"\n" + signature


def open_envelope(content: bytes, what: str) -> Envelope:
    """Returns the parts of a signed text after checking that the hash line fits the body.

    `what` names the text in errors ("manifest of x.example.org"). Raises `Corrupt`.
    """
    if len(content) > MAX_SIGNED_TEXT_BYTES:
        raise _corrupt(what, f"it is larger than {MAX_SIGNED_TEXT_BYTES} bytes")
    head, separator, tail = content.partition(_SEPARATOR)
    if not separator:
        raise _corrupt(what, "it has no '--' separator line")
    line, newline, signature = tail.partition(b"\n")
    if not newline or len(line) > _MAX_HASH_LINE_BYTES:
        raise _corrupt(what, "it has no hash line after the separator")
    text = line.decode("ascii", "replace")
    algorithm = hashes.algorithm_of(text)
    if algorithm is None:
        raise _corrupt(what, f"its hash line {text!r} is no content hash")
    body = head + b"\n"
    if hashes.hash_text(body, algorithm) != text:
        raise _corrupt(what, "its hash line does not fit its text")
    return Envelope(body, text, signature)


def _corrupt(what: str, reason: str) -> Corrupt:
    return Corrupt(f"{what} is corrupt: {reason}; fetch it again or sign it afresh", operation="read", subject=what)
