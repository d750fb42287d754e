"""Reading catalogs into rows, and walking the tree of catalogs below a root (format section 4).

Owns the parsed form of a catalog and the path of every row; judges only what it needs in order to parse (types and
sizes of columns). Whether the content is consistent is for catalog_check, row_check and counters. Parsed catalogs
are never changed and free to share.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .chunks import Chunk
from .database import Database, shown
from .errors import FormatError
from .hashes import ALGORITHMS, DIGEST_BYTES, ContentHash, PathHash, parse_hash, path_hash
from .store import MAX_DATABASE_BYTES, ObjectStore, object_name

DIR, NESTED_MOUNTPOINT, FILE, LINK, SPECIAL, NESTED_ROOT = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
CHUNKED, EXTERNAL, BIND_MOUNTPOINT, HIDDEN, DIRECT_IO = 0x40, 0x80, 0x4000, 0x8000, 0x10000
ALGORITHM_SHIFT, ALGORITHM_MASK = 8, 0x700
COMPRESSION_MASK, COMPRESSION_NONE = 0x3800, 0x800
BUNDLE_TRIGGER = 0x20000  # CernVM-FS 2.14
KNOWN_FLAGS = 0x3FFFF
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
MAX_DEPTH = 200
"""Bound of nesting: the walks are recursive and have to stay below the interpreter's own limit."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the catalog table; sizes in bytes, mtime in seconds, digest without its algorithm."""

    key: PathHash
    parent: PathHash
    hardlinks: int
    digest: bytes | None
    size: int
    mode: int
    mtime: int
    mtimens: int | None
    flags: int
    name: bytes
    symlink: bytes
    uid: int
    gid: int
    xattr: bytes | None

    @property
    def linkcount(self) -> int:
        """Number of links; the lower half of the hardlinks column (4.6)."""
        return self.hardlinks & 0xFFFFFFFF

    @property
    def group(self) -> int:
        """Hardlink group of this catalog, 0 for none."""
        return self.hardlinks >> 32

    @property
    def is_dir(self) -> bool:
        """Readers decide the type from the mode, not from the flags (4.5)."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        """Whether the row is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_plain(self) -> bool:
        """Whether the file's objects are stored without compression."""
        return self.flags & COMPRESSION_MASK == COMPRESSION_NONE

    @property
    def content_hash(self) -> ContentHash | None:
        """Hash of the whole file's object, if there is one."""
        return None if self.digest is None else hash_of(self.flags, self.digest, shown(self.name))


@dataclass(frozen=True, slots=True)
class Mount:
    """A row of nested_catalogs or bind_mountpoints: size is of the uncompressed catalog, hash None if empty."""

    path: bytes
    content_hash: ContentHash | None
    size: int


@dataclass(frozen=True)
class Catalog:
    """A parsed catalog; `paths` holds every row that hangs together with the root row, root first."""

    content_hash: ContentHash
    prefix: bytes
    content_bytes: int
    properties: dict[str, str]
    rows: dict[PathHash, Row]
    chunks: dict[PathHash, list[Chunk]]
    nested: dict[bytes, Mount]
    binds: dict[bytes, Mount]
    counters: dict[str, int]
    paths: dict[bytes, Row] = field(default_factory=dict)
    children: dict[bytes, list[bytes]] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """How sentences name this catalog."""
        return subject_of(self.content_hash, self.prefix)

    @property
    def root_row(self) -> Row | None:
        """The row of the catalog's own root directory."""
        return self.rows.get(path_hash(self.prefix))


def subject_of(content_hash: ContentHash, prefix: bytes) -> str:
    """Returns how sentences name a catalog before and after it is parsed."""
    return f"catalog {object_name(content_hash, 'C')} of {path_text(prefix)}"


def path_text(path: bytes) -> str:
    """Returns a repository path for a sentence."""
    return "/" if path == b"" else shown(path)


