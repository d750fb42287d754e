"""Describes a stored repository by its files, without the configuration of this machine (server.md 10.1).

Owns: where the storage is found (a directory or a web server) and the form of the output.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import sqlite3
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import signing
from nearfs.cli import output
from nearfs.errors import Corrupt, InvalidInput, NotFound, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearfs.records import Tag

_TIMEOUT_S = 10
_METAINFO_BYTES = 65536
_CATALOG_BYTES = 4 << 30
_LABEL_WIDTH = 33


@dataclass(frozen=True)
class Stored:
    """A repository by its place: a directory, or the URL of one."""

    place: str

    @property
    def directory(self) -> Path:
        """Returns the directory; raises `InvalidInput` for one that only a web server has."""
        if "://" in self.place and not self.place.startswith("file://"):
            message = f"{self.place}: only a local directory can be read here (-r); replicas come with a later version"
            raise InvalidInput(message, operation="open storage", exit_code=1)
        path = Path(self.place.removeprefix("file://"))
        if not path.is_dir():
            raise NotFound(f"{path}: there is no such directory (-r)", operation="open storage", exit_code=1)
        return path

    def file(self, name: str, limit: int) -> bytes | None:
        """Returns a small file, None where there is none."""
        if "://" in self.place and not self.place.startswith("file://"):
            return self._fetched(name, limit)
        try:
            with (self.directory / name).open("rb") as source:
                return source.read(limit)
        except FileNotFoundError:
            return None

    def _fetched(self, name: str, limit: int) -> bytes | None:
        url = f"{self.place.rstrip('/')}/{name}"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the user's own address
                content: bytes = answer.read(limit)
                return content
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise Unreachable(f"{url}: status {error.code}", operation="fetch", exit_code=1) from None
        except (OSError, ValueError) as error:
            raise Unreachable(f"{url}: {error}", operation="fetch", exit_code=1) from None

    def manifest_bytes(self) -> bytes:
        """Returns the signed manifest."""
        content = self.file(".cvmfspublished", signing.MANIFEST_LIMIT_BYTES)
        if content is None:
            raise NotFound(f"{self.place}: there is no .cvmfspublished (-r)", operation="read manifest", exit_code=1)
        return content

    def fields(self) -> signing.ManifestFields:
        """Returns what the manifest says; nobody has checked its signature."""
        return signing.parse_manifest(self.manifest_bytes()).fields


def info(stored: Stored, wanted: str, *, labels: bool, mountpoint: str = "") -> int:
    """Prints one value for each letter of `wanted`."""
    fields = stored.fields()
    for letter in wanted:
        if letter == "M":
            _print_metainfo(stored, fields)
            continue
        if letter == "R":
            signed = signing.parse_manifest(stored.manifest_bytes()).signed
            output.content(signed.body if signed else b"")
            continue
        label, value = _fact(stored, fields, letter, mountpoint)
        output.line(f"{label + ':':<{_LABEL_WIDTH}}{value}" if labels else value)
    return 0


def _fact(stored: Stored, fields: signing.ManifestFields, letter: str, mountpoint: str) -> tuple[str, str]:
    replicable = "true" if letter == "m" and stored.file(".cvmfs_master_replica", 1) is not None else "false"
    mounted = _mounted_hash(mountpoint) if letter == "C" else ""
    return {
        "c": ("Root Catalog Hash", fields.root_hash),
        "C": ("Mounted Catalog Hash", mounted),
        "n": ("Fully Qualified Repository Name", fields.name),
        "t": ("Time Stamp", str(fields.timestamp)),
        "m": ("Replication Allowed", replicable),
        "v": ("Revision", str(fields.revision)),
        "g": ("Garbage Collectable", "yes" if fields.garbage_collectable else "no"),
        "o": ("Reflog Checksum", fields.reflog or ""),
        "e": ("Empty Repository", "yes" if fields.revision == 0 else "no"),
    }[letter]


def _mounted_hash(mountpoint: str) -> str:
    import os

    try:
        return os.getxattr(mountpoint, "user.root_hash").decode("ascii", "replace")
    except OSError as error:
        message = f"{mountpoint or '(no -u)'}: no mounted repository: {error.strerror}"
        raise NotFound(message, operation="read mounted revision", exit_code=1) from None


def _print_metainfo(stored: Stored, fields: signing.ManifestFields) -> None:
    from nearfs import _native

    if fields.meta_info is None:
        raise NotFound("the repository has no metainfo", operation="read metainfo", exit_code=1)
    limit = _METAINFO_BYTES
    output.content(_native.read_object(str(stored.directory), fields.meta_info, suffix="M", limit=limit))


@dataclass(frozen=True)
class Shown:
    """What a list of catalogs shows beside their paths."""

    tree: bool = True
    hashes: bool = False
    sizes: bool = False
    entries: bool = False


def list_catalogs(stored: Stored, root_hash: str, shown: Shown) -> int:
    """Prints the catalogs of a revision, depth-first from the root."""
    hash_text = root_hash or stored.fields().root_hash
    with tempfile.TemporaryDirectory(prefix="cvmfs-lsrepo-") as scratch:
        for depth, path, hash_here, size, entries in _catalogs(stored.directory, Path(scratch), "", hash_text, 0):
            drawn = "│  " * (depth - 1) + "├─ " if depth and shown.tree else ""
            cells = [hash_here] * shown.hashes + [f"{size}B"] * shown.sizes + [str(entries)] * shown.entries
            output.line(drawn + " ".join([*cells, path or "/"]))
    return 0


def _catalogs(
    storage: Path, scratch: Path, path: str, hash_text: str, depth: int
) -> Iterator[tuple[int, str, str, int, int]]:
    from nearfs import _native

    content = _native.read_object(str(storage), hash_text, suffix="C", limit=_CATALOG_BYTES)
    copy = scratch / "catalog.db"
    copy.write_bytes(content)
    size = len(content)
    del content
    try:
        database = sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)
        database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        entries = int(database.execute("SELECT count(*) FROM catalog").fetchone()[0])
        nested = database.execute("SELECT path, sha1 FROM nested_catalogs ORDER BY path").fetchall()
        database.close()
    except sqlite3.Error as error:
        raise Corrupt(f"catalog {hash_text} of {path or '/'}: {error}", operation="list", exit_code=1) from error
    yield depth, path, hash_text, size, entries
    for below, hash_below in nested:
        if not below.startswith(path + "/"):
            raise Corrupt(f"catalog {hash_text} registers {below} outside of itself", operation="list", exit_code=1)
        yield from _catalogs(storage, scratch, below, hash_below, depth + 1)


def tags(stored: Stored) -> list[Tag]:
    """Returns the tags of a local storage, newest first."""
    from nearfs import _native

    fields = stored.fields()
    return _native.list_tags(str(stored.directory), history=fields.history, fqrn=fields.name)


def check(stored: Stored, *, tag: str, subtree: str, check_chunks: bool) -> int:
    """Verifies a revision in a local storage; returns 1 if something is wrong."""
    from nearfs import _native

    fields = stored.fields()
    root_hash, size = fields.root_hash, fields.root_size
    if tag:
        found = {entry["name"]: entry for entry in tags(stored)}.get(tag)
        if found is None:
            raise NotFound(f"tag '{tag}' does not exist", operation="check", subject=tag, exit_code=1)
        root_hash, size = found["root_hash"], found["size"]
    storage = str(stored.directory)
    findings = []
    if fields.history:
        output.line("Inspecting tag database")
        findings = _native.check_history(storage, history=fields.history, fqrn=fields.name)
    catalogs, problems = _native.check(
        storage,
        fqrn=fields.name,
        root_hash=root_hash,
        expected_size=size,
        check_chunks=check_chunks,
        verify_content=False,
        subtree=subtree,
        paths=b"",
    )
    for catalog, path in catalogs:
        output.line(f"[inspecting catalog] {catalog} at {path or '/'}")
    for finding in [*findings, *problems]:
        output.complain(f"{finding['subject']}: {finding['problem']}")
    if findings or problems:
        output.complain("CATALOG PROBLEMS OR OTHER ERRORS FOUND")
        return 1
    output.line("no problems found")
    return 0
