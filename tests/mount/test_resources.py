"""What a mount takes: memory that does not follow the size of the repository, and no processor while nobody asks."""

import contextlib
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.publishing import Publisher
from tests.support.serving import Server

pytestmark = pytest.mark.timeout(900)

LONG = os.environ.get("NEARFS_LONG_TESTS") == "1"
DIRECTORIES = 1000 if LONG else 250
ENTRIES_EACH = 1000
FILES = 100
ACCESSES, PARTS = (36_000 if LONG else 6_000), 20
# Whoever watched callers while something was fetched is gone then.
SETTLED_S = 4.0
IDLE_S = 8.0
# The reference client needs 28 MB; the goal of nearfs is 60 MB.
IDLE_LIMIT_KIB = 60 << 10
# Beside that: the budget of decoded catalogs, their neighbours in the allocator, the largest request.
WALKED_LIMIT_KIB = IDLE_LIMIT_KIB + (60 << 10)


@dataclass(frozen=True)
class Usage:
    """A process at one moment: resident memory in KiB, processor ticks, sleeps that it ended by itself, by thread."""

    resident_kib: int
    ticks: int
    wakings: dict[str, int]

    @classmethod
    def of(cls, pid: int) -> "Usage":
        """Reads `/proc`."""
        process = Path("/proc") / str(pid)
        ticks = process.joinpath("stat").read_text().rpartition(")")[2].split()[11:13]
        wakings = {}
        for thread in process.joinpath("task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that ended meanwhile
                name = f"{thread.joinpath('comm').read_text().strip()}-{thread.name}"
                wakings[name] = field(thread / "status", "voluntary_ctxt_switches")
        return cls(field(process / "status", "VmRSS"), sum(map(int, ticks)), wakings)


def field(status: Path, name: str) -> int:
    """Returns one number of a `status` file."""
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{name}:"))


def walk(where: Path) -> int:
    """Asks for the attributes of everything below a directory by another program; returns how much there was."""
    counted = processes.run(["find", where, "-printf", "%s\\n"], limit=600.0)
    return counted.stdout.count("\n")


def test_an_idle_mount_sleeps(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher.create()
    with publisher.transaction() as union:
        (union / "file").write_text("x")
    settings = publisher.client_settings(
        server(publisher.storage.parent).url, tmp_path / "cache", CVMFS_QUOTA_LIMIT="4000"
    )
    point = mount(publisher.fqrn, settings)
    assert (point / "file").read_text() == "x"
    pid = int(os.getxattr(point, "user.pid"))
    time.sleep(SETTLED_S)
    before = Usage.of(pid)
    time.sleep(IDLE_S)
    after = Usage.of(pid)
    assert after.resident_kib < IDLE_LIMIT_KIB
    woken = {name: count - before.wakings.get(name, 0) for name, count in after.wakings.items()}
    assert {name: count for name, count in woken.items() if count > 1} == {}, "a thread polls"
    assert after.ticks - before.ticks <= 1


def access(point: Path, chosen: random.Random) -> None:
    """Does what programs do, somewhere: mostly asks for attributes, sometimes reads or lists."""
    directory = point / f"{(number := chosen.randrange(DIRECTORIES)) % 10}" / f"{number:04}"
    entry = directory / f"entry-{chosen.randrange(ENTRIES_EACH):04}"
    kind = chosen.random()
    if kind < 0.6:
        entry.lstat()
    elif kind < 0.8:
        assert os.readlink(entry).endswith("/of/some/length")
    elif kind < 0.98:
        number = chosen.randrange(FILES)
        assert (point / "files" / f"{number}").read_text() == f"{number}\n" * 1000
    else:
        assert len(os.listdir(directory)) == ENTRIES_EACH + 1


def test_memory_follows_neither_the_entries_walked_over_nor_the_time_of_use(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher.create()
    with publisher.transaction() as union:
        (union / "files").mkdir()
        for number in range(FILES):
            (union / "files" / f"{number}").write_text(f"{number}\n" * 1000)
        for number in range(DIRECTORIES):
            directory = union / f"{number % 10}" / f"{number:04}"
            directory.mkdir(parents=True)
            (directory / ".cvmfscatalog").touch()
            for entry in range(ENTRIES_EACH):
                # A link is an entry without an object: the catalogs are what this is about.
                os.symlink(f"../{entry}/of/some/length", directory / f"entry-{entry:04}")
    url = server(publisher.storage.parent).url
    point = mount(publisher.fqrn, publisher.client_settings(url, tmp_path / "cache", CVMFS_QUOTA_LIMIT="4000"))
    pid = int(os.getxattr(point, "user.pid"))
    sizes, walked = [Usage.of(pid).resident_kib], 0
    for part in sorted(point.iterdir()):
        walked += walk(part)
        sizes.append(Usage.of(pid).resident_kib)
    assert walked >= DIRECTORIES * (ENTRIES_EACH + 2) + 10
    assert int(os.getxattr(point, "user.inode_max")) > walked
    assert int(os.getxattr(point, "user.nclg")) < DIRECTORIES, "not all of them stay decoded"
    told = f"resident memory in KiB after each tenth of {walked} entries: {sizes}"
    assert max(sizes) < WALKED_LIMIT_KIB, told
    assert sizes[-1] < sizes[len(sizes) * 6 // 10] + (12 << 10), told
    # Two hours of use at five accesses a second, done as fast as they go; the kernel forgets now and then.
    sizes, chosen = [], random.Random(4711)
    for _ in range(PARTS):
        for _ in range(ACCESSES // PARTS):
            access(point, chosen)
        Path("/proc/sys/vm/drop_caches").write_text("2")
        sizes.append(Usage.of(pid).resident_kib)
    told = f"resident memory in KiB after each {ACCESSES // PARTS} of {ACCESSES} accesses at random: {sizes}"
    logging.getLogger(__name__).info(told)
    assert max(sizes) < WALKED_LIMIT_KIB, told
    assert sizes[-1] < sizes[len(sizes) // 2] + (12 << 10), told
    # What was let go comes back: every entry is still there, with its number.
    again = point / "0" / "0000" / "entry-0001"
    number = again.lstat().st_ino
    Path("/proc/sys/vm/drop_caches").write_text("2")
    assert again.lstat().st_ino == number
