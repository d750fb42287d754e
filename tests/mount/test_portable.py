"""The portable loop shows, refuses, counts and ends what the native loop does: each checks the other."""

import dataclasses
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mount.test_golden_reading import golden_settings, listing
from tests.support.golden import NAMES, TAGS, Golden
from tests.support.serving import Server
from tests.support.waiting import wait_until

NAME = NAMES[0]
CVMFS2 = [sys.executable, "-m", "nearfs.compat.cvmfs2"]
LOOPS = ("native", "python")
COUNTED_LIMIT_S = 20.0
pytest.importorskip("pyfuse3", reason="the extra `portable` is not installed")
pytest.importorskip("trio", reason="the extra `portable` is not installed")

Mount = Callable[..., Path]


@dataclasses.dataclass(frozen=True)
class Both:
    """The same repository twice: by the native loop, and by the portable one."""

    native: Path
    portable: Path

    def __iter__(self) -> Any:
        return iter((self.native, self.portable))


@pytest.fixture
def settings(golden: Golden, server: Callable[[Path], Server], tmp_path: Path) -> dict[str, str]:
    url = server(golden.repositories[NAME].root).url
    return golden_settings(golden, NAME, url, tmp_path / "cache", CVMFS_REPOSITORY_TAG="v1")


@pytest.fixture
def both(settings: dict[str, str], mount: Mount) -> Callable[..., Both]:
    """Mounts both with the same settings; each has a cache of its own."""

    def enter(**more: str) -> Both:
        base = settings["CVMFS_CACHE_BASE"]
        made = [
            mount(NAME, {**settings, **more, "CVMFS_CACHE_BASE": f"{base}-{loop}"}, options=(f"loop={loop}",))
            for loop in LOOPS
        ]
        return Both(*made)

    return enter


def client_pid(point: Path) -> int:
    return int(os.getxattr(point, "user.pid"))


