"""Graft descriptors: entries of files whose content is elsewhere (format.md 10.7).

Owns: hashing a file as a publish would, and the descriptor's text. Does not own: what a publish makes of it.
Threading: pure functions; memory is bounded by one chunk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = ".cvmfsgraft-"
_MAX_CHUNK_BYTES = 1 << 30


@dataclass(frozen=True)
class Form:
    """How the content is stored elsewhere: hash algorithm, `zlib` or `none`, bytes of a chunk (0: in one piece)."""

    algorithm: str = "sha1"
    compression: str = "none"
    chunk_bytes: int = 0


def check_form(form: Form) -> None:
    """Refuses what no descriptor can say."""
    if form.algorithm not in ("sha1", "rmd160", "shake128"):
        raise _refused(f"hash algorithm '{form.algorithm}' is not sha1, rmd160 or shake128 (-a)")
    if form.compression not in ("zlib", "none"):
        raise _refused(f"compression '{form.compression}' is not zlib, default or none (-Z)")
    if not 0 <= form.chunk_bytes <= _MAX_CHUNK_BYTES:
        raise _refused(f"a chunk has at most {_MAX_CHUNK_BYTES >> 20} MB (-c)")


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, operation="graft", exit_code=1)


def descriptor(source: Path, form: Form) -> str:
    """Returns the descriptor of a file's content."""
    from nearfs import _native

    size = source.stat().st_size
    plain, deflated = _native.names_of_file(str(source), hash_algorithm=form.algorithm)
    lines = [
        f"size={size}",
        f"checksum={plain if form.compression == 'none' else deflated}",
        f"compression={form.compression}",
    ]
    if 0 < form.chunk_bytes < size:
        offsets, hashes = _chunks(source, form)
        lines += [f"chunk_offsets={','.join(map(str, offsets))}", f"chunk_checksums={','.join(hashes)}"]
    if source.stat().st_size != size:
        raise _refused(f"{source} changes while it is read; graft it when it is complete")
    return "".join(f"{line}\n" for line in lines)


def _chunks(source: Path, form: Form) -> tuple[list[int], list[str]]:
    from nearfs import _native

    offsets: list[int] = []
    hashes: list[str] = []
    offset = 0
    with source.open("rb") as content:
        while block := content.read(form.chunk_bytes):
            stored = block if form.compression == "none" else _native.deflate(block)
            offsets.append(offset)
            hashes.append(_native.hash_content(stored, hash_algorithm=form.algorithm))
            offset += len(block)
    return offsets, hashes


def write(source: Path, target: Path, form: Form) -> None:
    """Writes the descriptor beside `target`, and an empty `target` with the mode of `source` where there is none."""
    files.replace(target.with_name(PREFIX + target.name), descriptor(source, form))
    mode = source.stat().st_mode & 0o777
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    except FileExistsError:
        return
    os.chmod(target, mode)
