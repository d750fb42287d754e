"""A mount of the portable loop comes up, fails and goes away as one of the native loop does."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_golden_reading import golden_settings
from tests.mount.test_portable import CVMFS2, LOOPS, NAME, Mount, client_pid, outcome
from tests.support import mounts, processes
from tests.support.golden import Golden
from tests.support.serving import Server, free_port
from tests.support.waiting import wait_until

pytest.importorskip("pyfuse3", reason="the extra `portable` is not installed")
pytest.importorskip("trio", reason="the extra `portable` is not installed")


@pytest.fixture
def settings(golden: Golden, server: Callable[[Path], Server], tmp_path: Path) -> dict[str, str]:
    url = server(golden.repositories[NAME].root).url
    return golden_settings(golden, NAME, url, tmp_path / "cache", CVMFS_REPOSITORY_TAG="v1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(settings: dict[str, str], mount: Mount, number: signal.Signals) -> None:
    point = mount(NAME, settings, options=("loop=python",))
    pid = client_pid(point)
    os.kill(pid, number)
    wait_until(lambda: not mounts.is_mounted(point), 10, "the mount is gone")
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the client has ended")


def test_umount_ends_the_client(settings: dict[str, str], mount: Mount) -> None:
    point = mount(NAME, settings, options=("loop=python",))
    pid = client_pid(point)
    mounts.unmount(point)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the client has ended")


def test_a_signal_ends_a_busy_mount_once_its_last_file_is_closed(settings: dict[str, str], mount: Mount) -> None:
    point = mount(NAME, settings, options=("loop=python",))
    pid = client_pid(point)
    with (point / "hello.txt").open("rb") as opened:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not mounts.is_mounted(point), 10, "the mount is out of the tree")
        assert opened.read() == b"hello world\n"
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the client has ended")


def test_a_second_mount_of_the_same_is_no_failure(settings: dict[str, str], mount: Mount) -> None:
    point = mount(NAME, settings, options=("loop=python",))
    again = processes.run([*CVMFS2, "-o", f"loop=python,config={point.parent / (point.name + '.conf')}", NAME, point])
    assert f"CernVM-FS: repository {NAME} already mounted on {point}" in again.stdout


def test_a_killed_client_is_cleaned_up_by_the_next_start(settings: dict[str, str], mount: Mount) -> None:
    point = mount(NAME, settings, options=("loop=python",))
    os.kill(client_pid(point), signal.SIGKILL)
    wait_until(lambda: outcome(lambda: os.stat(point)) in ("ENOTCONN", "ECONNABORTED"), 10, "the mount is dead")
    processes.run([*CVMFS2, "-o", f"loop=python,config={point.parent / (point.name + '.conf')}", NAME, point])
    assert (point / "hello.txt").read_text() == "hello world\n"


def test_the_foreground_ends_with_the_mount(settings: dict[str, str], tmp_path: Path) -> None:
    point, configuration = tmp_path / "mnt", tmp_path / "conf"
    point.mkdir()
    configuration.write_text("".join(f"{key}='{value}'\n" for key, value in settings.items()))
    command: list[str | Path] = [*CVMFS2, "-f", "-o", f"loop=python,config={configuration}", NAME, point]
    with processes.started(command, tmp_path / "output") as process:
        wait_until(lambda: mounts.is_mounted(point), 20, "the mount is there")
        assert (point / "hello.txt").read_text() == "hello world\n"
        mounts.unmount(point)
        assert process.wait(10) == 0
    assert f"CernVM-FS: mounted cvmfs on {point}" in (tmp_path / "output").read_text()


def test_a_download_that_stalls_stops_nobody_else(
    golden: Golden, server: Callable[[Path], Server], mount: Mount, tmp_path: Path
) -> None:
    running = server(golden.repositories[NAME].root)
    wanted = golden_settings(golden, NAME, running.url, tmp_path / "cache", CVMFS_KCACHE_TIMEOUT="0")
    point = mount(NAME, {**wanted, "CVMFS_REPOSITORY_TAG": "v1"}, options=("loop=python",))
    assert (point / "hello.txt").read_text() == "hello world\n"
    contents: list[bytes] = []
    reader = threading.Thread(target=lambda: contents.append((point / "dup" / "a").read_bytes()), daemon=True)
    os.kill(running.process.pid, signal.SIGSTOP)
    try:
        reader.start()
        for _ in range(20):
            assert (point / "hello.txt").read_text() == "hello world\n"
            assert outcome(lambda: os.lstat(point / "no such entry")) == "ENOENT"
        assert contents == []
    finally:
        os.kill(running.process.pid, signal.SIGCONT)
    reader.join(20)
    assert contents == [b"same bytes" * 100]


def test_many_readers_of_one_object_fetch_it_once(
    golden: Golden, server: Callable[[Path], Server], mount: Mount, tmp_path: Path
) -> None:
    running = server(golden.repositories[NAME].root)
    wanted = golden_settings(golden, NAME, running.url, tmp_path / "cache")
    point = mount(NAME, wanted, options=("loop=python",))
    before = len(running.requests())
    contents: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: contents.append((point / "big" / "random").read_bytes())) for _ in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(contents) == 24
    assert len(set(contents)) == 1
    asked = [line["path"] for line in running.requests()[before:]]
    assert len(asked) == len(set(asked)), "no object was asked for twice"


def failure(loop: str, settings: dict[str, str], folder: Path, **environment: str) -> tuple[int, str]:
    """Returns exit code and complaint of a mount that must not come up."""
    point, configuration = folder / "mnt", folder / "conf"
    point.mkdir(exist_ok=True)
    configuration.write_text("".join(f"{key}='{value}'\n" for key, value in settings.items()))
    command: list[str | Path] = [*CVMFS2, "-o", f"loop={loop},config={configuration}", NAME, point]
    failed = processes.run(command, check=False, limit=40, env=environment)
    assert not mounts.is_mounted(point)
    return failed.returncode, failed.stderr


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ({"CVMFS_REPOSITORY_TAG": "no-such-tag"}, 22),
        ({"CVMFS_PUBLIC_KEY": "/no/such/key"}, 15),
        ({"CVMFS_SERVER_URL": ""}, 16),
    ],
)
def test_starts_fail_alike(settings: dict[str, str], tmp_path: Path, broken: dict[str, str], code: int) -> None:
    if broken == {"CVMFS_SERVER_URL": ""}:
        broken = {"CVMFS_SERVER_URL": f"http://127.0.0.1:{free_port()}"}
    first, second = (failure(loop, {**settings, **broken}, tmp_path) for loop in LOOPS)
    assert first == second
    assert second[0] == code


def test_without_the_extra_one_sentence_names_the_way_out(settings: dict[str, str], tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "pyfuse3.py").write_text("raise ModuleNotFoundError(\"No module named 'pyfuse3'\", name='pyfuse3')\n")
    code, complaint = failure("python", settings, tmp_path, PYTHONPATH=str(absent))
    assert code == 2
    assert complaint.count("\n") == 1
    assert "pip install 'nearfs[portable]'" in complaint
    assert complaint.endswith("(2 - illegal options)\n")
    assert failure("none", settings, tmp_path)[0] == 2


def test_another_user_is_refused(settings: dict[str, str], tmp_path: Path) -> None:
    point, configuration = tmp_path / "mnt", tmp_path / "conf"
    point.mkdir()
    configuration.write_text("".join(f"{key}='{value}'\n" for key, value in settings.items()))
    options = f"loop=python,uid=65534,gid=65534,config={configuration}"
    failed = processes.run([sys.executable, "-m", "nearfs.compat.cvmfs2", "-o", options, NAME, point], check=False)
    assert failed.returncode == 2
    assert "loop=python serves as the user who mounts" in failed.stderr
    assert not mounts.is_mounted(point)


# A loop that ends by itself, at once or after a moment: stands in for a bug in it.
FAILING = """
import sys, trio
from nearfs.client import portable
from nearfs.compat import cvmfs2

