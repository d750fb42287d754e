"""Shows what is different between revisions, and which catalogs a revision has (server.md 3.11 and 3.12).

Owns: the lines, for people and for scripts. Does not own: the comparison.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.cli.tag_cmd import moment
from nearfs.publish import comparison
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nearfs.publish.comparison import Difference

_VERBS = {"A": "add", "R": "remove", "M": "modify"}
_KINDS = {"F": "file", "D": "directory", "S": "symlink", "X": "special file", "N": "nested catalog marker"}
_COUNTED = {"F": "regular files", "S": "symlinks", "D": "directories", "N": "catalogs"}
_LETTERS = {
    "I": "link-count",
    "S": "size",
    "M": "mode",
    "T": "timestamp",
    "L": "symlink",
    "C": "content",
    "G": "hardlink-group",
    "N": "nested-catalog",
    "P": "chunked",
    "X": "xattrs",
    "E": "external",
    "B": "bind-mountpoint",
    "H": "hidden",
    "D": "direct-io",
    "O": "owner",
}
_HEADER = (
    "# line descriptor: A - add, R - remove, M - modify, S - statistics; "
    "modify flags: S - size, M - mode, T - timestamp, C - content, L - symlink, O - owner and others; "
    "entry types: F - regular file, S - symlink, D - directory, X - special file, N - nested catalog marker"
)


@dataclass(frozen=True)
class DiffOptions:
    """What `cvmfs_server diff` was asked for."""

    old: str = "trunk-previous"
    new: str = "trunk"
    machine: bool = False
    header: bool = False
    worktree: bool = False
    ignore_times: bool = False


def diff(name: str, options: DiffOptions) -> int:
    """Prints the differences, one line each, and at the end what they sum up to."""
    output.end_with_reader()
    repository = Repository.load(name)
    if options.worktree:
        _print(comparison.uncommitted(repository), options)
        return 0
    old = comparison.revision_of(repository, options.old)
    new = comparison.revision_of(repository, options.new)
    if options.header and options.machine:
        output.line(_HEADER)
    elif options.header:
        shown = [f"{repository.fqrn}/r{one.number} ({moment(one.moment_s)})" for one in (old, new)]
        output.line(f"DELTA: {shown[0]} --> {shown[1]}")
    found = comparison.Comparison(repository, old, new)
    _print(found, options)
    for letter, count in found.growth().items():
        output.line(f"S {letter} {count}" if options.machine else f"d(# {_COUNTED[letter]}): {count}")
    return 0


def _print(differences: Iterable[Difference], options: DiffOptions) -> None:
    for difference in differences:
        letters = difference.letters.replace("T", "") if options.ignore_times else difference.letters
        if difference.change == "M" and difference.letters and not letters:
            continue
        output.line(_machine_line(difference, letters) if options.machine else _line(difference, letters))


def _size(difference: Difference) -> str:
    if difference.kind not in "FN" or difference.change == "M":
        return ""
    return f"{'+' if difference.change == 'A' else '-'}{difference.size}"


def _machine_line(difference: Difference, letters: str) -> str:
    change = f"M[{letters}]" if difference.change == "M" else difference.change
    size = _size(difference)
    return f"{change} {difference.kind} {os.fsdecode(difference.path)}" + (f" {size}" if size else "")


def _line(difference: Difference, letters: str) -> str:
    text = f"{os.fsdecode(difference.path)} {_VERBS[difference.change]} {_KINDS[difference.kind]}"
    if difference.change == "M":
        return f"{text} [{', '.join(_LETTERS[letter] for letter in letters)}]"
    size = _size(difference)
    return f"{text} {size} bytes" if size else text


def list_catalogs(name: str, *, sizes: bool, entries: bool, hashes: bool, machine: bool) -> int:
    """Prints the catalogs of the newest revision, from the root down."""
    from nearfs import _native

    output.end_with_reader()
    repository = Repository.load(name)
    listed = _native.list_catalogs(str(repository.storage), repository.manifest().fields.root_hash)
    for depth, path, root_hash, size, count in listed:
        columns = [root_hash] if hashes else []
        columns += [f"{size}B"] if sizes else []
        columns += [str(count)] if entries else []
        text = " ".join([*columns, os.fsdecode(path) or "/"])
        drawn = "│  " * (depth - 1) + "├─ " if depth and not machine else ""
        output.line(drawn + text)
    return 0
