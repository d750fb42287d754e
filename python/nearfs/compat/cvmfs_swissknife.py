"""`cvmfs_swissknife`: the plumbing that administrators' scripts call (server.md 10.1).

Owns: which verb runs, and exit codes: 1 for a failure and for a verb that this version has not.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.compat import running
from nearfs.compat.server.words import UsageError
from nearfs.compat.swissknife import verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FAILED = 1
_VERSION = "2.12.0"


def usage() -> str:
    """Returns the usage text."""
    return f"CernVM-FS repository administration {_VERSION}\n\nUsage: cvmfs_swissknife VERB [options]\n\nVerbs: " + (
        ", ".join([*verbs.VERBS, "version", "help"])
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("help", "--help", "-h"):
        output.line(usage())
        return 0 if words else _FAILED
    if words[0] in ("version", "--version", "-V"):
        output.line(f"CernVM-FS Swissknife version {_VERSION}")
        return 0
    verb = words[0]
    if verb not in verbs.VERBS:
        instead = verbs.INSTEAD.get(verb)
        reason = f"is not available in this version of nearfs; {instead}" if instead else "is unknown"
        output.complain(f"cvmfs_swissknife: the verb '{verb}' {reason}")
        return _FAILED
    try:
        return running.ended(f"cvmfs_swissknife {verb}", lambda: _loaded(verb)(words[1:]))
    except UsageError as error:
        output.complain(f"cvmfs_swissknife {error}")
        return _FAILED


def _loaded(verb: str) -> Callable[[Sequence[str]], int]:
    module, _, name = verbs.VERBS[verb].partition(":")
    function: Callable[[Sequence[str]], int]
    function = getattr(importlib.import_module(f"nearfs.compat.swissknife.{module}"), name)
    return function


if __name__ == "__main__":
    sys.exit(main())
