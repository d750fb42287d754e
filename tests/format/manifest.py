"""The manifest .cvmfspublished (format section 2), without its signature, which is for trust.

Owns fields, their order and spelling. Immutable values, free to share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .envelope import Envelope, open_envelope
from .errors import FormatError
from .hashes import ContentHash, parse_hash

FILE_NAME = ".cvmfspublished"
WRITER_ORDER = "CBRDSGALNXHTMY"
WRITER_MANDATORY = "CBRDSGANXT"
MAX_BYTES = 4095
ROOT_PATH_HASH = hashlib.md5(b"", usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """Fields by letter in file order, and the signed text around them."""

    fields: tuple[tuple[str, str], ...]
    envelope: Envelope

    def text(self, letter: str) -> str | None:
        """Returns a field's value; the last one wins, as for every reader."""
        return dict(self.fields).get(letter)

    def hash(self, letter: str) -> ContentHash | None:
        """Returns a field that holds a hash, None when absent."""
        value = self.text(letter)
        return None if value is None else parse_hash(value, f"manifest field {letter}")

    def number(self, letter: str) -> int | None:
        """Returns a decimal field, None when absent; raises FormatError for other text."""
        value = self.text(letter)
        if value is not None and not (value.isascii() and value.isdigit() and len(value) < 20):
            raise FormatError(f"manifest field {letter} is no decimal number: {value[:40]!r}")
        return None if value is None else int(value)

    @property
    def root_hash(self) -> ContentHash:
        """Hash of the root catalog."""
        found = self.hash("C")
        if found is None:
            raise FormatError("manifest has no field C")
        return found


def read_manifest(root: Path) -> Manifest:
    """Returns the manifest of a repository directory; its hash line has been compared, nothing else trusted."""
    path = root / FILE_NAME
    if not path.is_file():
        raise FormatError(f"manifest {FILE_NAME} is missing")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise FormatError(f"manifest is larger than {MAX_BYTES} bytes")
    envelope = open_envelope(content, "manifest")
    lines = envelope.body.decode("utf-8", "backslashreplace").split("\n")[:-1]
    if "" in lines:
        raise FormatError("manifest has a blank line")
    return Manifest(tuple((line[0], line[1:]) for line in lines), envelope)


def manifest_problems(manifest: Manifest, fqrn: str) -> Iterator[str]:
    """Yields what is wrong with the fields, judged as a writer's work."""
    letters = "".join(letter for letter, _ in manifest.fields)
    ordered = [letter for letter in WRITER_ORDER if letter in letters]
    if list(letters) != ordered:
        yield f"manifest has fields {letters}, a writer emits them once each in the order {''.join(ordered)}"
    for letter in WRITER_MANDATORY:
        if letter not in letters:
            yield f"manifest has no field {letter}"
    if manifest.text("R") != ROOT_PATH_HASH:
        yield f"manifest field R is {manifest.text('R')!r} instead of the MD5 of the root path"
    if manifest.text("N") != fqrn:
        yield f"manifest is of repository {manifest.text('N')!r}, expected {fqrn!r}"
    for letter in "GA":
        if manifest.text(letter) not in ("yes", "no"):
            yield f"manifest field {letter} is {manifest.text(letter)!r} instead of yes or no"
    yield from _value_problems(manifest)


def _value_problems(manifest: Manifest) -> Iterator[str]:
    for letter in "BDST":
        try:
            manifest.number(letter)
        except FormatError as error:
            yield str(error)
    for letter in "CXHMY":
        try:
            found = manifest.hash(letter)
        except FormatError as error:
            yield str(error)
            continue
        if found is not None and found.is_null:
            yield f"manifest field {letter} is a null hash, which should be omitted"
    if manifest.envelope.content_hash.algorithm != manifest.root_hash.algorithm:
        yield "manifest hash line is of another algorithm than the root hash"
