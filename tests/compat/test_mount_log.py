"""What a mount tells the system's log, and the file that stands for it."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nearfs.client.journal import FILE_LIMIT_BYTES, Journal, Weight
from nearfs.config.model import SyslogSettings
from tests.support.golden import NAMES
from tests.support.site import CACHE_BASE, MOUNT_DIR, Site

NAME = NAMES[0]
POINT = f"{MOUNT_DIR}/{NAME}"
LOCAL3, NOTICE, INFO, ERROR, WARNING = 19 << 3, 5, 6, 3, 4


@pytest.fixture
def system_log(tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A log daemon: its socket, and what it was told."""
    told: list[str] = []
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        path.chmod(0o666)

        def listen() -> None:
            while (line := listener.recv(1 << 16).decode()) != "end":
                told.append(line)

        thread = threading.Thread(target=listen)
        thread.start()
        yield path, told
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", str(path))
        thread.join(10)


@pytest.mark.mount
def test_mount_unmount_and_failure_are_logged(site: Site, system_log: tuple[Path, list[str]]) -> None:
    path, told = system_log
    site.run(f"""
mkdir -p /mnt/dev/upper /mnt/dev/work
mount -t overlay -o lowerdir=/dev,upperdir=/mnt/dev/upper,workdir=/mnt/dev/work overlay /dev
[ -e /dev/log ] || touch /dev/log
mount --bind {path} /dev/log
mkdir -p {POINT}
echo 'CVMFS_SYSLOG_FACILITY=3' >>/etc/cvmfs/default.local
echo 'CVMFS_SYSLOG_LEVEL=2' >>/etc/cvmfs/default.local
mount -t cvmfs {NAME} {POINT}
pid=$(cvmfs_talk -i {NAME} pid)
cvmfs_talk -i {NAME} host set http://127.0.0.1:1/nowhere
cvmfs_talk -i {NAME} remount
umount {POINT}
for turn in $(seq 100); do kill -0 $pid 2>/dev/null || break; sleep 0.1; done
echo 'CVMFS_SYSLOG_PREFIX=mine' >>/etc/cvmfs/default.local
echo 'CVMFS_SERVER_URL=http://127.0.0.1:1/nowhere' >/etc/cvmfs/config.d/{NAME}.local
rm -r {CACHE_BASE}/*
mount -t cvmfs {NAME} {POINT} || true
""")
    lines = [(line.partition(">")[0][1:], line.partition("cvmfs2: ")[2]) for line in told]
    assert lines.pop(0) == (str(LOCAL3 | INFO), f"({NAME}) CernVM-FS: linking {POINT} to repository {NAME}")
    number, text = lines.pop(0)
    assert number == str(LOCAL3 | WARNING)
    assert "could not apply updated catalog revision, entering offline mode" in text
    assert lines.pop(0) == (str(LOCAL3 | INFO), f"({NAME}) CernVM-FS: unmounted {POINT} ({NAME})")
    number, text = lines[0]
    assert number == str(LOCAL3 | ERROR)
    assert text.startswith("(mine) ")
    assert text.endswith("(16 - file catalog failure)")


def test_a_file_stands_for_the_system_log_and_is_rotated_once(tmp_path: Path) -> None:
    path = tmp_path / "usyslog"
    journal = Journal(SyslogSettings(level=3, facility=None, prefix="p", file=str(path)))
    path.write_text("x" * (FILE_LIMIT_BYTES + 1))
    journal.log("first")
    journal.log("second", Weight.WARNING)
    assert path.with_name("usyslog.1").stat().st_size == FILE_LIMIT_BYTES + 1
    assert [line.partition(": ")[2] for line in path.read_text().splitlines()] == ["(p) first", "(p) second"]


def test_a_log_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    Journal(SyslogSettings(level=3, facility=None, prefix="p", file=str(tmp_path / "no" / "file"))).log("text")
