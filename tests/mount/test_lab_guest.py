"""A guest with a kernel of its own boots, obeys, mounts over NFS, and leaves nothing behind."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.contenders import nfs
from bench.contenders.guest import POINT, GuestClient, GuestLocal, GuestNearfs
from bench.harness.commands import Command
from bench.harness.contender import Client, Contender, Tree
from bench.harness.result import LineKey
from bench.lab import ganesha, uml
from bench.lab import guest as lab_guest
from bench.lab.guest import Guest, LateError
from bench.lab.guest_command import OUTPUT_LIMIT_BYTES
from bench.lab.line import DEVICE, FAR_ADDRESS, NEAR_ADDRESS, Line
from bench.lab.uml import GuestError
from tests.support.publishing import Publisher
from tests.support.waiting import wait_until

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}

if os.geteuid() != 0:
    pytest.skip("namespaces and devices need root", allow_module_level=True)
if lack := lab_guest.missing():
    pytest.skip(lack, allow_module_level=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """Two namespaces joined by a cable without any delay: delay is what other tests are about."""
    made = Line(LineKey(0, 0), f"nearfs-uml{os.getpid()}", "no relay")
    with contextlib.ExitStack() as stack:
        for namespace in (made.near, made.far):
            ip("netns", "add", namespace)
            stack.callback(ip, "netns", "del", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", made.near, "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", made.far)
        for namespace, address in ((made.near, NEAR_ADDRESS), (made.far, FAR_ADDRESS)):
            ip("-n", namespace, "addr", "add", f"{address}/30", "dev", DEVICE)
            ip("-n", namespace, "link", "set", DEVICE, "up")
        yield made


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory, line: Line) -> Iterator[Guest]:
    """One guest for all tests that leave it as it was."""
    with Guest.boot(tmp_path_factory.mktemp("guest"), line) as running:
        yield running


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    source = tmp_path_factory.mktemp("source")
    for number in range(40):
        (source / f"folder-{number % 4}").mkdir(exist_ok=True)
        (source / f"folder-{number % 4}" / f"file {number}").write_bytes(hashlib.sha256(bytes([number])).digest() * 999)
    (source / "link").symlink_to("folder-0/file 0")
    return Tree("small", source, "unused.example.org", source, source)


def shell(text: str, *, stdin: str = "", limit_s: float = 20) -> Command:
    return Command(("/bin/sh", "-c", text), ENVIRONMENT, stdin, limit_s)


LISTING = r"cd '{tree}' && find . -printf '%y %m %s %p %l\n' | sort; find . -type f | sort | xargs -d '\n' sha256sum"

CONTENT = r"cd '{tree}' && find folder-* -type f | sort | xargs -d '\n' sha256sum; readlink link"


def devices(line: Line) -> str:
    return subprocess.run(line.near_command("ip", "-o", "link"), check=True, capture_output=True, text=True).stdout


def test_a_command_runs_in_another_kernel_and_is_accounted_for(guest: Guest) -> None:
    script = "cat; echo out of the way >&2; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; uname -r; exit 3"
    run = guest.run(shell(script, stdin="in\n"), POINT)
    assert run.exit_code == 3
    said, kernel = run.stdout.splitlines()
    assert said == "in"
    assert kernel != os.uname().release
    assert run.stderr == "out of the way\n"
    assert 0 < run.user_s + run.system_s < run.wall_s + 0.05  # the guest counts ticks of 10 ms
    assert 0 < guest.boot_s < 60


def test_both_places_are_filled_and_scratch_is_new_each_time(guest: Guest) -> None:
    script = "ls -A {scratch} | wc -l; touch {scratch}/mine; echo {tree}"
    assert [guest.run(shell(script), POINT).stdout.split() for _ in range(2)] == [["0", POINT]] * 2


@pytest.mark.parametrize("size", [4095, 300_000])
def test_much_goes_in_and_out_unchanged(guest: Guest, size: int) -> None:
    text = "".join(f"{number} \u00fc\n" for number in range(size // 8))
    assert guest.run(shell("cat", stdin=text), POINT).stdout == text


def test_output_is_capped(guest: Guest) -> None:
    run = guest.run(shell("head -c 3000000 /dev/zero | tr '\\0' x; echo the end >&2"), POINT)
    assert (len(run.stdout), run.stderr) == (OUTPUT_LIMIT_BYTES, "the end\n")


def test_a_program_that_is_not_there_is_named(guest: Guest) -> None:
    with pytest.raises(GuestError, match="no/such/program"):
        guest.run(Command(("/no/such/program",), ENVIRONMENT), POINT)


def test_a_mount_that_fails_says_why(guest: Guest) -> None:
    with pytest.raises(GuestError, match="exit code"):
        guest.mount("ext4", "/dev/ubdz", POINT)


def test_a_command_that_takes_too_long_is_killed(guest: Guest) -> None:
    started = time.monotonic()
    with pytest.raises(LateError, match="still running after 1 s"):
        guest.run(shell("echo $$ >/run/late; sleep 50 & wait", limit_s=1), POINT)
    assert time.monotonic() - started < 10
    assert guest.run(shell("kill -0 $(cat /run/late)"), POINT).exit_code != 0


def test_two_guests_on_one_line_have_addresses_of_their_own(guest: Guest, line: Line, tmp_path: Path) -> None:
    with Guest.boot(tmp_path, line) as second:
        assert second.address != guest.address
        assert second.run(shell("ip -o addr show dev vec0"), POINT).stdout.split()[3] == f"{second.address}/30"


@pytest.mark.parametrize("contender", [nfs.Nfs3(), nfs.Nfs4(), nfs.Nfs3Tuned(), nfs.Nfs4Tuned()], ids=lambda c: c.name)
def test_nfs_shows_the_tree_and_is_counted(contender: Contender, line: Line, tree: Tree, tmp_path: Path) -> None:
    if lack := ganesha.missing():
        pytest.skip(lack)
    here = subprocess.run(
        ["/bin/sh", "-c", LISTING.replace("{tree}", str(tree.source))], check=True, capture_output=True, text=True
    ).stdout
    with contender.serving(tmp_path, line, tree) as serving, contextlib.closing(serving.client()) as client:
        assert client.mount(empty_cache=True) > 0
        mounted = client.counts()
        connections = 4 if "tuned" in contender.name else 1
        assert statistics_of(client).count("xprt:") == connections
        there = client.run(shell(LISTING))
        assert there.stdout == here, there.stderr
        cold = client.counts().since(mounted)
        assert cold.requests is not None
        assert cold.requests >= 40
        assert cold.fetched_bytes is not None
        assert cold.fetched_bytes > 40 * 999 * 32
        client.mount(empty_cache=False)
        again = client.counts()
        assert client.run(shell(LISTING)).stdout == here
        # Nothing was left from before: everything is read anew.
        assert (client.counts().since(again).fetched_bytes or 0) > 40 * 999 * 32
        client.unmount()
        assert (client.counts().requests or 0) >= 2 * cold.requests
        assert client.run(shell("ls -A {tree}")).stdout == ""
    assert "guest2" not in devices(line)


def test_the_local_disk_has_the_same_tree(line: Line, tree: Tree, tmp_path: Path) -> None:
    with GuestLocal().serving(tmp_path, line, tree) as serving, contextlib.closing(serving.client()) as client:
        client.mount(empty_cache=True)
        here = subprocess.run(
            ["/bin/sh", "-c", CONTENT.replace("{tree}", str(tree.source))], check=True, capture_output=True, text=True
        ).stdout
        assert client.run(shell(CONTENT)).stdout == here
        assert client.counts().requests == 0


def test_nearfs_in_the_guest_has_the_same_tree_and_a_cache_that_lasts(
    line: Line, tree: Tree, tmp_path: Path, publisher: Publisher
) -> None:
    publisher.create()
    with publisher.transaction() as union:
        shutil.copytree(tree.source, union, symlinks=True, dirs_exist_ok=True)
    published = Tree("small", tree.source, publisher.fqrn, publisher.storage.parent, publisher.public_key)
    here = subprocess.run(
        ["/bin/sh", "-c", CONTENT.replace("{tree}", str(tree.source))], check=True, capture_output=True, text=True
    ).stdout
    asked: list[int] = []
    with GuestNearfs().serving(tmp_path, line, published) as serving, contextlib.closing(serving.client()) as client:
        for empty in (True, False, True):
            client.mount(empty_cache=empty)
            before = client.counts()
            run = client.run(shell(CONTENT))
            assert run.stdout == here, run.stderr
            counts = client.counts().since(before)
            assert counts.requests is not None
            asked.append(counts.requests)
            assert (counts.upcalls or 0) >= 40
        assert asked[0] >= 40
        assert asked[1:] == [0, asked[0]]


def test_power_off_leaves_no_process_and_no_device(line: Line, tmp_path: Path) -> None:
    before = devices(line)
    guest = Guest.boot(tmp_path, line)
    group = machine_of(guest).process.pid
    assert devices(line) != before
    guest.power_off()
    assert devices(line) == before
    wait_until(lambda: group_is_gone(group), 20, "the guest is gone")
    assert 0 < guest.power_off_s < 10
    with pytest.raises(GuestError, match="powered off"):
        guest.drop_caches()


def test_an_answer_that_nobody_waited_for_is_no_answer_to_the_next_question(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(lab_guest, "_ANSWER_MARGIN_S", -4.5)
        with pytest.raises(GuestError, match=r"did not answer within 0\.5 s"):
            guest.run(shell("sleep 1.5; echo first", limit_s=5), POINT)
    time.sleep(2)
    assert guest.run(shell("cat", stdin="x" * 5000), POINT).stdout == "x" * 5000


@pytest.mark.parametrize("death", ["echo c >/proc/sysrq-trigger", "kill -9 $PPID"])
def test_a_guest_that_dies_is_noticed_at_once_with_its_console(death: str, line: Line, tmp_path: Path) -> None:
    guest = Guest.boot(tmp_path, line)
    process = machine_of(guest).process
    script = f"echo the last words >/dev/console; sleep 0.3; {death}; sleep 30"
    started = time.monotonic()
    with pytest.raises(GuestError, match=r"(?s)the guest ended.*the last words"):
        guest.run(shell(script), POINT)
    assert time.monotonic() - started < 10
    guest.power_off()
    wait_until(lambda: group_is_gone(process.pid), 20, "the guest is gone")


def test_a_guest_whose_owner_was_killed_powers_off(line: Line, tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_OWNER), line.near, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        group = int(owner.stdout.readline())
    finally:
        owner.kill()
        owner.communicate()
    wait_until(lambda: group_is_gone(group), 20, "the guest is gone")
    ip("-n", line.near, "link", "del", "guest2")


_OWNER = """
    import pathlib, sys, time
    from bench.harness.result import LineKey
    from bench.lab.guest import Guest
    from bench.lab.line import Line

    line = Line(LineKey(0, 0), sys.argv[1].removesuffix("-near"), pathlib.Path("unused"))
    guest = Guest.boot(pathlib.Path(sys.argv[2]), line)
    print(guest._machine.process.pid, flush=True)
    time.sleep(60)
"""


def statistics_of(client: Client) -> str:
    assert isinstance(client, GuestClient)
    return client.guest.mountstats()


def machine_of(guest: Guest) -> uml.Machine:
    assert guest._machine is not None
    return guest._machine


def group_is_gone(group: int) -> bool:
    """Tells whether no process of a group lives; ended ones that nobody has waited for do not count."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        states = subprocess.run(["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True, check=False)
        return all(state.startswith("Z") for state in states.stdout.split())
    return True
