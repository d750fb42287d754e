"""Snapshots in trouble: killed, without power, with a source that lacks, damages or changes what it serves."""

import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.format import check
from tests.support import processes, replicas
from tests.support.publishing import Publisher, command
from tests.support.serving import Server

pytestmark = [pytest.mark.mount, pytest.mark.timeout(600)]
LONG = os.environ.get("NEARFS_LONG_TESTS") == "1"
KILLS = 30 if LONG else 6


def test_a_killed_snapshot_goes_on_and_never_has_a_hole(
    publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path
) -> None:
    publisher.create()
    for number in range(1, 4):
        replicas.publish(publisher, number, "-a", f"tag{number}")
    url = server(publisher.storage.parent).url
    untouched = replicas.add(tmp_path / "whole", url, publisher.public_key, publisher.fqrn)
    untouched.server("snapshot", publisher.fqrn)
    replica = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn)
    draw = random.Random(7)
    killed = 0
    for _ in range(KILLS * 3):
        running = subprocess.Popen(
            [*command("snapshot", publisher.fqrn)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=processes.marked_environment(replica.environment),
            start_new_session=True,
        )
        try:
            running.wait(draw.uniform(0.1, 0.7))
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(60)
            killed += 1
        assert replicas.holes(replica.storage, tmp_path) == []
        if (replica.storage / ".cvmfspublished").exists():
            assert check.check_repository(replica.storage, [publisher.public_key.read_bytes()], replica.fqrn) == []
        if killed == KILLS:
            break
        if running.returncode == 0:  # it was faster: from the start
            replica.server("rmfs", "-f", publisher.fqrn)
            replica = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn)
    assert killed
    replica.server("snapshot", publisher.fqrn)
    assert replicas.objects(replica.storage) == replicas.objects(untouched.storage)
    assert replicas.named_files(replica.storage) == replicas.named_files(untouched.storage)
    assert not list((replica.storage / "data" / "txn").iterdir())
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)


def lose_power(replica: Publisher) -> None:
    """Leaves a replica as a machine that went down in the middle of its first snapshot."""
    (replica.spool / "pulling").write_text("the id of another boot")
    for file in (".cvmfspublished", ".cvmfsreflog", ".cvmfs_last_snapshot"):
        (replica.storage / file).unlink(missing_ok=True)
    (replica.spool / "reflog.chksum").unlink(missing_ok=True)


def one_of_each_kind(replica: Publisher, root_hash: str) -> set[str]:
    """Returns keys of files small and large, chunks, root and nested catalogs, and what the manifest names itself."""
    stored = replicas.objects(replica.storage)
    found = {root_hash + "C"}
    for suffix in "PCHXM":
        found |= set(random.Random(3).sample(sorted(key for key in stored if key.endswith(suffix)), 1))
    plain = sorted((len(stored[key]), key) for key in stored if len(key) == 40)
    return found | {plain[0][1], plain[-1][1]}


@pytest.mark.parametrize("left", ["nothing", "other bytes"])
def test_what_a_power_cut_left_is_not_believed(
    publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path, left: str
) -> None:
    publisher.create()
    replicas.publish(publisher, 1)
    with publisher.transaction("-a", "large") as tree:
        (tree / "large").write_bytes(random.Random(1).randbytes(3 << 20))
    url = server(publisher.storage.parent).url
    replica = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn)
    replica.server("snapshot", publisher.fqrn)
    whole = replicas.objects(replica.storage)
    # Names are there, contents are not: empty files, or blocks of the right length that were never written.
    damaged = one_of_each_kind(replica, publisher.tags()["trunk"][0])
    lose_power(replica)
    for key in damaged:
        content = b"" if left == "nothing" else bytes(len(whole[key]))
        (replica.storage / "data" / key[:2] / key[2:]).write_bytes(content)
    # A snapshot that fails early has verified nothing: the next one still has to.
    publisher.server("alterfs", "-m", "off", publisher.fqrn)
    assert "verifying what it left" in replica.server("snapshot", publisher.fqrn, check=False).stdout
    publisher.server("alterfs", "-m", "on", publisher.fqrn)
    told = replica.server("snapshot", publisher.fqrn).stdout
    assert "verifying what it left" in told
    assert replicas.objects(replica.storage) == whole
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
    assert "verifying" not in replica.server("snapshot", publisher.fqrn).stdout


def test_damage_at_the_source_leaves_the_old_revision_whole(
    publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path
) -> None:
    publisher.create()
    replicas.publish(publisher, 1)
    url = server(publisher.storage.parent).url
    replica = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn)
    replica.server("snapshot", publisher.fqrn)
    manifest = (replica.storage / ".cvmfspublished").read_bytes()
    before = replicas.objects(publisher.storage)
    replicas.publish(publisher, 2)
    new = sorted(replicas.objects(publisher.storage).keys() - before.keys())
    plain = next(key for key in new if len(key) == 40)
    victim = publisher.storage / "data" / plain[:2] / plain[2:]
    content = victim.read_bytes()
    for damage, sentence in ((b"damaged", "what came has hash"), (None, "404")):
        victim.unlink() if damage is None else victim.write_bytes(damage)
        failed = replica.server("snapshot", publisher.fqrn, check=False)
        assert (failed.returncode, sentence in failed.stderr, plain[2:] in failed.stderr) == (1, True, True)
        assert (replica.storage / ".cvmfspublished").read_bytes() == manifest
        assert replicas.holes(replica.storage, tmp_path) == []
        replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
    victim.write_bytes(content)
    replica.server("snapshot", publisher.fqrn)
    assert replicas.named_files(replica.storage) == replicas.named_files(publisher.storage)
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)


