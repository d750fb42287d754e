"""The rule that a run leaves nothing behind holds: a run that does leave something fails, and is swept up."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import golden, mounts, processes
from tests.support.waiting import DeadlineExceededError, wait_until

INNER_LIMIT_S = 50


def inner_run(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest with this project's conftest over one test whose text is `body`."""
    file = folder / "test_inner.py"
    file.write_text(f"import subprocess\nfrom tests.support import processes\n\n{body}", "utf-8")
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "--basetemp", str(folder / "base")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-c", golden.PROJECT / "pyproject.toml", *options, file],
        env={**os.environ, "PYTHONPATH": str(golden.PROJECT)},
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=INNER_LIMIT_S,
    )


def test_waiting_ends_at_the_deadline_and_says_for_what() -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError, match=r"waited 0.05 s, but not: the cows are home"):
        wait_until(lambda: False, 0.05, "the cows are home")
    assert time.monotonic() - started < 5


def test_a_clean_run_passes(tmp_path: Path) -> None:
    done = inner_run(tmp_path, 'def test_it():\n    processes.run(["true"])\n')
    assert done.returncode == 0, done.stdout


def test_a_run_that_leaves_a_process_fails_and_is_swept(tmp_path: Path) -> None:
    body = (
        "def test_it(tmp_path):\n"
        '    child = ["sh", "-c", "sleep 987 >/dev/null 2>&1 & echo $!"]\n'
        '    (tmp_path.parent / "pid").write_text(processes.run(child).stdout)\n'
    )
    done = inner_run(tmp_path, body)
    assert done.returncode == 1
    assert "sleep 987" in done.stdout
    pid = int((tmp_path / "base" / "pid").read_text("utf-8"))
    wait_until(lambda: not Path(f"/proc/{pid}/cmdline").exists(), 5, "the process is gone")


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs")
def test_a_run_that_leaves_a_mount_fails_and_is_swept(tmp_path: Path) -> None:
    body = (
        "def test_it(tmp_path):\n"
        '    processes.run(["mount", "-t", "tmpfs", "left", tmp_path])\n'
        '    (tmp_path / "busy").write_text("")\n'
    )
    done = inner_run(tmp_path, body)
    assert done.returncode == 1
    assert f"mount {tmp_path}/base/" in done.stdout
    assert mounts.beneath(tmp_path) == []


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs")
def test_a_busy_mount_is_undone_lazily_and_its_odd_name_is_read(tmp_path: Path) -> None:
    point = tmp_path / "a b\\c"
    point.mkdir()
    processes.run(["mount", "-t", "tmpfs", "odd", point])
    try:
        assert mounts.is_mounted(point)
        with (point / "open").open("w"):
            with pytest.raises(AssertionError, match="busy"):
                mounts.unmount(point)
            mounts.unmount_lazily(point)
            assert not mounts.is_mounted(point)
    finally:
        mounts.unmount_lazily(point)


def test_golden_repositories_are_unpacked(golden: golden.Golden) -> None:
    for repository in golden.repositories.values():
        assert (repository.storage / ".cvmfspublished").is_file()
        assert repository.public_key.is_file()
        assert next(repository.listing("v1"))["path"] == ""
