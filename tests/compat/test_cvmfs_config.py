"""`cvmfs_config` on a machine of a site, with two mounted repositories."""

import re

import pytest

from tests.support.golden import NAMES
from tests.support.site import MOUNT_DIR, Site

NAME, OTHER = NAMES
POINT = f"{MOUNT_DIR}/{NAME}"
pytestmark = pytest.mark.mount

_MOUNTED = f"""
for name in {NAME} {OTHER}; do
    mkdir -p {MOUNT_DIR}/$name
    mount -t cvmfs $name {MOUNT_DIR}/$name
done
cat {POINT}/hello.txt
"""


def test_status_names_each_mount_and_the_unhealthy_one(site: Site) -> None:
    done = site.run(f"""{_MOUNTED}
cvmfs_config status
kill -9 $(cvmfs_talk -i {NAME} pid watchdog)
kill -9 $(cvmfs_talk -i {NAME} pid)
for turn in $(seq 50); do stat {POINT} >/dev/null 2>&1 || break; sleep 0.1; done
cvmfs_config status || echo "code $?"
""")
    healthy = [line.rpartition(" ")[0] for line in done.stdout.splitlines() if re.search("pid [0-9]+$", line)]
    named = f"{NAME} mounted on {POINT} with pid", f"{OTHER} mounted on {MOUNT_DIR}/{OTHER} with pid"
    assert healthy == [*named, named[1]]
    assert f"{NAME} mounted on {POINT} with pid unknown - mountpoint unhealthy!\n" in done.stdout
    assert done.stdout.endswith("code 1\n")


def test_stat_tells_what_the_mount_knows(site: Site) -> None:
    done = site.run(f"""{_MOUNTED}
cvmfs_config stat golden
cvmfs_config stat -v golden
echo '---'
cvmfs_config stat
cvmfs_config stat none.example.org || echo "code $?"
cvmfs_talk -i golden pid
""")
    lines = done.stdout.splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("VERSION"))
    cells = dict(zip(lines[row].split(), lines[row + 1].split(), strict=True))
    assert cells["VERSION"] == "2.12.0.0"
    assert cells["PID"] == lines[-1]
    assert int(cells["MEM(K)"]) > 1000
    assert cells["HOST"].endswith(f"/cvmfs/{NAME}")
    assert (cells["PROXY"], cells["ONLINE"]) == ("DIRECT", "1")
    assert f"Connection: {cells['HOST']} through proxy DIRECT (online)" in lines
    assert f"File Catalog Revision: {cells['REVISION']} (expires in {cells['EXPIRES(M)']} minutes)" in lines
    everything = done.stdout.partition("---\n")[2]
    assert everything.count("\nVERSION ") == 2
    assert f"stat {NAME}:\n" in everything
    assert "none.example.org not mounted\ncode 1\n" in everything


def test_umount_takes_all_mounts_or_says_who_is_inside(site: Site) -> None:
    done = site.run(f"""{_MOUNTED}
( cd {POINT}; exec sleep 30 ) &
inside=$!
for turn in $(seq 50); do [ "$(readlink /proc/$inside/cwd)" = {POINT} ] && break; sleep 0.1; done
echo "fuser $(cvmfs_config fuser golden) is $inside"
cvmfs_config umount && exit 1
kill $inside; wait $inside || true
cvmfs_config umount golden
cvmfs_config umount
! grep '^cvmfs2 ' /proc/mounts
""")
    assert f"Unmounting {POINT}: Failed!\n" in done.stdout
    assert "sleep 30" in done.stdout
    assert f"Unmounting {MOUNT_DIR}/{OTHER}: OK\n" in done.stdout
    assert f"Unmounting {POINT}: OK\n" in done.stdout
    _, users, _, sleeping = next(line for line in done.stdout.splitlines() if line.startswith("fuser")).split()
    assert users == sleeping


def test_killall_ends_clients_and_mounts_here_only(site: Site) -> None:
    done = site.run(f"""{_MOUNTED}
client=$(cvmfs_talk -i {NAME} pid)
watchdog=$(cvmfs_talk -i {NAME} pid watchdog)
# A client of another mount namespace is left alone.
unshare -m sh -c 'echo cvmfs2 >/proc/self/comm; sleep 20; :' &
stranger=$!
for turn in $(seq 50); do grep -qx cvmfs2 /proc/$stranger/comm && break; sleep 0.1; done
mkdir -p /var/run/cvmfs
touch /var/run/cvmfs/left
cvmfs_config killall
! grep '^cvmfs2 ' /proc/mounts
! grep -s State: /proc/$client/status /proc/$watchdog/status | grep -v Z
kill $stranger
! test -e /var/run/cvmfs/left
rmdir /var/run/cvmfs
""")
    wanted = [
        "Terminating cvmfs_config processes... OK",
        "Terminating cvmfs2 processes... OK",
        "Unmounting stale mount points... OK",
        "Cleaning up run-time variable data... OK",
        "Reloading autofs... OK",
    ]
    assert done.stdout.splitlines()[-5:] == wanted


