"""Rules for one catalog as a whole (format sections 4.1 to 4.4, 4.6, 4.8, 4.12 and 12).

Owns schema, properties, placement of rows, linkcounts, hardlink groups and mountpoints within one catalog; what
spans catalogs is for tree_check. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .catalog import (
    BIND_MOUNTPOINT,
    BUNDLE_TRIGGER,
    HIDDEN,
    NESTED_MOUNTPOINT,
    NESTED_ROOT,
    Catalog,
    Mount,
    Row,
    name_problem,
    path_text,
)
from .database import PROPERTIES, Columns, Database, decimal_problems
from .errors import FormatError
from .hashes import NULL_HASH_TEXT, NULL_PATH_HASH, parse_hash, path_hash
from .row_check import row_problems

MARKER = b".cvmfscatalog"
_MOUNTS: Columns = (("path", "TEXT", 1), ("sha1", "TEXT", 0), ("size", "INTEGER", 0))
TABLES: dict[str, Columns] = {
    "properties": PROPERTIES,
    "catalog": (
        ("md5path_1", "INTEGER", 1), ("md5path_2", "INTEGER", 2), ("parent_1", "INTEGER", 0),
        ("parent_2", "INTEGER", 0), ("hardlinks", "INTEGER", 0), ("hash", "BLOB", 0), ("size", "INTEGER", 0),
        ("mode", "INTEGER", 0), ("mtime", "INTEGER", 0), ("mtimens", "INTEGER", 0), ("flags", "INTEGER", 0),
        ("name", "TEXT", 0), ("symlink", "TEXT", 0), ("uid", "INTEGER", 0), ("gid", "INTEGER", 0),
        ("xattr", "BLOB", 0),
    ),
    "chunks": (
        ("md5path_1", "INTEGER", 1), ("md5path_2", "INTEGER", 2), ("offset", "INTEGER", 3), ("size", "INTEGER", 4),
        ("hash", "BLOB", 0),
    ),
    "nested_catalogs": _MOUNTS,
    "bind_mountpoints": _MOUNTS,
    "statistics": (("counter", "TEXT", 1), ("value", "INTEGER", 0)),
}  # fmt: skip


def container_problems(database: Database) -> Iterator[str]:
    """Yields what is wrong with a catalog's database: header, pages, tables, index."""
    yield from database.header_problems
    yield from database.integrity_problems()
    for table, columns in TABLES.items():
        yield from database.column_problems(table, columns)
    indexed = [row[2] for row in database.rows("PRAGMA index_info(idx_catalog_parent)")]
    if indexed != [b"parent_1", b"parent_2"]:
        yield f"{database.subject} has no index idx_catalog_parent on (parent_1, parent_2)"


def catalog_problems(catalog: Catalog) -> Iterator[str]:
    """Yields what is wrong within one parsed catalog."""
    yield from _property_problems(catalog)
    yield from _root_row_problems(catalog)
    yield from _placement_problems(catalog)
    for path, row in catalog.paths.items():
        where = f"{catalog.subject}, {path_text(path)}"
        yield from row_problems(row, catalog.chunks.get(row.key, []), where)
        if row.is_dir:
            yield from _directory_problems(catalog, path, row, where)
        elif path in catalog.children:
            yield f"{where}: entries below something that is no directory"
    yield from _group_problems(catalog)
    yield from _mountpoint_problems(catalog, catalog.nested, catalog.binds, NESTED_MOUNTPOINT, "nested_catalogs")
    yield from _mountpoint_problems(catalog, catalog.binds, catalog.nested, BIND_MOUNTPOINT, "bind_mountpoints")
    yield from _marker_problems(catalog)


def _property_problems(catalog: Catalog) -> Iterator[str]:
    subject, properties = catalog.subject, catalog.properties
    for key, expected in (("schema", "2.5"), ("schema_revision", "7")):
        if properties.get(key) != expected:
            yield f"{subject} has property {key} = {properties.get(key)!r} instead of {expected!r}"
    yield from decimal_problems(properties, ("revision", "last_modified"), subject)
    if "TTL" in properties:
        yield from decimal_problems(properties, ("TTL",), subject)
    prefix = properties.get("root_prefix")
    if prefix != (catalog.prefix.decode("utf-8", "backslashreplace") or None):
        yield f"{subject} has property root_prefix = {prefix!r}"
    previous = properties.get("previous_revision")
    if previous is None and properties.get("revision") != "0":
        yield f"{subject} has no property previous_revision"
    if previous is not None and previous != NULL_HASH_TEXT:
        try:
            parse_hash(previous, f"{subject}, previous_revision")
        except FormatError as error:
            yield str(error)


