"""`cvmfs_talk`: asks a mounted repository (client.md 2.7).

Owns: the options of the reference's command. Does not own: what they do.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import getopt
import sys
from typing import TYPE_CHECKING

from nearfs.cli import output, talk_cmd

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE_ERROR = 1

USAGE = """\
Usage: cvmfs_talk [-i <repository> | -p <socket>] <command>

Asks a mounted repository; without -i and -p each one in CVMFS_REPOSITORIES.

Commands:
  pid [watchdog]                     process number of the client, of the process that unmounts for it
  mountpoint                         where it is mounted
  device id                          major:minor of the mount
  version [patchlevel]               release of CernVM-FS that the client is compatible with
  revision                           revision of the mounted catalog
  host info | external host info     servers, and which one is in use
  host switch | host set <list>      use the next one, or others
  host probe geo                     sort them by distance
  proxy info | external proxy info   proxies, and which one is in use
  proxy rebalance | proxy group switch | proxy set <list> | proxy fallback <list>
  timeout info | timeout set <proxy> <direct>
  nameserver get | nameserver set <ip>
  remount                            look for a new revision now
  max ttl info | max ttl set <min>   limit of the time between looks for new revisions
  open catalogs                      nested catalogs that were entered
  cache instance | cache size | cache limit get | cache limit set <MB>
  cache list [pinned | catalogs]     what is cached
  cleanup <MB> | cleanup rate <min>  make the cache smaller; how often it was
  evict <path> | pin <path>          let a file go from the cache, or keep it there
  trace begin [<pgid>] | trace end <token>  which files are opened meanwhile (nearfs only)
  parameters                         configuration of the mount, with the file of each value
  hotpatch history                   when the client was started
  internal affairs                   counters

Other commands of CernVM-FS are answered with the reason why they are not available in this version."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        flags, command = getopt.getopt(words, "hi:p:", ["help"])
    except getopt.GetoptError as error:
        output.complain(f"cvmfs_talk: {error}\n{USAGE}")
        return _USAGE_ERROR
    chosen = dict(flags)
    if chosen.keys() & {"-h", "--help"}:
        output.line(USAGE)
        return 0
    if not command:
        output.complain(USAGE)
        return _USAGE_ERROR
    output.end_with_reader()
    text = " ".join(command)
    if "-p" in chosen:
        return talk_cmd.talk(chosen["-p"], text)
    if "-i" in chosen:
        return talk_cmd.talk_to_instance(chosen["-i"], text)
    return talk_cmd.talk_to_all(text)


if __name__ == "__main__":
    sys.exit(main())