def outcome(attempt: Callable[[], object]) -> object:
    """Returns what an attempt gives, or its error's name."""
    try:
        return attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def shown(point: Path) -> list[object]:
    """Returns everything that a program can see, in the order in which it is listed; only the device is left out."""
    found: list[object] = []
    folders = [b""]
    while folders:
        folder = folders.pop()
        with os.scandir(os.path.join(os.fsencode(point), folder)) as entries:
            names = [(entry.name, entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, ino, is_folder in names:
            relative = os.path.join(folder, name)
            found.append((relative, ino, seen(os.path.join(os.fsencode(point), relative))))
            if is_folder:
                folders.append(relative)
    return found


def seen(path: bytes) -> tuple[object, ...]:
    status = os.lstat(path)
    fields = [field for field in dir(status) if field.startswith("st_") and field != "st_dev"]
    facts: dict[str, object] = {field: getattr(status, field) for field in fields}
    if stat.S_ISREG(status.st_mode):
        facts["content"] = outcome(lambda: hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest())
    if stat.S_ISLNK(status.st_mode):
        facts["target"] = os.readlink(path)
    names = os.listxattr(path, follow_symlinks=False)
    facts["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    return tuple(sorted(facts.items()))


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("name", NAMES)
def test_a_tag_shows_the_golden_tree(
    golden: Golden, name: str, tag: str, server: Callable[[Path], Server], mount: Mount, tmp_path: Path
) -> None:
    url = server(golden.repositories[name].root).url
    wanted = golden_settings(golden, name, url, tmp_path / "cache", CVMFS_REPOSITORY_TAG=tag)
    point = mount(name, wanted, options=("loop=python",))
    assert listing(golden, point) == list(golden.repositories[name].listing(tag))


def test_both_loops_show_the_same_in_every_field(both: Callable[..., Both]) -> None:
    pair = both(CVMFS_REPOSITORY_TAG="v3")
    first, second = (shown(point) for point in pair)
    assert len(first) > 3000
    for mine, theirs in zip(first, second, strict=True):
        assert mine == theirs
    assert os.lstat(pair.native).st_ino == os.lstat(pair.portable).st_ino == 1


def test_a_second_look_shows_the_same(both: Callable[..., Both]) -> None:
    """Both from the kernel's caches and, after their time is over, from the loop again."""
    for point in both(CVMFS_KCACHE_TIMEOUT="0"):
        assert shown(point) == shown(point)


def test_both_loops_have_the_same_magic(both: Callable[..., Both]) -> None:
    pair = both(CVMFS_MAGIC_XATTRS_VISIBILITY="always")
    own = {"user.pid", "user.usedfd", "user.uptime", "user.ndownload", "user.rx", "user.nopen", "user.expires"}
    own |= {"user.speed", "user.logbuffer"}  # the log names the cache directory
    for path in ("", "hello.txt", "big/random", "links/var"):
        places = [point / path for point in pair]
        names = [os.listxattr(place, follow_symlinks=False) for place in places]
        assert names[0] == names[1]
        assert "user.fqrn" in names[0] or path == "links/var"
        for name in set(names[0]) - own:
            values = [outcome(lambda p=place: os.getxattr(p, name, follow_symlinks=False)) for place in places]  # type: ignore[misc] # noqa: B023
            assert values[0] == values[1], name


def test_both_loops_have_the_same_totals(both: Callable[..., Both], settings: dict[str, str]) -> None:
    pair = both()
    native, portable = (os.statvfs(point) for point in pair)
    assert native.f_files > 3000
    same = [field for field in dir(native) if field.startswith("f_") and field not in ("f_fsid", "f_bfree", "f_bavail")]
    assert {field: getattr(native, field) for field in same} == {field: getattr(portable, field) for field in same}
    for loop, point in zip(LOOPS, pair, strict=True):
        folder = Path(f"{settings['CVMFS_CACHE_BASE']}-{loop}") / NAME

        def is_counted(point: Path = point, folder: Path = folder) -> bool:
            stored = sum(path.stat().st_size for path in folder.glob("??/*"))
            status = os.statvfs(point)
            used = (status.f_blocks - status.f_bfree) * status.f_frsize
            # An object that comes while a new cache is counted may count twice for a while, but always counts.
            return status.f_bavail == status.f_bfree and 0 < stored <= used + status.f_frsize <= 2 * stored

        # What is in a cache that is new to a client is counted behind it.
        wait_until(is_counted, COUNTED_LIMIT_S, f"the totals of the {loop} loop are those of its cache")


def test_the_mount_tables_lines_are_alike(both: Callable[..., Both]) -> None:
    pair = both()
    lines = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8", "surrogateescape").splitlines()]
    found = {line[1]: (line[0], *line[2:]) for line in lines}
    assert found[str(pair.native)] == found[str(pair.portable)]
    assert found[str(pair.portable)][:2] == ("cvmfs2", "fuse")
    assert Path(f"/proc/{client_pid(pair.portable)}/comm").read_text().strip() == "cvmfs2"


def append(path: Path) -> None:
    with path.open("ab", buffering=0) as opened:
        opened.write(b"x")


REFUSED: dict[str, Callable[[Path], object]] = {
    "no such entry": lambda point: os.lstat(point / "no such entry"),
    "no such entry, again": lambda point: os.lstat(point / "no such entry"),
    "below no directory": lambda point: os.lstat(point / "hello.txt" / "x"),
    "listing of a file": lambda point: os.listdir(point / "hello.txt"),
    "opening a directory": lambda point: (point / "many").read_bytes(),
    "target of a file": lambda point: os.readlink(point / "hello.txt"),
    "no such attribute": lambda point: os.getxattr(point / "hello.txt", "user.no_such_attribute"),
    "a name too long": lambda point: os.lstat(point / ("x" * 256)),
    "a device": lambda point: os.close(os.open(point / "special" / "null", os.O_RDONLY)),
    "touch": lambda point: (point / "new").touch(),
    "mkdir": lambda point: (point / "new").mkdir(),
    "mknod": lambda point: os.mknod(point / "new", stat.S_IFIFO | 0o600),
    "write": lambda point: (point / "hello.txt").write_text("x"),
    "append": lambda point: append(point / "hello.txt"),
    "unlink": lambda point: (point / "hello.txt").unlink(),
    "rmdir": lambda point: (point / "dup").rmdir(),
    "rename": lambda point: (point / "hello.txt").rename(point / "other"),
    "link": lambda point: (point / "other").hardlink_to(point / "hello.txt"),
    "symlink": lambda point: (point / "new").symlink_to("x"),
    "chmod": lambda point: (point / "hello.txt").chmod(0o777),
    "chown": lambda point: os.chown(point / "hello.txt", 1, 1),
    "utime": lambda point: os.utime(point / "hello.txt"),
    "truncate": lambda point: os.truncate(point / "hello.txt", 0),
    "setxattr": lambda point: os.setxattr(point / "hello.txt", "user.x", b"y"),
    "removexattr": lambda point: os.removexattr(point / "hello.txt", "user.x"),
    "access": lambda point: os.access(point / "hello.txt", os.W_OK),
}
WRITES = list(REFUSED)[list(REFUSED).index("touch") :]


@pytest.mark.parametrize("writable", ["no", "yes"])
def test_both_loops_refuse_alike(both: Callable[..., Both], writable: str) -> None:
    """With CVMFS_MOUNT_RW the kernel passes writes on, and the loop itself refuses them."""
    pair = both(CVMFS_MOUNT_RW=writable)
    answers = [{name: outcome(lambda a=attempt: a(point)) for name, attempt in REFUSED.items()} for point in pair]  # type: ignore[misc] # noqa: B023
    assert answers[0] == answers[1]
    assert answers[1]["no such entry, again"] == "ENOENT"
    assert answers[1]["below no directory"] == "ENOTDIR"
    assert answers[1]["listing of a file"] == "ENOTDIR"
    assert answers[1]["opening a directory"] == "EISDIR"
    assert answers[1]["no such attribute"] == "ENODATA"
    assert {answers[1][name] for name in WRITES} == {"EROFS", False}


def test_a_large_directory_is_listed_once_and_whole(both: Callable[..., Both]) -> None:
    for point in both():
        names = os.listdir(point / "many")
        assert len(names) == len(set(names)) > 2900
        with os.scandir(point / "many") as entries:
            assert [entry.name for entry in entries] == names


def test_ranges_of_a_chunked_file_are_the_same(both: Callable[..., Both]) -> None:
    pair = both()
    size = (pair.native / "big" / "random").stat().st_size
    with (pair.native / "big" / "random").open("rb") as first, (pair.portable / "big" / "random").open("rb") as second:
        for offset in (size - 1, 0, size // 2 - 7, 1, size, size + 4096, size // 3):
            mine, theirs = (os.pread(opened.fileno(), 300_001, offset) for opened in (first, second))
            assert mine == theirs
            assert len(mine) == min(300_001, max(0, size - offset))