def _root_row_problems(catalog: Catalog) -> Iterator[str]:
    row = catalog.root_row
    if row is None:
        yield f"{catalog.subject} has no row for its root directory"
        return
    nested = catalog.prefix != b""
    parent_path, _, name = catalog.prefix.rpartition(b"/")
    expected = path_hash(parent_path) if nested else NULL_PATH_HASH
    if row.parent != expected or row.name != name:
        yield f"{catalog.subject}, root row: name or parent hash is wrong ({row.name!r}, {row.parent})"
    if not row.is_dir or bool(row.flags & NESTED_ROOT) != nested:
        yield f"{catalog.subject}, root row: flags 0x{row.flags:x} are not those of a {'nested ' * nested}root"


def _placement_problems(catalog: Catalog) -> Iterator[str]:
    known = {row.key: path for path, row in catalog.paths.items()}
    for row in catalog.rows.values():
        if row.key in known:
            if row.flags & NESTED_ROOT and known[row.key] != catalog.prefix:
                yield f"{catalog.subject}, {path_text(known[row.key])}: nested root flag on an inner row"
            if row.flags & HIDDEN and known[row.key] not in (b"/.cvmfs", b"/.nearfs"):
                yield f"{catalog.subject}, {path_text(known[row.key])}: hidden flag outside of /.cvmfs and /.nearfs"
            if row.flags & BUNDLE_TRIGGER and not _has_bundle(catalog, known[row.key]):
                yield f"{catalog.subject}, {path_text(known[row.key])}: bundle trigger without a specification"
            continue
        where = f"{catalog.subject}, row {row.name!r} with path hash {row.key}"
        wrong = name_problem(row.name)
        parent = known.get(row.parent)
        if wrong is not None:
            yield f"{where}: {wrong}"
        elif parent is not None:
            path = parent + b"/" + row.name
            yield f"{where}: path {path_text(path)} has the path hash {path_hash(path)}"
        else:
            yield f"{where}: orphan, no row has its parent hash {row.parent}"


def _has_bundle(catalog: Catalog, trigger: bytes) -> bool:
    directory, _, name = trigger.rpartition(b"/")
    specification = catalog.paths.get(directory + b"/.cvmfsbundle-" + name)
    return specification is not None and specification.is_regular


def _directory_problems(catalog: Catalog, path: bytes, row: Row, where: str) -> Iterator[str]:
    children = catalog.children.get(path, [])
    if row.flags & (NESTED_MOUNTPOINT | BIND_MOUNTPOINT):
        if children:
            yield f"{where}: mountpoint has {len(children)} entries in this catalog"
        return
    subdirectories = sum(catalog.paths[child].is_dir for child in children)
    if row.linkcount != 2 + subdirectories:
        yield f"{where}: linkcount {row.linkcount}, {subdirectories} sub-directories give {2 + subdirectories}"


def _group_problems(catalog: Catalog) -> Iterator[str]:
    groups: dict[int, list[tuple[bytes, Row]]] = {}
    for path, row in catalog.paths.items():
        if row.group > 0 and not row.is_dir:
            groups.setdefault(row.group, []).append((path, row))
    for group, members in groups.items():
        where = f"{catalog.subject}, hardlink group {group} of {path_text(members[0][0])}"
        first = members[0][1]
        for path, row in members:
            # A bundle belongs to one name of a file.
            flags = row.flags & ~BUNDLE_TRIGGER | first.flags & BUNDLE_TRIGGER
            if replace(row, key=first.key, name=first.name, flags=flags) != first:
                yield f"{where}: {path_text(path)} differs from it in its columns or directory"
            if catalog.chunks.get(row.key, []) != catalog.chunks.get(first.key, []):
                yield f"{where}: {path_text(path)} differs from it in its chunks"
        if first.linkcount != len(members):
            yield f"{where}: linkcount {first.linkcount}, the group has {len(members)} members"


def _mountpoint_problems(
    catalog: Catalog, mounts: dict[bytes, Mount], others: dict[bytes, Mount], flag: int, table: str
) -> Iterator[str]:
    flagged = {path for path, row in catalog.paths.items() if row.flags & flag and path != catalog.prefix}
    for path in sorted(flagged - mounts.keys()):
        yield f"{catalog.subject}, {path_text(path)}: mountpoint is not in {table}"
    for path in sorted(mounts.keys() - flagged):
        yield f"{catalog.subject}, {path_text(path)}: in {table} without a mountpoint row"
    for path, mount in mounts.items():
        if path in others and table == "nested_catalogs":
            yield f"{catalog.subject}, {path_text(path)}: in both nested_catalogs and bind_mountpoints"
        if mount.content_hash is None or mount.content_hash.is_null:
            yield f"{catalog.subject}, {path_text(path)}: no hash in {table}"


def _marker_problems(catalog: Catalog) -> Iterator[str]:
    expected = catalog.prefix + b"/" + MARKER
    markers = [path for path in catalog.paths if path.endswith(b"/" + MARKER)]
    for path in markers:
        if path != expected or not catalog.prefix:
            yield f"{catalog.subject}, {path_text(path)}: marker where no nested catalog begins"
    if catalog.prefix and (expected not in catalog.paths or not catalog.paths[expected].is_regular):
        yield f"{catalog.subject} has no regular file {MARKER.decode()} in its root directory"
