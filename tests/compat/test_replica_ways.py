"""Replicas as sites run them: by a user, behind a proxy, collected after each snapshot, beside other commands."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import processes, replicas
from tests.support.owners import USER, owned
from tests.support.proxying import proxying
from tests.support.publishing import Publisher, command
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]
LIMIT_S = 60.0


def test_a_user_keeps_a_replica(publisher: Publisher, server: Callable[[Path], Server]) -> None:
    publisher.create("-z")
    replicas.publish(publisher, 1)
    url = f"{server(publisher.storage.parent).url}/cvmfs/{publisher.fqrn}"
    with owned(publisher.fqrn) as replica:
        key = replica.prefix / "master.pub"
        key.write_bytes(publisher.public_key.read_bytes())
        key.chmod(0o644)
        replica.root("add-replica", "-p", "-z", "-o", USER, url, key)
        assert replica.foreign() == []
        told = replica.server("snapshot", publisher.fqrn).stdout
        assert "Initial snapshot" in told
        replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
        assert replica.foreign() == []
        for as_root in (True, False):
            replicas.publish(publisher, 2 + as_root)
            (replica.root if as_root else replica.server)("snapshot", publisher.fqrn)
            assert replicas.named_files(replica.storage) == replicas.named_files(publisher.storage)
            assert replica.foreign() == []
        replicas.publish(publisher, 4)
        replica.root("snapshot", "-a", "-n")
        assert "ERROR" not in (replica.prefix / "var/log/cvmfs/snapshots.log").read_text()
        assert replicas.named_files(replica.storage) == replicas.named_files(publisher.storage)
        replica.root("gc", "-f", "-r", "0", publisher.fqrn)
        replica.root("check", publisher.fqrn)
        assert replica.foreign() == []
        stranger = ["setpriv", "--reuid=4712", "--regid=4712", "--clear-groups", "--inh-caps=-all"]
        refused = replica.run(*stranger, *command("snapshot", publisher.fqrn), as_root=True, check=False)
        assert (refused.returncode, f"is owned by {USER}" in refused.stderr) == (1, True), refused
        # A key that only root can read is said to be one.
        key.chmod(0o600)
        refused = replica.server("snapshot", publisher.fqrn, check=False)
        assert (refused.returncode, f"cannot read {key}" in refused.stderr) == (1, True), refused


def test_what_a_snapshot_leaves_behind_is_collected(
    publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path
) -> None:
    publisher.create("-z", "-g")
    replicas.publish(publisher, 1)
    url = server(publisher.storage.parent).url
    replica = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn, "-z")
    told = replica.server("snapshot", publisher.fqrn).stdout
    assert "Running automatic garbage collection" in told
    first = replicas.objects(replica.storage)
    replicas.publish(publisher, 2)
    # Nothing is old enough yet, by what is kept and by how often is looked.
    assert "garbage collection" not in replica.server("snapshot", publisher.fqrn).stdout
    assert first.items() <= replicas.objects(replica.storage).items()
    replica.configure({"CVMFS_AUTO_GC_TIMESPAN": "now", "CVMFS_AUTO_GC_LAPSE": "tomorrow"})
    replicas.publish(publisher, 3)
    told = replica.server("snapshot", publisher.fqrn).stdout
    assert "Running automatic garbage collection" in told
    assert not first.items() <= replicas.objects(replica.storage).items()
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
    assert replicas.named_files(replica.storage) == replicas.named_files(publisher.storage)
    # A collection that fails does not take the snapshot with it.
    replica.configure({"CVMFS_AUTO_GC_LAPSE": "nonsense"})
    assert "automatic garbage collection failed" in replica.server("snapshot", publisher.fqrn).stdout


def test_a_replica_asks_through_its_proxy(
    publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path
) -> None:
    publisher.create()
    replicas.publish(publisher, 1)
    source = server(publisher.storage.parent)
    with proxying() as proxy:
        replica = replicas.add(tmp_path / "s1", source.url, publisher.public_key, publisher.fqrn, "-x", proxy.url)
        assert [asked.rpartition("/")[2] for asked in proxy.asked] == [".cvmfspublished", ".cvmfs_master_replica"]
        replica.server("snapshot", publisher.fqrn)
        assert len(proxy.asked) == len(source.requests())
        assert all(asked.startswith(f"{source.url}/cvmfs/{publisher.fqrn}/") for asked in proxy.asked)
        replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
        proxy.is_broken = True
        failed = replica.server("snapshot", publisher.fqrn, check=False)
        assert (failed.returncode, "again when it answers" in failed.stderr) == (1, True), failed.stderr
        assert len(proxy.asked) > len(source.requests()), "nobody is asked but through the proxy"


def test_one_snapshot_at_a_time(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    is_asked, may_answer = threading.Event(), threading.Event()

    def serves(path: str) -> bool:
        if "/data/" in path:
            is_asked.set()
            may_answer.wait(LIMIT_S)
        return True

    with replicas.source(publisher, serves) as url:
        replica = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn)
        for what in ("an initial snapshot", "another update"):
            is_asked.clear()
            may_answer.clear()
            replicas.publish(publisher, 1 if what == "another update" else 2)
            log, waiting_log = tmp_path / f"log-{what}", tmp_path / f"waiting-{what}"
            words = command("snapshot", publisher.fqrn)
            with processes.started(words, log, env=replica.environment) as first:
                assert is_asked.wait(LIMIT_S)
                refused = replica.server("snapshot", "-t", publisher.fqrn, check=False)
                assert (refused.returncode, f"{what} is in progress... aborting" in refused.stderr) == (1, True), (
                    refused
                )
                if what == "an initial snapshot":
                    # The reference does not wait for an initial one either: it may take days.
                    refused = replica.server("snapshot", publisher.fqrn, check=False)
                    assert f"{what} is in progress... aborting" in refused.stderr
                    may_answer.set()
                    assert first.wait(LIMIT_S) == 0, log.read_text()
                    continue
                with processes.started(words, waiting_log, env=replica.environment) as second:
                    said = "waiting for another update to finish..."
                    wait_until(lambda: said in waiting_log.read_text(), LIMIT_S, "the second one waits")  # noqa: B023
                    assert second.poll() is None
                    may_answer.set()
                    assert (first.wait(LIMIT_S), second.wait(LIMIT_S)) == (0, 0), waiting_log.read_text()
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
    assert replicas.named_files(replica.storage) == replicas.named_files(publisher.storage)


def test_a_script_pulls_parts_of_a_repository(
    publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path
) -> None:
    publisher.create("-z", "-g")
    replicas.publish(publisher, 1)
    storage, spool, rules = tmp_path / "storage", tmp_path / "spool", tmp_path / "rules"
    spool.mkdir()
    processes.run([*command("skeleton", storage)], limit=LIMIT_S)

    def pull(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        url = f"{server(publisher.storage.parent).url}/cvmfs/{publisher.fqrn}"
        line: list[str | Path] = [
            "-u",
            url,
            "-m",
            publisher.fqrn,
            "-r",
            f"local,{storage}/data/txn,{storage}",
            "-x",
            spool,
        ]
        verb: list[str | Path] = [sys.executable, "-m", "nearfs.compat.cvmfs_swissknife", "pull", *line]
        return processes.run([*verb, "-k", publisher.public_key, *words], check=check, limit=LIMIT_S)

    rules.write_text("/a\n!/a/b\n")
    told = pull("-n", "4", "-t", "10", "-a", "1", "-d", rules).stdout
    assert "Starting 4 workers" in told
    some, whole = replicas.objects(storage), replicas.objects(publisher.storage)
    assert some.items() < whole.items()
    assert replicas.holes(storage, tmp_path) != [], "a part is a part"
    assert (storage / ".cvmfspublished").read_bytes() == (publisher.storage / ".cvmfspublished").read_bytes()
    # Without the rules, what was left out comes.
    pull("-i")
    assert replicas.holes(storage, tmp_path) == []
    # The revisions since then come as well, as far back as is asked for; the last two have tags of their own.
    roots = []
    for moment, first in ((str(int(time.time()) + 3600), 2), ("0", 5)):
        for number in range(first, first + 3):
            replicas.publish(publisher, number)
            roots.append(publisher.tags()["trunk"][0] + "C")
        pull("-Z", moment)
    assert [root for root in roots if root not in replicas.objects(storage)] == [roots[0]]
    missing = pull("-d", tmp_path / "nothing", check=False)
    assert (missing.returncode, "nothing" in missing.stderr) == (1, True), missing.stderr
