"""Lists, shows, adds and removes tags (server.md 3.7).

Owns: the table, which scripts and people read, and the confirmations. Does not own: the rules of tags.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.cli.asking import confirm
from nearfs.cli.output import readable_size
from nearfs.errors import NotFound
from nearfs.publish import acting, tags
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfs.records import Tag

_COLUMNS = ("Name", "Revision", "Timestamp", "Branch", "Description")
_TIMESTAMP, _DESCRIPTION = 2, 4


def list_tags(name: str, *, machine: bool) -> int:
    """Prints the tags: a table with the oldest first, or with `machine` one line a tag with the newest first."""
    listed = tags.listed(Repository.load(name))
    for text in machine_lines(listed) if machine else table_lines(listed):
        output.line(text)
    return 0


def machine_lines(listed: Sequence[Tag]) -> list[str]:
    """Returns `name hash size revision timestamp branch description` for each tag."""
    return [
        f"{tag['name']} {tag['root_hash']} {tag['size']} {tag['revision']} {tag['timestamp']} "
        f"{tag['branch'] or '(default)'} {tag['description']}"
        for tag in listed
    ]


def moment(timestamp: int) -> str:
    """Returns a time as the reference prints it, `D Mon YYYY HH:MM:SS` in local time."""
    local = time.localtime(timestamp)
    return f"{local.tm_mday} {time.strftime('%b %Y %H:%M:%S', local)}"


def table_lines(listed: Sequence[Tag]) -> list[str]:
    """Returns the lines of the table with its rules and its last line."""
    rows = [
        (tag["name"], str(tag["revision"]), moment(tag["timestamp"]), tag["branch"] or "(default)", tag["description"])
        for tag in reversed(listed)
    ]
    widths = [max(len(row[column]) for row in (_COLUMNS, *rows)) for column in range(len(_COLUMNS))]
    widths[_TIMESTAMP] = max(widths[_TIMESTAMP], len(_COLUMNS[_DESCRIPTION]))

    def joined(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if column == 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return " │ ".join(aligned).rstrip()

    segments = ["─" * width for width in widths[:-1]] + ["─" * (len(_COLUMNS[_DESCRIPTION]) + 1)]
    return [
        joined(_COLUMNS),
        "─┼─".join(segments),
        *(joined(row) for row in rows),
        "─┴─".join(segments),
        f"listing contains {len(rows)} tags",
    ]


def inspect(name: str, wanted: str, *, machine: bool) -> int:
    """Prints one tag."""
    found = [tag for tag in tags.listed(Repository.load(name)) if tag["name"] == wanted]
    if not found:
        raise NotFound(f"tag '{wanted}' does not exist", operation="inspect tag", subject=wanted, exit_code=1)
    if machine:
        output.line(machine_lines(found)[0])
        return 0
    tag = found[0]
    output.line(f"Name:         {tag['name']}")
    output.line(f"Revision:     {tag['revision']}")
    output.line(f"Timestamp:    {moment(tag['timestamp'])}")
    output.line(f"Branch:       {tag['branch'] or '(default)'}")
    output.line(f"Root Hash:    {tag['root_hash']}")
    output.line(f"Catalog Size: {readable_size(tag['size'])}")
    output.line(tag["description"])
    return 0


def branches(name: str, *, machine: bool) -> int:
    """Prints the tree of branches, each with its first revision."""
    for text in branch_lines(tags.listed_branches(Repository.load(name)), machine=machine):
        output.line(text)
    return 0


def branch_lines(listed: Sequence[tuple[str, str, int]], *, machine: bool) -> list[str]:
    """Returns the lines of the tree of branches (name, the one it left, first revision), depth first."""
    children: dict[str, list[tuple[str, int]]] = {}
    for branch, parent, first in listed:
        children.setdefault(parent, []).append((branch, first))
    lines = []
    waiting = [(0, "", 0)]
    while waiting:
        level, branch, first = waiting.pop()
        shown = " ".join(filter(None, (branch if machine or level else "(default)", f"@{first}")))
        drawn = "│ " * (level - 1) + "├ " if level else ""
        lines.append(f"[{level}] {' ' * level}{shown}" if machine else drawn + shown)
        # Popped once each: a second visit would need a second parent.
        waiting += [(level + 1, *child) for child in reversed(children.pop(branch, []))]
    return lines


@acting.by_owner
def add(repository: Repository, tag: str, *, message: str, root_hash: str) -> int:
    """Gives a name to a revision."""
    said = tags.add(repository, tag, message=message, root_hash=root_hash)
    if said:
        output.line(said)
    return 0


@acting.by_owner
def remove(repository: Repository, wanted: Sequence[str], *, force: bool) -> int:
    """Removes tags after a confirmation."""
    if not force:
        output.line(f"You are about to remove these tags from {repository.fqrn}:")
        for tag in wanted:
            output.line(f"* {tag}")
        if not confirm("Are you sure (y/N)? "):
            return 1
    for text in tags.remove(repository, wanted):
        output.line(text)
    return 0
