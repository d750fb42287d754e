"""Transactions: transaction, publish, abort.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import output, transaction_cmd
from nearfs.compat.server.words import UsageError, Words, is_number, only_repository
from nearfs.errors import InvalidInput
from nearfs.publish.transaction import PublishOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED = 1
# Catalogs, histories and manifests of the reference hold it in a signed 64-bit number.
_LARGEST_REVISION = (1 << 63) - 1


def transaction(words: Sequence[str]) -> int:
    """Opens a transaction."""
    options = Words("transaction", words, "t:T:U:V:", ["retry-timeout=", "template=", "template-from=", "template-to="])
    source, _, target = options.value("-T", "--template").partition("=")
    copy = (options.value("-U", "--template-from") or source, options.value("-V", "--template-to") or target)
    if any(copy) and not all(copy):
        raise UsageError("Command transaction: a template needs both directories, as in: -T FROM=TO")
    retry = options.value("-t", "--retry-timeout")
    if retry and not is_number(retry):
        raise UsageError(f"Command transaction: '{retry}' is not a number of seconds")
    for word in options.rest or [only_repository()]:
        name, slash, path = word.partition("/")
        transaction_cmd.begin(
            name, slash + path, copy=copy if all(copy) else None, retry_s=float(retry) if retry else None
        )
    return 0


def publish(words: Sequence[str]) -> int:
    """Publishes transactions."""
    options = Words("publish", words, "pa:m:c:vn:XNZ:F:fde")
    if options.has("-X") and options.has("-N"):
        raise UsageError("Command publish: -X (external data) and -N (native data) exclude each other")
    if " " in options.value("-a"):
        raise InvalidInput("Spaces are not allowed in tag names", operation="publish", exit_code=_FAILED)
    if options.has("-c"):
        output.complain("NOTE: channels are deprecated, -c is ignored")
    number = options.value("-n")
    if number and not (is_number(number) and int(number) <= _LARGEST_REVISION):
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
        external=options.has("-X") if options.has("-X", "-N") else None,
        direct_io=options.has("-d"),
        membership=transaction_cmd.read_membership(options.value("-F")) if options.has("-F") else None,
        before_commit=transaction_cmd.wait_for_tweaks if options.has("-p") else None,
    )
    return transaction_cmd.publish(options.several(), wanted, verbose=options.has("-v"))


def abort(words: Sequence[str]) -> int:
    """Discards transactions."""
    options = Words("abort", words, "f")
    return transaction_cmd.abort([name.partition("/")[0] for name in options.several()], force=options.has("-f"))
