"""Forged repositories: whole ones pass, and each kind of damage yields a problem that names it.

The damage is done before hashing and signing, so that only the rule in question can find it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .check import check_repository
from .forge import CHUNKS, FQRN, HISTORY, REFLOG, Forge, Keys
from .hashes import ALGORITHMS, path_hash
from .listing import list_tree
from .objects import unreferenced_objects


def _problems(root: Path, keys: Keys) -> list[str]:
    return check_repository(root, [keys.public_pem], FQRN, strict_reflog=True)


def _where(path: bytes) -> str:
    first, second = path_hash(path)
    return f" WHERE md5path_1 = {first} AND md5path_2 = {second}"


def _set(path: bytes, assignment: str) -> str:
    return f"UPDATE catalog SET {assignment}{_where(path)};"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_forged_repository_is_good(tmp_path: Path, keys: Keys, algorithm: str) -> None:
    Forge(tmp_path, keys, algorithm).write()
    assert _problems(tmp_path, keys) == []
    assert unreferenced_objects(tmp_path) == []
    assert len(list_tree(tmp_path, "trunk")) == 14


def _renamed(path: bytes, parent: bytes, name: bytes) -> str:
    """Returns SQL that moves a row with all of its path hashes right."""
    (first, second), (above, beside) = path_hash(parent + b"/" + name), path_hash(parent)
    columns = f"md5path_1 = {first}, md5path_2 = {second}, parent_1 = {above}, parent_2 = {beside}"
    return _set(path, f"{columns}, name = '{name.decode()}'")


NESTED = "/nested"
_BOUND = "INSERT INTO bind_mountpoints VALUES ('/nested/sub', printf('%040d', 1), 5);" + _set(
    b"/nested/sub", "flags = 0x4001"
)
DAMAGE: list[tuple[str, str, str]] = [
    # schema and properties
    ("", "UPDATE properties SET value = '6' WHERE key = 'schema_revision'", "schema_revision = '6'"),
    ("", "ALTER TABLE catalog ADD COLUMN extra TEXT", "table catalog with columns"),
    ("", "DROP INDEX idx_catalog_parent", "no index idx_catalog_parent"),
    ("", "PRAGMA user_version = 3", "user_version 3"),
    ("", "DELETE FROM properties WHERE key = 'previous_revision'", "no property previous_revision"),
    (NESTED, "UPDATE properties SET value = '64 zeros' WHERE key = 'previous_revision'", "not the text of a content"),
    ("", "UPDATE properties SET value = '9' WHERE key = 'revision'", "manifest field S"),
    (NESTED, "UPDATE properties SET value = '/other' WHERE key = 'root_prefix'", "root_prefix = '/other'"),
    # names and places
    (NESTED, _set(b"/nested/leaf", "name = '..'"), "name '..' is reserved"),
    (NESTED, _set(b"/nested/leaf", "name = 'a/b'"), "holds a slash"),
    (NESTED, _set(b"/nested/leaf", "name = CAST(x'6100' AS TEXT)"), "holds a slash or NUL"),
    (NESTED, _set(b"/nested/leaf", "name = 'other'"), "path /nested/other has the path hash"),
    (NESTED, _set(b"/nested/leaf", "parent_1 = 7"), "orphan"),
    (NESTED, _set(b"/nested/leaf", "symlink = NULL"), "NULL or no text"),
    (NESTED, "DELETE FROM catalog" + _where(b"/nested"), "no row for its root directory"),
    (NESTED, "DELETE FROM catalog" + _where(b"/nested/.cvmfscatalog"), "no regular file .cvmfscatalog"),
    # types, flags, links
    ("", _set(b"/hello", "mode = 33188 + 262144"), "is of no file type"),
    ("", _set(b"/hello", "flags = 1"), "flags 0x1 do not suit"),
    ("", _set(b"/hello", "flags = 4 + 0x700"), "hash algorithm bits 7"),
    ("", _set(b"/nested", "flags = 0x4003"), "more than one of nested root"),
    ("", _set(b"/hello", "hash = NULL"), "unchunked regular file has no hash"),
    ("", _set(b"/hello", "hash = x'00'"), "not a digest of 20 bytes"),
    ("", _set(b"/hello", "hardlinks = 2"), "linkcount 2 without a hardlink group"),
    ("", _set(b"/hello", "hardlinks = 0"), "linkcount 0"),
    ("", _set(b"", "hardlinks = 4"), "linkcount 4, 1 sub-directories give 3"),
    ("", _set(b"/one", "hardlinks = 4294967299"), "differs from it"),
    ("", _set(b"/two", "hardlinks = 1"), "the group has 1 members"),
    ("", _set(b"/two", "mtime = 5"), "differs from it"),
    ("", _set(b"/link", "size = 6"), "symlink has size 6"),
    ("", _set(b"/link", "symlink = ''"), "target is empty"),
    ("", _set(b"/fifo", "size = 1"), "fifo or socket has size 1"),
    ("", _set(b"/fifo", "hash = zeroblob(20)"), "hash on an entry that is no regular file"),
    ("", _set(b"/hello", "mtimens = 1000000000"), "outside of a second"),
    ("", _set(b"/attributes", "xattr = x'0101ff'"), "xattr blob is truncated"),
    ("", _set(b"/hello", "xattr = x'02'"), "no header of version 1"),
    ("", _set(b"/hello", "uid = 4294967296"), "uid 4294967296 is out of range"),
    ("", _set(b"/hello", "size = -1"), "size -1 is negative"),
    ("", _set(b"/hello", "hash = NULL, flags = 0x104"), "state a hash algorithm that is unknown or has no hash"),
    ("", _set(b"/hello", "flags = 0x1004"), "state an unknown compression"),
    ("", _set(b"/nested", "hardlinks = 4294967299"), "directory is in hardlink group 1"),
    ("", _set(b"/hello", "symlink = 'x'"), "regular file has a symlink target"),
    ("", _set(b"/fifo", "symlink = 'x'"), "symlink target on an entry that is no symlink"),
    ("", _set(b"", "name = 'x'"), "root row: name or parent hash is wrong"),
    (NESTED, _set(b"/nested", "flags = 1"), "are not those of a nested root"),
    ("", "UPDATE chunks SET hash = zeroblob(20) WHERE offset = 0", "a chunk has a null hash"),
    ("", _set(b"/chunked", "mode = 4516"), "chunks on an entry that is no regular file"),
    # sizes and objects
    ("", _set(b"/hello", "size = 13"), "holds 12 bytes, 13 are stated"),
    ("", _set(b"/hello", "size = 11"), "inflates to more than 11 bytes"),
    ("", _set(b"/hello", "size = 9223372036854775807"), "are stated"),
    ("", _set(b"/plain", "flags = 4"), "does not inflate"),
    ("", _set(b"/hello", "hash = randomblob(20)"), "is missing"),
    # chunks
    ("", f"UPDATE chunks SET offset = offset + 1 WHERE offset = {len(CHUNKS[0])}", "gap or overlap"),
    ("", "DELETE FROM chunks WHERE offset = 0", "should begin at 0"),
    ("", f"DELETE FROM chunks WHERE offset = {len(CHUNKS[0] + CHUNKS[1])}", "chunks end at"),
    ("", "DELETE FROM chunks", "has 0 chunks"),
    ("", _set(b"/chunked", "flags = 4"), "chunks but no chunked flag"),
    ("", "UPDATE chunks SET md5path_1 = 1", "which has no catalog row"),
    # nested catalogs
    (NESTED, _set(b"/nested", "mode = 16832"), "mode is 16877 in the parent, 16832"),
    (NESTED, _set(b"/nested", "uid = 7"), "uid is 0 in the parent, 7"),
    ("", "UPDATE nested_catalogs SET size = size + 1", "is stated, the catalog has"),
    ("", "DELETE FROM nested_catalogs", "mountpoint is not in nested_catalogs"),
    ("", _set(b"/nested", "flags = 1"), "in nested_catalogs without a mountpoint row"),
    ("", "INSERT INTO bind_mountpoints SELECT * FROM nested_catalogs", "in both nested_catalogs and bind"),
    ("", "UPDATE nested_catalogs SET sha1 = ''", "no hash in nested_catalogs"),
    ("", "UPDATE nested_catalogs SET path = '/../etc'", "without a mountpoint row"),
    (NESTED, _BOUND, "bind mountpoint /nested/sub: its root catalog cannot be read"),
    (NESTED, _set(b"/nested/sub", "flags = 0x4001"), "mountpoint is not in bind_mountpoints"),
    (NESTED, _set(b"/nested/sub", "flags = 0x8001"), "hidden flag outside of /.cvmfs"),
    ("", _set(b"/hello", "flags = 0x20004"), "bundle trigger without a specification"),
    ("", _set(b"/link", "flags = 0x2000c"), "flags 0x2000c do not suit"),
    (NESTED, _set(b"/nested/sub", "flags = 0x21"), "nested root flag on an inner row"),
    (NESTED, _renamed(b"/nested/leaf", b"/nested/sub", b".cvmfscatalog"), "marker where no nested catalog begins"),
    ("", _renamed(b"/hello", b"", b".cvmfscatalog"), "marker where no nested catalog begins"),
    ("", _renamed(b"/hello", b"/fifo", b"below"), "entries below something that is no directory"),
    ("", _renamed(b"/hello", b"/nested", b"below"), "mountpoint has 1 entries in this catalog"),
    # counters
    (NESTED, "UPDATE statistics SET value = value + 1 WHERE counter = 'self_regular'", "counter self_regular = 3"),
    ("", "UPDATE statistics SET value = 0 WHERE counter = 'subtree_dir'", "counter subtree_dir = 0"),
    ("", "DELETE FROM statistics WHERE counter = 'self_xattr'", "no counter self_xattr"),
    # history and reflog
    (HISTORY, "UPDATE tags SET revision = 2 WHERE name = 'first'", "states revision 2"),
    (HISTORY, "UPDATE tags SET size = 1 WHERE name = 'first'", "states size 1"),
    (HISTORY, "UPDATE tags SET timestamp = 1 WHERE name = 'first'", "states last_modified 1"),
    (HISTORY, "UPDATE tags SET name = 'a b' WHERE name = 'first'", "tag 'a b': the name is invalid"),
    (HISTORY, "UPDATE tags SET branch = 'gone' WHERE name = 'first'", "branch 'gone' does not exist"),
    (HISTORY, "UPDATE tags SET hash = printf('%040d', 1) WHERE name = 'trunk'", "the manifest's root hash is"),
    (HISTORY, "INSERT INTO branches VALUES ('side', '', 1)", "no tag and no branch is on it"),
    (HISTORY, "UPDATE properties SET value = 'x' WHERE key = 'fqrn'", "fqrn = 'x'"),
    (HISTORY, "UPDATE tags SET channel = 4 WHERE name = 'first'", "channel is 4 instead of 0"),
    (HISTORY, "UPDATE tags SET description = 'x' WHERE name = 'trunk'", "description is 'x' instead of"),
    (HISTORY, "UPDATE branches SET initial_revision = 5", "revision 1 is before its branch's first, 5"),
    (HISTORY, "UPDATE branches SET initial_revision = 1", "has no default branch"),
    (HISTORY, "INSERT INTO branches VALUES ('side', 'gone', 1)", "parent 'gone' does not exist"),
    (HISTORY, "INSERT INTO branches VALUES ('a b', '', 1)", "branch 'a b': the name is invalid"),
    (HISTORY, "INSERT INTO recycle_bin VALUES ('x', 0)", "1 rows in recycle_bin"),
    (HISTORY, "DELETE FROM properties WHERE key = 'previous_revision'", "no property previous_revision"),
    (REFLOG, "DELETE FROM refs WHERE type = 2", "reflog does not list"),
    (REFLOG, "UPDATE refs SET type = 9 WHERE type = 2", "unknown type 9"),
    (REFLOG, "UPDATE properties SET value = '2.0' WHERE key = 'schema'", "reflog has property schema"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "sql", "problem"), DAMAGE)
def test_damaged_database_is_named(tmp_path: Path, keys: Keys, place: str, sql: str, problem: str) -> None:
    Forge(tmp_path, keys, damage={place: sql}).write()
    found = _problems(tmp_path, keys)
    assert any(problem in text for text in found), found


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"N": "other.example.org"}, "manifest is of repository 'other.example.org'"),
        ({"R": "0" * 32}, "manifest field R"),
        ({"B": "1"}, "manifest field B is '1'"),
        ({"S": "-1"}, "no decimal number"),
        ({"D": "241"}, "manifest field D is '241'"),
        ({"G": "maybe"}, "manifest field G"),
        ({"T": ""}, "manifest has no field T"),
        ({"X": ""}, "names no certificate"),
        ({"C": "0" * 40}, "null hash"),
        ({"C": "nothing"}, "not the text of a content hash"),
        ({"Y": "1" * 40}, "reflog hashes to"),
        ({"Y": ""}, "no reflog checksum"),
        ({"C": "1" * 40 + "-rmd160"}, "of another algorithm than the root hash"),
        ({"A": "yes"}, "alternative path"),
        ({"Z": "x"}, "a writer emits them"),
    ],
)
def test_wrong_manifest_field_is_named(tmp_path: Path, keys: Keys, fields: dict[str, str], problem: str) -> None:
    Forge(tmp_path, keys, fields=fields).write()
    found = _problems(tmp_path, keys)
    assert any(problem in text for text in found), found


def test_write_ahead_header_is_named(tmp_path: Path, keys: Keys) -> None:
    Forge(tmp_path, keys, wal_header=True).write()
    found = _problems(tmp_path, keys)
    assert len(found) == 1 and "not in rollback-journal format" in found[0]


def test_certificate_that_is_not_listed_is_named(tmp_path: Path, keys: Keys) -> None:
    Forge(tmp_path, keys).write()
    other = Keys(keys.master, keys.signer, Keys.generate().certificate)
    Forge(tmp_path, other).write()
    whitelist = (tmp_path / ".cvmfswhitelist").read_bytes()
    Forge(tmp_path, keys).write()
    (tmp_path / ".cvmfswhitelist").write_bytes(whitelist)
    found = _problems(tmp_path, keys)
    assert len(found) == 1 and "is not on the whitelist" in found[0]


def test_manifest_by_another_key_is_named(tmp_path: Path, keys: Keys) -> None:
    Forge(tmp_path, Keys(keys.master, Keys.generate().signer, keys.certificate)).write()
    assert _problems(tmp_path, keys) == ["manifest signature is not by its certificate"]


@pytest.mark.parametrize("name", [".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog"])
@pytest.mark.parametrize("change", [lambda content: b"", lambda content: content[:100], lambda content: bytes(5000)])
def test_broken_top_level_file_is_named(
    tmp_path: Path, keys: Keys, name: str, change: Callable[[bytes], bytes]
) -> None:
    Forge(tmp_path, keys).write()
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    subject = {"p": "manifest", "w": "whitelist", "r": "reflog"}[name[6]]
    assert any(subject in text for text in _problems(tmp_path, keys))
