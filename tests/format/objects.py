"""Which objects a repository refers to, and which of its objects nothing refers to (format sections 1.2 and 7).

Owns reference sets as (hash text, suffix letter); verifies catalogs on the way but not content. Single-threaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .catalog import EXTERNAL, walk
from .errors import MissingObject
from .hashes import ContentHash, parse_hash
from .history import load_history
from .manifest import read_manifest
from .reflog import read_reflog
from .store import ObjectStore

Reference = tuple[str, str]
_OBJECT_NAME = re.compile(r"([0-9a-f]{2})/([0-9a-f]{38}(?:-rmd160|-shake128)?)([A-Z]?)")


def referenced(root: Path, root_hash: str) -> set[Reference]:
    """Returns (hash text, suffix) of every catalog, file object and chunk below a root hash, itself included."""
    return set(_references(ObjectStore(root), parse_hash(root_hash, "root hash")))


def _references(store: ObjectStore, root_hash: ContentHash) -> Iterator[Reference]:
    for catalog in walk(store, root_hash):
        yield catalog.content_hash.text, "C"
        for row in catalog.rows.values():
            if row.is_regular and not row.flags & EXTERNAL:
                if row.content_hash is not None:
                    yield row.content_hash.text, ""
                for chunk in catalog.chunks.get(row.key, []):
                    yield chunk.content_hash.text, "P"


def unreferenced_objects(root: Path) -> list[str]:
    """Returns the paths below the repository root of files in data/ that nothing refers to.

    Referring are the manifest, every tag, everything in the reflog, and what those catalogs name. Leftovers in
    data/txn and files with impossible names are listed too.
    """
    wanted = _all_references(root)
    stray: list[str] = []
    for path in sorted((root / "data").rglob("*")):
        if path.is_dir():
            continue
        parts = _OBJECT_NAME.fullmatch(path.relative_to(root / "data").as_posix())
        if parts is None or (parts[1] + parts[2], parts[3]) not in wanted:
            stray.append(path.relative_to(root).as_posix())
    return stray


def _all_references(root: Path) -> set[Reference]:
    store, manifest = ObjectStore(root), read_manifest(root)
    found = {(value.text, letter) for letter in "CXHM" if (value := manifest.hash(letter)) is not None}
    roots = {manifest.root_hash}
    history_hash = manifest.hash("H")
    if history_hash is not None:
        roots |= {tag.root_hash for tag in load_history(store, history_hash)[0].tags.values()}
    if (root / ".cvmfsreflog").exists():
        for content_hash, (letter, _) in read_reflog(root)[0].references.items():
            found.add((content_hash.text, letter))
            if letter == "C":
                roots.add(content_hash)
    for root_hash in roots:
        try:
            found |= set(_references(store, root_hash))
        except MissingObject:
            # What is missing is for the check to say; here it only refers to nothing any more.
            found.add((root_hash.text, "C"))
    return found
