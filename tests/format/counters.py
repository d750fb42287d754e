"""The 24 statistics counters of a catalog, recomputed from its rows (format section 4.9). Pure functions."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from .catalog import CHUNKED, EXTERNAL, Catalog

NAMES = (
    "regular", "symlink", "special", "dir", "nested", "chunked", "chunks", "file_size", "chunked_size", "xattr",
    "external", "external_file_size",
)  # fmt: skip
Counters = dict[str, int]


def self_counters(catalog: Catalog) -> Counters:
    """Returns what this catalog's own rows count up to, by name without prefix."""
    found = dict.fromkeys(NAMES, 0)
    for row in catalog.rows.values():
        found["xattr"] += row.xattr is not None
        if row.is_dir:
            found["dir"] += 1
        elif stat.S_ISLNK(row.mode):
            found["symlink"] += 1
        elif not row.is_regular:
            found["special"] += 1
        else:
            found["regular"] += 1
            found["file_size"] += row.size
            if row.flags & CHUNKED:
                found["chunked"] += 1
                found["chunked_size"] += row.size
            if row.flags & EXTERNAL:
                found["external"] += 1
                found["external_file_size"] += row.size
    found["nested"] = len(catalog.nested)
    found["chunks"] = sum(len(chunks) for chunks in catalog.chunks.values())
    return found


def add(first: Counters, second: Counters) -> Counters:
    """Returns the sum of two sets of counters."""
    return {name: first[name] + second[name] for name in NAMES}


def counter_problems(catalog: Catalog, own: Counters, below: Counters) -> Iterator[str]:
    """Yields each stored counter that differs from the recomputed ones, is absent or unknown."""
    expected = {f"self_{name}": own[name] for name in NAMES} | {f"subtree_{name}": below[name] for name in NAMES}
    for name, value in expected.items():
        stored = catalog.counters.get(name)
        if stored is None:
            yield f"{catalog.subject} has no counter {name}"
        elif stored != value:
            yield f"{catalog.subject} has counter {name} = {stored}, its rows give {value}"
    for name in sorted(catalog.counters.keys() - expected.keys()):
        yield f"{catalog.subject} has unknown counter {name}"
