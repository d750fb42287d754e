"""A mount comes up, serves, and goes away in every way in which mounts go away."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_golden_reading import golden_settings
from tests.support import mounts, processes
from tests.support.golden import NAMES, Golden
from tests.support.publishing import Publisher
from tests.support.serving import Server, free_port
from tests.support.waiting import wait_until

NAME = NAMES[0]
CVMFS2 = [sys.executable, "-m", "nearfs.compat.cvmfs2"]


@pytest.fixture
def settings(golden: Golden, server: Callable[[Path], Server], tmp_path: Path) -> dict[str, str]:
    url = server(golden.repositories[NAME].root).url
    return golden_settings(golden, NAME, url, tmp_path / "cache", CVMFS_REPOSITORY_TAG="v1")


def client_pid(point: Path) -> int:
    return int(os.getxattr(point, "user.pid"))


def test_the_mount_table_shows_what_scripts_look_for(settings: dict[str, str], mount: Callable[..., Path]) -> None:
    point = mount(NAME, settings)
    found = [entry for entry in mounts.table() if entry.point == point]
    assert [(entry.fstype, entry.source) for entry in found] == [("fuse", "cvmfs2")]
    assert Path(f"/proc/{client_pid(point)}/comm").read_text().strip() == "cvmfs2"
    assert os.getxattr(point, "user.fqrn") == NAME.encode()
    assert os.statvfs(point).f_files > 3000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(settings: dict[str, str], mount: Callable[..., Path], number: signal.Signals) -> None:
    point = mount(NAME, settings)
    os.kill(client_pid(point), number)
    wait_until(lambda: not mounts.is_mounted(point), 10, "the mount is gone")


def test_umount_ends_the_client(settings: dict[str, str], mount: Callable[..., Path]) -> None:
    point = mount(NAME, settings)
    pid = client_pid(point)
    mounts.unmount(point)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the client has ended")


def test_a_second_mount_of_the_same_is_no_failure(
    settings: dict[str, str], mount: Callable[..., Path], tmp_path: Path
) -> None:
    point = mount(NAME, settings)
    again = processes.run([*CVMFS2, "-o", f"config={point.parent / (point.name + '.conf')}", NAME, point])
    assert f"CernVM-FS: repository {NAME} already mounted on {point}" in again.stdout


def test_a_killed_client_is_cleaned_up_by_the_next_start(settings: dict[str, str], mount: Callable[..., Path]) -> None:
    point = mount(NAME, settings)
    os.kill(client_pid(point), signal.SIGKILL)
    with pytest.raises(OSError) as caught:
        wait_until(lambda: os.stat(point) and None, 10, "the mount is dead")
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    processes.run([*CVMFS2, "-o", f"config={point.parent / (point.name + '.conf')}", NAME, point])
    assert (point / "hello.txt").read_text() == "hello world\n"


def test_writes_are_refused_as_on_a_read_only_file_system(settings: dict[str, str], mount: Callable[..., Path]) -> None:
    point = mount(NAME, settings)
    attempts: list[Callable[[], object]] = [
        lambda: (point / "new").touch(),
        lambda: (point / "new").mkdir(),
        lambda: (point / "hello.txt").write_text("x"),
        lambda: (point / "hello.txt").unlink(),
        lambda: (point / "hello.txt").rename(point / "other"),
        lambda: (point / "hello.txt").chmod(0o777),
        lambda: (point / "new").symlink_to("x"),
        lambda: os.setxattr(point / "hello.txt", "user.x", b"y"),
        lambda: os.utime(point / "hello.txt"),
        lambda: os.truncate(point / "hello.txt", 0),
    ]
    for attempt in attempts:
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == errno.EROFS


def test_magic_attributes_answer(settings: dict[str, str], mount: Callable[..., Path]) -> None:
    settings["CVMFS_MAGIC_XATTRS_VISIBILITY"] = "rootonly"
    point = mount(NAME, settings)
    hello = point / "hello.txt"
    assert os.getxattr(hello, "user.hash") == b"ff049c626904064d641feca0e9936e5b211807c6"
    assert os.getxattr(hello, "user.chunks") == b"1"
    assert os.getxattr(hello, "user.compression") == b"zlib"
    assert os.getxattr(hello, "user.chunk_list").startswith(b"hash,offset,size\nff049c62")
    assert os.getxattr(point, "user.revision") == b"2"
    assert os.getxattr(point / "links" / "var", "xfsroot.rawlink", follow_symlinks=False) == (
        b"$(NEARFS_TEST_FLAVOUR:-default)/x"
    )
    assert "user.fqrn" in os.listxattr(point)
    assert "user.fqrn" not in os.listxattr(hello)
    with pytest.raises(OSError) as caught:
        os.getxattr(hello, "user.no_such_attribute")
    assert caught.value.errno == errno.ENODATA


def test_attributes_that_nobody_stored_are_asked_for_once(
    publisher: Publisher,
    settings: dict[str, str],
    mount: Callable[..., Path],
    server: Callable[[Path], Server],
    tmp_path: Path,
) -> None:
    with_some = mount(NAME, settings)
    with pytest.raises(OSError) as caught:
        os.getxattr(with_some / "hello.txt", "security.selinux")
    assert caught.value.errno == errno.ENODATA

    publisher.create()
    publisher.server("transaction", publisher.fqrn)
    for number in range(200):
        (publisher.union / f"file-{number:03d}").write_text("x")
    publisher.server("publish", publisher.fqrn)
    # The publisher's own mount lies below a union, which has to hear that each file has none.
    with pytest.raises(OSError) as caught:
        os.getxattr(publisher.spool / "rdonly" / "file-000", "system.posix_acl_access")
    assert caught.value.errno == errno.ENODATA
    url = server(publisher.storage.parent).url
    with_none = mount(publisher.fqrn, publisher.client_settings(url, tmp_path / "cache-of-none"))

    def asked() -> int:
        lines = os.getxattr(with_none, "user.nearfs_counters").decode().splitlines()
        return int(dict(line.split(",") for line in lines)["upcall_getxattr"])

    with pytest.raises(OSError) as caught:
        os.getxattr(with_none / "file-000", "system.posix_acl_access")
    assert caught.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError) as caught:
        os.getxattr(with_none / "file-000", "user.no_such_attribute")
    assert caught.value.errno == errno.ENODATA
    before = asked()
    subprocess.run(["ls", "-l", with_none], check=True, capture_output=True, timeout=60)
    assert asked() - before < 10


def test_symlink_variables_come_from_the_configuration(settings: dict[str, str], mount: Callable[..., Path]) -> None:
    settings["NEARFS_TEST_FLAVOUR"] = "spicy"
    point = mount(NAME, settings)
    link = point / "links" / "var"
    assert os.readlink(link) == "spicy/x"
    assert link.lstat().st_size == len("spicy/x")


def test_many_readers_of_one_object_fetch_it_once(
    golden: Golden, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    running = server(golden.repositories[NAME].root)
    point = mount(NAME, golden_settings(golden, NAME, running.url, tmp_path / "cache"))
    before = len(running.requests())
    barrier = threading.Barrier(16)
    contents: list[bytes] = []

    def read() -> None:
        barrier.wait()
        contents.append((point / "big" / "random").read_bytes())

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(contents) == 16
    assert len(set(contents)) == 1
    asked = [line["path"] for line in running.requests()[before:]]
    assert len(asked) == len(set(asked)), "no object was asked for twice"


def test_a_warm_cache_asks_for_the_manifest_only(
    golden: Golden, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    running = server(golden.repositories[NAME].root)
    settings = golden_settings(golden, NAME, running.url, tmp_path / "cache")
    point = mount(NAME, settings)
    content = (point / "hello.txt").read_text()
    mounts.unmount(point)
    before = len(running.requests())
    point = mount(NAME, settings)
    assert (point / "hello.txt").read_text() == content
    asked = {line["path"].rpartition("/")[2] for line in running.requests()[before:]}
    assert asked == {".cvmfspublished"}, "the note of the last root needs no signature"


def test_an_unreachable_server_fails_in_bounded_time(golden: Golden, tmp_path: Path) -> None:
    point, configuration = tmp_path / "mnt", tmp_path / "conf"
    point.mkdir()
    settings = golden_settings(golden, NAME, f"http://127.0.0.1:{free_port()}", tmp_path / "cache")
    configuration.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    failed = processes.run([*CVMFS2, "-o", f"config={configuration}", NAME, point], check=False, limit=40)
    assert failed.returncode == 16
    assert "(16 - file catalog failure)" in failed.stderr
    assert "127.0.0.1" in failed.stderr
    assert not mounts.is_mounted(point)


def test_a_server_that_goes_away_gives_eio_and_recovers(
    golden: Golden, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    from tests.support.serving import serving

    with serving(golden.repositories[NAME].root, tmp_path / "first") as running:
        settings = golden_settings(golden, NAME, running.url, tmp_path / "cache", CVMFS_TIMEOUT_DIRECT="1")
        point = mount(NAME, settings)
        content = (point / "hello.txt").read_text()
        port = running.url.rpartition(":")[2]
    with pytest.raises(OSError) as caught:
        (point / "dup" / "a").read_bytes()
    assert caught.value.errno == errno.EIO
    assert (point / "hello.txt").read_text() == content, "what is cached goes on"
    root = golden.repositories[NAME].root
    command = [sys.executable, "-m", "nearfs.cli.main", "serve", "--port", port, "--root", str(root)]
    with processes.started(command, tmp_path / "second.log"):

        def answers() -> bool:
            try:
                return (point / "dup" / "a").read_bytes() == b"same bytes" * 100
            except OSError:
                return False

        wait_until(answers, 20, "the file can be read again")


def test_help_and_version() -> None:
    assert subprocess.run([*CVMFS2, "--version"], capture_output=True, text=True, check=True).stdout.startswith(
        "CernVM-FS version 2.12.0\n"
    )
    assert "config=FILE" in subprocess.run([*CVMFS2, "-h"], capture_output=True, text=True, check=True).stdout
