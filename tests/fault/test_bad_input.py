"""Whatever a server sends, the answer is a clear error: never a crash, a hang, or wrong bytes."""

import errno
import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.format.forge import FQRN, Forge, Keys
from tests.format.manifest import read_manifest
from tests.format.objects import referenced
from tests.support import mounts, processes
from tests.support.serving import Server

CVMFS2 = [sys.executable, "-m", "nearfs.compat.cvmfs2"]
OPTIONS, SIGNATURE, CATALOG = 2, 15, 16


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys.generate()


@dataclass
class Site:
    """A forged repository, its server, and a client's configuration."""

    keys: Keys
    home: Path
    url: str = ""

    @property
    def storage(self) -> Path:
        return self.home / "srv" / FQRN

    @property
    def point(self) -> Path:
        return self.home / "mnt"

    def attempt(self, **more: str) -> subprocess.CompletedProcess[str]:
        """Tries to mount, and returns how that went."""
        self.point.mkdir(exist_ok=True)
        key = self.home / "key.pub"
        if not key.exists():
            key.write_bytes(self.keys.public_pem)
        settings = {
            "CVMFS_SERVER_URL": f"{self.url}/cvmfs/{FQRN}",
            "CVMFS_HTTP_PROXY": "DIRECT",
            "CVMFS_PUBLIC_KEY": str(key),
            "CVMFS_CACHE_BASE": str(self.home / "cache"),
            **more,
        }
        configuration = self.home / "client.conf"
        configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return processes.run([*CVMFS2, "-o", f"config={configuration}", FQRN, self.point], check=False, limit=40)

    def refused(self, code: int, *words: str, **more: str) -> None:
        """Expects that a mount fails with `code` and a sentence that has all `words`."""
        done = self.attempt(**more)
        assert done.returncode == code, done
        for word in words:
            assert word in done.stderr
        assert "panicked" not in done.stderr
        assert "Traceback" not in done.stderr
        assert not mounts.is_mounted(self.point)


@pytest.fixture
def site(keys: Keys, tmp_path: Path, server: Callable[[Path], Server]) -> Iterator[Site]:
    made = Site(keys, tmp_path)
    made.storage.mkdir(parents=True)
    made.url = server(tmp_path / "srv").url
    yield made
    mounts.unmount_lazily(made.point)


def test_the_undamaged_repository_mounts(site: Site) -> None:
    Forge(site.storage, site.keys).write()
    assert site.attempt().returncode == 0
    assert (site.point / "hello").read_bytes() == b"hello world\n"
    assert (site.point / "nested" / "leaf").read_bytes() == b"leaf\n"
    assert (site.point / "one").stat().st_ino == (site.point / "two").stat().st_ino
    assert (site.point / "one").stat().st_nlink == 2


def test_a_wrong_key_is_not_trusted(site: Site) -> None:
    Forge(site.storage, Keys.generate()).write()
    site.refused(SIGNATURE, "whitelist", FQRN)


@pytest.mark.parametrize("parameter", ["CVMFS_PUBLIC_KEY", "CVMFS_BLACKLIST"])
def test_a_device_is_no_key_file(site: Site, parameter: str) -> None:
    Forge(site.storage, site.keys).write()
    site.refused(SIGNATURE, "/dev/zero is larger than", **{parameter: "/dev/zero"})


def test_a_relative_cache_directory_is_refused(site: Site) -> None:
    Forge(site.storage, site.keys).write()
    site.refused(OPTIONS, "not an absolute path", CVMFS_CACHE_BASE="cache")


def test_a_manifest_signed_by_a_stranger_is_not_trusted(site: Site) -> None:
    Forge(site.storage, Keys(site.keys.master, Keys.generate().signer, site.keys.certificate)).write()
    site.refused(SIGNATURE, "manifest", FQRN)


def test_an_expired_whitelist_is_not_trusted(site: Site) -> None:
    forge = Forge(site.storage, site.keys)
    forge.write()
    forge.write_whitelist(days=-1)
    site.refused(SIGNATURE, "whitelist", "expired", FQRN)


def test_a_manifest_of_another_repository_is_refused(site: Site) -> None:
    Forge(site.storage, site.keys, fields={"N": "other.example.org"}).write()
    site.refused(SIGNATURE, "other.example.org", FQRN)


def test_an_older_manifest_than_last_seen_is_refused(site: Site) -> None:
    Forge(site.storage, site.keys, damage={"": "UPDATE catalog SET mtime = 5 WHERE name = 'hello'"}).write()
    assert site.attempt().returncode == 0
    mounts.unmount(site.point)
    Forge(site.storage, site.keys, fields={"T": "1600000000"}).write()
    site.refused(SIGNATURE, "older", FQRN)


