"""The history database with tags and branches (format section 6).

Owns its parsed form and its own consistency; that a tag's root catalog is right is for check. Immutable values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .database import PROPERTIES, Columns, Database, shown
from .errors import FormatError
from .hashes import NULL_HASH_TEXT, ContentHash, parse_hash
from .store import MAX_DATABASE_BYTES, ObjectStore, object_name

TABLES: dict[str, Columns] = {
    "properties": PROPERTIES,
    "branches": (("branch", "TEXT", 1), ("parent", "TEXT", 0), ("initial_revision", "INTEGER", 0)),
    "tags": (
        ("name", "TEXT", 1), ("hash", "TEXT", 0), ("revision", "INTEGER", 0), ("timestamp", "INTEGER", 0),
        ("channel", "INTEGER", 0), ("description", "TEXT", 0), ("size", "INTEGER", 0), ("branch", "TEXT", 0),
    ),
    "recycle_bin": (("hash", "TEXT", 1), ("flags", "INTEGER", 0)),
}  # fmt: skip
AUTOMATIC_TAGS = {"trunk": "current HEAD", "trunk-previous": "default undo target"}
_TAG_NAME = re.compile(r"[A-Za-z0-9\-_./:]+")
_BRANCH_NAME = re.compile(r"[A-Za-z0-9\-_.@/]*")


@dataclass(frozen=True)
class Tag:
    """A named root catalog; timestamp in Unix seconds, size of the uncompressed root catalog in bytes."""

    name: str
    root_hash: ContentHash
    revision: int
    timestamp: int
    channel: int
    description: str
    size: int
    branch: str


@dataclass(frozen=True)
class Branch:
    """A branch; only the default branch '' has no parent."""

    name: str
    parent: str | None
    initial_revision: int


@dataclass(frozen=True)
class History:
    """Tags and branches by name, and the properties of the database."""

    subject: str
    properties: dict[str, str]
    tags: dict[str, Tag]
    branches: dict[str, Branch]
    recycled: int


def load_history(store: ObjectStore, content_hash: ContentHash) -> tuple[History, list[str]]:
    """Returns a verified history and the problems of its container (header, tables, integrity)."""
    subject = f"history {object_name(content_hash, 'H')}"
    database = Database(store.load(content_hash, "H", limit=MAX_DATABASE_BYTES), subject)
    try:
        problems = [*database.header_problems, *database.integrity_problems()]
        for table, columns in TABLES.items():
            problems += database.column_problems(table, columns)
        branches = {branch.name: branch for branch in _read_branches(database)}
        tags = {tag.name: tag for tag in _read_tags(database)}
        (recycled,) = database.rows("SELECT count(*) FROM recycle_bin")[0]
        return History(subject, database.properties(), tags, branches, int(str(recycled))), problems
    finally:
        database.close()


def _read_branches(database: Database) -> Iterator[Branch]:
    for name, parent, initial in database.rows("SELECT branch, parent, initial_revision FROM branches"):
        if not isinstance(name, bytes) or not isinstance(parent, bytes | None) or not isinstance(initial, int):
            raise FormatError(f"{database.subject} has branch {shown(name)!r} with a column of a wrong type")
        yield Branch(shown(name), None if parent is None else shown(parent), initial)


def _read_tags(database: Database) -> Iterator[Tag]:
    query = "SELECT name, hash, description, branch, revision, timestamp, channel, size FROM tags"
    for values in database.rows(query):
        texts = [shown(value) for value in values[:4] if isinstance(value, bytes)]
        numbers = [value for value in values[4:] if isinstance(value, int)]
        if len(texts) != 4 or len(numbers) != 4:
            raise FormatError(f"{database.subject} has tag {shown(values[0])!r} with a column of a wrong type")
        name, root_hash, description, branch = texts
        revision, timestamp, channel, size = numbers
        where = f"{database.subject}, tag {name}"
        yield Tag(name, parse_hash(root_hash, where), revision, timestamp, channel, description, size, branch)


def history_problems(history: History, fqrn: str, root_hash: ContentHash) -> Iterator[str]:
    """Yields what is wrong within a history, and whether trunk is the manifest's root hash."""
    subject, properties = history.subject, history.properties
    for key, expected in (("schema", "1.0"), ("schema_revision", "3"), ("fqrn", fqrn)):
        if properties.get(key) != expected:
            yield f"{subject} has property {key} = {properties.get(key)!r} instead of {expected!r}"
    previous = properties.get("previous_revision")
    if previous is None:
        yield f"{subject} has no property previous_revision"
    elif previous != NULL_HASH_TEXT:
        try:
            parse_hash(previous, f"{subject}, previous_revision")
        except FormatError as error:
            yield str(error)
    if history.recycled:
        yield f"{subject} has {history.recycled} rows in recycle_bin, which should be empty"
    yield from _branch_problems(history)
    for tag in history.tags.values():
        yield from _tag_problems(history, tag)
    trunk = history.tags.get("trunk")
    if trunk is None or trunk.root_hash != root_hash:
        found = "missing" if trunk is None else trunk.root_hash.text
        yield f"{subject} has trunk {found}, the manifest's root hash is {root_hash.text}"


def _branch_problems(history: History) -> Iterator[str]:
    if history.branches.get("") != Branch("", None, 0):
        yield f"{history.subject} has no default branch ('', NULL, 0)"
    in_use = {tag.branch for tag in history.tags.values()}
    in_use |= {branch.parent for branch in history.branches.values() if branch.parent is not None}
    for branch in history.branches.values():
        where = f"{history.subject}, branch {branch.name!r}"
        if not _BRANCH_NAME.fullmatch(branch.name):
            yield f"{where}: the name is invalid"
        if branch.name and branch.parent not in history.branches:
            yield f"{where}: parent {branch.parent!r} does not exist"
        if branch.name and branch.name not in in_use:
            yield f"{where}: no tag and no branch is on it"


def _tag_problems(history: History, tag: Tag) -> Iterator[str]:
    where = f"{history.subject}, tag {tag.name!r}"
    if not _TAG_NAME.fullmatch(tag.name):
        yield f"{where}: the name is invalid"
    if tag.channel != 0:
        yield f"{where}: channel is {tag.channel} instead of 0"
    branch = history.branches.get(tag.branch)
    if branch is None:
        yield f"{where}: branch {tag.branch!r} does not exist"
    elif tag.revision < branch.initial_revision:
        yield f"{where}: revision {tag.revision} is before its branch's first, {branch.initial_revision}"
    expected = AUTOMATIC_TAGS.get(tag.name)
    if expected is not None and tag.description not in (expected, "empty repository"):
        yield f"{where}: description is {tag.description!r} instead of {expected!r}"
