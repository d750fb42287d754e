"""Rules that span catalogs: transitions, sizes, subtree counters, bind mountpoints (format sections 4.9, 4.12, 12).

Owns the walk over all catalogs below a root hash, each checked once however many roots share it. One TreeCheck per
check; not shared between threads.
"""

from __future__ import annotations

from dataclasses import replace

from .catalog import MAX_DEPTH, NESTED_MOUNTPOINT, NESTED_ROOT, Catalog, Mount, Row, load_catalog, path_text, subject_of
from .catalog_check import catalog_problems, container_problems
from .counters import NAMES, Counters, add, counter_problems, self_counters
from .errors import FormatError
from .hashes import ContentHash
from .row_check import object_problems
from .store import ObjectStore


class TreeCheck:
    """Checks trees of catalogs and collects problem sentences in `problems`."""

    def __init__(self, store: ObjectStore, *, verify_objects: bool) -> None:
        self.problems: list[str] = []
        self._store = store
        self._verify_objects = verify_objects
        self._done: dict[tuple[ContentHash, bytes], tuple[Catalog, Counters] | None] = {}

    def check_root(self, content_hash: ContentHash, *, bound: bool) -> Catalog | None:
        """Checks everything below a root hash and returns its root catalog, None when that cannot be read.

        `bound` also asks for the targets of bind mountpoints, which only the current revision promises: those of
        an old one may have been collected with their tags.
        """
        done = self._check(content_hash, b"", 0)
        if done is not None and bound:
            self._check_binds(done[0])
        return None if done is None else done[0]

    def _check(self, content_hash: ContentHash, prefix: bytes, depth: int) -> tuple[Catalog, Counters] | None:
        """Returns a catalog with the sum of its own and its subtree's counters."""
        key = (content_hash, prefix)
        if key not in self._done:
            self._done[key] = None
            try:
                self._done[key] = self._check_new(content_hash, prefix, depth)
            except FormatError as error:
                self.problems.append(f"{subject_of(content_hash, prefix)}: {error}")
        return self._done[key]

    def _check_new(self, content_hash: ContentHash, prefix: bytes, depth: int) -> tuple[Catalog, Counters]:
        if depth > MAX_DEPTH:
            raise FormatError(f"catalogs nest deeper than {MAX_DEPTH} levels")
        catalog, database = load_catalog(self._store, content_hash, prefix)
        try:
            self.problems += container_problems(database)
        finally:
            database.close()
        self.problems += catalog_problems(catalog)
        if self._verify_objects:
            for path, row in catalog.paths.items():
                where = f"{catalog.subject}, {path_text(path)}"
                self.problems += object_problems(row, catalog.chunks.get(row.key, []), self._store, where)
        own, below, complete = self_counters(catalog), dict.fromkeys(NAMES, 0), True
        for mount in sorted(catalog.nested.values(), key=lambda mount: mount.path):
            nested = self._check_nested(catalog, mount, depth)
            if nested is None:
                complete = False
            else:
                below = add(below, nested)
        if complete:
            self.problems += counter_problems(catalog, own, below)
        return catalog, add(own, below)

    def _check_nested(self, parent: Catalog, mount: Mount, depth: int) -> Counters | None:
        where = f"{parent.subject}, nested catalog {path_text(mount.path)}"
        if not mount.path.startswith(parent.prefix + b"/"):
            self.problems.append(f"{where}: lies outside of the catalog that registers it")
            return None
        if mount.content_hash is None:
            return None
        done = self._check(mount.content_hash, mount.path, depth + 1)
        if done is None:
            return None
        child, counters = done
        if mount.size != child.content_bytes:
            self.problems.append(f"{where}: size {mount.size} is stated, the catalog has {child.content_bytes} bytes")
        self._compare_transition(parent.paths.get(mount.path), child.root_row, where)
        return counters

    def _compare_transition(self, above: Row | None, below: Row | None, where: str) -> None:
        if above is None or below is None:
            return
        for name in Row.__slots__:
            first, second = getattr(above, name), getattr(below, name)
            if name == "flags":
                first, second = first & ~NESTED_MOUNTPOINT, second & ~NESTED_ROOT
            if first != second:
                self.problems.append(f"{where}: {name} is {first!r} in the parent, {second!r} in the nested root row")

    def _check_binds(self, catalog: Catalog) -> None:
        for mount in catalog.binds.values():
            where = f"{catalog.subject}, bind mountpoint {path_text(mount.path)}"
            done = None if mount.content_hash is None else self._check(mount.content_hash, b"", 0)
            if done is None:
                self.problems.append(f"{where}: its root catalog cannot be read")
                continue
            target, row = done[0], catalog.paths.get(mount.path)
            if mount.size != target.content_bytes:
                self.problems.append(
                    f"{where}: size {mount.size} is stated, the catalog has {target.content_bytes} bytes"
                )
            if row is not None and target.root_row is not None:
                self._compare_bind(row, target.root_row, where)
        for mount in catalog.nested.values():
            done = None if mount.content_hash is None else self._done.get((mount.content_hash, mount.path))
            if done is not None:
                self._check_binds(done[0])

    def _compare_bind(self, row: Row, root_row: Row, where: str) -> None:
        # Published repositories carry the bound root's own linkcount here, the specification's text says 2.
        for linkcount in (2, root_row.hardlinks):
            expected = replace(root_row, key=row.key, parent=row.parent, name=row.name, flags=row.flags)
            if row == replace(expected, hardlinks=linkcount):
                return
        self.problems.append(f"{where}: its columns are not those of the bound root row")
