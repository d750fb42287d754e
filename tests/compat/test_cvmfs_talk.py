"""`cvmfs_talk` with running mounts: what it answers, and what it says it cannot."""

import os
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfs.client import answers
from tests.mount.test_golden_reading import golden_settings
from tests.support import mounts, processes
from tests.support.golden import NAMES, Golden
from tests.support.serving import Server

NAME = NAMES[0]
HOUR_S = 3600
TALK = [sys.executable, "-m", "nearfs.compat.cvmfs_talk"]
pytestmark = pytest.mark.mount


@pytest.fixture
def mounted(
    golden: Golden, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> tuple[Path, Path]:
    """Returns the mount point and the control socket of a mount, deeper than a socket's address may be long."""
    cache = tmp_path / ("deep-" * 20) / "cache"
    settings = golden_settings(golden, NAME, server(golden.repositories[NAME].root).url, cache)
    settings |= {"CVMFS_TIMEOUT": "7", "CVMFS_TIMEOUT_DIRECT": "11", "CVMFS_QUOTA_LIMIT": "4000"}
    point = mount(NAME, settings)
    return point, cache / NAME / f"cvmfs_io.{NAME}"


def ask(path: Path, *words: str) -> str:
    return processes.run([*TALK, "-p", path, *words]).stdout


def test_the_facts_are_those_of_the_mount(mounted: tuple[Path, Path]) -> None:
    point, path = mounted

    def attribute(name: str) -> str:
        return os.getxattr(point, f"user.{name}").decode()

    assert ask(path, "pid") == f"{attribute('pid')}\n"
    assert ask(path, "mountpoint") == f"{point}\n"
    assert ask(path, "revision") == f"{attribute('revision')}\n"
    assert ask(path, "version") == "2.12.0 (CernVM-FS Fuse Module)\n2.12.0 (Loader)\n"
    assert ask(path, "version", "patchlevel") == "0\n"
    number = os.stat(point).st_dev
    assert ask(path, "device", "id") == f"{os.major(number)}:{os.minor(number)}\n"
    assert ask(path, "host", "info") == f"  [0] {attribute('host')} (unprobed)\nActive host 0: {attribute('host')}\n"
    assert ask(path, "proxy", "info") == "Load-balance groups:\n[0] DIRECT\nActive proxy: [0] DIRECT\n"
    assert ask(path, "timeout", "info") == "Timeout with proxy: 7s\nTimeout without proxy: 11s\n"
    assert ask(path, "max", "ttl", "info") == "unset\n"
    assert ask(path, "cache", "instance") == f"Posix cache manager (cache directory: {path.parent})\n"
    assert ask(path, "cache", "limit", "get") == "4000\n"
    configuration = point.parent / f"{point.name}.conf"
    assert f"CVMFS_TIMEOUT=7    # from {configuration}\n" in ask(path, "parameters")
    assert path.stat().st_mode & 0o777 == 0o660


def test_an_operator_moves_hosts_proxies_and_time_outs(mounted: tuple[Path, Path]) -> None:
    point, path = mounted
    host = os.getxattr(point, "user.host").decode()
    assert ask(path, "host", "set", f"http://127.0.0.1:1/cvmfs/{NAME};{host}") == "OK\n"
    assert ask(path, "host", "info").splitlines()[-1] == f"Active host 0: http://127.0.0.1:1/cvmfs/{NAME}"
    assert ask(path, "host", "switch") == "OK\n"
    assert os.getxattr(point, "user.host").decode() == host
    assert "scheme" in ask(path, "host", "set", "nonsense")
    assert ask(path, "host", "set") == "Usage: host set <host list>\n"
    assert ask(path, "host", "probe", "geo") == "Failed\n", "these hosts do not know where they are"
    assert (point / "hello.txt").read_bytes()

    assert ask(path, "proxy", "set", "http://a:1|http://b:2;DIRECT") == "OK\n"
    info = ask(path, "proxy", "info").splitlines()
    assert info[:3] == ["Load-balance groups:", "[0] http://a:1, http://b:2", "[1] DIRECT"]
    assert re.fullmatch(r"Active proxy: \[0\] http://[ab]:[12]", info[3])
    assert ask(path, "proxy", "rebalance") == "OK\n"
    assert ask(path, "proxy", "group", "switch") == "OK\n"
    assert ask(path, "proxy", "info").splitlines()[-1] == "Active proxy: [1] DIRECT"
    assert ask(path, "proxy", "fallback", "http://f:3") == "OK\n"
    assert ask(path, "proxy", "info").splitlines()[-1] == "First fallback group: [1]"
    assert ask(path, "proxy", "set", "socks://x") == "Failed, no valid proxies\n"

    assert ask(path, "timeout", "set", "3", "4") == "OK\n"
    assert ask(path, "timeout", "info") == "Timeout with proxy: 3s\nTimeout without proxy: 4s\n"
    assert ask(path, "timeout", "set", "3") == "Usage: timeout set <proxy> <direct>\n"
    assert ask(path, "nameserver", "get") == "DNS server not set.\n"
    assert ask(path, "nameserver", "set", "192.0.2.53") == "OK\n"
    assert ask(path, "nameserver", "get") == "DNS server address: 192.0.2.53\n"
    assert "no address" in ask(path, "nameserver", "set", "ns.example.org")


def test_hosts_are_probed_and_sorted(mounted: tuple[Path, Path]) -> None:
    point, path = mounted
    host, dead = os.getxattr(point, "user.host").decode(), f"http://127.0.0.1:1/cvmfs/{NAME}"
    assert ask(path, "host", "set", f"{dead};{host}") == "OK\n"
    assert ask(path, "host", "info").splitlines()[0] == f"  [0] {dead} (unprobed)"
    assert ask(path, "host", "probe") == "OK\n"
    first, second, active = ask(path, "host", "info").splitlines()
    assert re.fullmatch(rf"  \[0\] {re.escape(host)} \(\d+ ms\)", first)
    assert second == f"  [1] {dead} (host down)"
    assert active == f"Active host 0: {host}"


def test_errors_are_forgotten_on_demand(mounted: tuple[Path, Path], golden: Golden) -> None:
    point, path = mounted

    def count() -> tuple[int, int]:
        return int(os.getxattr(point, "user.nioerr")), int(os.getxattr(point, "user.timestamp_last_ioerr"))

    assert ask(path, "timeout", "set", "1", "1") == "OK\n"
    assert ask(path, "host", "set", f"http://127.0.0.1:1/cvmfs/{NAME}") == "OK\n"
    with pytest.raises(OSError, match="Input/output error"):
        (point / "hello.txt").read_bytes()
    errors, moment = count()
    assert errors >= 1
    assert abs(moment - time.time()) < HOUR_S
    assert ask(path, "reset", "error", "counters") == "OK\n"
    assert count() == (0, 0)


def test_internal_affairs_count_what_happens(mounted: tuple[Path, Path]) -> None:
    point, path = mounted

    def opens() -> int:
        lines = ask(path, "internal", "affairs").splitlines()
        assert lines[lines.index("Raw Counters:") + 1] == "Name|Value|Description"
        return int(next(line.split("|")[1] for line in lines if line.startswith("opens|")))

    before = opens()
    (point / "hello.txt").read_bytes()
    assert opens() == before + 1


def test_the_cache_is_measured_listed_and_cleaned(mounted: tuple[Path, Path]) -> None:
    point, path = mounted

    def used_bytes() -> int:
        found = re.fullmatch(
            r"Current cache size is (\d+)MB \((\d+) Bytes\), pinned: (\d+)MB \((\d+) Bytes\)\n",
            ask(path, "cache", "size"),
        )
        assert found is not None
        assert int(found[1]) == int(found[2]) >> 20
        return int(found[2])

    (point / "hello.txt").read_bytes()
    content = "/hello.txt"
    root = f"file catalog at {point.name}:/ ({os.getxattr(point, 'user.root_hash').decode()})"
    assert content in ask(path, "cache", "list").splitlines()
    catalogs = ask(path, "cache", "list", "catalogs").splitlines()
    assert root in catalogs
    assert content not in catalogs
    assert set(ask(path, "cache", "list", "pinned").splitlines()) <= set(catalogs)
    before = used_bytes()
    assert ask(path, "cleanup", "4000") == "OK\n"
    assert used_bytes() == before
    made = int(ask(path, "cleanup", "rate", "60"))
    ask(path, "cleanup", "0")
    assert used_bytes() < before
    assert content not in ask(path, "cache", "list").splitlines()
    assert int(ask(path, "cleanup", "rate", "60")) == made + 1
    assert ask(path, "cleanup", "lots") == "unknown command\n"
    assert ask(path, "cleanup", "-1") == "unknown command\n"


def test_mounts_of_one_repository_have_a_socket_each(
    golden: Golden, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    url = server(golden.repositories[NAME].root).url
    settings = golden_settings(golden, NAME, url, tmp_path / "cache", CVMFS_SHARED_CACHE="yes")
    first, second = (mount(NAME, settings) for _ in range(2))
    path = tmp_path / "cache" / "shared" / f"cvmfs_io.{NAME}"
    (beside,) = path.parent.glob(f"{path.name}.*")
    assert ask(path, "mountpoint") == f"{first}\n"
    assert ask(beside, "mountpoint") == f"{second}\n"
    mounts.unmount(second)
    assert ask(path, "mountpoint") == f"{first}\n"


@pytest.mark.parametrize("command", sorted(answers.NOT_YET))
def test_what_cannot_be_done_is_one_sentence(command: str) -> None:
    one = answers.Answers(*(None,) * 5)  # type: ignore[arg-type] # such an answer needs no facts
    reply = one(f"{command} 1 2")
    assert reply == f"'{command} 1 2' is not available in this version of nearfs: {answers.NOT_YET[command]}\n"


def test_unknown_commands_and_silent_callers_do_no_harm(mounted: tuple[Path, Path]) -> None:
    _, path = mounted
    with socket.socket(socket.AF_UNIX) as silent:
        descriptor = os.open(path.parent, os.O_PATH)
        silent.connect(f"/proc/self/fd/{descriptor}/{path.name}")
        assert ask(path, "nonsense") == "unknown command\n"
        os.close(descriptor)
    assert ask(path, "x" * 1000) == "unknown command\n"


def test_nobody_there_is_said_with_exit_code_1(mounted: tuple[Path, Path], tmp_path: Path) -> None:
    point, _ = mounted
    mounts.unmount(point)
    done = processes.run([*TALK, "-p", tmp_path / "cvmfs_io.x", "pid"], check=False)
    assert done.returncode == 1
    assert done.stderr == f"Seems like CernVM-FS is not running in {tmp_path} (not found: {tmp_path}/cvmfs_io.x)\n"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    done = processes.run([*TALK, "-p", tmp_path / "left", "pid"], check=False)
    assert (done.returncode, "Could not access" in done.stderr) == (1, True)


def test_an_unknown_owner_is_an_illegal_option(golden: Golden, tmp_path: Path) -> None:
    configuration, point = tmp_path / "conf", tmp_path / "mnt"
    point.mkdir()
    settings = golden_settings(golden, NAME, "http://127.0.0.1:1", tmp_path / "cache", CVMFS_TALK_OWNER="nobody-here")
    configuration.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    command = [sys.executable, "-m", "nearfs.compat.cvmfs2", "-o", f"config={configuration}", NAME, str(point)]
    done = processes.run(command, check=False)
    assert done.returncode == 2
    assert "unknown owner of cvmfs_talk socket: nobody-here (2 - illegal options)" in done.stderr


def test_files_are_kept_and_let_go_by_their_paths(mounted: tuple[Path, Path]) -> None:
    point, path = mounted
    cache = path.parent
    hello = point / "hello.txt"
    digest = os.getxattr(hello, "user.hash").decode()
    cached = cache / digest[:2] / digest[2:]
    assert ask(path, "pin", "/hello.txt") == "OK\n"
    assert cached.exists()
    assert "/hello.txt" in ask(path, "cache", "list", "pinned").splitlines()
    assert ask(path, "cleanup", "0") == "Not fully cleaned (there might be pinned chunks)\n"
    assert cached.exists()
    other = next(
        entry for entry in sorted(point.rglob("*")) if entry.is_file() and entry.stat().st_size and entry != hello
    )
    other.read_bytes()
    assert ask(path, "evict", f"/{other.relative_to(point)}") == "OK\n"
    if os.getxattr(other, "user.chunks") == b"1":
        assert os.getxattr(other, "user.lhash") == b"Not in cache"
    for wrong in ("/", "/no such file", "hello.txt/x", "//", "relative"):
        assert ask(path, "evict", wrong) == "No such regular file\n", wrong
    assert ask(path, "pin", "/none") == "No such regular file or pinning failed\n"
    assert ask(path, "evict") == "Usage: evict <path>\n"
    assert ask(path, "cache", "limit", "set", "999") == "New limit too low (minimum 1000)\n"
    assert ask(path, "cache", "limit", "set", "1500") == "OK\n"
    assert os.statvfs(point).f_blocks * 512 == 1500 << 20
