"""Transactions: transaction, publish, abort.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import transaction_cmd
from nearfs.compat.server.words import UsageError, Words, is_number
from nearfs.errors import InvalidInput
from nearfs.publish.transaction import PublishOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED = 1
# Catalogs, histories and manifests of the reference hold it in a signed 64-bit number.
_LARGEST_REVISION = (1 << 63) - 1


def transaction(words: Sequence[str]) -> int:
    """Opens a transaction."""
    options = Words("transaction", words, "t:T:", ["retry-timeout=", "template="])
    if options.has("-T", "--template"):
        raise UsageError("Command transaction: templates are not available in this version")
    retry = options.value("-t", "--retry-timeout")
    if retry and not is_number(retry):
        raise UsageError(f"Command transaction: '{retry}' is not a number of seconds")
    name, slash, path = options.one().partition("/")
    return transaction_cmd.begin(name, slash + path, retry_s=float(retry) if retry else None)


def publish(words: Sequence[str]) -> int:
    """Publishes transactions."""
    options = Words("publish", words, "pa:m:c:vn:XNZ:F:fde")
    for flag, feature in (("-X", "external data"), ("-F", "membership"), ("-d", "direct I/O"), ("-p", "manual tweaks")):
        if options.has(flag):
            raise UsageError(f"Command publish: option {flag} ({feature}) is not available in this version")
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
    )
    return transaction_cmd.publish(options.several(), wanted, verbose=options.has("-v"))


def abort(words: Sequence[str]) -> int:
    """Discards transactions."""
    options = Words("abort", words, "f")
    return transaction_cmd.abort([name.partition("/")[0] for name in options.several()], force=options.has("-f"))
