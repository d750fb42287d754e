"""The whole check of a repository directory (format section 12, and everything that leads there).

Owns the order of the checks and what ties manifest, reflog, history and catalogs together. Problems are sentences
that name the object and the path; an empty list says that all is well. Single-threaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from .catalog import Catalog
from .errors import FormatError
from .hashes import ContentHash
from .history import Tag, history_problems, load_history
from .manifest import Manifest, manifest_problems, read_manifest
from .reflog import read_reflog, reflog_problems
from .store import MAX_METAINFO_BYTES, ObjectStore, object_name
from .tree_check import TreeCheck
from .trust import load_certificate, manifest_trust_problems, whitelist_trust_problems
from .whitelist import read_whitelist

_Value = TypeVar("_Value")


def check_repository(
    root: Path,
    public_keys: list[bytes],
    fqrn: str,
    *,
    verify_objects: bool = True,
    strict_reflog: bool = False,
    now: datetime | None = None,
) -> list[str]:
    """Returns all problems of a repository directory.

    `public_keys` are master keys in PEM; `strict_reflog` asks that manifest field Y is the reflog's checksum, which
    holds on a stratum 0 until a garbage collection; `now` is for the whitelist's expiry.
    """
    return _RepositoryCheck(root, fqrn, verify_objects).run(public_keys, strict_reflog, now or datetime.now(UTC))


class _RepositoryCheck:
    def __init__(self, root: Path, fqrn: str, verify_objects: bool) -> None:
        self._root = root
        self._fqrn = fqrn
        self._store = ObjectStore(root)
        self._trees = TreeCheck(self._store, verify_objects=verify_objects)
        self._problems: list[str] = []

    def run(self, public_keys: list[bytes], strict_reflog: bool, now: datetime) -> list[str]:
        manifest = self._attempt(lambda: read_manifest(self._root))
        if manifest is None or self._attempt(lambda: manifest.root_hash) is None:
            return self._problems
        self._collect(lambda: manifest_problems(manifest, self._fqrn))
        self._check_trust(manifest, public_keys, now)
        self._check_metainfo(manifest)
        self._check_alternative_paths(manifest)
        reflog = self._attempt(lambda: read_reflog(self._root))
        if reflog is not None:
            self._problems += reflog[1]
            self._collect(lambda: reflog_problems(reflog[0], manifest, self._fqrn, strict=strict_reflog))
        current = self._trees.check_root(manifest.root_hash, bound=True)
        if current is not None:
            self._collect(lambda: _root_problems(manifest, current))
        self._check_history(manifest)
        return self._problems + self._trees.problems

    def _attempt(self, read: Callable[[], _Value]) -> _Value | None:
        try:
            return read()
        except FormatError as error:
            self._problems.append(str(error))
            return None

    def _collect(self, problems: Callable[[], Iterable[str]]) -> None:
        try:
            for problem in problems():
                self._problems.append(problem)
        except FormatError as error:
            if str(error) not in self._problems:
                self._problems.append(str(error))

    def _check_trust(self, manifest: Manifest, public_keys: list[bytes], now: datetime) -> None:
        whitelist = self._attempt(lambda: read_whitelist(self._root))
        if whitelist is not None:
            self._collect(lambda: whitelist_trust_problems(whitelist, public_keys, self._fqrn, now))
        certificate = self._attempt(lambda: load_certificate(self._store, manifest))
        if certificate is not None:
            self._collect(lambda: manifest_trust_problems(manifest, certificate, whitelist))

    def _check_metainfo(self, manifest: Manifest) -> None:
        content_hash = self._attempt(lambda: manifest.hash("M")) if manifest.text("M") else None
        if content_hash is None:
            return
        content = self._attempt(lambda: self._store.load(content_hash, "M", limit=MAX_METAINFO_BYTES))
        try:
            if content is not None and not isinstance(json.loads(content), dict):
                self._problems.append(f"object {object_name(content_hash, 'M')} is no JSON object")
        except (ValueError, RecursionError) as error:
            self._problems.append(f"object {object_name(content_hash, 'M')} is no JSON text: {error}")

    def _check_alternative_paths(self, manifest: Manifest) -> None:
        if manifest.text("A") != "yes":
            return
        for letter in "CXHM":
            content_hash = self._attempt(lambda letter=letter: manifest.hash(letter))  # type: ignore[misc]
            if content_hash is None:
                continue
            name = f".cvmfsalt-{content_hash.text}{letter}"
            if (self._root / name).resolve() != (self._root / object_name(content_hash, letter)).resolve():
                self._problems.append(f"alternative path {name} does not lead to its object")

    def _check_history(self, manifest: Manifest) -> None:
        content_hash = self._attempt(lambda: manifest.hash("H")) if manifest.text("H") else None
        loaded = None if content_hash is None else self._attempt(lambda: load_history(self._store, content_hash))
        if loaded is None:
            return
        history, problems = loaded
        self._problems += problems
        self._collect(lambda: history_problems(history, self._fqrn, manifest.root_hash))
        for tag in history.tags.values():
            catalog = self._trees.check_root(tag.root_hash, bound=False)
            where = f"{history.subject}, tag {tag.name!r}"
            if catalog is None:
                self._problems.append(f"{where}: its root catalog {tag.root_hash.text} cannot be read")
            else:
                self._problems += _tag_problems(tag, catalog, where)


def _root_problems(manifest: Manifest, catalog: Catalog) -> Iterable[str]:
    stated = {"S": "revision", "D": "TTL"}
    for letter, key in stated.items():
        value = catalog.properties.get(key, "240" if key == "TTL" else None)
        if manifest.text(letter) != value:
            yield f"manifest field {letter} is {manifest.text(letter)!r}, {catalog.subject} has {key} = {value!r}"
    if manifest.number("B") != catalog.content_bytes:
        yield f"manifest field B is {manifest.text('B')!r}, {catalog.subject} has {catalog.content_bytes} bytes"


def _tag_problems(tag: Tag, catalog: Catalog, where: str) -> Iterable[str]:
    root: ContentHash = catalog.content_hash
    stated = {"revision": tag.revision, "last_modified": tag.timestamp}
    for key, value in stated.items():
        if catalog.properties.get(key) != str(value):
            yield f"{where}: states {key} {value}, root catalog {root.text} has {catalog.properties.get(key)!r}"
    if tag.size != catalog.content_bytes:
        yield f"{where}: states size {tag.size}, root catalog {root.text} has {catalog.content_bytes} bytes"