def test_a_known_root_hash_does_not_vouch_for_the_history(site: Site) -> None:
    Forge(site.storage, site.keys).write()
    assert site.attempt().returncode == 0
    mounts.unmount(site.point)
    manifest = site.storage / ".cvmfspublished"
    body, _, seal = manifest.read_bytes().partition(b"--\n")
    body += b"H" + b"ab" * 20 + b"\n"
    _, _, signature = seal.partition(b"\n")
    manifest.write_bytes(body + b"--\n" + hashlib.sha1(body).hexdigest().encode() + b"\n" + signature)
    site.refused(SIGNATURE, "manifest", FQRN, CVMFS_REPOSITORY_TAG="v1")


@pytest.mark.parametrize("name", [".cvmfspublished", ".cvmfswhitelist"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "huge", "missing"])
def test_a_damaged_signed_text_is_refused(site: Site, name: str, damage: str) -> None:
    Forge(site.storage, site.keys).write()
    path = site.storage / name
    content = path.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
        case "empty":
            path.write_bytes(b"")
        case "huge":
            path.write_bytes(content + b"x" * (4 << 20))
        case "missing":
            path.unlink()
    done = site.attempt()
    assert done.returncode in (SIGNATURE, CATALOG), done
    assert FQRN in done.stderr
    assert not mounts.is_mounted(site.point)


@pytest.mark.parametrize("suffix", ["C", "X"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing", "trailing"])
def test_a_damaged_object_of_the_bootstrap_is_refused(site: Site, suffix: str, damage: str) -> None:
    Forge(site.storage, site.keys).write()
    fields = read_manifest(site.storage)
    wanted = fields.root_hash.text if suffix == "C" else _field(site.storage, "X")
    path = site.storage / "data" / wanted[:2] / (wanted[2:] + suffix)
    _damage(path, damage)
    site.refused(CATALOG, wanted)


def _field(storage: Path, letter: str) -> str:
    for line in (storage / ".cvmfspublished").read_bytes().split(b"\n"):
        if line.startswith(letter.encode()):
            return line[1:].decode()
    raise AssertionError(letter)


def _damage(path: Path, damage: str) -> None:
    content = path.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(content[:-3])
        case "flipped":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :])
        case "empty":
            path.write_bytes(b"")
        case "missing":
            path.unlink()
        case "trailing":
            path.write_bytes(content + b"x" * 1000)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing", "trailing"])
def test_a_damaged_file_object_gives_eio_and_nothing_else_suffers(site: Site, damage: str) -> None:
    Forge(site.storage, site.keys).write()
    hello = "ff049c626904064d641feca0e9936e5b211807c6"
    _damage(site.storage / "data" / hello[:2] / hello[2:], damage)
    assert site.attempt().returncode == 0
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            (site.point / "hello").read_bytes()
        assert caught.value.errno == errno.EIO
    assert (site.point / "plain").read_bytes() == b"plain\n" * 9
    assert (site.point / "chunked").read_bytes().endswith(b"third")
    assert int(os.getxattr(site.point, "user.nioerr")) >= 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_nested_catalog_gives_eio_below_its_mountpoint_only(site: Site, damage: str) -> None:
    Forge(site.storage, site.keys).write()
    root = read_manifest(site.storage).root_hash.text
    nested = [text for text, suffix in referenced(site.storage, root) if suffix == "C" and text != root]
    assert len(nested) == 1
    _damage(site.storage / "data" / nested[0][:2] / (nested[0][2:] + "C"), damage)
    assert site.attempt().returncode == 0
    assert (site.point / "nested").is_dir()
    with pytest.raises(OSError) as caught:
        os.listdir(site.point / "nested")
    assert caught.value.errno == errno.EIO
    with pytest.raises(OSError) as caught:
        (site.point / "nested" / "leaf").stat()
    assert caught.value.errno == errno.EIO
    assert (site.point / "hello").read_bytes() == b"hello world\n"


def path_halves(path: str) -> tuple[int, int]:
    digest = hashlib.md5(path.encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True), int.from_bytes(digest[8:], "little", signed=True)


def renamed(old: str, new: str, key_of: str) -> str:
    """Returns SQL that gives the row of `/old` another name and the key of that path, so that only the name is bad."""
    first, second = path_halves(key_of)
    literal = "X'" + new.encode().hex() + "'"
    return (
        f"UPDATE catalog SET name = CAST({literal} AS TEXT), md5path_1 = {first}, md5path_2 = {second} "
        f"WHERE name = '{old}'"
    )


