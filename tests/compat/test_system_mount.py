"""`mount -t cvmfs` on a machine of a site: the client is another user, is called cvmfs2, and leaves nothing behind."""

import pytest

from tests.support.golden import NAMES
from tests.support.site import MOUNT_DIR, Site

NAME, OTHER = NAMES
POINT = f"{MOUNT_DIR}/{NAME}"
pytestmark = pytest.mark.mount

_HELPERS = f"""
mkdir -p {MOUNT_DIR}/{NAME} {MOUNT_DIR}/{OTHER}
gone() {{ for turn in $(seq 100); do kill -0 $1 2>/dev/null || return 0; sleep 0.1; done; return 1; }}
"""


def test_the_client_runs_as_cvmfs_user_and_is_called_cvmfs2(site: Site) -> None:
    done = site.run(
        f"""{_HELPERS}
mount -t cvmfs {NAME} {POINT}
pid=$(cvmfs_talk -i {NAME} pid)
grep '^Uid:' /proc/$pid/status
echo "comm $(cat /proc/$pid/comm)"
echo "args $(ps -o args= -p $pid)"
pgrep -x cvmfs2 >/mnt/found
grep -qx $pid /mnt/found
grep " {POINT} " /proc/mounts
stat -c 'owner %U' {POINT} /mnt/cache/shared /mnt/cache/shared/cvmfs_io.{NAME} {POINT}/hello.txt
stat -c 'mode %a' /mnt/cache/shared/cvmfs_io.{NAME}
cat {POINT}/hello.txt
umount {POINT}
gone $pid
! pgrep -x cvmfs2 | grep -qx $pid
! test -e /mnt/cache/shared/cvmfs_io.{NAME}
"""
    )
    assert "Uid:\t65534\t65534\t65534\t65534" in done.stdout
    assert "comm cvmfs2" in done.stdout
    # The options are shown where the words of the command that was typed leave room for them.
    assert f"args cvmfs2 {NAME} {POINT}\n" in done.stdout
    assert f"cvmfs2 {POINT} fuse ro,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other" in (
        done.stdout
    )
    assert done.stdout.count("owner nobody") == 4
    assert "mode 660" in done.stdout
    assert "hello again" in done.stdout


def test_cvmfs2_shows_its_options(site: Site) -> None:
    done = site.run(f"""{_HELPERS}
cvmfs2 -o system_mount,uid=65534,gid=65534 {NAME} {POINT}
tr '\\0' ' ' </proc/$(cvmfs_talk -i {NAME} pid)/cmdline
""")
    assert f"cvmfs2 -o system_mount,uid=65534,gid=65534 {NAME} {POINT} " in done.stdout


def test_a_client_that_dies_leaves_no_dead_mount(site: Site) -> None:
    done = site.run(f"""{_HELPERS}
mount -t cvmfs {NAME} {POINT}
kill -9 $(cvmfs_talk -i {NAME} pid)
for turn in $(seq 100); do grep -q ' {POINT} ' /proc/mounts || break; sleep 0.1; done
! grep ' {POINT} ' /proc/mounts
mount -t cvmfs {NAME} {POINT}
cat {POINT}/hello.txt
""")
    assert "hello again" in done.stdout


@pytest.mark.parametrize("whom", ["pid", "pid watchdog"])
def test_a_polite_end_of_either_process_unmounts(site: Site, whom: str) -> None:
    site.run(f"""{_HELPERS}
mount -t cvmfs {NAME} {POINT}
client=$(cvmfs_talk -i {NAME} pid)
watchdog=$(cvmfs_talk -i {NAME} pid watchdog)
test $client != $watchdog
kill $(cvmfs_talk -i {NAME} {whom})
gone $client
gone $watchdog
! grep ' {POINT} ' /proc/mounts
""")


def test_a_client_without_its_watchdog_still_ends(site: Site) -> None:
    done = site.run(f"""{_HELPERS}
mount -t cvmfs {NAME} {POINT}
client=$(cvmfs_talk -i {NAME} pid)
kill -9 $(cvmfs_talk -i {NAME} pid watchdog)
cat {POINT}/hello.txt
kill $client
gone $client
mount -t cvmfs {NAME} {POINT}
cat {POINT}/hello.txt
""")
    assert done.stdout.count("hello again") == 2


def test_a_failed_start_leaves_no_mount(site: Site) -> None:
    done = site.run(f"""{_HELPERS}
echo 'CVMFS_SERVER_URL=http://127.0.0.1:1/nowhere' >/etc/cvmfs/config.d/{NAME}.local
code=0; mount -t cvmfs {NAME} {POINT} || code=$?
echo "code $code"
! grep ' {POINT} ' /proc/mounts
# Of this machine: another one, in its own mount namespace, may have the same place.
for pid in $(pgrep -f '^cvmfs2 .*{POINT}'); do
    [ "$(readlink /proc/$pid/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ] || exit 1
done
""")
    assert "code 32" in done.stdout
    assert "(16 - file catalog failure)" in done.stderr


