"""Mounting without being root: as an ordinary user with fusermount3, and as root of a user namespace of one's own."""

import shutil
import stat
import sys
from pathlib import Path

import pytest

from tests.support import site as sites
from tests.support.golden import NAMES

NAME = NAMES[0]
POINT = f"{sites.MOUNT_DIR}/{NAME}"
USER = 65534

_OPEN = f"""
mkdir -p {POINT}
# /dev/fuse as distributions have it.
mknod -m 666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
chown -R {USER}:{USER} {POINT} {sites.CACHE_BASE}
as_user() {{ setpriv --reuid {USER} --regid {USER} --clear-groups env HOME={sites.CACHE_BASE} "$@"; }}
gone() {{ for turn in $(seq 100); do kill -0 $1 2>/dev/null || return 0; sleep 0.1; done; return 1; }}
"""


def _closed_directories() -> list[Path]:
    """Returns the directories above our interpreter that an ordinary user may not enter."""
    programs = (Path(sys.executable), Path(sys.executable).resolve())
    parents = {parent for program in programs for parent in program.parents}
    return [parent for parent in sorted(parents) if not parent.stat().st_mode & stat.S_IXOTH]


@pytest.fixture
def opened(site: sites.Site) -> str:
    """Returns the beginning of a script that lets an ordinary user mount; skips where that cannot be arranged."""
    for program in ("fusermount3", "setpriv"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    script = _OPEN
    for number, directory in enumerate(_closed_directories()):
        upper, work = f"/mnt/open-{number}/upper", f"/mnt/open-{number}/work"
        script += f"mkdir -p {upper} {work}\n"
        script += f"mount -t overlay -o lowerdir={directory},upperdir={upper},workdir={work} overlay {directory}\n"
    return script


def test_an_ordinary_user_mounts_and_unmounts(site: sites.Site, opened: str) -> None:
    done = site.run(f"""{opened}
as_user cvmfs2 {NAME} {POINT}
grep " {POINT} fuse " /proc/mounts
as_user cat {POINT}/hello.txt
cat {POINT}/hello.txt 2>/mnt/refused && exit 1
grep 'Permission denied' /mnt/refused
pid=$(as_user cvmfs_talk -i {NAME} pid)
grep ^Uid: /proc/$pid/status
as_user fusermount3 -u {POINT}
gone $pid
as_user cvmfs2 {NAME} {POINT}
kill $(as_user cvmfs_talk -i {NAME} pid)
for turn in $(seq 100); do grep -q ' {POINT} ' /proc/mounts || break; sleep 0.1; done
! grep ' {POINT} ' /proc/mounts
""")
    assert f"cvmfs2 {POINT} fuse ro,nosuid,nodev,relatime,user_id={USER},group_id={USER}" in done.stdout
    assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in done.stdout
    assert "hello again" in done.stdout


def test_an_ordinary_user_is_told_what_only_root_can(site: sites.Site, opened: str) -> None:
    done = site.run(f"""{opened}
as_user cvmfs2 -o uid=0,gid=0 {NAME} {POINT} || echo "uid $?"
as_user cvmfs_config killall || echo "killall $?"
echo 'CVMFS_SUID=yes' >>/etc/cvmfs/default.local
as_user cvmfs2 {NAME} {POINT} || echo "suid $?"
sed -i '/SUID/d' /etc/cvmfs/default.local
chmod 600 /dev/fuse
mv $(command -v fusermount3) /mnt/
as_user cvmfs2 {NAME} {POINT} || echo "fuse $?"
! grep ' {POINT} ' /proc/mounts
""")
    assert "only root may run the client as user 0 and group 0 (3 - permission denied)" in done.stderr
    assert "must be root to mount with suid option (3 - permission denied)" in done.stderr
    assert "root privileges required\nkillall 1\n" in done.stdout
    assert "only root may without `fusermount3`" in done.stderr
    assert "uid 3\n" in done.stdout
    assert "suid 3\n" in done.stdout
    assert "fuse 4\n" in done.stdout


def test_root_of_a_user_namespace_mounts_as_itself(site: sites.Site, opened: str) -> None:
    done = site.run(f"""{opened}
cat >/mnt/inside <<'X'
set -e
mount.cvmfs {NAME} {POINT}
cat {POINT}/hello.txt
grep ' {POINT} fuse ' /proc/mounts
cvmfs_talk -i {NAME} pid watchdog
umount {POINT}
! grep ' {POINT} fuse ' /proc/mounts
mount.cvmfs {NAME} {POINT}
kill $(cvmfs_talk -i {NAME} pid)
for turn in $(seq 100); do grep -q ' {POINT} fuse ' /proc/mounts || break; sleep 0.1; done
! grep ' {POINT} fuse ' /proc/mounts
X
as_user unshare -rm sh /mnt/inside
""")
    assert "hello again" in done.stdout
    assert "no watchdog: the client unmounts by itself" in done.stdout
    # The site's CVMFS_USER is a user that this namespace does not have.
    said = "running as the calling user instead of nobody: this user namespace has no such user"
    assert done.stderr.count(said) == 2