BAD_CATALOGS = {
    "dotdot": (renamed("hello", "..", "/.."), ".."),
    "dot": (renamed("hello", ".", "/."), "name"),
    "slash": (renamed("hello", "a/b", "/a/b"), "slash"),
    "nul": (renamed("hello", "a\0b", "/a\0b"), "NUL"),
    "empty": (renamed("hello", "", "/"), "empty"),
    "long": (renamed("hello", "n" * 300, "/" + "n" * 300), "255"),
    "wrong-key": ("UPDATE catalog SET md5path_1 = 42 WHERE name = 'hello'", "key"),
    "negative-size": ("UPDATE catalog SET size = -1 WHERE name = 'hello'", "size"),
    "no-type": ("UPDATE catalog SET mode = 420 WHERE name = 'hello'", "mode"),
    "no-root": ("DELETE FROM catalog WHERE name = ''", "root"),
    "no-table": ("DROP TABLE catalog", "catalog"),
    "text-size": ("UPDATE catalog SET size = 'many' WHERE name = 'hello'", "column"),
    "short-hash": ("UPDATE catalog SET hash = X'0102' WHERE name = 'hello'", "hash"),
    "algorithm": ("UPDATE catalog SET flags = flags | 1536 WHERE name = 'hello'", "algorithm"),
    "future-schema": ("UPDATE properties SET value = '9.9' WHERE key = 'schema'", "schema"),
    "view": ("ALTER TABLE catalog RENAME TO c2; CREATE VIEW catalog AS SELECT * FROM c2", "views"),
    "link-nul": ("UPDATE catalog SET symlink = CAST(X'610062' AS TEXT) WHERE name = 'link'", "symlink"),
    "nested-path": ("UPDATE nested_catalogs SET path = '/../etc'", "nested_catalogs"),
    "nested-hash": ("UPDATE nested_catalogs SET sha1 = 'zz'", "nested_catalogs"),
    "prefix": ("INSERT INTO properties VALUES ('root_prefix', '/elsewhere')", "elsewhere"),
}


@pytest.mark.parametrize("case", BAD_CATALOGS)
def test_a_catalog_that_says_nonsense_is_refused(site: Site, case: str) -> None:
    sql, word = BAD_CATALOGS[case]
    Forge(site.storage, site.keys, damage={"": sql}).write()
    root = read_manifest(site.storage).root_hash.text
    done = site.attempt()
    assert done.returncode == CATALOG, done
    assert root in done.stderr
    assert word in done.stderr
    assert not mounts.is_mounted(site.point)


def test_a_file_of_absurd_size_is_refused_without_allocating_it(site: Site) -> None:
    Forge(site.storage, site.keys, damage={"": "UPDATE catalog SET size = 1 << 62 WHERE name = 'hello'"}).write()
    assert site.attempt().returncode == 0
    assert (site.point / "hello").stat().st_size == 1 << 62
    with pytest.raises(OSError) as caught:
        (site.point / "hello").open("rb").read(10)
    assert caught.value.errno == errno.EIO


def test_a_catalog_that_inflates_without_end_is_refused(site: Site) -> None:
    import zlib

    Forge(site.storage, site.keys).write()
    bomb = zlib.compress(b"\0" * (64 << 20))
    digest = hashlib.sha1(bomb).hexdigest()
    path = site.storage / "data" / digest[:2] / (digest[2:] + "C")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bomb)
    Forge(site.storage, site.keys, fields={"C": digest, "B": "20480"}).write()
    site.refused(CATALOG, digest)


def test_chunks_with_a_gap_give_eio(site: Site) -> None:
    sql = "UPDATE chunks SET offset = offset + 1 WHERE offset > 0"
    Forge(site.storage, site.keys, damage={"": sql}).write()
    assert site.attempt().returncode == 0
    with pytest.raises(OSError) as caught:
        (site.point / "chunked").read_bytes()
    assert caught.value.errno == errno.EIO


def test_an_unknown_tag_is_its_own_error(site: Site) -> None:
    Forge(site.storage, site.keys).write()
    site.refused(22, "no such tag: nobody", CVMFS_REPOSITORY_TAG="nobody")
    site.refused(22, "no repository state as early as", CVMFS_REPOSITORY_DATE="1999-01-01T00:00:00Z")
    assert site.attempt(CVMFS_REPOSITORY_TAG="first").returncode == 0


def test_garbage_instead_of_a_server_is_refused(keys: Keys, tmp_path: Path) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(20)

        def talk() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n" * 100)
            except OSError:
                return

        threading.Thread(target=talk, daemon=True).start()
        site = Site(keys, tmp_path, f"http://127.0.0.1:{port}")
        site.refused(CATALOG, f"127.0.0.1:{port}", CVMFS_TIMEOUT_DIRECT="2")


def test_a_damaged_database_file_is_no_catalog(site: Site) -> None:
    assert sqlite3.sqlite_version_info >= (3, 36), "serialize is needed"
    Forge(site.storage, site.keys, damage={"": "PRAGMA writable_schema=ON; DELETE FROM sqlite_master"}).write()
    site.refused(CATALOG, "catalog")


def test_garbage_in_the_cache_is_replaced(site: Site) -> None:
    Forge(site.storage, site.keys).write()
    assert site.attempt().returncode == 0
    (site.point / "hello").read_bytes()
    mounts.unmount(site.point)
    cached = site.home / "cache" / FQRN / "ff" / "049c626904064d641feca0e9936e5b211807c6"
    assert cached.read_bytes() == b"hello world\n"
    cached.write_bytes(b"cut")
    assert site.attempt().returncode == 0
    assert (site.point / "hello").read_bytes() == b"hello world\n"
