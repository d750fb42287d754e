"""`cvmfs_server`: the publisher's administration command (server.md 1 and 3).

Owns: its options, usage texts and exit codes: 2 without a command, 3 for a usage error, 1 or the reference's errno for
a failure. Does not own: what a command does (`nearfs.cli`).
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import fnmatch
import getopt
import signal
import sys
from typing import TYPE_CHECKING

from nearfs.cli import check_cmd, output, repository_cmd, tag_cmd, transaction_cmd
from nearfs.errors import InvalidInput, NearfsError
from nearfs.publish.creation import NewRepository
from nearfs.publish.places import Places
from nearfs.publish.repository import Repository
from nearfs.publish.transaction import PublishOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

_NO_COMMAND, _USAGE_ERROR, _FAILED = 2, 3, 1
# Catalogs, histories and manifests of the reference hold it in a signed 64-bit number.
_LARGEST_REVISION = (1 << 63) - 1

USAGE = """\
CernVM-FS Server Tool 2.12.0

Usage: cvmfs_server COMMAND [options] <parameters>

Supported Commands (options before the repository name):

  mkfs            [-w stratum0 url] [-o owner] [-a sha1|rmd160|shake128] [-Z default|none] [-k key directory]
                  [-m replicable] [-g no automatic tags] [-z garbage collectable] [-v volatile] [-p no Apache]
                  <fully qualified repository name>
                  creates a new repository
  transaction     [-t retry seconds, 0 for ever] <repository name>[/path]
                  opens the repository for changes
  publish         [-a tag] [-m message] [-n revision] [-Z default|none] [-v verbose] [-f ignore open readers]
                  <repository name>
                  makes the changes a new revision
  abort           [-f no questions] <repository name>
                  discards the changes
  tag             [-a name [-m message] [-h root hash]] [-r name]... [-f] [-i name [-x]] [-b [-x]] [-l [-x]]
                  <repository name>
                  adds, removes, shows or lists names of revisions
  check           [-c do not check for objects] [-i verify contents] [-t tag] [-s subtree] <repository name>
                  verifies catalogs, tags and the log of references
  list            lists the repositories of this machine
  info            <repository name>
                  prints what clients need to know
  mount           [-a] <repository name>...
                  restores the mounts after a reboot
  rmfs            [-p keep content and keys] [-f no questions] <repository name>...
                  removes a repository

Not in this version: add-replica, alterfs, catalog-chown, checkout, diff, eliminate-bulk-hashes, eliminate-hardlinks,
enter, fix-permissions, fix-stats, gc, import, ingest, list-catalogs, masterkeycard, merge-stats, migrate, print-stats,
resign, rollback, skeleton, snapshot, update-geodb, update-info, update-repoinfo

