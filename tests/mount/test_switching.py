"""New revisions under a mount that is in use: they arrive by themselves, nothing breaks, what is open stays."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import mounts, processes
from tests.support.publishing import Publisher
from tests.support.serving import Server

pytestmark = pytest.mark.timeout(600)

# A minute of the kernel's memory is what a client without invalidation would need to see a change.
KERNEL_CACHE_S = "60"
ARRIVAL_LIMIT_S = 20.0
LONG = os.environ.get("NEARFS_LONG_TESTS") == "1"
REVISIONS = 100 if LONG else 15


def talk(mountpoint: Path, cache: Path, *words: str) -> str:
    """Runs `cvmfs_talk` against the mount's own socket."""
    socket = cache / mountpoint.name / f"cvmfs_io.{mountpoint.name}"
    command = [sys.executable, "-m", "nearfs.compat.cvmfs_talk", "-p", str(socket), *words]
    return processes.run(command, limit=60.0).stdout.rstrip("\n")


def attribute(path: Path, name: str) -> str:
    """Returns a magic attribute."""
    return os.getxattr(path, f"user.{name}").decode()


def until(what: Callable[[], bool], limit_s: float = ARRIVAL_LIMIT_S) -> None:
    """Waits until something is true; fails when the time is over."""
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, f"not within {limit_s:.0f} s"
        time.sleep(0.05)


def resident_kib(pid: int) -> int:
    """Returns the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@pytest.fixture(params=["native", "python"])
def loop(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The option that chooses the loop."""
    return (f"loop={request.param}",)


def fill(union: Path, text: str) -> None:
    """Writes a tree whose every part says which revision it is of."""
    for directory in ("plain", "nested/deep", "nested/same"):
        (union / directory).mkdir(parents=True, exist_ok=True)
    (union / "nested" / ".cvmfscatalog").touch()
    (union / "nested" / "deep" / ".cvmfscatalog").touch()
    for name in ("plain/one", "nested/one", "nested/deep/one"):
        (union / name).write_text(text)
    (union / "nested" / "same" / "file").write_text("always the same\n")


def test_talk_brings_a_new_revision_at_once(
    publisher: Publisher,
    server: Callable[[Path], Server],
    mount: Callable[..., Path],
    tmp_path: Path,
    loop: tuple[str, ...],
) -> None:
    publisher.create()
    with publisher.transaction() as union:
        fill(union, "first\n")
        (union / "gone").mkdir()
        (union / "gone" / "file").write_text("x")
    cache = tmp_path / "cache"
    settings = publisher.client_settings(
        server(publisher.storage.parent).url, cache, CVMFS_KCACHE_TIMEOUT=KERNEL_CACHE_S
    )
    point = mount(publisher.fqrn, settings, options=loop)
    numbers = {path.relative_to(point): path.stat().st_ino for path in point.rglob("*")}
    assert not (point / "nested" / "new").exists()
    with (point / "nested/deep/one").open() as opened, (point / "plain/one").open() as unread:
        assert opened.readline() == "first\n"
        assert talk(point, cache, "remount") == "Catalog up to date"
        assert attribute(point, "revision") == "2"
        with publisher.transaction() as union:
            fill(union, "second, longer\n")
            (union / "nested" / "new").write_text("new\n")
            (union / "gone" / "file").unlink()
            (union / "gone").rmdir()
        assert talk(point, cache, "remount", "sync") == "New revision applied"
        assert attribute(point, "revision") == "3"
        for name in ("plain/one", "nested/one", "nested/deep/one"):
            assert (point / name).read_text() == "second, longer\n"
        assert (point / "nested" / "new").read_text() == "new\n"
        assert not (point / "gone").exists()
        assert sorted(entry.name for entry in (point / "nested").iterdir() if entry.name[0] != ".") == [
            "deep", "new", "one", "same",
        ]  # fmt: skip
        opened.seek(0)
        assert opened.readline() == "first\n"
        assert unread.read() == "first\n"
        assert os.fstat(unread.fileno()).st_size == len("first\n")
    after = {path.relative_to(point): path.stat().st_ino for path in point.rglob("*")}
    for name in ("plain", "nested", "nested/deep", "nested/same", "nested/same/file"):
        assert after[Path(name)] == numbers[Path(name)], name
    assert talk(point, cache, "open", "catalogs").splitlines() == [
        "-> ", "    -> /nested", "        -> /nested/deep",
    ]  # fmt: skip
    assert "current-catalog-revision: 3" in talk(point, cache, "internal", "affairs")


