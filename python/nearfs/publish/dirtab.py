"""`.cvmfsdirtab`: rules that say which directories become nested catalogs (format.md 8.4).

Owns: the rules' syntax and wildcards, and making the marker files on the union mount before a publish. Does not own:
splitting catalogs, which follows from the markers.
Threading: called by one command at a time, while the union is writable.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearfs.publish.repository import Repository

FILE_NAME = b".cvmfsdirtab"
MARKER = b".cvmfscatalog"
# Rules are lines that people write; a larger file is something else.
LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Rules:
    """Patterns of directories to split off, one list of elements each, and expressions of those to leave."""

    positive: tuple[tuple[bytes, ...], ...]
    negative: tuple[re.Pattern[bytes], ...]

    def excludes(self, path: bytes) -> bool:
        """Tells whether a path (`/a/b`) is left where it is; any exclusion beats every inclusion."""
        return any(pattern.match(path) for pattern in self.negative)


def parse(content: bytes) -> Rules:
    """Returns the rules of a file; raises `InvalidInput` naming the line of the first bad one."""
    positive: list[bytes] = []
    negative: list[bytes] = []
    for number, raw in enumerate(content.split(b"\n"), 1):
        line = raw.strip(b" \t\r")
        if not line or line.startswith(b"#"):
            continue
        target = negative if line.startswith(b"!") else positive
        pattern = line.lstrip(b"!").strip(b" \t") if target is negative else line
        if not pattern or (target is positive and not pattern.startswith(b"/")):
            raise _invalid(number, line, "a rule must be an absolute path")
        if re.search(rb"\\(?![*?\\])", pattern):
            raise _invalid(number, line, "only \\*, \\? and \\\\ can be escaped")
        target.append(pattern.rstrip(b"/") or b"/")
    both = set(positive) & set(negative)
    if both:
        raise _invalid(0, min(both), "the same path is included and excluded")
    return Rules(
        tuple(tuple(element for element in pattern.split(b"/") if element) for pattern in positive),
        tuple(re.compile(rb"\A" + _expression(pattern, rb".*", rb".") + rb"/?\Z", re.DOTALL) for pattern in negative),
    )


def _invalid(number: int, line: bytes, reason: str) -> InvalidInput:
    where = f"line {number}" if number else "rules"
    message = f"invalid .cvmfsdirtab, {where}: '{line.decode('utf-8', 'backslashreplace')}': {reason}"
    return InvalidInput(message, operation="read .cvmfsdirtab", exit_code=1)


def _expression(pattern: bytes, star: bytes, question: bytes) -> bytes:
    out = bytearray()
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        if char == b"\\":
            at += 1
            out += re.escape(pattern[at : at + 1])
        elif char == b"*":
            out += star
        elif char == b"?":
            out += question
        else:
            out += re.escape(char)
        at += 1
    return bytes(out)


def matches(rules: Rules, root: bytes) -> Iterator[bytes]:
    """Yields the directories below `root` that a positive rule names and no negative one excludes, as `/a/b`."""
    seen: set[bytes] = set()
    for elements in rules.positive:
        for path in _expand(root, b"", elements):
            if path and path not in seen and not rules.excludes(path):
                seen.add(path)
                yield path


def _expand(root: bytes, below: bytes, elements: tuple[bytes, ...]) -> Iterator[bytes]:
    if not elements:
        yield below
        return
    pattern = re.compile(rb"\A" + _expression(elements[0], rb"[^/]*", rb"[^/]") + rb"\Z", re.DOTALL)
    try:
        entries = sorted(os.scandir(root + below), key=lambda entry: entry.name)
    except NotADirectoryError:
        return
    for entry in entries:
        if pattern.match(entry.name) and entry.is_dir(follow_symlinks=False):
            yield from _expand(root, below + b"/" + entry.name, elements[1:])


def apply(repository: Repository) -> list[bytes]:
    """Makes the markers that the repository's rules ask for and that are missing; returns their directories."""
    root = os.fsencode(repository.union)
    path = root + b"/" + FILE_NAME
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as opened:
            content = opened.read(LIMIT_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"cannot read {os.fsdecode(path)}: {error.strerror}; .cvmfsdirtab must be a regular file"
        raise InvalidInput(message, operation="read .cvmfsdirtab", exit_code=1) from error
    if len(content) > LIMIT_BYTES:
        message = f"{os.fsdecode(path)} has more than {LIMIT_BYTES} bytes"
        raise InvalidInput(message, operation="read .cvmfsdirtab", exit_code=1)
    made = []
    for directory in matches(parse(content), root):
        marker = root + directory + b"/" + MARKER
        try:
            os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            continue
        made.append(directory)
    return made