NEARFS_PREFIX=DIR puts every directory that the commands use below DIR (for tests and demonstrations)."""

_NOT_YET = frozenset(USAGE.partition("Not in this version:")[2].partition("\n\n")[0].replace(",", " ").split())


class UsageError(Exception):
    """The command line is wrong; the text is the reason."""


class _Words:
    """The options of one command, read once."""

    def __init__(self, command: str, words: Sequence[str], short: str, long: Sequence[str] = ()) -> None:
        try:
            self.flags, self.rest = getopt.getopt(list(words), short, list(long))
        except getopt.GetoptError as error:
            raise UsageError(f"Command {command}: Unrecognized option: {error.opt}") from None

    def has(self, *names: str) -> bool:
        return any(flag in names for flag, _ in self.flags)

    def value(self, *names: str) -> str:
        found = [value for flag, value in self.flags if flag in names]
        return found[-1] if found else ""

    def one(self) -> str:
        if len(self.rest) > 1:
            raise UsageError("Too many arguments provided")
        return self.rest[0] if self.rest else _only_repository()

    def several(self) -> list[str]:
        if not self.rest:
            return [_only_repository()]
        known = Repository.all_names(Places.here())
        found: list[str] = []
        for pattern in self.rest:
            found += fnmatch.filter(known, pattern) if any(mark in pattern for mark in "*?[") else [pattern]
        return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _only_repository() -> str:
    known = Repository.all_names(Places.here())
    if len(known) != 1:
        raise UsageError("Please provide a repository name")
    return known[0]


def _mkfs(words: Sequence[str]) -> int:
    options = _Words("mkfs", words, "w:u:o:mf:vgG:a:zs:k:RZ:pV:Xx:")
    for flag, feature in (
        ("-G", "expiring automatic tags"),
        ("-u", "other storage"),
        ("-s", "S3 storage"),
        ("-R", "master key cards"),
    ):
        if options.has(flag):
            raise UsageError(f"Command mkfs: option {flag} ({feature}) is not available in this version")
    for flag, feature in (("-V", "membership"), ("-X", "external data"), ("-x", "a proxy")):
        if options.has(flag):
            raise UsageError(f"Command mkfs: option {flag} ({feature}) is not available in this version")
    if options.value("-f") not in ("", "overlayfs"):
        raise UsageError("Command mkfs: only overlayfs is available (-f)")
    if not options.rest:
        raise UsageError("Please provide a repository name")
    fqrn = options.one()
    wanted = NewRepository(
        fqrn=fqrn,
        owner=options.value("-o") or repository_cmd.ask_owner(fqrn),
        stratum0_url=options.value("-w"),
        hash_algorithm=options.value("-a") or "sha1",
        compression=options.value("-Z") or "default",
        auto_tag=not options.has("-g"),
        auto_tag_timespan=options.value("-G"),
        garbage_collectable=options.has("-z"),
        volatile=options.has("-v"),
        configure_apache=not options.has("-p"),
        import_keys_from=options.value("-k"),
    )
    return repository_cmd.mkfs(wanted)


def _transaction(words: Sequence[str]) -> int:
    options = _Words("transaction", words, "t:T:", ["retry-timeout=", "template="])
    if options.has("-T", "--template"):
        raise UsageError("Command transaction: templates are not available in this version")
    retry = options.value("-t", "--retry-timeout")
    if retry and not _is_number(retry):
        raise UsageError(f"Command transaction: '{retry}' is not a number of seconds")
    name, slash, path = options.one().partition("/")
    return transaction_cmd.begin(name, slash + path, retry_s=float(retry) if retry else None)


def _publish(words: Sequence[str]) -> int:
    options = _Words("publish", words, "pa:m:c:vn:XNZ:F:fde")
    for flag, feature in (("-X", "external data"), ("-F", "membership"), ("-d", "direct I/O"), ("-p", "manual tweaks")):
        if options.has(flag):
            raise UsageError(f"Command publish: option {flag} ({feature}) is not available in this version")
    number = options.value("-n")
    if number and not (_is_number(number) and int(number) <= _LARGEST_REVISION):
        raise InvalidInput(f"Invalid revision number: {number}", operation="publish", exit_code=_FAILED)
    compression = options.value("-Z")
    if compression not in ("", "default", "zlib", "none"):
        raise UsageError(f"Command publish: compression '{compression}' is not default or none")
    wanted = PublishOptions(
        tag=options.value("-a"),
        message=options.value("-m"),
        manual_revision=int(number) if number else None,
        compression=compression or None,
        force=options.has("-f"),
    )
    return transaction_cmd.publish(options.several(), wanted, verbose=options.has("-v"))


def _abort(words: Sequence[str]) -> int:
    options = _Words("abort", words, "f")
    return transaction_cmd.abort([name.partition("/")[0] for name in options.several()], force=options.has("-f"))


def _tag(words: Sequence[str]) -> int:
    options = _Words("tag", words, "a:m:h:c:r:fi:xbl")
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
            Repository.load(name)
            return tag_cmd.branches(machine=machine)
        case _:
            return tag_cmd.list_tags(name, machine=machine)


def _lstags(words: Sequence[str]) -> int:
    output.complain("NOTE: cvmfs_server lstags is deprecated! Use cvmfs_server tag instead")
    return _tag(words)


def _check(words: Sequence[str]) -> int:
    options = _Words("check", words, "cit:s:ra")
    for flag, feature in (("-r", "repairing the log of references"), ("-a", "checking all repositories")):
        if options.has(flag):
            raise UsageError(f"Command check: option {flag} ({feature}) is not available in this version")
    wanted = check_cmd.CheckOptions(
        check_chunks=not options.has("-c"),
        verify_content=options.has("-i"),
        tag=options.value("-t"),
        subtree=options.value("-s"),
    )
    return check_cmd.check(options.several(), wanted)


def _mount(words: Sequence[str]) -> int:
    options = _Words("mount", words, "a")
    names = Repository.all_names(Places.here()) if options.has("-a") else options.several()
    return repository_cmd.mount(names)


def _rmfs(words: Sequence[str]) -> int:
    options = _Words("rmfs", words, "pf")
    if not options.rest:
        raise UsageError("Please provide a repository name")
    return repository_cmd.rmfs(options.several(), keep_content=options.has("-p"), force=options.has("-f"))


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "mkfs": _mkfs,
    "transaction": _transaction,
    "publish": _publish,
    "abort": _abort,
    "tag": _tag,
    "lstags": _lstags,
    "list-tags": _lstags,
    "check": _check,
    "list": lambda _words: repository_cmd.list_repositories(),
    "info": lambda words: repository_cmd.info(_Words("info", words, "").one()),
    "mount": _mount,
    "rmfs": _rmfs,
}


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Ends a command by the same way as Ctrl-C: what was begun is left as a kill would not leave it."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        output.line(USAGE)
        return _NO_COMMAND
    if words[0] in ("-V", "--version"):
        output.line(USAGE.partition("\n")[0])
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    if words[0] in ("help", "-h", "--help"):
        output.line(USAGE)
        return 0
    command = words[0].replace("_", "-")
    try:
        if command in _NOT_YET:
            output.complain(f"cvmfs_server: the command '{command}' is not available in this version of nearfs")
            return _FAILED
        if command not in _COMMANDS:
            raise UsageError("Unrecognized command: " + words[0])
        return _COMMANDS[command](words[1:])
    except UsageError as error:
        output.line(f"{USAGE}\n{'_' * 80}\n\nNOTE: {error}")
        return _USAGE_ERROR
    except NearfsError as error:
        output.complain(str(error))
        # The codes of kinds are nearfs's own; scripts know 1, and the codes that the specification names.
        return _FAILED if error.exit_code == error.default_exit_code else error.exit_code
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        output.complain(f"cvmfs_server {command}: {about}{error.strerror or error}; the repository's state is kept")
        return _FAILED
    except KeyboardInterrupt:
        output.complain("interrupted; the repository is as the last finished step left it")
        return 130


if __name__ == "__main__":
    sys.exit(main())
