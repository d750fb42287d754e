"""The golden repositories: written by the reference implementation, with the tree that its client shows.

Owns where they are found (NEARFS_GOLDEN, by default ../shared/golden beside the project) and their unpacking. They are
no part of the project. Read-only; any thread.
"""

import json
import lzma
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
VARIABLE = "NEARFS_GOLDEN"
NAMES = ("golden.example.org", "golden-shake.example.org")
TAGS = ("v1", "v2", "v3")


@dataclass(frozen=True)
class GoldenRepository:
    """One unpacked repository."""

    fqrn: str
    folder: Path
    """Where the packed files are: listings, server.conf, client.conf."""
    root: Path
    """The directory to serve: it holds `fqrn/.cvmfspublished` and the other objects."""

    @property
    def storage(self) -> Path:
        """The repository itself: the directory of `.cvmfspublished`."""
        return self.root / self.fqrn

    @property
    def public_key(self) -> Path:
        """The master public key that signed the whitelist."""
        return self.folder / f"{self.fqrn}.pub"

    def listing(self, tag: str) -> Iterator[dict[str, Any]]:
        """Yields the entries that the reference client shows for `tag`, sorted by path."""
        with lzma.open(self.folder / f"tree-{tag}.jsonl.xz", "rt", encoding="utf-8") as lines:
            for line in lines:
                entry: dict[str, Any] = json.loads(line)
                yield entry


@dataclass(frozen=True)
class Golden:
    """All golden repositories by name, and the scripts beside them."""

    folder: Path
    repositories: dict[str, GoldenRepository]

    @property
    def mktree(self) -> Path:
        """The script that builds the source tree of tag v1."""
        return self.folder / "mktree.py"

    @property
    def manifest(self) -> Path:
        """The script that lists a tree in the form of the golden listings."""
        return self.folder / "manifest.py"


def folder() -> Path:
    """Returns where the golden repositories are, whether they are there or not."""
    return Path(os.environ.get(VARIABLE) or PROJECT.parent / "shared/golden")


def missing() -> str | None:
    """Returns why there are no golden repositories, or None."""
    absent = [name for name in NAMES if not (folder() / name / "repository.tar.xz").is_file()]
    return f"no golden repositories: {folder()} has no {', '.join(absent)} (set {VARIABLE})" if absent else None


def unpack(root: Path) -> Golden:
    """Unpacks every golden repository below `root` and returns them."""
    repositories = {}
    for name in NAMES:
        packed = folder() / name
        with tarfile.open(packed / "repository.tar.xz") as archive:
            archive.extractall(root, filter="data")
        repositories[name] = GoldenRepository(name, packed, root)
    return Golden(folder(), repositories)
