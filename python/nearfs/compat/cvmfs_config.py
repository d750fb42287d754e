"""`cvmfs_config`: the client's administration command (client.md 2.6). This version has `showconfig`.

Owns: the options and the exit codes. Does not own: what a subcommand does (`nearfs.cli`).
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from nearfs.cli import output, showconfig_cmd
from nearfs.config.layers import DEFAULT_ROOT
from nearfs.errors import NearfsError

if TYPE_CHECKING:
    from collections.abc import Sequence

NEEDS_ROOT = frozenset({"setup", "chksetup", "reload", "fuser", "umount", "wipecache", "killall", "bugreport"})
NOT_YET = NEEDS_ROOT | {"stat", "status", "probe", "fsck", "wsl2_start"}

USAGE = f"""\
Client configuration of nearfs (compatible with cvmfs_config 2.12.0)

Usage: cvmfs_config <command> [options]

Commands:
  showconfig [-s] [--root DIR] [<repository>]
      prints every parameter of the repository and the file that sets it;
      without a repository, of each one in CVMFS_REPOSITORIES
      -s          leaves out what is not set
      --root DIR  reads the files below DIR instead of {DEFAULT_ROOT}

Not in this version: {", ".join(sorted(NOT_YET))}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words else ""
    if command == "showconfig":
        output.end_with_reader()
        return _showconfig(words[1:])
    if command in NEEDS_ROOT and os.geteuid() != 0:
        output.line("root privileges required")
        return 1
    if command in NOT_YET:
        output.complain(f"cvmfs_config: the command '{command}' is not available in this version of nearfs")
        return 1
    output.line(USAGE)
    return 0


def _showconfig(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="cvmfs_config showconfig", allow_abbrev=False)
    parser.add_argument("-s", dest="skip_unset", action="store_true", help="leave out parameters that are not set")
    parser.add_argument("--root", default=DEFAULT_ROOT, help="directory of the configuration files")
    parser.add_argument("repository", nargs="?", default="", help="fully qualified or short name")
    options = parser.parse_args(words)
    try:
        if options.repository:
            showconfig_cmd.show_repository(options.repository, root=options.root, skip_unset=options.skip_unset)
        else:
            showconfig_cmd.show_all(sys.argv[0], root=options.root, skip_unset=options.skip_unset)
    except NearfsError as error:
        output.complain(f"cvmfs_config: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