def test_a_revision_arrives_when_the_time_to_live_is_over(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher.create()
    publisher.configure({"CVMFS_REPOSITORY_TTL": "1"})
    with publisher.transaction() as union:
        fill(union, "first\n")
    settings = publisher.client_settings(server(publisher.storage.parent).url, tmp_path / "cache")
    following = mount(publisher.fqrn, settings)
    still = mount(publisher.fqrn, {**settings, "CVMFS_CACHE_BASE": str(tmp_path / "c2"), "CVMFS_AUTO_UPDATE": "no"})
    fixed = mount(
        publisher.fqrn, {**settings, "CVMFS_CACHE_BASE": str(tmp_path / "c3"), "CVMFS_REPOSITORY_TAG": "trunk"}
    )
    shown = [(point / "plain/one").read_text() for point in (following, still, fixed)]
    assert shown == ["first\n"] * 3
    with publisher.transaction() as union:
        fill(union, "second\n")
    until(lambda: (following / "plain/one").read_text() == "second\n")
    assert [(point / "plain/one").read_text() for point in (still, fixed)] == ["first\n"] * 2
    assert attribute(fixed, "expires") == "never (fixed root catalog)"
    assert talk(still, tmp_path / "c2", "remount") == "New revision applied"
    assert (still / "plain/one").read_text() == "second\n"


def test_a_mount_survives_its_server_and_goes_on_when_it_is_back(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher.create()
    publisher.configure({"CVMFS_REPOSITORY_TTL": "1"})
    with publisher.transaction() as union:
        fill(union, "first\n")
    cache, served = tmp_path / "cache", server(publisher.storage.parent)
    settings = publisher.client_settings(
        served.url, cache, CVMFS_TIMEOUT_DIRECT="1", CVMFS_MAX_RETRIES="0", CVMFS_USYSLOG=str(tmp_path / "log")
    )
    point = mount(publisher.fqrn, settings)
    assert (point / "plain/one").read_text() == "first\n"
    aside = publisher.storage.with_suffix(".aside")
    publisher.storage.rename(aside)
    until(lambda: "entering offline mode" in (tmp_path / "log").read_text())
    assert talk(point, cache, "remount") == "Failed"
    assert (point / "plain/one").read_text() == "first\n"
    # A mount begins without any host, too, where the cache knows the last root.
    shutil.copytree(cache, tmp_path / "copy", ignore=shutil.ignore_patterns("cvmfs_io.*", "lock.*"))
    second = mount(publisher.fqrn, {**settings, "CVMFS_CACHE_BASE": str(tmp_path / "copy")})
    assert (second / "plain/one").read_text() == "first\n"
    aside.rename(publisher.storage)
    with publisher.transaction() as union:
        fill(union, "second\n")
    until(lambda: (point / "plain/one").read_text() == "second\n")
    assert "recovered from offline mode" in (tmp_path / "log").read_text()


def test_a_revision_that_becomes_blacklisted_ends_the_mount(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher.create()
    with publisher.transaction() as union:
        fill(union, "first\n")
    cache, blacklist = tmp_path / "cache", tmp_path / "blacklist"
    settings = publisher.client_settings(
        server(publisher.storage.parent).url, cache, CVMFS_BLACKLIST=str(blacklist), CVMFS_USYSLOG=str(tmp_path / "log")
    )
    point = mount(publisher.fqrn, settings)
    assert talk(point, cache, "remount") == "Catalog up to date"
    blacklist.write_text(f"<{publisher.fqrn} 3\n")
    talk(point, cache, "remount")
    until(lambda: not mounts.is_mounted(point))
    assert "repository revision blacklisted, aborting" in (tmp_path / "log").read_text()
    with pytest.raises(Exception, match="blacklisted"), mounts.mounted(publisher.fqrn, point, settings):
        pass


def publish_numbered(publisher: Publisher, number: int) -> None:
    """Publishes files that name the revision, and whose first line is the hash of the rest."""
    with publisher.transaction() as union:
        for directory in (union, union / "nested", union / "nested/deep"):
            directory.mkdir(exist_ok=True)
            if directory != union:
                (directory / ".cvmfscatalog").touch()
            body = f"revision {number}\n" * (500 + number)
            (directory / "data").write_text(f"{hashlib.sha1(body.encode()).hexdigest()}\n{body}")
            (directory / "run").write_text(f"#!/bin/sh\necho {number}\n")
            (directory / "run").chmod(0o755)
        (union / "nested" / f"added-{number}").mkdir()


class Reader(threading.Thread):
    """Reads, lists and runs what one directory has, until it is told to end; keeps what it saw and what went wrong."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory, self.over = directory, threading.Event()
        self.troubles, self.seen = list[str](), set[str]()

    def run(self) -> None:
        """Keeps the directory open all the time, as a shell that sits in it does."""
        where = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while not self.over.is_set():
                self._once(where)
        except (OSError, subprocess.SubprocessError) as error:
            self.troubles.append(f"{self.directory.name}: {error!r}")
        finally:
            os.close(where)

    def _once(self, where: int) -> None:
        with (self.directory / "data").open() as opened:
            claimed, body = opened.readline().strip(), opened.read()
        if hashlib.sha1(body.encode()).hexdigest() != claimed:
            self.troubles.append(f"{self.directory.name}: a mixture of {set(body.splitlines())}")
        self.seen.add(body.splitlines()[0])
        shown = subprocess.run([self.directory / "run"], capture_output=True, text=True, check=True)
        os.stat("data", dir_fd=where)
        if not shown.stdout.strip().isdigit() or "data" not in os.listdir(where):
            self.troubles.append(f"{self.directory.name}: {shown}")


def test_programs_run_on_while_revisions_come(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    """A revision a second (fewer of them where nobody asked for the long run): no ESTALE, no mixture, memory flat."""
    publisher.create()
    publisher.configure({"CVMFS_REPOSITORY_TTL": "1"})
    publish_numbered(publisher, 0)
    settings = publisher.client_settings(server(publisher.storage.parent).url, tmp_path / "cache")
    point = mount(publisher.fqrn, settings)
    readers = [Reader(point / name) for name in (".", "nested", "nested/deep")]
    for reader in readers:
        reader.start()
    sizes = []
    try:
        pid = int(attribute(point, "pid"))
        for number in range(1, REVISIONS + 1):
            publish_numbered(publisher, number)
            sizes.append(resident_kib(pid))
        until(lambda: (point / "run").read_text() == f"#!/bin/sh\necho {REVISIONS}\n")
    finally:
        for reader in readers:
            reader.over.set()
            reader.join(30)
    assert [reader.troubles for reader in readers] == [[]] * len(readers)
    assert all(len(reader.seen) > REVISIONS // 3 for reader in readers), "readers saw the revisions come"
    settled = sizes[len(sizes) // 3 :]
    assert settled[-1] < settled[0] * 1.3 + 4096, f"resident memory in KiB: {sizes}"
