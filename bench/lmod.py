"""Finds Lmod (Debian package `lmod`, which brings lua5.3, lua-posix and the rest) and says how to list modules.

Runs nothing. The listing comes on standard error, in columns; `listed_modules` reads it. Not `--terse`: that lists
directories only, while the usual listing opens every modulefile, which is what users wait for.
"""

import os
import re
from pathlib import Path

# Headings are absolute paths, and neither legend nor advice below the list has a word with a slash.
_MODULE = re.compile(r"[A-Za-z0-9][^/]*/[^/]+")

# Debian's place, and the usual one of an Lmod that was installed by hand.
_PLACES = (Path("/usr/share/lmod/lmod/libexec/lmod"), Path("/opt/apps/lmod/lmod/libexec/lmod"))


def find_lmod() -> Path | None:
    """Returns the Lmod program: that of LMOD_CMD if set, then the usual places; None when there is none."""
    named = os.environ.get("LMOD_CMD")
    for place in (Path(named), *_PLACES) if named else _PLACES:
        if place.is_file() and os.access(place, os.X_OK):
            return place
    return None


def avail_command(modulepath: Path, home: Path) -> tuple[list[str], dict[str, str]]:
    """Returns (argv, whole environment) of `module avail` without any cache, over `modulepath` alone.

    `home` must be a fresh directory: Lmod writes a cache into it after a slow run, and would read it in the next.
    Raises FileNotFoundError when there is no Lmod.
    """
    lmod = find_lmod()
    if lmod is None:
        raise FileNotFoundError("Lmod is not installed: apt-get install lmod, or name its program in LMOD_CMD")
    environment = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "MODULEPATH": str(modulepath),
        "LMOD_IGNORE_CACHE": "1",
        "LMOD_PAGER": "none",
    }
    return [str(lmod), "bash", "--ignore_cache", "avail"], environment


def listed_modules(listing: str) -> set[str]:
    """Returns the modules, as NAME/VERSION, of a listing: the words of its rows that are neither rule nor mark."""
    return {word for word in listing.split() if _MODULE.fullmatch(word)}
