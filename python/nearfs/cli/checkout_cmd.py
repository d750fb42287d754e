"""Checks out old revisions and branches (server.md 3.9).

Owns: the words of the output. Does not own: what a checkout is. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.publish import acting, checking_out

if TYPE_CHECKING:
    from nearfs.publish.repository import Repository


@acting.by_owner
def check_out(repository: Repository, *, tag: str, branch: str) -> int:
    """Checks out a tag or a branch; without both, goes back to the newest revision."""
    output.line(checking_out.check_out(repository, tag, branch))
    return 0
