"""The union of an owner who is not root: fuse-overlayfs, mounted and unmounted with fusermount3.

Owns: the command lines, and who may look at such a mount. Does not own: when something is mounted (`overlay`). Nobody
but root may remount, so another mode is another mount: `overlay` unmounts and mounts again.
Threading: plain functions.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.errors import Unsupported

if TYPE_CHECKING:
    from nearfs.publish.repository import Repository

PROGRAM = "fuse-overlayfs"
_UNMOUNTER = "fusermount3"
_SETTINGS = Path("/etc/fuse.conf")
# Counting the links of directories, fuse-overlayfs 1.10 finds again what lay in one that was removed and made anew.
_COUNTS_NO_LINKS = "static_nlink"
_ALLOWS_OTHERS = "user_allow_other"


def check_programs(fqrn: str) -> None:
    """Raises `Unsupported` with the way out where a program is missing that an owner's mounts need."""
    for program, package in ((PROGRAM, "fuse-overlayfs"), (_UNMOUNTER, "fuse3")):
        if shutil.which(program) is None:
            message = (
                f"{program} is missing, which owners who are not root mount with: install the package {package}, "
                f"or make the repository root's (-o root)"
            )
            raise Unsupported(message, operation="mount", subject=fqrn, exit_code=1)


def lets_others_look() -> bool:
    """Tells whether this machine lets users show their mounts to others, root included (/etc/fuse.conf)."""
    try:
        lines = _SETTINGS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return _ALLOWS_OTHERS in (line.strip() for line in lines)


def mount_command(repository: Repository, *, writable: bool) -> list[str]:
    """Returns what mounts the union, as the user who calls."""
    check_programs(repository.fqrn)
    layers = f"lowerdir={repository.read_only},upperdir={repository.scratch},workdir={repository.work}"
    options = [layers, _COUNTS_NO_LINKS] + ([] if writable else ["ro"])
    if lets_others_look():
        options.append("allow_other")
    return [PROGRAM, "-o", ",".join(options), str(repository.union)]


def unmount_command(path: Path, *, lazily: bool) -> list[str]:
    """Returns what unmounts a mount of the calling user."""
    return [_UNMOUNTER, "-u", *(["-z"] if lazily else []), "--", str(path)]