run = trio.run

async def limited(main):
    with trio.fail_after({seconds}):
        await main()

trio.run = lambda main: run(limited, main)
sys.exit(cvmfs2.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_loop_that_fails_is_told_and_leaves_no_mount(settings: dict[str, str], tmp_path: Path, seconds: int) -> None:
    point, configuration = tmp_path / "mnt", tmp_path / "conf"
    point.mkdir()
    configuration.write_text("".join(f"{key}='{value}'\n" for key, value in settings.items()))
    words = ["-f", "-o", f"loop=python,config={configuration}", NAME, str(point)]
    failed = processes.run([sys.executable, "-c", FAILING.format(seconds=seconds), *words], check=False, limit=40)
    assert failed.returncode == 6
    assert "(6 - cannot run FUSE event loop)" in failed.stderr
    assert not mounts.is_mounted(point)


def test_readers_that_are_killed_do_not_stop_the_loop(settings: dict[str, str], mount: Mount) -> None:
    point = mount(NAME, {**settings, "CVMFS_KCACHE_TIMEOUT": "0"}, options=("loop=python",))
    for number in range(10):
        output = point.parent / f"output-{number}"
        with processes.started(["find", point, "-ls"], output) as walker:
            wait_until(lambda path=output: path.stat().st_size, 10, "the walk has begun")  # type: ignore[misc]
            walker.kill()
        assert (point / "hello.txt").read_text() == "hello world\n"
