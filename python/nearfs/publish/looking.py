"""Looking into a stored revision without a mount: which entries there are, and what small files say.

Owns: finding the catalog that answers for a path. Does not own: catalogs (the engine decodes them), trust: the storage
is the publisher's own.
Threading: one thread; catalogs are read once and kept until the end.
"""

from __future__ import annotations

import sqlite3
import stat
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.errors import Corrupt, NotFound

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from nearfs._native import Catalog

_CATALOG_LIMIT_BYTES = 4 << 30
Found = tuple[int, int, int, str | None]
"""Mode, size, time, and hash of the whole file."""


class Looking:
    """One revision of a local storage; a context manager, since catalogs lie in a scratch directory meanwhile."""

    def __init__(self, storage: Path, root_hash: str) -> None:
        """Prepares to look at the revision with this root catalog."""
        self._storage, self._root_hash = str(storage), root_hash
        self._scratch = tempfile.TemporaryDirectory(prefix="nearfs-looking-")
        self._catalogs: dict[str, tuple[Catalog, dict[str, str]]] = {}

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the scratch directory."""
        self._scratch.cleanup()

    def find(self, path: str) -> Found | None:
        """Returns what is at an absolute path, None where nothing is."""
        return self._answering(path).find(path.encode("utf-8", "surrogateescape"))

    def is_directory(self, path: str) -> bool:
        """Tells whether there is a directory at the path."""
        found = self.find(path)
        return found is not None and stat.S_ISDIR(found[0])

    def names(self, directory: str) -> list[str]:
        """Returns the names in a directory, sorted; none where there is no directory."""
        if not self.is_directory(directory):
            return []
        rows = self._answering(directory).entries(directory.encode("utf-8", "surrogateescape"))
        return [row[0].decode("utf-8", "surrogateescape") for row in rows]

    def document(self, path: str, limit: int) -> bytes:
        """Returns what a JSON file says; raises `NotFound` where there is none, `Corrupt` for what is not its content.

        A text that begins as JSON was stored as it is, anything else deflated: decoded catalogs do not say which.
        """
        from nearfs import _native

        found = self.find(path)
        if found is None or found[3] is None:
            raise NotFound(f"{path} is no small file of the repository", operation="read", subject=path)
        damaged = Corrupt(f"{path} is not what its hash {found[3]} says", operation="read", subject=path)
        with open(f"{self._storage}/data/{found[3][:2]}/{found[3][2:]}", "rb") as stream:
            stored = stream.read(limit + 1)
        algorithm = found[3].partition("-")[2] or "sha1"
        if len(stored) > limit or _native.hash_content(stored, hash_algorithm=algorithm) != found[3]:
            raise damaged
        if stored[:1] in (b"{", b"["):
            return stored
        try:
            return zlib.decompressobj().decompress(stored, limit)
        except zlib.error as error:
            raise damaged from error

    def _answering(self, path: str) -> Catalog:
        """Returns the catalog that has the row of a path: the deepest one that begins at or above it."""
        catalog, nested = self._catalog(self._root_hash)
        while True:
            below = next((hash_ for at, hash_ in nested.items() if path == at or path.startswith(f"{at}/")), None)
            if below is None:
                return catalog
            catalog, nested = self._catalog(below)

    def _catalog(self, hash_text: str) -> tuple[Catalog, dict[str, str]]:
        from nearfs import _native

        if hash_text not in self._catalogs:
            content = _native.read_object(self._storage, hash_text, suffix="C", limit=_CATALOG_LIMIT_BYTES)
            copy = Path(self._scratch.name) / hash_text
            copy.write_bytes(content)
            self._catalogs[hash_text] = _native.Catalog(str(copy)), _nested(copy, hash_text)
            copy.unlink()
        return self._catalogs[hash_text]


def _nested(copy: Path, hash_text: str) -> dict[str, str]:
    try:
        database = sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            return dict(database.execute("SELECT path, sha1 FROM nested_catalogs"))
        finally:
            database.close()
    except sqlite3.Error as error:
        message = f"catalog {hash_text} cannot be read: {error}"
        raise Corrupt(message, operation="read catalog", subject=hash_text) from error
