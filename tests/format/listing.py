"""The tree that a mounted snapshot shows, computed from catalogs and objects alone.

Owns the JSON lines of the golden listings: path, mode, uid, gid, mtime_ns, and by type size and sha256, target,
rdev, and user.* attributes. Owners are those of the catalog (no claiming). Single-threaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .catalog import BIND_MOUNTPOINT, HIDDEN, Catalog, Row, walk
from .database import shown
from .errors import FormatError
from .hashes import ContentHash, parse_hash
from .history import load_history
from .manifest import read_manifest
from .store import ObjectStore
from .symlinks import expand_target
from .xattrs import parse_xattrs

Json = dict[str, object]


def resolve(root: Path, root_hash_or_tag: str) -> ContentHash:
    """Returns the root hash of a tag name, or of a hash text; raises FormatError for an unknown tag."""
    try:
        return parse_hash(root_hash_or_tag, "root hash")
    except FormatError:
        history_hash = read_manifest(root).hash("H")
        tags = {} if history_hash is None else load_history(ObjectStore(root), history_hash)[0].tags
        if root_hash_or_tag not in tags:
            raise FormatError(f"no tag {root_hash_or_tag!r} among {sorted(tags)}") from None
        return tags[root_hash_or_tag].root_hash


def list_tree(root: Path, root_hash_or_tag: str, *, hide_virtual: bool = True) -> list[str]:
    """Returns one JSON line an entry, sorted by path; `hide_virtual` leaves out hidden directories."""
    store = ObjectStore(root)
    lines: list[tuple[bytes, str]] = []
    shown_as: dict[bytes, tuple[Catalog, Row]] = {}
    for catalog in walk(store, resolve(root, root_hash_or_tag)):
        # A nested catalog comes after its parent and so replaces the mountpoint row by its own root row (4.4).
        shown_as.update({path: (catalog, row) for path, row in catalog.paths.items()})
    hidden = [path for path, (_, row) in shown_as.items() if row.flags & HIDDEN]
    for path, (catalog, row) in shown_as.items():
        if hide_virtual and any(path == top or path.startswith(top + b"/") for top in hidden):
            continue
        entry = _entry(store, catalog, path, row)
        lines.append((path[1:], json.dumps(entry, sort_keys=True, ensure_ascii=True)))
    return [line for _, line in sorted(lines)]


def _entry(store: ObjectStore, catalog: Catalog, path: bytes, row: Row) -> Json:
    entry: Json = {
        "path": _encoded(path[1:]), "mode": oct(row.mode), "uid": row.uid, "gid": row.gid,
        "mtime_ns": row.mtime * 10**9 + (row.mtimens or 0),
    }  # fmt: skip
    if row.is_regular:
        entry["size"] = row.size
        entry["sha256"] = _content_sha256(store, catalog, path, row)
    elif stat.S_ISLNK(row.mode):
        entry["target"] = _encoded(expand_target(row.symlink, {}))
    elif stat.S_ISCHR(row.mode) or stat.S_ISBLK(row.mode):
        entry["rdev"] = [os.major(row.size), os.minor(row.size)]
    if row.xattr is not None and (row.is_regular or row.is_dir) and not row.flags & BIND_MOUNTPOINT:
        attributes = _user_attributes(row, shown(path))
        if attributes:
            entry["xattrs"] = attributes
    return entry


def _encoded(text: bytes) -> str | dict[str, str]:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(text).decode()}


def _user_attributes(row: Row, where: str) -> dict[str, str]:
    """Returns the user.* attributes; a blob that a reader rejects counts as empty (4.10)."""
    try:
        attributes = parse_xattrs(row.xattr or b"", where, strict=False)
    except FormatError:
        return {}
    return {
        os.fsdecode(key): base64.b64encode(value).decode()
        for key, value in attributes.items()
        if key.startswith(b"user.")
    }


def _content_sha256(store: ObjectStore, catalog: Catalog, path: bytes, row: Row) -> str:
    digest, size = hashlib.sha256(), 0
    for part in _content(store, catalog, row):
        digest.update(part)
        size += len(part)
    if size != row.size:
        raise FormatError(f"{catalog.subject}, {shown(path)}: content has {size} bytes, {row.size} are stated")
    return digest.hexdigest()


def _content(store: ObjectStore, catalog: Catalog, row: Row) -> Iterator[bytes]:
    chunks = catalog.chunks.get(row.key, [])
    for chunk in chunks:
        yield store.load(chunk.content_hash, "P", plain=row.is_plain, limit=chunk.size)
    if not chunks:
        if row.content_hash is None:
            raise FormatError(f"{catalog.subject}: file {shown(row.name)!r} has neither hash nor chunks")
        yield store.load(row.content_hash, "", plain=row.is_plain, limit=row.size)
