"""External data: content outside the repository, at hosts of its own (client.md 3.1, format.md 1.5)."""

import errno
import hashlib
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.format.forge import CHUNKS, FQRN, Forge, Keys
from tests.format.hashes import path_hash
from tests.support import processes
from tests.support.ranged import Files, files
from tests.support.serving import Server

pytestmark = pytest.mark.mount
PLAIN, HELLO = b"plain\n" * 9, b"hello world\n"
ODD = b"odd \xff%?#name"
EXTERNAL, NO_COMPRESSION = 0x80, 0x800
CONTENT = {
    b"/data/plain": PLAIN,
    b"/data/hello": zlib.compress(HELLO),
    b"/data/chunked": b"".join(CHUNKS),
    b"/data/" + ODD: zlib.compress(b"x"),
}


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys.generate()


@pytest.fixture
def repository(keys: Keys, tmp_path: Path, server: Callable[[Path], Server]) -> dict[str, str]:
    """Publishes a repository all of whose content is external, and returns a client's settings without the hosts."""
    key = tmp_path / "key.pub"
    key.write_bytes(keys.public_pem)
    storage = tmp_path / "srv" / FQRN
    storage.mkdir(parents=True)
    chunk_sql, offset = [], 0
    for chunk in CHUNKS:
        chunk_sql.append(f"UPDATE chunks SET hash = X'{hashlib.sha1(chunk).hexdigest()}' WHERE offset = {offset};")
        offset += len(chunk)
    root = f"UPDATE catalog SET flags = flags | {EXTERNAL} WHERE name IN ('plain', 'hello', 'chunked', 'attributes');"
    root += f"UPDATE catalog SET flags = flags | {NO_COMPRESSION} WHERE name = 'chunked';"
    numbers = "md5path_1 = {}, md5path_2 = {}".format(*path_hash(b"/" + ODD))
    root += f"UPDATE catalog SET {numbers}, name = CAST(X'{ODD.hex()}' AS TEXT) WHERE name = 'attributes';"
    Forge(storage, keys, damage={"": root + "".join(chunk_sql)}).write()
    for content in (PLAIN, zlib.compress(b"x"), zlib.compress(HELLO), *(zlib.compress(chunk) for chunk in CHUNKS)):
        name = hashlib.sha1(content).hexdigest()
        for path in (storage / "data" / name[:2]).glob(f"{name[2:]}*"):
            path.unlink()
    return {
        "CVMFS_SERVER_URL": f"{server(tmp_path / 'srv').url}/cvmfs/{FQRN}",
        "CVMFS_HTTP_PROXY": "DIRECT",
        "CVMFS_PUBLIC_KEY": str(key),
        "CVMFS_CACHE_BASE": str(tmp_path / "cache"),
        "CVMFS_EXTERNAL_TIMEOUT_DIRECT": "2",
        "CVMFS_BACKOFF_MAX": "1",
    }


@pytest.fixture
def host() -> Iterator[Files]:
    with files(CONTENT) as shown:
        yield shown


Mount = Callable[..., Path]


@pytest.mark.parametrize("loop", ["native", "python"])
def test_external_files_are_read_from_their_own_host(
    repository: dict[str, str], host: Files, mount: Mount, loop: str
) -> None:
    point = mount(FQRN, repository | {"CVMFS_EXTERNAL_URL": f"{host.url}/data/"}, options=(f"loop={loop}",))
    assert host.asked == [], "nothing is asked for before it is read"
    assert (point / "plain").read_bytes() == PLAIN
    assert (point / "hello").read_bytes() == HELLO
    assert (point / os.fsdecode(ODD)).read_bytes() == b"x"
    paths = ["/data/plain", "/data/hello", "/data/odd%20%FF%25%3F%23name"]
    assert host.asked == [(path, None) for path in paths]
    with (point / "chunked").open("rb", buffering=0) as opened:
        assert os.pread(opened.fileno(), 4, len(CHUNKS[0]) + 2) == CHUNKS[1][2:6]
    sizes = [len(chunk) for chunk in CHUNKS]
    assert ("/data/chunked", f"bytes={sizes[0]}-{sizes[0] + sizes[1] - 1}") in host.asked
    assert (point / "chunked").read_bytes() == b"".join(CHUNKS)
    before = len(host.asked)
    assert (point / "plain").read_bytes() == PLAIN
    assert len(host.asked) == before, "what was read is cached"
    assert (point / "nested" / "leaf").read_bytes() == b"leaf\n"