def test_a_source_that_is_published_and_collected_meanwhile(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create("-z", "-g")
    replicas.publish(publisher, 1)
    moves: list[str] = []

    lock = threading.Lock()

    def serves(path: str) -> bool:
        with lock:
            if "/data/" in path and not path.endswith(("C", "X", "H", "M")) and not moves:
                moves.append(path)
                for number in (2, 3):
                    replicas.publish(publisher, number)
                publisher.server("gc", "-f", "-r", "0", publisher.fqrn)
        return True

    with replicas.source(publisher, serves) as url:
        replica = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn)
        done = replica.server("snapshot", publisher.fqrn)
    assert len(moves) == 1
    assert "asking the source again" in done.stdout
    assert replicas.holes(replica.storage, tmp_path) == []
    assert replicas.named_files(replica.storage) == replicas.named_files(publisher.storage)
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)


@pytest.mark.parametrize("suffix", ["M", "H", "X"])
def test_nothing_is_shown_without_what_its_manifest_names(publisher: Publisher, tmp_path: Path, suffix: str) -> None:
    publisher.create("-z")
    replicas.publish(publisher, 1)
    is_lacking, is_under_way, is_said = threading.Event(), threading.Event(), threading.Event()
    asked: list[str] = []

    def serves(path: str) -> bool:
        """Lacks one object, and says so while a revision before the newest comes, which could be passed over."""
        if not is_lacking.is_set() or "/data/" not in path:
            return True
        if not path.endswith(("C", "H", "M", "X")):
            is_under_way.set()
            is_said.wait(2)
        if not path.endswith(suffix):
            return True
        asked.append(path)
        if suffix == "X" and len(asked) % 2:
            return True  # the certificate that the manifest is checked with, before anything is brought over
        is_under_way.wait(2)
        threading.Timer(0.3, is_said.set).start()
        return False

    with replicas.source(publisher, serves) as url:
        replica = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn)
        replica.server("snapshot", publisher.fqrn)
        manifest = (replica.storage / ".cvmfspublished").read_bytes()
        for number in (2, 3):
            replicas.publish(publisher, number)
        for present in (replica.storage / "data").glob(f"??/*{suffix}"):
            present.unlink()
        is_lacking.set()
        failed = replica.server("snapshot", publisher.fqrn, check=False)
        assert (failed.returncode, "what its manifest itself names did not come" in failed.stderr) == (1, True)
        assert asked[-1].rpartition("/")[2] in failed.stderr
        assert (replica.storage / ".cvmfspublished").read_bytes() == manifest
        is_lacking.clear()
        replica.server("snapshot", publisher.fqrn)
    assert replicas.named_files(replica.storage) == replicas.named_files(publisher.storage)
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)


def test_a_source_that_does_not_answer_is_asked_again_later(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    machine = Publisher(tmp_path / "s1", publisher.fqrn)
    with replicas.source(publisher, lambda _: True) as url:
        words = ("add-replica", "-p", "-o", "root", f"{url}/cvmfs/{publisher.fqrn}", publisher.public_key)
        told = machine.server(*words).stdout
    assert f"The replica is empty. Run 'cvmfs_server snapshot {publisher.fqrn}' for the initial replica" in told
    assert "'cvmfs_server snapshot -a'" in told
    failed = machine.server("snapshot", publisher.fqrn, check=False)
    way_out = f"run 'cvmfs_server snapshot {publisher.fqrn}' again when it answers"
    assert (failed.returncode, url in failed.stderr, way_out in failed.stderr) == (1, True, True), failed.stderr
    assert not (machine.storage / ".cvmfspublished").exists()


def test_a_source_that_is_new_each_time_is_left_alone(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    revisions = 1

    def serves(path: str) -> bool:
        nonlocal revisions
        if is_changing.is_set() and path.endswith("/.cvmfspublished"):
            revisions += 1
            replicas.publish(publisher, revisions)
        return not (is_changing.is_set() and path.endswith("P"))

    is_changing = threading.Event()
    with replicas.source(publisher, serves) as url:
        replica = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn)
        is_changing.set()
        failed = replica.server("snapshot", publisher.fqrn, check=False)
        assert (failed.returncode, "changes faster than it can be read" in failed.stderr) == (1, True), failed.stderr
        assert (revisions, failed.stdout.count("asking the source again")) == (4, 2)
        is_changing.clear()
        replica.server("snapshot", publisher.fqrn)
    assert replicas.named_files(replica.storage) == replicas.named_files(publisher.storage)
