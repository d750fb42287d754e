"""How a repository is shown, as the configuration says: owners, permissions, caches, snapshots, keys, updates."""

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.format.forge import CHUNKS, FQRN, Forge, Keys
from tests.mount.test_golden_reading import golden_settings, listing
from tests.support import processes
from tests.support.golden import NAMES, Golden
from tests.support.serving import Server

pytestmark = pytest.mark.mount
DIRECT_IO, NO_CACHE_FILE = 0x10000, "chunked"
OWNERS = "UPDATE catalog SET uid = 1000, gid = 2000 WHERE name = 'hello';"
OWNERS += "UPDATE catalog SET uid = 1001, gid = 2001, mode = 33152 WHERE name = 'plain';"
BYPASSED = f"UPDATE catalog SET flags = flags | {DIRECT_IO} WHERE name = '{NO_CACHE_FILE}';"
Mount = Callable[..., Path]


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys.generate()


@dataclass
class Forged:
    """A repository on a server, and how a client reaches it."""

    storage: Path
    keys: Keys
    settings: dict[str, str]

    def publish(self, revision: int, sql: str = "", **fields: str) -> None:
        Forge(
            self.storage, self.keys, damage={"": OWNERS + BYPASSED + sql}, fields={"S": str(revision), **fields}
        ).write()


@pytest.fixture
def forged(keys: Keys, tmp_path: Path, server: Callable[[Path], Server]) -> Forged:
    storage = tmp_path / "srv" / FQRN
    storage.mkdir(parents=True)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "right.pub").write_bytes(keys.public_pem)
    settings = {
        "CVMFS_SERVER_URL": f"{server(tmp_path / 'srv').url}/cvmfs/{FQRN}",
        "CVMFS_HTTP_PROXY": "DIRECT",
        "CVMFS_KEYS_DIR": str(tmp_path / "keys"),
        "CVMFS_CACHE_BASE": str(tmp_path / "cache"),
    }
    made = Forged(storage, keys, settings)
    made.publish(1)
    return made