def test_two_repositories_share_one_cache_from_fstab(site: Site) -> None:
    done = site.run(f"""{_HELPERS}
echo '{NAME} {POINT} cvmfs defaults,_netdev,nodev 0 0' >>/etc/fstab
echo '{OTHER} {MOUNT_DIR}/{OTHER} cvmfs defaults,_netdev,nodev 0 0' >>/etc/fstab
mount {POINT}
mount {MOUNT_DIR}/{OTHER}
cmp {POINT}/hello.txt {MOUNT_DIR}/{OTHER}/hello.txt
mount | grep '^cvmfs2 on {MOUNT_DIR}' | wc -l
cvmfs_talk mountpoint
cvmfs_talk -i golden-shake mountpoint
ls /mnt/cache
umount {POINT}
cat {MOUNT_DIR}/{OTHER}/hello.txt
mount -t cvmfs {NAME} {POINT}
mount -t cvmfs {NAME} {POINT} 2>&1 || echo "again $?"
""")
    assert done.stdout.splitlines()[-1] == f"CernVM-FS: repository {NAME} already mounted on {POINT}", done.stdout
    assert f"golden:\n{POINT}\n{OTHER}:\n{MOUNT_DIR}/{OTHER}\n{MOUNT_DIR}/{OTHER}\nshared\n" in done.stdout


def test_a_cache_that_root_filled_is_given_to_the_user(site: Site) -> None:
    site.run(f"""{_HELPERS}
cvmfs2 {NAME} {POINT}
cat {POINT}/hello.txt
umount {POINT}
test $(stat -c %U /mnt/cache/shared/txn) = root
for turn in $(seq 50); do mount -t cvmfs {NAME} {POINT} && break; sleep 0.1; done
cat {POINT}/hello.txt
! find /mnt/cache/shared ! -user nobody | grep .
""")


def test_strict_mounts_are_limited_to_the_listed_repositories(site: Site) -> None:
    done = site.run(f"""{_HELPERS}
echo 'CVMFS_STRICT_MOUNT=yes' >>/etc/cvmfs/default.local
echo 'CVMFS_REPOSITORIES=golden' >>/etc/cvmfs/default.local
mount -t cvmfs golden {POINT}
mount -t cvmfs {OTHER} {MOUNT_DIR}/{OTHER} || echo "refused $?"
""")
    assert "refused" in done.stdout
    assert f"Not allowed to mount {OTHER}, add it to CVMFS_REPOSITORIES" in done.stderr


def test_limits_and_places_of_the_process_are_as_configured(site: Site) -> None:
    done = site.run(f"""{_HELPERS}
cat >>/etc/cvmfs/default.local <<X
CVMFS_NFILES=5000
CVMFS_CPU_AFFINITY=0
CVMFS_OOM_SCORE_ADJ=123
CVMFS_SYSTEMD_NOKILL=yes
CVMFS_TALK_OWNER=daemon
CVMFS_TALK_SOCKET=/mnt/talk
X
mount -t cvmfs {NAME} {POINT}
pid=$(cvmfs_talk -i {NAME} pid)
grep 'Max open files' /proc/$pid/limits
grep Cpus_allowed_list /proc/$pid/status
echo "oom $(cat /proc/$pid/oom_score_adj)"
tr '\\0' ' ' </proc/$pid/cmdline
stat -c '%U %G %a' /mnt/talk
""")
    assert "Max open files            5000 " in done.stdout
    assert "Cpus_allowed_list:\t0\n" in done.stdout
    assert "oom 123\n" in done.stdout
    assert f"@vmfs2 {NAME} {POINT} " in done.stdout
    assert "daemon daemon 660\n" in done.stdout


def test_a_dry_run_prints_the_command(site: Site) -> None:
    done = site.run(f"mount.cvmfs -f -o rw,_netdev golden {POINT}")
    options = "rw,_netdev,system_mount,fsname=cvmfs2,allow_other,grab_mountpoint,uid=65534,gid=65534"
    assert done.stdout.splitlines()[-1] == f"cvmfs2 -o {options} {NAME} {POINT}"


def test_a_remount_needs_a_mount(site: Site) -> None:
    done = site.run(f"""{_HELPERS}
mount.cvmfs -o remount {NAME} {POINT} || echo "code $?"
mount -t cvmfs {NAME} {POINT}
mount.cvmfs -o remount {NAME} {POINT}
""")
    assert "code 1\n" in done.stdout
    assert f"Repository {NAME} is not mounted on {POINT}" in done.stderr
