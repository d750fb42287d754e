"""Names of revisions, and going back to them: tag, lstags, list-tags, rollback, checkout.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import checkout_cmd, output, rollback_cmd, tag_cmd
from nearfs.compat.server.words import UsageError, Words
from nearfs.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED = 1


def tag(words: Sequence[str]) -> int:
    """Adds, removes, shows or lists tags."""
    options = Words("tag", words, "a:m:h:c:r:fi:xbl")
    actions = [flag for flag in ("-a", "-r", "-i", "-b", "-l") if options.has(flag)]
    if len(actions) > 1:
        raise UsageError("Ambiguous parameters. Please either add, remove, inspect or list tags.")
    if options.has("-c"):
        output.complain("NOTE: channels are deprecated, -c is ignored")
    name, machine = options.one(), options.has("-x")
    match actions:
        case ["-a"]:
            return tag_cmd.add(name, options.value("-a"), message=options.value("-m"), root_hash=options.value("-h"))
        case ["-r"]:
            wanted = [value for flag, value in options.flags if flag == "-r"]
            return tag_cmd.remove(name, wanted, force=options.has("-f"))
        case ["-i"]:
            return tag_cmd.inspect(name, options.value("-i"), machine=machine)
        case ["-b"]:
            return tag_cmd.branches(name, machine=machine)
        case _:
            return tag_cmd.list_tags(name, machine=machine)


def lstags(words: Sequence[str]) -> int:
    """Lists tags, under the command's old names."""
    output.complain("NOTE: cvmfs_server lstags is deprecated! Use cvmfs_server tag instead")
    return tag(words)


def rollback(words: Sequence[str]) -> int:
    """Makes an old revision the newest one."""
    options = Words("rollback", words, "t:f")
    return rollback_cmd.rollback(options.one(), options.value("-t"), force=options.has("-f"))


def checkout(words: Sequence[str]) -> int:
    """Puts an old revision or a branch in the place of the newest revision."""
    options = Words("checkout", words, "b:t:")
    branch, tag = options.value("-b"), options.value("-t")
    if options.has("-b") and not branch:
        raise InvalidInput("missing branch name", operation="check out", exit_code=_FAILED)
    if options.has("-t") and not tag:
        raise NotFound("tag '' does not exist", operation="check out", exit_code=_FAILED)
    return checkout_cmd.check_out(options.one(), tag=tag, branch=branch)
