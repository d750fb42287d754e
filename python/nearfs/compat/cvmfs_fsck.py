"""`cvmfs_fsck`: the reference's options of the cache check (client.md 2.8). Threading: a short-lived command."""

from __future__ import annotations

import getopt
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.cli import fsck_cmd, output

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE_ERROR = 16
_MAX_THREADS = 64

USAGE = """\
Usage: cvmfs_fsck [-v] [-p] [-f] [-j <threads>] <cache directory>

Checks that every file in a client's cache has the content that its name says. Safe beside mounts that use the cache.

Options:
  -v   says what it does
  -p   moves damaged files to the quarantaine folder, so that they are fetched again
  -f   removes the database of the cache; the next mount makes it anew
  -j   so many threads (1)

Exit status: 0 all is well, 1 damage was mended, 4 damage is left, 8 something could not be checked, 16 usage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        flags, rest = getopt.getopt(words, "hvpfj:", ["help"])
        chosen = dict(flags)
        threads = int(chosen.get("-j", "1"))
    except (getopt.GetoptError, ValueError) as error:
        output.complain(f"cvmfs_fsck: {error}\n{USAGE}")
        return _USAGE_ERROR
    if chosen.keys() & {"-h", "--help"}:
        output.line(USAGE)
        return 0
    if len(rest) != 1 or not 1 <= threads <= _MAX_THREADS:
        output.complain(USAGE)
        return _USAGE_ERROR
    return fsck_cmd.check(
        Path(rest[0]), threads=threads, verbose="-v" in chosen, fixes="-p" in chosen, drops_database="-f" in chosen
    )


if __name__ == "__main__":
    sys.exit(main())
