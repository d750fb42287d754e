"""Debian's automount with the map that `cvmfs_config setup` writes, and the map by itself."""

import os
import shutil
from pathlib import Path

import pytest

from nearfs.client import installation
from tests.support import processes
from tests.support.golden import NAMES
from tests.support.site import MOUNT_DIR, Site

NAME, OTHER = NAMES
pytestmark = pytest.mark.mount


def _lack_of_automount() -> str | None:
    if shutil.which("automount") is None:
        return "automount is not installed (package autofs)"
    if "autofs" not in Path("/proc/filesystems").read_text("ascii"):
        return "this kernel has no autofs file system"
    return None


_START = f"""
cvmfs_config setup nouser nostart
grep -qx '{MOUNT_DIR} /etc/auto.cvmfs' /etc/auto.master.d/cvmfs.autofs
sed "s/$/ --timeout=${{IDLE_S:-300}}/" /etc/auto.master.d/cvmfs.autofs >/mnt/master
# The kernel lets the process group of automount see what lies beneath: it must not be ours.
setsid automount --foreground --dont-check-daemon --pid-file /mnt/automount.pid /mnt/master >/mnt/automount.log 2>&1 &
automount=$!
for turn in $(seq 100); do grep -q ' {MOUNT_DIR} autofs ' /proc/mounts && break; sleep 0.1; done
"""


@pytest.fixture
def automounted(site: Site) -> str:
    if lack := _lack_of_automount():
        pytest.skip(lack)
    return _START


def test_a_first_access_mounts_and_idleness_unmounts(site: Site, automounted: str) -> None:
    done = site.run(f"""IDLE_S=5
{automounted}
cat {MOUNT_DIR}/{NAME}/hello.txt
grep -c '^cvmfs2 {MOUNT_DIR}/' /proc/mounts
cat {MOUNT_DIR}/{OTHER}/hello.txt
grep -c '^cvmfs2 {MOUNT_DIR}/' /proc/mounts
cd /
for turn in $(seq 600); do grep -q '^cvmfs2 {MOUNT_DIR}/' /proc/mounts || break; sleep 0.1; done
grep -c '^cvmfs2 {MOUNT_DIR}/' /proc/mounts || true
cat {MOUNT_DIR}/{NAME}/hello.txt
""")
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["1", "2", "0"], done
    assert done.stdout.count("hello again") >= 2


def test_no_repository_and_no_name_are_no_entries(site: Site, automounted: str) -> None:
    done = site.run(f"""{automounted}
for name in nothing.example.org undotted; do
    code=0; ls {MOUNT_DIR}/$name || code=$?
    echo "$name $code"
done
cat {MOUNT_DIR}/{NAME}/hello.txt
""")
    assert "nothing.example.org 2\nundotted 2\n" in done.stdout
    assert "No such file or directory" in done.stderr


def test_automount_gets_over_a_client_that_dies(site: Site, automounted: str) -> None:
    done = site.run(f"""{automounted}
cat {MOUNT_DIR}/{NAME}/hello.txt
kill -9 $(cvmfs_talk -i {NAME} pid)
for turn in $(seq 50); do cat {MOUNT_DIR}/{NAME}/hello.txt 2>/dev/null && break; sleep 0.2; done
""")
    assert done.stdout.count("hello again") == 2


def test_probe_makes_automount_mount(site: Site, automounted: str) -> None:
    done = site.run(f"""{automounted}
cvmfs_config probe
cvmfs_config probe nothing.example.org && exit 1
cvmfs_config status
""")
    assert f"Probing {MOUNT_DIR}/{NAME}... OK\nProbing {MOUNT_DIR}/{OTHER}... OK\n" in done.stdout
    assert f"Probing {MOUNT_DIR}/nothing.example.org... Failed!\n" in done.stdout
    assert f"{NAME} mounted on {MOUNT_DIR}/{NAME} with pid " in done.stdout


def test_a_required_configuration_repository_is_mounted_by_its_first_reader(site: Site, automounted: str) -> None:
    # The repository has no etc/cvmfs: it is mounted, looked at, and found to be none.
    done = site.run(f"""
echo 'CVMFS_CONFIG_REPOSITORY={OTHER}' >>/etc/cvmfs/default.conf
{automounted}
cat {MOUNT_DIR}/{NAME}/hello.txt
grep -c '^cvmfs2 {MOUNT_DIR}/{OTHER} ' /proc/mounts
echo 'CVMFS_CONFIG_REPO_REQUIRED=yes' >>/etc/cvmfs/default.conf
cvmfs_config showconfig {NAME} || echo "code $?"
""")
    assert "hello again" in done.stdout
    assert "\n1\n" in done.stdout
    assert "code 1" in done.stdout
    assert f"required configuration repository directory does not exist: {MOUNT_DIR}/{OTHER}/etc/cvmfs" in done.stderr


@pytest.mark.parametrize(
    ("key", "printed"),
    [
        ("atlas.cern.ch", "-fstype=cvmfs :atlas.cern.ch\n"),
        ("a-b_c.d.e", "-fstype=cvmfs :a-b_c.d.e\n"),
        ("0.x", "-fstype=cvmfs :0.x\n"),
        *((key, "") for key in ("", "atlas", ".hidden", "atlas.", "-x.y", "a b.c", "a/b.c", "ä.x", "$(id).x", "*.x")),
    ],
)
def test_the_map_answers_for_repository_names_only(key: str, printed: str, tmp_path: Path) -> None:
    program = tmp_path / "auto.cvmfs"
    program.write_text(installation.AUTOMOUNT_PROGRAM)
    program.chmod(0o755)
    done = processes.run([program, key], check=False)
    assert (done.stdout, done.returncode) == (printed, 0 if printed else 1)
    assert os.access(program, os.X_OK)
