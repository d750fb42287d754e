"""Owns the reading of the HTTP Range header (RFC 9110, section 14); knows no file. Pure functions: any thread."""

import re

# 18 digits hold every possible file size and keep int() away from absurd input.
_SINGLE_RANGE = re.compile(rb"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


class UnsatisfiableRangeError(Exception):
    """Says that a well-formed range lies wholly outside the file: the answer is 416."""


def parse(header: bytes, size: int) -> tuple[int, int] | None:
    """Returns (first byte, number of bytes) of the one range asked of a file of `size` bytes.

    Returns None where the whole file is to be sent: the header is malformed, or asks for several ranges (a server
    may ignore those, and no client of a repository asks). Raises UnsatisfiableRangeError.
    """
    match = _SINGLE_RANGE.fullmatch(header)
    if match is None:
        return None
    first_text, last_text = match.groups()
    if not first_text:
        return _suffix(last_text, size)
    first = int(first_text)
    last = int(last_text) if last_text else size - 1
    if last_text and last < first:
        return None
    if first >= size:
        raise UnsatisfiableRangeError
    return first, min(last, size - 1) - first + 1


def _suffix(length_text: bytes, size: int) -> tuple[int, int] | None:
    """Returns the last `length_text` bytes of the file, all of it when it is shorter."""
    if not length_text:
        return None
    length = min(int(length_text), size)
    if length == 0:
        raise UnsatisfiableRangeError
    return size - length, length
