"""`cvmfs2`: mounts a repository (client.md 2.1).

Owns: the options of the reference's command. Does not own: what they do.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import getopt
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.cli import mount_client_cmd, output
from nearfs.client.options import MountOptions
from nearfs.errors import InitCode, NearfsError, init_failure_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERSION_LINE = "CernVM-FS version 2.12.0"
_ARGUMENTS = 2
_INTERRUPTED = 130
_MAKE_ALIEN_CACHE = "__MK_ALIEN_CACHE__"
_DISCOVER_PROXIES = "__wpad__"

USAGE = """\
Usage: cvmfs2 [-h] [-V] [-s] [-f] [-d] [-k] [-o options] <repository name> <mount point>

Mounts a CernVM-FS repository, read-only.

  -h, --help      this text
  -V, --version   the release of CernVM-FS that this is compatible with
  -s              one worker thread
  -f              stay in the foreground
  -d              log what the engine does to standard error
  -k              print the parameters of the repository and their files, mount nothing
  -o options      comma separated:
                    config=FILE[:FILE...]    read these files instead of those below /etc/cvmfs
                    override=FILE            then read this one, KEY=value lines without a shell
                    uid=N,gid=N              user and group to run as; a process of root stays to unmount
                    grab_mountpoint          makes the mount point belong to them
                    fsname=NAME              source shown in the mount table
                    loop=native|python       what answers the kernel: the engine's own loop, or pyfuse3 and trio
                                             (pip install 'nearfs[portable]'), slower, for comparison and debugging
                    foreground, parse, debug, allow_other, cvmfs_suid, simple_options_parsing, remount,
                    system_mount             as in CernVM-FS
                    _netdev, user, auto, noauto, ...   accepted and ignored

Exit status: 0, or the start-up code that is printed with the reason."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    special = _SPECIAL.get(words[0]) if words else None
    if special is not None:
        usage, act = special
        if words[1:] in (["-h"], ["--help"]):
            output.line(usage)
            return 0
        return act(words[1:])
    options = MountOptions()
    try:
        flags, rest = getopt.gnu_getopt(words, "hVsfdko:", ["help", "version"])
    except getopt.GetoptError as error:
        output.complain(f"cvmfs2: {error}\n{USAGE}")
        return int(InitCode.OPTIONS)
    try:
        for flag, value in flags:
            if flag in ("-h", "--help"):
                output.line(USAGE)
                return 0
            if flag in ("-V", "--version"):
                output.line(f"{VERSION_LINE}\n")
                return 0
            options.take({"-s": "", "-f": "foreground", "-d": "debug", "-k": "parse"}.get(flag, value))
            options.single_threaded |= flag == "-s"
    except NearfsError as error:
        output.complain(init_failure_line(str(error), InitCode.OPTIONS))
        return int(InitCode.OPTIONS)
    wanted = 1 if options.parse_only else _ARGUMENTS
    if not wanted <= len(rest) <= _ARGUMENTS:
        output.complain(f"cvmfs2: a repository name and a mount point are needed\n{USAGE}")
        return int(InitCode.OPTIONS)
    try:
        return mount_client_cmd.run(rest[0], rest[-1], options)
    except KeyboardInterrupt:
        output.complain("cvmfs2: interrupted")
        return _INTERRUPTED


def _make_alien_cache(words: list[str]) -> int:
    from nearfs.client import alien

    try:
        directory, uid, gid = words
        alien.make(Path(directory), uid, gid)
    except ValueError:
        output.complain(_SPECIAL[_MAKE_ALIEN_CACHE][0])
        return 1
    except NearfsError as error:
        output.complain(f"cvmfs2: {error}")
        return 1
    return 0


def _discover_proxies(words: list[str]) -> int:
    from nearfs.client import discovery
    from nearfs.config import network

    try:
        proxies, servers = words
    except ValueError:
        output.complain(_SPECIAL[_DISCOVER_PROXIES][0])
        return 1
    pac_urls = [url for url in os.environ.get("CVMFS_PAC_URLS", "").split(";") if url]
    try:
        output.line(discovery.resolve(network.with_environment(proxies), servers.split(";"), pac_urls, None))
    except NearfsError as error:
        output.complain(f"cvmfs2: {error}")
        return 1
    return 0


_SPECIAL: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    _MAKE_ALIEN_CACHE: (f"Usage: cvmfs2 {_MAKE_ALIEN_CACHE} <directory> <uid> <gid>", _make_alien_cache),
    _DISCOVER_PROXIES: (f"Usage: cvmfs2 {_DISCOVER_PROXIES} <proxies> <server URLs>", _discover_proxies),
}
"""First arguments that make it another command: usage, and what it does."""

if __name__ == "__main__":
    sys.exit(main())
