"""One cache, many mounts, and everything that goes wrong with caches: the limit holds, and no read sees any of it.

The short run takes a quarter of a minute; NEARFS_LONG_TESTS=1 makes it ten mounts, 200 MB of cache, 1 GB of files and
two minutes.
"""

import errno
import fcntl
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.mount.test_golden_reading import golden_settings
from tests.support import cached, mounts, processes
from tests.support.golden import NAMES, Golden
from tests.support.publishing import Publisher
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

CVMFS2 = [sys.executable, "-m", "nearfs.compat.cvmfs2"]
IS_LONG = os.environ.get("NEARFS_LONG_TESTS") == "1"
MOUNTS, LIMIT_MB, WORKING_SET_MB, SECONDS = (10, 200, 1000, 120) if IS_LONG else (4, 16, 80, 12)
KILLED = 2
FILE_BYTES = 160_000
# What the issue allows.
TOLERANCE = 1.05
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


def read_uncached(path: Path) -> bytes:
    """Returns a file's content and makes the kernel forget it, so that the next read asks the client again."""
    with path.open("rb") as opened:
        content = opened.read()
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return content


def pid_of(point: Path) -> int:
    return int(os.getxattr(point, "user.pid"))


@dataclass
class Site:
    """A published tree and the digests of its files."""

    publisher: Publisher
    url: str
    cache: Path
    digests: dict[str, str]

    def settings(self, **more: str) -> dict[str, str]:
        """Returns the configuration of a client with a shared cache."""
        return self.publisher.client_settings(self.url, self.cache, CVMFS_SHARED_CACHE="yes", **more)

    def wrong(self, point: Path) -> list[str]:
        """Reads everything below a mount point; returns the names of files that are not what was published."""
        found = {name: hashlib.sha256(read_uncached(point / name)).hexdigest() for name in self.digests}
        return [name for name, digest in found.items() if digest != self.digests[name]]


