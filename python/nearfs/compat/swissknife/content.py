"""Contents and storages by hand: zpipe, hash, letter, graft, scrub, peek.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.cli import content_cmd, letter_cmd
from nearfs.cli.stored_cmd import Stored
from nearfs.compat.server.words import UsageError, is_number
from nearfs.compat.swissknife.verbs import Letters
from nearfs.hashes import HashAlgorithm
from nearfs.letter import LIMIT_BYTES
from nearfs.publish.grafting import Form

if TYPE_CHECKING:
    from collections.abc import Sequence

_UPSTREAM_FIELDS = 3


def zpipe(words: Sequence[str]) -> int:
    """Deflates or inflates."""
    options = Letters("zpipe", words, "di:")
    if not options.has("i"):
        return content_cmd.zpipe(sys.stdin.buffer, inflate=options.has("d"))
    with open(options.value("i"), "rb") as source:
        return content_cmd.zpipe(source, inflate=options.has("d"))


def hash_text(words: Sequence[str]) -> int:
    """Prints the hash of a text."""
    options = Letters("hash", words, "a:fs:i:", "a")
    split = options.value("s")
    if split and not is_number(split):
        raise UsageError(f"hash: -s {split} is no number of digits")
    content = os.fsencode(options.value("i")) if options.has("i") else None
    return content_cmd.hash_text(
        content, options.value("a"), as_fingerprint=options.has("f"), split=int(split) if split else None
    )


def letter(words: Sequence[str]) -> int:
    """Signs a text with a repository's certificate, or checks one that was."""
    options = Letters("letter", words, "svea:c:k:p:m:r:t:f:z:", "fk")
    if options.has("s") and options.has("v"):
        raise UsageError("letter: invalid option combination (sign + verify)")
    for absent in "ezp":
        if options.has(absent):
            raise UsageError(f"letter: option -{absent} is not available in this version")
    # One line, as a caller that holds the pipe open expects it.
    text = os.fsencode(options.value("t")) or sys.stdin.buffer.readline(LIMIT_BYTES + 1).removesuffix(b"\n")
    if options.has("v"):
        for needed in "rm":
            if not options.value(needed):
                raise UsageError(f"letter: parameter -{needed} missing")
        if not is_number(options.value("m")):
            raise UsageError(f"letter: -m {options.value('m')} is no number of seconds")
        masters = [Path(path) for path in options.value("k").split(":") if path]
        wanted = letter_cmd.Check(options.value("f"), Stored(options.value("r")), masters, int(options.value("m")))
        return letter_cmd.verify(text.decode("ascii", "replace"), wanted)
    if not options.value("c"):
        raise UsageError("letter: parameter -c missing")
    try:
        algorithm = HashAlgorithm(options.value("a") or "sha1")
    except ValueError:
        raise UsageError(f"letter: unknown hash algorithm {options.value('a')}") from None
    return letter_cmd.sign(
        text,
        fqrn=options.value("f"),
        certificate=Path(options.value("c")),
        key=Path(options.value("k")),
        algorithm=algorithm,
    )


def graft(words: Sequence[str]) -> int:
    """Writes graft descriptors."""
    options = Letters("graft", words, "i:o:vZ:c:a:b", "i")
    chunk = options.value("c") or "0"
    if not is_number(chunk) or len(chunk) > 6:
        raise UsageError(f"graft: -c {chunk} is no number of MB")
    if options.value("i") == "-":
        raise UsageError("graft: content from standard input is not available in this version; name a file (-i)")
    compression = {"": "none", "default": "zlib"}.get(options.value("Z"), options.value("Z"))
    form = Form(options.value("a") or "sha1", compression, int(chunk) << 20)
    target = Path(options.value("o")) if options.has("o") else None
    return content_cmd.graft(Path(options.value("i")), target, form, verbose=options.has("v"))


def scrub(words: Sequence[str]) -> int:
    """Checks every file of a storage against its name."""
    options = Letters("scrub", words, "r:m", "r")
    return content_cmd.scrub(Path(options.value("r")), machine=options.has("m"))


def peek(words: Sequence[str]) -> int:
    """Looks for a file in a storage."""
    options = Letters("peek", words, "d:r:", "dr")
    upstream = options.value("r").split(",")
    if len(upstream) != _UPSTREAM_FIELDS or upstream[0] != "local":
        raise UsageError(f"peek: -r {options.value('r')}: only local storage (local,DIR,DIR) is available")
    return content_cmd.peek(Path(upstream[2]), options.value("d"))
