"""`cvmfs_fsck`: checks a client's cache directory (client.md 2.8).

Owns the exit status and what is printed. Does not own: the check (`client.fsck`).
Threading: a command; the check hashes in threads of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import output

if TYPE_CHECKING:
    from pathlib import Path

_TROUBLE = 8


def check(directory: Path, *, threads: int, verbose: bool, fixes: bool, drops_database: bool) -> int:
    """Checks the cache; returns the reference's bits: 0 good, 1 mended, 4 damaged, 8 not checked."""
    from nearfs.client import fsck

    if not directory.is_dir():
        output.complain(f"Error: {directory} is not a directory; give the cache directory of a client")
        return _TROUBLE
    if verbose:
        output.line(f"Verifying {directory} with {threads} threads")
    check = fsck.Check(directory, threads, fixes, drops_database, output.line, output.complain)
    found, verified = check.run()
    output.line(f"Verified {verified} files")
    return int(found.value)
