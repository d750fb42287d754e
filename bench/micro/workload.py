"""What the micro benchmarks work on: contents, a catalog, a cache directory; and the form of a comparison.

Owns making them below one directory, which the caller removes. The same arguments make the same contents. One thread.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nearfs import _native

FQRN = "micro.example.org"
PUBLISHED_S = 1_700_000_000
WORDS = tuple("".join(random.Random(n).choices("etaoinshrdlu", k=2 + n % 9)) for n in range(2000))


@dataclass(frozen=True)
class Pair:
    """One piece of work done by nearfs and by the alternative; both return the same."""

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    alternative: str
    """What the other side is, as a user would name it."""
    operations: int = 1
    """How often one call does what is compared."""
    content_bytes: int = 0
    """Bytes of uncompressed content that one call handles; 0 where this is no measure."""
    same: Callable[[Any], Any] = lambda answer: answer
    """What two answers are compared by."""


@dataclass
class Workload:
    """The material of a run, made when it is first asked for."""

    home: Path
    directories: int = 200
    files: int = 50
    scale: int = 1
    """Contents are that many times smaller: tests compare answers, not seconds."""

    def text(self, size: int) -> bytes:
        """Returns words, which zlib halves or better, as it does with programs and their sources."""
        size //= self.scale
        source = random.Random(size)
        return " ".join(source.choices(WORDS, k=size // 2)).encode("ascii")[:size]

    def noise(self, size: int) -> bytes:
        """Returns bytes without a pattern."""
        return random.Random(size).randbytes(size // self.scale)

    @cached_property
    def catalog(self) -> Path:
        """A root catalog as a client has it on disk: a tree of directories full of small files, published."""
        source, storage, file = self.home / "source", self.home / "storage", self.home / "catalog"
        for path in self.paths:
            place = source / os.fsdecode(path[1:])
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"%d" % (len(path) % 7))
        _native.create_storage(storage)
        created = _native.create_repository(
            storage, fqrn=FQRN, hash_algorithm="sha1", uid=0, gid=0, now_s=PUBLISHED_S, volatile=False
        )
        committed = _native.publish(
            storage,
            base_root_hash=created["root_hash"],
            source=str(source),
            is_overlay=False,
            hash_algorithm="sha1",
            compression="zlib",
            is_fast=False,
            membership=None,
            uid_map=({}, None),
            gid_map=({}, None),
            chunk_sizes=None,
            include_xattrs=False,
            include_mtime_ns=False,
            ignore_special_files=False,
            ttl_s=240,
            revision=None,
            now_s=PUBLISHED_S,
            external=False,
            direct_io=False,
            volatile=False,
            ignore_xdir_hardlinks=True,
            limits=(0, 0, 0),
            enforce_limits=False,
            autocatalogs=None,
            packs=False,
            progress=_native.Progress(),
        )
        limit = committed["root_size"]
        file.write_bytes(_native.read_object(storage, committed["root_hash"], suffix="C", limit=limit))
        return file

    @cached_property
    def parents(self) -> list[bytes]:
        """The directories of the catalog's tree."""
        return [b"/software/package-%03d/lib" % number for number in range(self.directories)]

    @cached_property
    def paths(self) -> list[bytes]:
        """The files of the catalog's tree, directory by directory."""
        return [b"%s/module_%03d.py" % (parent, number) for parent in self.parents for number in range(self.files)]

    @cached_property
    def asked(self) -> list[bytes]:
        """A thousand paths to look up, one in five of them absent, as search paths make it; in no order."""
        source = random.Random(1)
        return [path + b"c" * (source.random() < 0.2) for path in source.choices(self.paths, k=1000)]

    def cached(self, cache_dir: Path, content: bytes) -> tuple[str, Path]:
        """Puts an object into a cache directory; returns its hash and its file."""
        hash_text = _native.hash_content(_native.deflate(content), hash_algorithm="sha1")
        file = cache_dir / hash_text[:2] / hash_text[2:]
        file.write_bytes(content)
        file.chmod(0o600)
        return hash_text, file
