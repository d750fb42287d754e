"""`cvmfs_config`: the client's administration command (client.md 2.6).

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
    from collections.abc import Callable, Sequence

NEEDS_ROOT = frozenset({"setup", "chksetup", "reload", "fsck", "fuser", "umount", "wipecache", "killall", "bugreport"})
# Commands of the reference without an equivalent yet, and why.
NOT_YET = {
    "reload": "a client cannot be replaced while it is mounted; `umount` and mount again to read the configuration",
    "wsl2_start": "there is no support for WSL2",
}
_FAILED = 1

USAGE = f"""\
Client configuration of nearfs (compatible with cvmfs_config 2.12.0)

Usage: cvmfs_config <command> [options]

Commands:
  setup [nouser] [nocfgmod] [nostart] [noautofs]
      makes the user, directories, automount map and mount helper, and starts automount
  chksetup
      tells what is wrong with this machine; the exit status is the number of errors
  showconfig [-s] [--root DIR] [<repository>]
      prints every parameter of the repository and the file that sets it;
      without a repository, of each one in CVMFS_REPOSITORIES
      -s          leaves out what is not set
      --root DIR  reads the files below DIR instead of {DEFAULT_ROOT}
  stat [-v] [<repository>]
      prints statistics of a mounted repository, or of all
  status
      prints what is mounted where, and whether it answers
  probe [<repository>...]
      touches each repository below the mount directory, so that automount mounts it
  fuser <repository>
      prints the processes that use a mounted repository
  umount [<repository>...]
      unmounts repositories, by default all
  fsck [options of cvmfs_fsck]
      checks the cached objects of all repositories
  wipecache
      removes the cached objects of repositories that are not mounted; what was learned of programs stays
      (nearfs trace forget)
  killall
      ends all clients by force and clears away what they leave
  bugreport
      packs what helps to understand a problem

Not in this version: {", ".join(sorted(NOT_YET))}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words else ""
    if {"-h", "--help"} & set(words[1:]) and command != "showconfig":
        output.line(USAGE)
        return 0
    if command in NEEDS_ROOT and os.geteuid() != 0:
        output.line("root privileges required")
        return _FAILED
    if command in NOT_YET:
        output.complain(f"cvmfs_config: '{command}' is not available in this version of nearfs: {NOT_YET[command]}")
        return _FAILED
    found = COMMANDS.get(command)
    if found is None:
        output.line(USAGE)
        return 0
    try:
        return found(words[1:])
    except NearfsError as error:
        output.complain(f"cvmfs_config: {error}")
    except OSError as error:
        output.complain(f"cvmfs_config: {command}: {error.strerror}: {error.filename}")
    return _FAILED


def _showconfig(words: list[str]) -> int:
    output.end_with_reader()
    parser = argparse.ArgumentParser(prog="cvmfs_config showconfig", allow_abbrev=False)
    parser.add_argument("-s", dest="skip_unset", action="store_true", help="leave out parameters that are not set")
    parser.add_argument("--root", default=DEFAULT_ROOT, help="directory of the configuration files")
    parser.add_argument("repository", nargs="?", default="", help="fully qualified or short name")
    options = parser.parse_args(words)
    if options.repository:
        showconfig_cmd.show_repository(options.repository, root=options.root, skip_unset=options.skip_unset)
    else:
        showconfig_cmd.show_all(sys.argv[0], root=options.root, skip_unset=options.skip_unset)
    return 0


def _stat(words: list[str]) -> int:
    from nearfs.cli import client_status_cmd

    verbose = "-v" in words
    names = [word for word in words if word != "-v"]
    return client_status_cmd.show_statistics(names[0] if names else "", verbose=verbose)


def _status(_words: list[str]) -> int:
    from nearfs.cli import client_status_cmd

    return client_status_cmd.show_status()


def _probe(words: list[str]) -> int:
    from nearfs.cli import client_status_cmd

    return client_status_cmd.probe(words)


def _fuser(words: list[str]) -> int:
    from nearfs.cli import client_status_cmd

    return client_status_cmd.show_users(words[0] if words else "")


def _umount(words: list[str]) -> int:
    from nearfs.cli import client_stop_cmd

    return client_stop_cmd.unmount(words)


def _fsck(words: list[str]) -> int:
    from nearfs.cli import client_stop_cmd
    from nearfs.compat import cvmfs_fsck

    statuses = []
    for directory in client_stop_cmd.caches():
        output.line(f"CernVM-FS fsck on {directory}")
        statuses.append(cvmfs_fsck.main([*words, directory]))
    return sum(statuses)


def _wipecache(_words: list[str]) -> int:
    from nearfs.cli import client_stop_cmd

    return client_stop_cmd.wipe_caches()


def _killall(_words: list[str]) -> int:
    from nearfs.cli import client_stop_cmd

    return client_stop_cmd.kill_all()


def _setup(words: list[str]) -> int:
    from nearfs.cli import client_setup_cmd

    return client_setup_cmd.set_up(words)


def _chksetup(_words: list[str]) -> int:
    from nearfs.cli import client_setup_cmd

    return client_setup_cmd.check()


def _bugreport(_words: list[str]) -> int:
    from nearfs.cli import bugreport_cmd

    return bugreport_cmd.write()


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "bugreport": _bugreport,
    "chksetup": _chksetup,
    "fuser": _fuser,
    "killall": _killall,
    "probe": _probe,
    "setup": _setup,
    "showconfig": _showconfig,
    "stat": _stat,
    "status": _status,
    "umount": _umount,
    "fsck": _fsck,
    "wipecache": _wipecache,
}


if __name__ == "__main__":
    sys.exit(main())