def owner(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


def test_owners_are_shown_as_published_mapped_or_claimed(forged: Forged, mount: Mount, tmp_path: Path) -> None:
    def shown(**more: str) -> list[tuple[int, int]]:
        cache = {"CVMFS_CACHE_BASE": str(tmp_path / f"cache-{len(more)}-{'-'.join(more)[-20:]}")}
        point = mount(FQRN, forged.settings | cache | more)
        return [owner(point / name) for name in ("hello", "plain", "one")]

    (tmp_path / "uids").write_text("1000 5000\n* 7\n")
    (tmp_path / "gids").write_text("2001 6001\n")
    assert shown() == [(1000, 2000), (1001, 2001), (0, 0)]
    maps = {"CVMFS_UID_MAP": str(tmp_path / "uids"), "CVMFS_GID_MAP": str(tmp_path / "gids")}
    assert shown(**maps) == [(5000, 2000), (7, 6001), (7, 0)]
    assert shown(CVMFS_CLAIM_OWNERSHIP="yes") == [(os.geteuid(), os.getegid())] * 3


def test_a_world_readable_repository_is_readable(forged: Forged, mount: Mount, tmp_path: Path) -> None:
    closed = mount(FQRN, forged.settings)
    assert stat.S_IMODE((closed / "plain").stat().st_mode) == 0o600
    own = {"CVMFS_WORLD_READABLE": "yes", "CVMFS_CACHE_BASE": str(tmp_path / "other")}
    opened = mount(FQRN, forged.settings | own)
    assert stat.S_IMODE((opened / "plain").stat().st_mode) == 0o644
    assert stat.S_IMODE((opened / "nested").stat().st_mode) == 0o755


def test_direct_io_bypasses_the_kernels_pages(forged: Forged, mount: Mount) -> None:
    point = mount(FQRN, forged.settings)

    def reads_of(name: str) -> int:
        counted = dict(line.split(",") for line in os.getxattr(point, "user.nearfs_counters").decode().splitlines())
        before = int(counted["upcall_read"])
        with (point / name).open("rb", buffering=0) as opened:
            first, second = os.pread(opened.fileno(), 64, 0), os.pread(opened.fileno(), 64, 0)
        assert first == second != b""
        counted = dict(line.split(",") for line in os.getxattr(point, "user.nearfs_counters").decode().splitlines())
        return int(counted["upcall_read"]) - before

    assert os.getxattr(point / NO_CACHE_FILE, "user.direct_io") == b"1"
    assert os.getxattr(point / "plain", "user.direct_io") == b"0"
    assert reads_of(NO_CACHE_FILE) == 2, "each read is asked of the client"
    assert reads_of("plain") == 1, "the second one is answered by the kernel"
    assert (point / NO_CACHE_FILE).read_bytes() == b"".join(CHUNKS)


@pytest.mark.parametrize("name", NAMES)
def test_snapshots_are_reached_but_not_listed(
    name: str, golden: Golden, server: Callable[[Path], Server], mount: Mount, tmp_path: Path
) -> None:
    point = mount(name, golden_settings(golden, name, server(golden.repositories[name].root).url, tmp_path / "cache"))
    assert ".cvmfs" not in os.listdir(point)
    assert {"v1", "v2"} <= set(os.listdir(point / ".cvmfs" / "snapshots"))
    assert listing(golden, point / ".cvmfs" / "snapshots" / "v1") == list(golden.repositories[name].listing("v1"))


def test_any_of_several_keys_is_enough(forged: Forged, mount: Mount, tmp_path: Path) -> None:
    (tmp_path / "keys" / "another.pub").write_bytes(Keys.generate().public_pem)
    assert (mount(FQRN, forged.settings) / "hello").read_bytes() == b"hello world\n"
    named = ":".join(str(tmp_path / "keys" / name) for name in ("another.pub", "right.pub"))
    own = {"CVMFS_PUBLIC_KEY": named, "CVMFS_CACHE_BASE": str(tmp_path / "other")}
    point = mount(FQRN, forged.settings | own)
    assert os.getxattr(point, "user.pubkeys").count(b"BEGIN PUBLIC KEY") == 2


def test_a_whitelist_is_renewed_while_mounted(forged: Forged, mount: Mount, tmp_path: Path) -> None:
    point = mount(FQRN, forged.settings)
    talk = [sys.executable, "-m", "nearfs.compat.cvmfs_talk", "-p", str(tmp_path / "cache" / FQRN / f"cvmfs_io.{FQRN}")]

    def remount() -> str:
        return processes.run([*talk, "remount"]).stdout

    forged.publish(2, "UPDATE catalog SET uid = 1234 WHERE name = 'hello';")
    whitelist = Forge(forged.storage, forged.keys)
    whitelist.write_whitelist(days=-1)
    assert remount() == "Failed\n"
    assert owner(point / "hello") == (1000, 2000), "what was verified before stays"
    whitelist.write_whitelist()
    assert remount() == "New revision applied\n"
    assert owner(point / "hello") == (1234, 2000)


def test_a_maximum_shortens_the_time_to_live(forged: Forged, mount: Mount, tmp_path: Path) -> None:
    def minutes(**more: str) -> int:
        cache = {"CVMFS_CACHE_BASE": str(tmp_path / f"cache-{len(more)}")}
        return int(os.getxattr(mount(FQRN, forged.settings | cache | more), "user.expires"))

    forged.publish(1, "UPDATE properties SET value = '6000' WHERE key = 'TTL';")
    assert minutes() in (98, 99, 100)
    assert minutes(CVMFS_MAX_TTL="7") in (6, 7)


def test_symlinks_are_shown_as_published_to_a_server(
    golden: Golden, server: Callable[[Path], Server], mount: Mount, tmp_path: Path
) -> None:
    name = NAMES[0]
    url = server(golden.repositories[name].root).url
    plain = mount(name, golden_settings(golden, name, url, tmp_path / "one"))
    raw = mount(name, golden_settings(golden, name, url, tmp_path / "two", CVMFS_SERVER_CACHE_MODE="yes"))
    assert "$(" not in os.readlink(plain / "links" / "var")
    assert os.readlink(raw / "links" / "var").startswith("$(")