def hash_of(flags: int, digest: bytes, where: str) -> ContentHash:
    """Returns a digest with the algorithm that the flags of its row state."""
    number = (flags & ALGORITHM_MASK) >> ALGORITHM_SHIFT
    if number >= len(ALGORITHMS):
        raise FormatError(f"{where}: hash algorithm bits {number} in flags 0x{flags:x} are invalid")
    return ContentHash(ALGORITHMS[number], digest)


def name_problem(name: bytes) -> str | None:
    """Returns why bytes cannot be one path component, or None."""
    if name in (b"", b".", b".."):
        return f"name {shown(name)!r} is reserved"
    if b"/" in name or b"\0" in name:
        return f"name {shown(name)!r} holds a slash or NUL"
    return f"name has {len(name)} bytes" if len(name) > MAX_NAME_BYTES else None


def load_catalog(store: ObjectStore, content_hash: ContentHash, prefix: bytes) -> tuple[Catalog, Database]:
    """Returns a verified and parsed catalog, and its database, which the caller closes."""
    content = store.load(content_hash, "C", limit=MAX_DATABASE_BYTES)
    database = Database(content, subject_of(content_hash, prefix))
    try:
        return parse_catalog(database, content_hash, prefix), database
    except FormatError:
        database.close()
        raise


def parse_catalog(database: Database, content_hash: ContentHash, prefix: bytes) -> Catalog:
    """Returns the catalog in a database; raises FormatError for columns of a wrong type or size."""
    catalog = Catalog(
        content_hash, prefix, database.content_bytes, database.properties(), _read_rows(database), {},
        _read_mounts(database, "nested_catalogs"), _read_mounts(database, "bind_mountpoints"),
        _read_counters(database),
    )  # fmt: skip
    _read_chunks(database, catalog)
    _place_rows(catalog)
    return catalog


def _read_rows(database: Database) -> dict[PathHash, Row]:
    found: dict[PathHash, Row] = {}
    untyped = database.rows("SELECT count(*) FROM catalog WHERE typeof(name) <> 'text' OR typeof(symlink) <> 'text'")
    if untyped != [(0,)]:
        raise FormatError(f"{database.subject} has rows whose name or symlink is NULL or no text")
    query = (
        "SELECT md5path_1, md5path_2, parent_1, parent_2, hardlinks, size, mode, mtime, flags, uid, gid,"
        " hash, mtimens, xattr, name, symlink FROM catalog"
    )
    for values in database.rows(query):
        numbers = [value for value in values[:11] if isinstance(value, int)]
        digest, mtimens, xattr, name, symlink = values[11:]
        where = f"{database.subject}, row {shown(name)!r}"
        if len(numbers) != 11:
            raise FormatError(f"{where}: a numeric column holds NULL or no integer")
        if not (digest is None or (isinstance(digest, bytes) and len(digest) == DIGEST_BYTES)):
            raise FormatError(f"{where}: hash is not a digest of {DIGEST_BYTES} bytes")
        if not isinstance(mtimens, int | None) or not isinstance(xattr, bytes | None):
            raise FormatError(f"{where}: mtimens or xattr is of a wrong type")
        if not isinstance(name, bytes) or not isinstance(symlink, bytes):
            raise FormatError(f"{where}: name or symlink is no text")
        k1, k2, p1, p2, hardlinks, size, mode, mtime, flags, uid, gid = numbers
        row = Row(
            (k1, k2), (p1, p2), hardlinks, digest, size, mode, mtime, mtimens, flags, name, symlink, uid, gid, xattr
        )
        found[row.key] = row
    return found


def _read_mounts(database: Database, table: str) -> dict[bytes, Mount]:
    found: dict[bytes, Mount] = {}
    for path, text, size in database.rows(f"SELECT path, sha1, size FROM {table}"):
        where = f"{database.subject}, table {table}, path {shown(path)!r}"
        if not isinstance(path, bytes) or not isinstance(text, bytes) or not isinstance(size, int) or size < 0:
            raise FormatError(f"{where}: a column is NULL or of a wrong type")
        found[path] = Mount(path, parse_hash(shown(text), where) if text else None, size)
    return found


