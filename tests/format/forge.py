"""A test-only writer of small signed repositories, whole or deliberately damaged.

Owns keys made on the spot and one fixed tree with every kind of entry: nested catalog, chunks, hardlinks, symlink,
fifo, device, attributes. Damage is SQL run on a database before it is stored and signed, so that the damaged object
is reached over a chain of valid hashes and signatures. Not a publisher: nothing here is durable or fast.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa, utils
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from .catalog import parse_catalog
from .catalog_check import TABLES as CATALOG_TABLES
from .counters import NAMES, Counters, add, self_counters
from .database import PROPERTIES, Columns, Database
from .hashes import ALGORITHMS, NULL_HASH_TEXT, ContentHash, digest_of, path_hash
from .history import TABLES as HISTORY_TABLES
from .reflog import REFS
from .store import object_name
from .xattrs import build_xattrs

FQRN = "forged.example.org"
CHUNKS = (b"first " * 20, b"second " * 30, b"third")
HISTORY, REFLOG = "history", "reflog"
"""Keys of damage for the databases that are no catalogs; catalogs go by their path."""
Stored = tuple[ContentHash, int, Counters]
"""Hash and uncompressed size of a catalog, and the sum of its own and its subtree's counters."""


@dataclass
class Keys:
    """Master key, and certificate key with its self-signed certificate."""

    master: rsa.RSAPrivateKey
    signer: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def generate(cls) -> Keys:
        """Returns fresh keys of 2048 bits."""
        master, signer = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, FQRN)])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(name, name, signer.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=365))
        return cls(master, signer, builder.sign(signer, SHA256()))

    @property
    def public_pem(self) -> bytes:
        """The master public key as a client is given it."""
        return self.master.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Forge:
    """Writes one repository into `root`; `damage` maps a catalog's path, HISTORY or REFLOG to SQL."""

    root: Path
    keys: Keys
    algorithm: str = "sha1"
    damage: Mapping[str, str] = field(default_factory=dict)
    wal_header: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    """Manifest fields to replace; the empty string leaves one out."""

    def store(self, content: bytes, suffix: str, *, plain: bool = False) -> ContentHash:
        """Stores an object and returns its hash."""
        stored = content if plain else zlib.compress(content)
        content_hash = digest_of(self.algorithm, stored)
        path = self.root / object_name(content_hash, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored)
        return content_hash

    def write(self) -> None:
        """Writes objects, catalogs, history, reflog, whitelist and manifest."""
        now = int(time.time())
        nested = self._catalog("/nested", self._nested_rows(), {}, {"root_prefix": "/nested"})
        root = self._catalog("", self._root_rows(), {"/nested": nested}, {"TTL": "240"})
        history = self._history(root)
        certificate = self.store(self.keys.certificate.public_bytes(Encoding.PEM), "X")
        metainfo = self.store(b'{"description": "forged"}', "M")
        reflog = self._reflog((root[0], certificate, history, metainfo), now)
        self.write_whitelist()
        values = {
            "C": root[0].text, "B": str(root[1]), "R": hashlib.md5(b"").hexdigest(), "D": "240", "S": "1", "G": "no",
            "A": "no", "N": FQRN, "X": certificate.text, "H": history.text, "T": str(now), "M": metainfo.text,
            "Y": reflog.text,
        }  # fmt: skip
        lines = [letter + value for letter, value in (values | dict(self.fields)).items() if value]
        body, message = self._sealed(lines)
        signature = self.keys.signer.sign(message, PKCS1v15(), SHA1())
        (self.root / ".cvmfspublished").write_bytes(body + signature)

    def _sealed(self, lines: list[str]) -> tuple[bytes, bytes]:
        text = "".join(line + "\n" for line in lines).encode()
        message = digest_of(self.algorithm, text).text.encode()
        return text + b"--\n" + message + b"\n", message

    def write_whitelist(self, days: int = 30) -> None:
        """Writes the whitelist, signed by the master key and valid for so many days; negative ones are over."""
        now = datetime.now(UTC)
        fingerprint = digest_of(self.algorithm, self.keys.certificate.public_bytes(Encoding.DER))
        digits, _, tag = fingerprint.text.upper().partition("-")
        pairs = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2)) + ("-" + tag if tag else "")
        expiry = now + timedelta(days=days)
        body, message = self._sealed([f"{now:%Y%m%d%H%M%S}", f"E{expiry:%Y%m%d%H%M%S}", "N" + FQRN, pairs])
        signature = self.keys.master.sign(message, PKCS1v15(), utils.NoDigestInfo())
        (self.root / ".cvmfswhitelist").write_bytes(body + signature)

    def _file(
        self, path: str, content: bytes, *, plain: bool = False, links: int = 1, xattr: bytes | None = None
    ) -> Row:
        flags = 4 | ALGORITHMS.index(self.algorithm) << 8 | (0x800 if plain else 0)
        digest = self.store(content, "", plain=plain).digest
        return _row(path, 0o100644, flags, links=links, digest=digest, size=len(content), xattr=xattr)

    def _nested_rows(self) -> list[Row]:
        return [
            _row("/nested", 0o40755, 0x21, links=3, size=4096),
            _row("/nested/sub", 0o40755, 1, links=2, size=4096),
            self._file("/nested/.cvmfscatalog", b""),
            self._file("/nested/leaf", b"leaf\n"),
        ]

    def _root_rows(self) -> list[Row]:
        chunked = 0x44 | ALGORITHMS.index(self.algorithm) << 8
        return [
            _row("", 0o40755, 1, links=3, size=4096),
            _row("/nested", 0o40755, 3, links=3, size=4096),
            self._file("/hello", b"hello world\n"),
            self._file("/plain", b"plain\n" * 9, plain=True),
            self._file("/one", b"linked\n", links=(1 << 32) + 2),
            self._file("/two", b"linked\n", links=(1 << 32) + 2),
            self._file("/attributes", b"x", xattr=build_xattrs({b"user.foo": b"bar"})),
            _row("/chunked", 0o100644, chunked, size=sum(map(len, CHUNKS))),
            _row("/link", 0o120777, 0xC, size=5, symlink=b"hello"),
            _row("/fifo", 0o10644, 0x14),
            _row("/device", 0o20600, 0x14, size=1281),
        ]

    def _catalog(self, path: str, rows: list[Row], nested: dict[str, Stored], properties: dict[str, str]) -> Stored:
        connection = _create(CATALOG_TABLES)
        connection.execute("CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2)")
        values = {"schema": "2.5", "schema_revision": "7", "revision": "1", "last_modified": "1700000000"}
        values |= {"previous_revision": NULL_HASH_TEXT} | properties
        connection.executemany("INSERT INTO properties VALUES (?, ?)", values.items())
        connection.executemany(f"INSERT INTO catalog VALUES ({', '.join('?' * 16)})", rows)
        offset = 0
        for chunk in CHUNKS if path == "" else ():
            row = (*path_hash(b"/chunked"), offset, len(chunk), self.store(chunk, "P").digest)
            connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", row)
            offset += len(chunk)
        below = dict.fromkeys(NAMES, 0)
        for mountpoint, (content_hash, size, counters) in nested.items():
            connection.execute("INSERT INTO nested_catalogs VALUES (?, ?, ?)", (mountpoint, content_hash.text, size))
            below = add(below, counters)
        own = _count(connection, path)
        counted = [("self_" + name, own[name]) for name in NAMES] + [("subtree_" + name, below[name]) for name in NAMES]
        connection.executemany("INSERT INTO statistics VALUES (?, ?)", counted)
        content = self._finish(connection, path)
        if self.wal_header and path == "":
            content = content[:18] + b"\2\2" + content[20:]
        return self.store(content, "C"), len(content), add(own, below)

    def _history(self, root: Stored) -> ContentHash:
        connection = _create(HISTORY_TABLES)
        properties = {"schema": "1.0", "schema_revision": "3", "fqrn": FQRN, "previous_revision": NULL_HASH_TEXT}
        connection.executemany("INSERT INTO properties VALUES (?, ?)", properties.items())
        connection.execute("INSERT INTO branches VALUES ('', NULL, 0)")
        for name, description in (("trunk", "current HEAD"), ("first", "")):
            row = (name, root[0].text, 1, 1700000000, 0, description, root[1], "")
            connection.execute("INSERT INTO tags VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return self.store(self._finish(connection, HISTORY), "H")

    def _reflog(self, references: tuple[ContentHash, ...], now: int) -> ContentHash:
        connection = _create({"properties": PROPERTIES, "refs": REFS})
        properties = {"schema": "1.0", "schema_revision": "0", "fqrn": FQRN}
        connection.executemany("INSERT INTO properties VALUES (?, ?)", properties.items())
        rows = [(reference.text, kind, now) for kind, reference in enumerate(references)]
        connection.executemany("INSERT INTO refs VALUES (?, ?, ?)", rows)
        content = self._finish(connection, REFLOG)
        (self.root / ".cvmfsreflog").write_bytes(content)
        return digest_of(self.algorithm, content)

    def _finish(self, connection: sqlite3.Connection, name: str) -> bytes:
        connection.executescript(self.damage.get(name, ""))
        connection.commit()
        content = connection.serialize()
        connection.close()
        return content


Row = tuple[object, ...]


def _row(
    path: str, mode: int, flags: int, *, links: int = 1, digest: bytes | None = None, size: int = 0,
    symlink: bytes = b"", xattr: bytes | None = None,
) -> Row:  # fmt: skip
    parent, _, name = path.rpartition("/")
    parent_hash = path_hash(parent.encode()) if path else (0, 0)
    return (
        *path_hash(path.encode()), *parent_hash, links, digest, size, mode, 1700000000, None, flags, name,
        symlink.decode(), 0, 0, xattr,
    )  # fmt: skip


def _create(tables: Mapping[str, Columns]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    for table, columns in tables.items():
        texts = [f"{name} {kind}" for name, kind, _ in columns]
        keys = [name for name, _, key in sorted(columns, key=lambda column: column[2]) if key]
        connection.execute(f"CREATE TABLE {table} ({', '.join(texts)}, PRIMARY KEY ({', '.join(keys)}))")
    return connection


def _count(connection: sqlite3.Connection, path: str) -> Counters:
    connection.commit()
    database = Database(connection.serialize(), "forged catalog")
    try:
        return self_counters(parse_catalog(database, ContentHash("sha1", bytes(20)), path.encode()))
    finally:
        database.close()
