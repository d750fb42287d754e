"""`mount -t cvmfs` through our helper, with util-linux's own mount command, in a mount namespace of its own."""

import getpass
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_golden_reading import golden_settings
from tests.support import mounts, processes
from tests.support.golden import NAMES, Golden
from tests.support.serving import Server

NAME = NAMES[0]
HELPER: list[str | Path] = [sys.executable, "-m", "nearfs.compat.mount_cvmfs"]
pytestmark = pytest.mark.mount


@pytest.fixture
def configuration(golden: Golden, server: Callable[[Path], Server], tmp_path: Path) -> Path:
    if lack := mounts.missing_for_mounts():
        pytest.skip(lack)
    settings = golden_settings(
        golden, NAME, server(golden.repositories[NAME].root).url, tmp_path / "cache", CVMFS_USER=getpass.getuser()
    )
    path = tmp_path / "client.conf"
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return path


def test_mount_t_cvmfs_mounts_and_umount_unmounts(configuration: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("root and unshare are needed to put a helper into /sbin for this test only")
    point, helper = tmp_path / "mnt", tmp_path / "sbin" / "mount.cvmfs"
    point.mkdir()
    helper.parent.mkdir()
    helper.write_text(f'#!/bin/sh\nexec {sys.executable} -m nearfs.compat.mount_cvmfs "$@"\n')
    helper.chmod(0o755)
    sbin = Path("/sbin").resolve()
    script = f"""
set -e
mount --make-rprivate /
mount -t overlay -o lowerdir={helper.parent}:{sbin} overlay {sbin}
mount -t cvmfs -o config={configuration},_netdev,nodev {NAME} {point}
grep ' {point} fuse ' /proc/mounts
cat {point}/hello.txt
umount {point}
! grep ' {point} fuse ' /proc/mounts
"""
    done = processes.run(["unshare", "-m", "sh", "-c", script])
    assert f"cvmfs2 {point} fuse" in done.stdout
    assert "hello again" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 1, "Usage: mount.cvmfs"),
        (("bad name", "/mnt"), 1, "Invalid repository: bad name"),
        (("-o", "nonsense", NAME, "/mnt"), 1, "unknown mount option"),
    ],
)
def test_refusals_before_a_mount_exit_with_1(words: tuple[str, ...], code: int, said: str) -> None:
    done = processes.run([*HELPER, *words], check=False)
    assert (done.returncode, said in done.stderr) == (code, True), done


def test_missing_parameters_are_named(configuration: Path, tmp_path: Path) -> None:
    for name, said in (("CVMFS_USER", "CVMFS_USER required"), ("CVMFS_HTTP_PROXY", "CVMFS_HTTP_PROXY required")):
        lines = [line for line in configuration.read_text().splitlines() if not line.startswith(name)]
        path = tmp_path / f"without-{name}.conf"
        path.write_text("\n".join(lines) + "\n")
        done = processes.run([*HELPER, "-o", f"config={path}", NAME, tmp_path], check=False)
        assert (done.returncode, said in done.stderr) == (1, True)


def test_a_failed_mount_exits_with_32(configuration: Path, tmp_path: Path) -> None:
    text = configuration.read_text().replace("http://127.0.0.1", "http://127.0.0.1:1/nowhere?")
    path = tmp_path / "wrong.conf"
    path.write_text(text)
    (tmp_path / "mnt").mkdir()
    done = processes.run([*HELPER, "-o", f"config={path}", NAME, tmp_path / "mnt"], check=False)
    assert done.returncode == 32