def _read_counters(database: Database) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, value in database.rows("SELECT counter, value FROM statistics"):
        if not isinstance(name, bytes) or not isinstance(value, int):
            raise FormatError(f"{database.subject} has counter {shown(name)} that is no integer")
        found[shown(name)] = value
    return found


def _read_chunks(database: Database, catalog: Catalog) -> None:
    query = "SELECT md5path_1, md5path_2, offset, size, hash FROM chunks ORDER BY md5path_1, md5path_2, offset"
    for k1, k2, offset, size, digest in database.rows(query):
        integers = isinstance(k1, int) and isinstance(k2, int) and isinstance(offset, int) and isinstance(size, int)
        if not integers or not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
            raise FormatError(f"{catalog.subject} has a row in chunks with a column of a wrong type or size")
        assert isinstance(k1, int) and isinstance(k2, int) and isinstance(offset, int) and isinstance(size, int)
        row = catalog.rows.get((k1, k2))
        if row is None:
            raise FormatError(f"{catalog.subject} has a chunk of path hash {(k1, k2)}, which has no catalog row")
        where = f"{catalog.subject}, row {shown(row.name)!r}"
        catalog.chunks.setdefault(row.key, []).append(Chunk(offset, size, hash_of(row.flags, digest, where)))


def _place_rows(catalog: Catalog) -> None:
    """Fills `paths` and `children` from the root row down; rows whose hash belies their path stay unplaced."""
    root = catalog.root_row
    if root is None:
        return
    by_parent: dict[PathHash, list[Row]] = {}
    for row in catalog.rows.values():
        if row is not root:
            by_parent.setdefault(row.parent, []).append(row)
    catalog.paths[catalog.prefix] = root
    waiting = [catalog.prefix]
    while waiting:
        path = waiting.pop()
        for row in by_parent.get(path_hash(path), []):
            child = path + b"/" + row.name
            if name_problem(row.name) is None and len(child) < MAX_PATH_BYTES and path_hash(child) == row.key:
                catalog.paths[child] = row
                catalog.children.setdefault(path, []).append(child)
                waiting.append(child)


def walk(store: ObjectStore, content_hash: ContentHash, prefix: bytes = b"", depth: int = 0) -> Iterator[Catalog]:
    """Yields a catalog and all nested catalogs below it, parents first; raises FormatError at the first bad one."""
    if depth > MAX_DEPTH:
        raise FormatError(f"catalogs nest deeper than {MAX_DEPTH} levels at {path_text(prefix)}")
    catalog, database = load_catalog(store, content_hash, prefix)
    database.close()
    yield catalog
    for mount in sorted(catalog.nested.values(), key=lambda mount: mount.path):
        if not mount.path.startswith(prefix + b"/"):
            raise FormatError(f"{catalog.subject} registers a nested catalog outside of itself: {shown(mount.path)}")
        if mount.content_hash is not None:
            yield from walk(store, mount.content_hash, mount.path, depth + 1)


def content_hashes(root: Path, root_hash: str) -> dict[bytes, str | tuple[str, ...]]:
    """Returns for each regular file's path its object's hash text, or the tuple of its chunks' hash texts."""
    found: dict[bytes, str | tuple[str, ...]] = {}
    for catalog in walk(ObjectStore(root), parse_hash(root_hash, "root hash")):
        for path, row in catalog.paths.items():
            chunks = catalog.chunks.get(row.key)
            if row.is_regular and chunks:
                found[path] = tuple(chunk.content_hash.text for chunk in chunks)
            elif row.is_regular and row.content_hash is not None:
                found[path] = row.content_hash.text
    return found
