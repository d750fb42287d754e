"""`cvmfs_server`: the publisher's administration command (server.md 1 and 3).

Owns: which command runs, and exit codes: 2 without a command, 3 for a usage error, 1 or the reference's errno for a
failure. Does not own: options (`nearfs.compat.server`) and what a command does (`nearfs.cli`).
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.compat.server import commands
from nearfs.compat.server.words import UsageError
from nearfs.errors import NearfsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_NO_COMMAND, _USAGE_ERROR, _FAILED, _INTERRUPTED = 2, 3, 1, 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Ends a command by the same way as Ctrl-C: what was begun is left as a kill would not leave it."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        output.line(commands.usage())
        return _NO_COMMAND
    if words[0] in ("-V", "--version"):
        output.line(commands.headline())
        return 0
    if words[0] in ("help", "-h", "--help"):
        output.line(commands.usage())
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    name = words[0].replace("_", "-")
    try:
        if name in commands.NOT_YET:
            output.complain(f"cvmfs_server: {commands.NOT_YET[name]}")
            return _FAILED
        command = commands.COMMANDS.get(name) or commands.OTHER_NAMES.get(name)
        if command is None:
            raise UsageError("Unrecognized command: " + words[0])
        return command.load()(words[1:])
    except UsageError as error:
        output.line(f"{commands.usage()}\n{'_' * 80}\n\nNOTE: {error}")
        return _USAGE_ERROR
    except NearfsError as error:
        output.complain(str(error))
        # The codes of kinds are nearfs's own; scripts know 1, and the codes that the specification names.
        return _FAILED if error.exit_code == error.default_exit_code else error.exit_code
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        output.complain(f"cvmfs_server {name}: {about}{error.strerror or error}; the repository's state is kept")
        return _FAILED
    except KeyboardInterrupt:
        output.complain("interrupted; the repository is as the last finished step left it")
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
