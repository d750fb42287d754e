"""A kill at any write point leaves the previous revision served, and the next command works.

The points are system calls: `strace` kills the command, or the client that it starts, at the N-th rename, mount or
removal, N growing until the command survives. Nothing in the product knows of this.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.format import check
from tests.format.listing import list_tree
from tests.format.manifest import read_manifest
from tests.support import mounts, processes
from tests.support.publishing import Publisher, command, publishing
from tests.support.serving import serving

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

CALLS = ("rename,renameat,renameat2", "mount,umount2", "unlink,unlinkat,rmdir", "openat")
# Opening is the most frequent call by far: a sample of its points is enough, the others are tried one by one.
OPEN_STEP = 17
LIMIT = 60


def killed(words: list[str | Path], calls: str, number: int, env: dict[str, str]) -> bool:
    """Runs a `cvmfs_server` command that is killed at a system call; returns whether it came so far."""
    return killed_command(command(*words), calls, number, env)


def killed_command(words: Sequence[str | Path], calls: str, number: int, env: dict[str, str]) -> bool:
    """Runs a command that is killed at a system call; returns whether it failed."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is missing: apt-get install strace")
    inject = f"{calls}:signal=SIGKILL:when={number}"
    # -D: the command is our child and strace a daemon beside it, which goes on with the client that the command starts.
    trace = [strace, "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={inject}"]
    done = subprocess.Popen(
        [*trace, *words],
        env=processes.marked_environment(env),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return done.wait(timeout=100) != 0


def points(calls: str) -> Iterator[int]:
    """Yields the numbers of the calls to kill at."""
    # A Python command opens some 400 files before it does anything of its own.
    step, first = (OPEN_STEP, 60) if calls == "openat" else (1, 1)
    yield from range(first, first + LIMIT * step, step)


def served(publisher: Publisher) -> list[str]:
    """Returns the tree that the storage serves, after the independent reader accepted it."""
    problems = check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn)
    assert problems == []
    return list_tree(publisher.storage, read_manifest(publisher.storage).root_hash.text)


@pytest.mark.parametrize("calls", CALLS, ids=lambda calls: calls.partition(",")[0])
def test_a_killed_publish_loses_nothing(publisher: Publisher, calls: str) -> None:
    publisher.create()
    survived = False
    for round_, number in enumerate(points(calls)):
        before = served(publisher)
        publisher.server("transaction", publisher.fqrn)
        name = f"file-{round_}"
        (publisher.union / name).write_text(f"{round_}\n")
        publisher.server("tag", publisher.fqrn)
        was_killed = killed(["publish", publisher.fqrn], calls, number, publisher.environment)
        after = served(publisher)
        added = [line for line in after if f'"{name}"' in line]
        # The old revision, or the new one whole; nothing between.
        assert set(after) - set(before) in (set(), set(added)) or len(added) == 1
        publisher.server("mount", publisher.fqrn)
        if publisher.server("list").stdout.count("in transaction"):
            assert not added, "a publish that took effect is closed by the next command"
            assert (publisher.union / name).read_text() == f"{round_}\n", "the changes are still there"
            publisher.server("publish", publisher.fqrn)
        assert (publisher.union / name).read_text() == f"{round_}\n"
        assert any(f'"{name}"' in line for line in served(publisher))
        if not was_killed:
            survived = True
            break
    assert survived or calls == "openat", "more write points than the test tries"


def test_a_killed_publish_on_a_branch_is_whole_or_still_open(publisher: Publisher) -> None:
    publisher.create("-g")
    with publisher.transaction("-a", "v1") as tree:
        (tree / "file").write_text("one")
    publisher.server("checkout", "-b", "fix", "-t", "v1", publisher.fqrn)
    expected, outcomes = "one", set()
    for number in points(CALLS[0]):
        publisher.server("transaction", publisher.fqrn)
        (publisher.union / "file").write_text(f"fixed {number}")
        words: list[str | Path] = ["publish", "-a", f"fix{number}", publisher.fqrn]
        was_killed = killed(words, CALLS[0], number, publisher.environment)
        served(publisher)
        took_effect = f"fix{number}" in publisher.tags()
        publisher.server("mount", publisher.fqrn)
        assert (publisher.union / "file").read_text() == f"fixed {number}", "neither revision nor change is lost"
        if took_effect:
            expected = f"fixed {number}"
            assert f"[checked out tag 'fix{number}' on branch 'fix'])" in publisher.server("list").stdout
        else:
            publisher.server("abort", "-f", publisher.fqrn)
            assert (publisher.union / "file").read_text() == expected
        outcomes.add((was_killed, took_effect))
        if not was_killed:
            break
    assert {(True, False), (True, True), (False, True)} <= outcomes


def test_a_killed_mkfs_can_be_removed_and_made_again(tmp_path: Path) -> None:
    for number in range(1, 40, 3):
        with publishing(tmp_path / f"publisher-{number}", "lab.example.org") as publisher:
            words: list[str | Path] = ["mkfs", "-p", "-o", "root", publisher.fqrn]
            was_killed = killed(words, "rename,renameat,renameat2", number, publisher.environment)
            if was_killed:
                known = publisher.prefix / "etc" / "cvmfs" / "repositories.d" / publisher.fqrn
                if known.is_dir():
                    publisher.server("rmfs", "-f", publisher.fqrn)
                publisher.create()
            assert served(publisher)
            publisher.server("rmfs", "-f", publisher.fqrn)
            if not was_killed:
                return
    pytest.fail("mkfs never came to its end")


def test_a_killed_start_of_a_mount_is_mended_by_the_next(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    with publisher.transaction() as union:
        (union / "content").write_text("whole\n")
    with serving(publisher.storage.parent, tmp_path / "server") as running:
        point, configuration = tmp_path / "mnt", tmp_path / "client.conf"
        point.mkdir()
        settings = publisher.client_settings(running.url, tmp_path / "cache")
        configuration.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        client: list[str | Path] = [
            sys.executable,
            "-m",
            "nearfs.compat.cvmfs2",
            "-o",
            f"config={configuration}",
            publisher.fqrn,
            point,
        ]
        kills = 0
        for calls in ("rename,renameat,renameat2", "mount,fsmount,move_mount", "mkdir,mkdirat"):
            for number in range(1, 12):
                kills += killed_command(client, calls, number, {})
                mounts.unmount_lazily(point)
        assert kills >= 3, "the points were reached"
        processes.run(client)
        assert (point / "content").read_text() == "whole\n"
        mounts.unmount(point)


def test_a_killed_client_of_the_publisher_is_mounted_again(publisher: Publisher) -> None:
    publisher.create()
    lower = publisher.spool / "rdonly"
    found = subprocess.run(["pgrep", "-f", f"cvmfs2.*{lower}"], capture_output=True, text=True, check=True).stdout
    for pid in found.split():
        subprocess.run(["kill", "-9", pid], check=True)
    with publisher.transaction() as union:
        (union / "after").write_text("the crash")
    assert any('"after"' in line for line in served(publisher))
    assert mounts.is_mounted(lower)