def test_a_cache_is_wiped_when_nobody_uses_it(site: Site) -> None:
    done = site.run(f"""{_MOUNTED}
umount {POINT}
for turn in $(seq 50); do flock -n /mnt/cache/shared/lock.{NAME} true && break; sleep 0.1; done
cvmfs_config wipecache && exit 1
find /mnt/cache/shared/?? -type f | grep -q .
umount {MOUNT_DIR}/{OTHER}
install -D /dev/null /mnt/cache/shared/traces/{NAME}/learned
for turn in $(seq 50); do flock -n /mnt/cache/shared/lock.{OTHER} true && break; sleep 0.1; done
cvmfs_config wipecache
! find /mnt/cache/shared/?? -type f | grep .
test -f /mnt/cache/shared/traces/{NAME}/learned
mount -t cvmfs {NAME} {POINT}
cat {POINT}/hello.txt
""")
    assert f"Wiping out /mnt/cache/shared ... Failed! {OTHER} is mounted" in done.stderr
    assert "Wiping out /mnt/cache/shared ... OK" in done.stdout


def test_setup_makes_what_chksetup_asks_for(site: Site) -> None:
    done = site.run("""
rm -rf /etc/cvmfs /usr/sbin/mount.cvmfs /etc/auto.master.d/cvmfs.autofs
getent passwd cvmfs && exit 1
# The shipped mount directory is /cvmfs: made in a root of its own here.
mkdir /mnt/etc.default
cvmfs_config chksetup | sed 's/^/before: /'
cat >/mnt/defaults <<X
CVMFS_MOUNT_DIR=/mnt/cvmfs
X
mkdir -p /etc/cvmfs
cp /mnt/defaults /etc/cvmfs/default.local
cvmfs_config setup nostart
cvmfs_config setup nostart
cat /etc/auto.master.d/cvmfs.autofs
getent passwd cvmfs
stat -c '%U %a' /var/lib/cvmfs
stat -c '%a' /etc/auto.cvmfs
readlink /usr/sbin/mount.cvmfs
cat /etc/systemd/system/autofs.service.d/cvmfs-autosetup.conf
grep CVMFS_USER /etc/cvmfs/default.conf
cvmfs_config showconfig -s a.example.org | grep -e USER -e NFILES
cvmfs_config chksetup || echo "code $?"
cvmfs_config setup nonsense || echo "code $?"
""")
    assert "before: Error: /etc/cvmfs/default.conf does not exist" in done.stdout
    assert "before: Error: CVMFS_USER is not set" in done.stdout
    after = done.stdout.partition("Linked /sbin/mount.cvmfs to ")[2]
    assert "/mnt/cvmfs /etc/auto.cvmfs\n" in after
    assert ":/var/lib/cvmfs:/usr/sbin/nologin\n" in after
    assert "cvmfs 755\n755\n" in after
    assert "KillMode=process" in after
    assert "CVMFS_NFILES=131072    # from /etc/cvmfs/default.conf" in after
    assert "CVMFS_USER=cvmfs    # from /etc/cvmfs/default.conf" in after
    assert "Error" not in after
    assert "Warning: automount does not serve /mnt/cvmfs: start autofs" in after
    assert "Bad option: nonsense" in done.stderr
    assert after.endswith("code 1\n")


def test_chksetup_counts_errors_and_reaches_servers(site: Site) -> None:
    done = site.run(f"""
cvmfs_config setup nostart nouser
cvmfs_config chksetup >/mnt/sound || true
echo 'CVMFS_SERVER_URL=http://127.0.0.1:1/nowhere' >/etc/cvmfs/config.d/{OTHER}.local
rm /etc/cvmfs/keys/{NAME}/*
sed -i '/CVMFS_USER/d' /etc/cvmfs/default.local
cvmfs_config chksetup || echo "code $?"
echo '---'
cat /mnt/sound
""")
    broken, _, sound = done.stdout.partition("---\n")
    assert "Error: CVMFS_USER is not set" in broken
    assert f"Error: golden: no public key (*.pub) in /etc/cvmfs/keys/{NAME}" in broken
    assert f"Warning: {OTHER}: failed to access http://127.0.0.1:1/nowhere/.cvmfspublished directly" in broken
    assert broken.endswith("code 2\n")
    assert sound == f"Warning: automount does not serve {MOUNT_DIR}: start autofs\n"


def test_a_bug_report_holds_configuration_and_no_private_key(site: Site) -> None:
    done = site.run(f"""{_MOUNTED}
echo secret >/etc/cvmfs/keys/x.masterkey
export TMPDIR=/mnt
cvmfs_config bugreport
tar tzf /mnt/cvmfs-bugreport-*/cvmfs-bugreport.tar.gz
tar xzOf /mnt/cvmfs-bugreport-*/cvmfs-bugreport.tar.gz cvmfs-bugreport/stat/{NAME}.txt
""")
    assert f"cvmfs-bugreport/etc/config.d/{NAME}.conf\n" in done.stdout
    assert "cvmfs-bugreport/showconfig/golden.txt\n" in done.stdout
    assert f"cvmfs-bugreport/talk/{NAME}.txt\n" in done.stdout
    assert "masterkey" not in done.stdout
    assert "revision='" in done.stdout
