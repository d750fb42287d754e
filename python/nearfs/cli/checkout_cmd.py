"""Checks out old revisions and branches (server.md 3.9).

Owns: the words of the output. Does not own: what a checkout is. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from nearfs.cli import output
from nearfs.publish import checking_out
from nearfs.publish.repository import Repository


def check_out(name: str, *, tag: str, branch: str) -> int:
    """Checks out a tag or a branch; without both, goes back to the newest revision."""
    output.line(checking_out.check_out(Repository.load(name), tag, branch))
    return 0