def test_attributes_tell_where_a_file_comes_from(repository: dict[str, str], host: Files, mount: Mount) -> None:
    own = {"CVMFS_EXTERNAL_URL": f"{host.url}/data", "CVMFS_EXTERNAL_HTTP_PROXY": "http://a:1;DIRECT"}
    point = mount(FQRN, repository | own | {"CVMFS_MAGIC_XATTRS_VISIBILITY": "always"})

    def attribute(name: str, path: Path = point) -> str:
        return os.getxattr(path, f"user.{name}").decode()

    assert attribute("external_file", point / "plain") == "1"
    assert attribute("external_url", point / "plain") == f"{host.url}/data/plain"
    assert attribute("external_url", point / os.fsdecode(ODD)) == f"{host.url}/data/odd%20%FF%25%3F%23name"
    assert "user.external_url" not in os.listxattr(point / "one")
    assert attribute("external_host") == f"{host.url}/data"
    assert attribute("external_timeout") == "2"
    assert attribute("proxy_list_external") == "http://a:1\nDIRECT"


def test_what_a_host_has_damaged_is_taken_from_another(repository: dict[str, str], host: Files, mount: Mount) -> None:
    with files(CONTENT | {b"/data/plain": PLAIN.replace(b"a", b"b"), b"/data/chunked": b"x" * 400}) as wrong:
        both = f"{wrong.url}/data;{host.url}/data"
        point = mount(FQRN, repository | {"CVMFS_EXTERNAL_URL": both})
        assert (point / "plain").read_bytes() == PLAIN
        assert (point / "chunked").read_bytes() == b"".join(CHUNKS)
        assert "/data/plain" in {path for path, _ in wrong.asked}


def test_without_a_right_host_a_file_cannot_be_read_and_can_be_later(
    repository: dict[str, str], host: Files, mount: Mount, tmp_path: Path
) -> None:
    socket = tmp_path / "cache" / FQRN / f"cvmfs_io.{FQRN}"
    talk = [sys.executable, "-m", "nearfs.compat.cvmfs_talk", "-p", str(socket)]

    def ask(*words: str) -> str:
        return processes.run([*talk, *words]).stdout

    point = mount(FQRN, repository)
    with pytest.raises(OSError, match=r".") as caught:
        (point / "plain").read_bytes()
    assert caught.value.errno == errno.EIO
    assert (point / "one").read_bytes() == b"linked\n", "the rest of the repository is there"
    assert ask("external", "host", "info") == "No hosts defined\n"
    assert ask("external", "proxy", "info") == "Load-balance groups:\n[0] DIRECT\nActive proxy: [0] DIRECT\n"

    host.content[b"/data/plain"] = b"other\n" * 9
    assert ask("external", "host", "set", f"{host.url}/data") == "OK\n"
    with pytest.raises(OSError, match=r".") as caught:
        (point / "plain").read_bytes()
    assert caught.value.errno == errno.EIO, "no wrong byte"
    host.content[b"/data/plain"] = PLAIN
    assert (point / "plain").read_bytes() == PLAIN
    assert ask("external", "host", "info") == f"  [0] {host.url}/data (unprobed)\nActive host 0: {host.url}/data\n"
    assert ask("external", "host", "switch") == "OK\n"
    assert ask("external", "host", "set") == "Usage: external host set <host list>\n"
    assert ask("external", "host", "probe").startswith("unknown command")


def test_external_data_goes_by_its_own_proxies(repository: dict[str, str], host: Files, mount: Mount) -> None:
    own = {"CVMFS_EXTERNAL_URL": "http://nowhere.example.org/data", "CVMFS_EXTERNAL_HTTP_PROXY": host.url}
    point = mount(FQRN, repository | own | {"CVMFS_SEND_INFO_HEADER": "yes"})
    assert (point / "plain").read_bytes() == PLAIN
    assert host.asked == [("http://nowhere.example.org/data/plain", None)]
    assert host.told == ["/plain"], "what the request is for"
    assert os.getxattr(point, "user.proxy") == b"DIRECT"
    assert os.getxattr(point, "user.proxy_list_external").decode() == host.url


def test_files_may_lie_in_a_directory(repository: dict[str, str], mount: Mount, tmp_path: Path) -> None:
    folder = tmp_path / "external data"
    folder.mkdir()
    for path, content in CONTENT.items():
        (folder / os.fsdecode(path.rpartition(b"/")[2])).write_bytes(content)
    point = mount(FQRN, repository | {"CVMFS_EXTERNAL_URL": f"file://{folder}".replace(" ", "%20")})
    assert (point / "plain").read_bytes() == PLAIN
    assert (point / "chunked").read_bytes() == b"".join(CHUNKS)
    shutil.rmtree(folder)
    assert (point / "plain").read_bytes() == PLAIN
