"""Contents and storages by hand: hashes, zlib streams, grafts, single objects (server.md 10.1).

Owns: the form of the output and exit codes. Does not own: hashing, grafts (`publish.grafting`), `publish.scrubbing`.
Threading: a short-lived command, one thread; memory is bounded by one block.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, BinaryIO

from nearfs import hashes
from nearfs.cli import output
from nearfs.errors import Corrupt, InvalidInput, NotFound
from nearfs.publish import grafting, scrubbing

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK_BYTES = 1 << 18
_LEVEL = 6


def zpipe(source: BinaryIO, *, inflate: bool) -> int:
    """Deflates or inflates a stream to standard output."""
    if not inflate:
        deflater = zlib.compressobj(_LEVEL)
        while block := source.read(_BLOCK_BYTES):
            output.content(deflater.compress(block))
        output.content(deflater.flush())
        return 0
    inflater = zlib.decompressobj()
    try:
        while not inflater.eof and (block := source.read(_BLOCK_BYTES)):
            while block and not inflater.eof:
                # In pieces: a few bytes may stand for gigabytes.
                output.content(inflater.decompress(block, _BLOCK_BYTES))
                block = inflater.unconsumed_tail
    except zlib.error as error:
        raise Corrupt(f"the input is no zlib stream: {error}", operation="zpipe", exit_code=1) from None
    if not inflater.eof:
        raise Corrupt("the zlib stream ends too early", operation="zpipe", exit_code=1)
    return 0


def hash_text(content: bytes | None, algorithm: str, *, as_fingerprint: bool, split: int | None) -> int:
    """Prints the hash of a text, or of standard input; as a fingerprint, or its prefix digits as a number."""
    if algorithm not in ("md5", *hashes.HashAlgorithm):
        message = f"hash algorithm '{algorithm}' is not sha1, rmd160, shake128 or md5 (-a)"
        raise InvalidInput(message, operation="hash", exit_code=1)
    if content is None:
        content = sys.stdin.buffer.read()
    if algorithm == "md5":
        import hashlib

        text = hashlib.md5(content, usedforsecurity=False).hexdigest()
    else:
        text = hashes.hash_text(content, hashes.HashAlgorithm(algorithm))
    digest, dash, tag = text.partition("-")
    if as_fingerprint:
        pairs = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
        text = (pairs + dash + tag).upper()
    elif split is not None:
        text = f"{digest[:split]}/{digest[split:]}{dash}{tag}"
    output.line(text)
    return 0


def graft(source: Path, target: Path | None, form: grafting.Form, *, verbose: bool) -> int:
    """Writes descriptors for a file, or for all files below a directory."""
    grafting.check_form(form)
    if not source.exists():
        raise NotFound(f"{source}: there is no such file or directory (-i)", operation="graft", exit_code=1)
    pairs = [(source, target or source)]
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
        found = [path for path in found if not path.name.startswith(grafting.PREFIX)]
        pairs = [(path, target / path.relative_to(source) if target else path) for path in found]
    elif target is not None and target.is_dir():
        pairs = [(source, target / source.name)]
    for path, place in pairs:
        place.parent.mkdir(parents=True, exist_ok=True)
        if verbose:
            output.line(f"Grafting {path} to {place}")
        grafting.write(path, place, form)
    return 0


def scrub(storage: Path, *, machine: bool) -> int:
    """Prints every file of a storage that is not what its name says; returns 1 if there is one."""
    if not storage.is_dir():
        raise NotFound(f"{storage}: there is no such directory (-r)", operation="scrub", exit_code=1)
    status = 0
    for found in scrubbing.scrub(storage):
        status = 1
        code, text = found.alert.value
        output.complain(f"{code} {found.hash_text} {found.path}" if machine else f"{text} | at: {found.path}")
    return status


def peek(storage: Path, name: str) -> int:
    """Says whether a file is in a storage: 0 it is, 1 it is not."""
    if name.startswith("/") or ".." in name.split("/"):
        raise InvalidInput(f"{name} is no path within a storage (-d)", operation="peek", exit_code=2)
    found = (storage / name).is_file()
    output.line(f"Swissknife Sync: {name} {'available' if found else 'not found'}")
    return 0 if found else 1
