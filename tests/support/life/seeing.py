"""What a tree is, as two witnesses say: the kernel for a mounted one, the independent reader for a stored one.

Owns the common form, which is the model's, and the sentence about the first differences. Reads only; one thread.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from tests.format.listing import list_tree
from tests.support.life.model import Facts, Tree, as_base64, encoded

MOST_DIFFERENCES = 12


def mounted(root: Path) -> dict[bytes, Facts]:
    """Returns every entry below a mount point, content included."""
    found: dict[bytes, Facts] = {}
    top = os.fsencode(root)
    for directory, directories, files in os.walk(top, onerror=_raise):
        for name in directories + files:
            path = directory + b"/" + name
            found[path[len(top) + 1 :]] = _entry(path)
    return found


def _raise(error: OSError) -> None:
    raise error


def _entry(path: bytes) -> Facts:
    status = os.lstat(path)
    found: Facts = {
        "mode": oct(status.st_mode), "uid": status.st_uid, "gid": status.st_gid, "mtime_ns": status.st_mtime_ns,
    }  # fmt: skip
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            found |= {"size": status.st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    elif stat.S_ISLNK(status.st_mode):
        found["target"] = encoded(os.readlink(path))
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        found["rdev"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith("user.")]
        if names:
            found["xattrs"] = {name: as_base64(os.getxattr(path, name, follow_symlinks=False)) for name in names}
    return found


def stored(storage: Path, root_hash_or_tag: str) -> dict[bytes, Facts]:
    """Returns every entry of a stored snapshot as the independent reader sees it, content included."""
    found: dict[bytes, Facts] = {}
    for line in list_tree(storage, root_hash_or_tag):
        entry: dict[str, Any] = json.loads(line)
        path = entry.pop("path")
        name = path.encode() if isinstance(path, str) else base64.b64decode(path["base64"])
        if name:
            found[name] = entry
    return found


def differences(tree: Tree, found: dict[bytes, Facts]) -> list[str]:
    """Returns a line an entry that is not as the tree has it; a time that nobody set may be any."""
    expected = tree.facts()
    lines = [f"{path!r} is missing" for path in sorted(expected.keys() - found.keys())]
    lines += [f"{path!r} should not be there: {found[path]}" for path in sorted(found.keys() - expected.keys())]
    for path in sorted(expected.keys() & found.keys()):
        wanted, seen = expected[path], found[path]
        if wanted["mtime_ns"] is None:
            wanted = {**wanted, "mtime_ns": seen["mtime_ns"]}
        lines += [
            f"{path!r}: {key} is {seen.get(key)!r}, expected {wanted.get(key)!r}"
            for key in sorted(wanted.keys() | seen.keys())
            if wanted.get(key) != seen.get(key)
        ]
    return lines[:MOST_DIFFERENCES] + (["..."] if len(lines) > MOST_DIFFERENCES else [])


def adopt_times(tree: Tree, found: dict[bytes, Facts]) -> None:
    """Takes over the times that nobody set."""
    for path, inode in tree.entries.items():
        moment = found[path]["mtime_ns"]
        if inode.mtime_ns is None and isinstance(moment, int):
            inode.mtime_ns = moment
