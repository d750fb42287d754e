"""What a tree on disk shows, as a value that two trees can be compared by.

Owns which attributes count: those that a repository keeps. Called from any thread.
"""

import hashlib
import os
import stat
from pathlib import Path

Shown = dict[str, tuple[object, ...]]


def shown(root: Path) -> Shown:
    """Returns path -> type and mode, owner, group, time, and content, target or device, of everything below `root`."""
    found: Shown = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory) / name
            seen = path.lstat()
            what: object = None
            if stat.S_ISREG(seen.st_mode):
                with path.open("rb") as opened:
                    what = (seen.st_size, hashlib.file_digest(opened, "sha256").hexdigest())
            elif stat.S_ISLNK(seen.st_mode):
                what = os.readlink(path)
            elif stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
                what = seen.st_rdev
            attributes = (oct(seen.st_mode), seen.st_uid, seen.st_gid, int(seen.st_mtime))
            found[str(path.relative_to(root))] = (*attributes, what)
    return found
