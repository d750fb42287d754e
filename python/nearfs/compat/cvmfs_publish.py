"""`cvmfs_publish`: the reference's native publisher, over the commands of `cvmfs_server` (server.md 1.1).

Owns: which command runs; a verb that `cvmfs_server` has not is not available here either.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.compat import cvmfs_server, running
from nearfs.compat.server import commands
from nearfs.compat.server.words import UsageError
from nearfs.compat.swissknife import content

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the server's table calls them.
_SERVER = {verb: verb for verb in ("mkfs", "transaction", "abort", "info", "diff", "enter")} | {"commit": "publish"}
_CONTENT = {"hash": content.hash_text, "zpipe": content.zpipe}
_INVALID = 22


def usage() -> str:
    """Returns the usage text."""
    available = [verb for verb, name in _SERVER.items() if name in commands.COMMANDS]
    verbs = ", ".join([*available, *_CONTENT, "lsof", "help"])
    return f"{commands.headline()}\n\nUsage: cvmfs_publish VERB [options] <parameters>\n\nVerbs: {verbs}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("help", "-h", "--help"):
        output.line(usage())
        return 0 if words else 1
    verb = words[0]
    if verb in ("-V", "--version", "version"):
        output.line(commands.headline())
        return 0
    if verb in _SERVER:
        return cvmfs_server.main([_SERVER[verb], *words[1:]])
    try:
        if verb in _CONTENT:
            return running.ended(f"cvmfs_publish {verb}", lambda: _CONTENT[verb](words[1:]))
        if verb == "lsof":
            return running.ended("cvmfs_publish lsof", lambda: _lsof(words[1:]))
    except UsageError as error:
        output.complain(f"cvmfs_publish {error}")
        return _INVALID
    output.complain(f"cvmfs_publish: unknown verb '{verb}'\n{usage()}")
    return 1


def _lsof(words: Sequence[str]) -> int:
    from nearfs.cli import lsof_cmd

    if len(words) != 1:
        raise UsageError("lsof: name one directory")
    return lsof_cmd.show(words[0])


if __name__ == "__main__":
    sys.exit(main())