def publish(publisher: Publisher, count: int, size: int) -> dict[str, str]:
    """Publishes `count` files of about `size` bytes in nested catalogs; returns their digests."""
    digests = {}
    publisher.create()
    chance = random.Random(4)
    with publisher.transaction() as union:
        for number in range(count):
            name = f"d{number % 8}/f{number}"
            path = union / name
            if not path.parent.exists():
                path.parent.mkdir()
                (path.parent / ".cvmfscatalog").touch()
            content = chance.randbytes(size // 2 + chance.randrange(size))
            path.write_bytes(content)
            digests[name] = hashlib.sha256(content).hexdigest()
    return digests


@pytest.fixture
def site(publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path) -> Callable[..., Site]:
    """Publishes a tree and serves it: `site(count, size)`."""

    def make(count: int, size: int) -> Site:
        digests = publish(publisher, count, size)
        url = server(publisher.prefix / "srv" / "cvmfs").url
        return Site(publisher, url, tmp_path / "cache", digests)

    return make


@dataclass
class Run:
    """What the readers of several mounts saw."""

    site: Site
    is_over: threading.Event = field(default_factory=threading.Event)
    reads: int = 0
    trouble: list[str] = field(default_factory=list)
    peak_bytes: int = 0

    def read(self, point: Path, seed: int) -> None:
        """Reads random files until the run is over or the mount's process is killed."""
        chance, names = random.Random(seed), list(self.site.digests)
        while not self.is_over.is_set():
            name = chance.choice(names)
            try:
                content = read_uncached(point / name)
            except OSError as error:
                if error.errno in DEAD:
                    return
                self.trouble.append(f"{name}: {error}")
                continue
            self.reads += 1
            if hashlib.sha256(content).hexdigest() != self.site.digests[name]:
                self.trouble.append(f"{name}: wrong content")

    def measure(self) -> None:
        """Remembers the most that the objects took."""
        while not self.is_over.wait(0.02):
            self.peak_bytes = max(self.peak_bytes, cached.held_bytes(self.site.cache / "shared"))


def test_mounts_that_are_killed_leave_a_shared_cache_within_its_limit_and_right(
    site: Callable[..., Site], mount: Callable[..., Path]
) -> None:
    made = site(WORKING_SET_MB * 1_000_000 // FILE_BYTES, FILE_BYTES)
    settings = made.settings(CVMFS_QUOTA_LIMIT=str(LIMIT_MB))
    points = [mount(made.publisher.fqrn, settings) for _ in range(MOUNTS)]
    run, limit_bytes = Run(made), LIMIT_MB << 20
    threads = [threading.Thread(target=run.measure)]
    threads += [threading.Thread(target=run.read, args=(point, n)) for n, point in enumerate(points)]
    victims = [pid_of(point) for point in points[:KILLED]]
    for thread in threads:
        thread.start()
    try:
        for victim in victims:
            time.sleep(SECONDS / (KILLED + 1))
            os.kill(victim, signal.SIGKILL)
        time.sleep(SECONDS / (KILLED + 1))
    finally:
        run.is_over.set()
        for thread in threads:
            thread.join()
    assert run.trouble == []
    assert run.reads > SECONDS * 10
    assert limit_bytes / 2 < run.peak_bytes < limit_bytes * TOLERANCE
    with (made.cache / "shared" / "lock_cachedb").open("rb") as lock:
        wait_until(lambda: _is_free(lock.fileno()), 5, "nobody cleans up any more")
    # A mount after the deaths: takes their place, reads all, and keeps the limit.
    for point in points[:KILLED]:
        mounts.unmount_lazily(point)
    survivor = mount(made.publisher.fqrn, settings)
    assert made.wrong(survivor) == []
    assert cached.used_bytes(made.cache / "shared") < limit_bytes * TOLERANCE
    for point in [*points[KILLED:], survivor]:
        mounts.unmount(point)
    assert cached.corrupt(made.cache / "shared") == []


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


@pytest.mark.parametrize("harm", [cached.change_byte, cached.cut_short, cached.empty])
def test_damaged_objects_are_fetched_again_and_nobody_notices(
    site: Callable[..., Site], mount: Callable[..., Path], harm: Callable[[Path], None]
) -> None:
    made = site(20, 100_000)
    point = mount(made.publisher.fqrn, made.settings())
    assert made.wrong(point) == []
    shared = made.cache / "shared"
    for path in cached.objects(shared):
        harm(path)
    assert made.wrong(point) == [], "while mounted"
    for path in cached.objects(shared):
        harm(path)
    mounts.unmount(point)
    point = mount(made.publisher.fqrn, made.settings())
    assert made.wrong(point) == [], "by the next mount"
    assert len(os.listdir(shared / "quarantaine")) >= len(made.digests)


def test_a_file_that_is_damaged_while_it_is_open_is_read_right(
    site: Callable[..., Site], mount: Callable[..., Path]
) -> None:
    made = site(1, 3_000_000)
    (name,) = made.digests
    point = mount(made.publisher.fqrn, made.settings())
    with (point / name).open("rb", buffering=0) as opened:
        first = opened.read(4096)
        for path in cached.objects(made.cache / "shared"):
            cached.change_byte(path)
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        content = first + b"".join(iter(lambda: opened.read(1 << 20), b""))
    assert hashlib.sha256(content).hexdigest() == made.digests[name]


def test_after_a_power_failure_what_was_lost_is_fetched_again(
    site: Callable[..., Site], mount: Callable[..., Path]
) -> None:
    made = site(40, 50_000)
    point = mount(made.publisher.fqrn, made.settings(CVMFS_QUOTA_LIMIT="4"))
    assert made.wrong(point) == []
    os.kill(pid_of(point), signal.SIGKILL)
    mounts.unmount_lazily(point)
    shared = made.cache / "shared"
    for number, path in enumerate(sorted(cached.objects(shared))):
        (cached.empty, Path.unlink, lambda _: None)[number % 3](path)
    # Of what was not synced, blocks of zeros are left.
    for name in ("cachedb", "cachedb.ledger"):
        (shared / name).write_bytes(bytes(4096))
    point = mount(made.publisher.fqrn, made.settings(CVMFS_QUOTA_LIMIT="4"))
    assert made.wrong(point) == []
    wait_until(lambda: cached.used_bytes(shared) < (4 << 20) * TOLERANCE, 10, "the limit holds")
    mounts.unmount(point)
    assert cached.corrupt(shared) == []


def test_a_full_disk_is_not_seen_by_readers(site: Callable[..., Site], mount: Callable[..., Path]) -> None:
    made = site(30, 400_000)
    made.cache.mkdir()
    processes.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", made.cache])
    try:
        point = mount(made.publisher.fqrn, made.settings(CVMFS_QUOTA_LIMIT="1000"))
        for _ in range(2):
            assert made.wrong(point) == []
        mounts.unmount(point)
        assert cached.corrupt(made.cache / "shared") == []
    finally:
        mounts.unmount_lazily(made.cache)


def test_a_cache_without_a_limit_is_never_cleaned(site: Callable[..., Site], mount: Callable[..., Path]) -> None:
    made = site(40, 100_000)
    point = mount(made.publisher.fqrn, made.settings(CVMFS_QUOTA_LIMIT="-1"))
    assert made.wrong(point) == []
    size = cached.used_bytes(made.cache / "shared")
    assert size > 3_000_000
    assert not (made.cache / "shared" / "cachedb.ledger").exists()
    mounts.unmount(point)
    # The limit of a later mount counts what is there.
    point = mount(made.publisher.fqrn, made.settings(CVMFS_QUOTA_LIMIT="2"))
    wait_until(lambda: cached.used_bytes(made.cache / "shared") <= 1 << 20, 10, "cleaned up to half of the limit")
    assert made.wrong(point) == []


def test_an_alien_cache_is_filled_and_leaves_notes_at_home(
    site: Callable[..., Site], mount: Callable[..., Path], tmp_path: Path
) -> None:
    made = site(5, 10_000)
    alien = tmp_path / "alien"
    make = [*CVMFS2, "__MK_ALIEN_CACHE__", str(alien)]
    processes.run([*make, str(os.geteuid()), "7"])
    modes = {(path.stat().st_mode & 0o7777, path.stat().st_gid) for path in (alien, *alien.iterdir())}
    assert modes == {(0o770, 7)}
    assert len(list(alien.iterdir())) == 258
    assert [processes.run([*make, *bad], check=False).returncode for bad in (["0"], ["0", "wheel"])] == [1, 1]
    settings = made.publisher.client_settings(
        made.url, made.cache, CVMFS_QUOTA_LIMIT="-1", CVMFS_ALIEN_CACHE=str(alien)
    )
    point = mount(made.publisher.fqrn, settings)
    assert made.wrong(point) == []
    assert {path.stat().st_mode & 0o777 for path in cached.objects(alien)} == {0o660}
    home = made.cache / made.publisher.fqrn
    assert (home / f"cvmfschecksum.{made.publisher.fqrn}").exists()
    assert not list(cached.objects(home))
    assert not list(alien.glob("cvmfschecksum*"))


def attempt(name: str, settings: dict[str, str], point: Path) -> subprocess.CompletedProcess[str]:
    """Tries to mount and returns how it went."""
    point.mkdir(parents=True, exist_ok=True)
    file = point.parent / "attempt.conf"
    file.write_text("".join(f"{key}='{value}'\n" for key, value in settings.items()), "utf-8")
    return processes.run([*CVMFS2, "-o", f"config={file}", name, point], check=False, limit=30)


def test_who_may_mount_beside_whom(
    golden: Golden, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = NAMES[:2]
    urls = {name: server(golden.repositories[name].root).url for name in (first, second)}

    def settings(name: str, *, is_shared: bool) -> dict[str, str]:
        kind = "yes" if is_shared else "no"
        return golden_settings(golden, name, urls[name], tmp_path / "cache", CVMFS_SHARED_CACHE=kind)

    points = [mount(name, settings(name, is_shared=True)) for name in (first, first, second)]
    assert [os.getxattr(point, "user.fqrn").decode() for point in points] == [first, first, second]
    assert len({pid_of(point) for point in points}) == len(points)
    same = attempt(first, settings(first, is_shared=True), points[1])
    assert (same.returncode, "already mounted on" in same.stdout) == (0, True)
    other = attempt(first, settings(first, is_shared=True), points[2])
    assert (other.returncode, second in other.stderr) == (20, True)

    exclusive = mount(first, settings(first, is_shared=False))
    began = time.monotonic()
    twice = attempt(first, settings(first, is_shared=False), tmp_path / "another" / first)
    assert (twice.returncode, str(exclusive) in twice.stderr) == (21, True)
    assert time.monotonic() - began < 10
