"""A stratum 1 as its operator uses it: add-replica, snapshot, and what they must never do."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.format.listing import list_tree
from tests.support import processes, replicas
from tests.support.golden import Golden
from tests.support.publishing import Publisher
from tests.support.serving import Server

pytestmark = [pytest.mark.mount, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", ["golden.example.org", "golden-shake.example.org"])
def test_golden_repositories_replicate_byte_for_byte(
    golden: Golden, server: Callable[[Path], Server], tmp_path: Path, name: str
) -> None:
    source = golden.repositories[name]
    url = server(source.root).url
    replica = replicas.add(tmp_path / "s1", url, source.public_key, name)
    told = replica.server("snapshot", name).stdout
    assert "Initial snapshot\n" in told
    assert f"CernVM-FS: replicating from {url}/cvmfs/{name}\n" in told
    here, there = replicas.objects(replica.storage), replicas.objects(source.storage)
    assert here.items() <= there.items()
    replicas.assert_sound(replica, name, source.public_key)
    for file in (".cvmfspublished", ".cvmfswhitelist"):
        assert (replica.storage / file).read_bytes() == (source.storage / file).read_bytes()
    for file in (".cvmfs_last_snapshot", ".cvmfs_status.json", ".cvmfsreflog"):
        assert (replica.storage / file).exists()
    assert not (replica.storage / ".cvmfs_is_snapshotting").exists()
    listed = json.loads((tmp_path / "s1/srv/cvmfs/info/v1/repositories.json").read_text())
    assert (listed["repositories"], listed["replicas"]) == ([], [{"name": name, "url": f"/cvmfs/{name}"}])


def test_a_replica_follows_its_source(
    publisher: Publisher,
    server: Callable[[Path], Server],
    mount: Callable[..., Path],
    tmp_path: Path,
) -> None:
    publisher.create("-z")
    replicas.publish(publisher, 1, "-a", "first")
    source = server(publisher.storage.parent)
    replica = replicas.add(tmp_path / "s1", source.url, publisher.public_key, publisher.fqrn, "-g", "night")
    assert replica.server("list").stdout == f"{publisher.fqrn} (stratum1 / local - whitelist unreachable)\n"
    replica.server("snapshot", publisher.fqrn)
    assert replica.server("list").stdout == f"{publisher.fqrn} (stratum1 / local)\n"

    # Nothing new costs a connection and one round trip: three requests side by side.
    asked = len(source.requests())
    replica.server("snapshot", publisher.fqrn)
    last = sorted(str(request["path"]).rsplit("/", 1)[-1] for request in source.requests()[asked:])
    assert last == [".cvmfs_master_replica", ".cvmfspublished", ".cvmfswhitelist"]

    # The revisions in between come as well, and only what is new is asked for.
    for number in range(2, 5):
        replicas.publish(publisher, number)
    asked, before = len(source.requests()), replicas.objects(replica.storage)
    replica.server("snapshot", publisher.fqrn)
    keys = [str(request["path"]).partition("/data/")[2].replace("/", "") for request in source.requests()[asked:]]
    assert not before.keys() & set(keys)
    assert len(keys) == len(set(keys)) + keys.count("") - 1, "each object once"
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
    assert replicas.named_files(replica.storage) == replicas.named_files(publisher.storage)
    roots = [line.split()[1] for line in publisher.server("tag", "-l", "-x", publisher.fqrn).stdout.splitlines()]
    assert all((replica.storage / "data" / root[:2] / f"{root[2:]}C").exists() for root in roots)
    mirror = server(replica.storage.parent)
    shown = mount(publisher.fqrn, publisher.client_settings(mirror.url, tmp_path / "cache"))
    assert sorted(path.name for path in shown.iterdir()) == sorted(path.name for path in publisher.union.iterdir())
    assert (shown / "big").read_bytes() == (publisher.union / "big").read_bytes()

    # A replica collects by itself, and what it shows stays.
    done = replica.server("gc", "-f", "-r", "0", publisher.fqrn)
    assert "done garbage collecting" in done.stdout
    assert len(replicas.objects(replica.storage)) <= len(before) + len(keys)
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
    trunk = publisher.tags()["trunk"][0]
    assert list_tree(replica.storage, trunk) == list_tree(publisher.storage, trunk)


def test_a_part_of_a_repository_is_kept_checked_collected_and_widened(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher.create("-z")
    replicas.publish(publisher, 1)
    source = server(publisher.storage.parent)
    replica = replicas.add(tmp_path / "s1", source.url, publisher.public_key, publisher.fqrn)
    rules = tmp_path / "paths"
    rules.write_text("# not what is below a\n/a\n!/a/b*\n")
    conf = replica.prefix / "etc/cvmfs/repositories.d" / publisher.fqrn / "replica.conf"
    conf.write_text(f"{conf.read_text()}NEARFS_REPLICA_PATHS={rules}\n")
    replica.server("snapshot", publisher.fqrn)
    some, whole = replicas.objects(replica.storage), replicas.objects(publisher.storage)
    catalogs = [len([key for key in objects if key.endswith("C")]) for objects in (some, whole)]
    assert some.items() < whole.items()
    assert catalogs[0] < catalogs[1]
    assert "no problems found" in replica.server("check", publisher.fqrn).stdout

    # A client whose nearest server is partial gets the rest from the other one.
    near, far = server(replica.storage.parent).url, source.url
    shown = mount(publisher.fqrn, publisher.client_settings(f"{near};{far}", tmp_path / "cache"))
    for place in ("a/f1", "a/b/f1", "c1/f1", "big"):
        assert (shown / place).read_bytes() == (publisher.union / place).read_bytes()

    # The next revision comes in part as well, and what went is collected.
    replicas.publish(publisher, 2)
    replicas.publish(publisher, 3)
    replica.server("snapshot", publisher.fqrn)
    assert "done garbage collecting" in replica.server("gc", "-f", "-r", "0", publisher.fqrn).stdout
    assert "no problems found" in replica.server("check", publisher.fqrn).stdout
    assert replicas.holes(replica.storage, tmp_path) != [], "a part is a part"

    # Other rules: everything is looked at again, and only what was missing comes.
    before = replicas.objects(replica.storage)
    rules.write_text("")
    asked = len(source.requests())
    replica.server("snapshot", publisher.fqrn)
    keys = {str(request["path"]).partition("/data/")[2].replace("/", "") for request in source.requests()[asked:]}
    assert not before.keys() & keys
    assert replicas.holes(replica.storage, tmp_path) == []
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
    rules.write_text("relative\n")
    refused = replica.server("snapshot", publisher.fqrn, check=False)
    assert (refused.returncode, "a path begins with /" in refused.stderr) == (1, True)


def test_refusals_say_why(publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path) -> None:
    publisher.create()
    source = server(publisher.storage.parent)
    url, fqrn, key = f"{source.url}/cvmfs/{publisher.fqrn}", publisher.fqrn, publisher.public_key
    machine = Publisher(tmp_path / "s1", fqrn)

    def refused(*words: str | Path) -> str:
        done = machine.server(*words, check=False)
        assert done.returncode == 1
        return done.stderr

    publisher.server("alterfs", "-m", "off", fqrn)
    assert f"does not point to a replicable master copy of {fqrn}" in refused(
        "add-replica", "-p", "-o", "root", url, key
    )
    publisher.server("alterfs", "-m", "on", fqrn)
    nowhere = f"{source.url}/cvmfs/nothing.example.org"
    assert f"Failed to access Stratum0 repository at {nowhere}" in refused(
        "add-replica", "-p", "-o", "root", nowhere, key
    )
    assert "there is no such public key" in refused("add-replica", "-p", "-o", "root", url, tmp_path / "no.pub")
    mutually = "Pass-through repository and garbage collection are mutually exclusive"
    assert mutually in refused("add-replica", "-p", "-P", "-z", "-o", "root", url)
    replica = replicas.add(tmp_path / "s1", source.url, key, fqrn)
    assert "There is already a Stratum1 repository" in refused("add-replica", "-p", "-o", "root", url, key)
    for name in ("transaction", "publish", "tag"):
        assert f"Repository {fqrn} is not a stratum 0 repository" in refused(name, fqrn)
    there = publisher.server("snapshot", fqrn, check=False)
    assert (there.returncode, f"Repository {fqrn} is not a stratum 1 repository" in there.stderr) == (1, True)
    here = publisher.server("add-replica", "-p", "-o", "root", url, key, check=False)
    assert f"Repository {fqrn} already exists as a Stratum0 repository." in here.stderr

    # Somebody else's key; a source that went back; a source that forbids replicas meanwhile.
    conf = replica.prefix / "etc/cvmfs/repositories.d" / fqrn / "replica.conf"
    text = conf.read_text()
    forged = tmp_path / "forged.pub"
    subprocess.run(["openssl", "genrsa", "-out", tmp_path / "k", "2048"], check=True, capture_output=True)
    subprocess.run(
        ["openssl", "rsa", "-in", tmp_path / "k", "-pubout", "-out", forged], check=True, capture_output=True
    )
    conf.write_text(text.replace(str(key), str(forged)))
    assert "verify whitelist" in refused("snapshot", fqrn)
    assert not (replica.storage / ".cvmfspublished").exists()
    conf.write_text(text)
    old = (publisher.storage / ".cvmfspublished").read_bytes()
    replicas.publish(publisher, 1)
    replica.server("snapshot", fqrn)
    new = (publisher.storage / ".cvmfspublished").read_bytes()
    (publisher.storage / ".cvmfspublished").write_bytes(old)
    assert "older than the replica's" in refused("snapshot", fqrn)
    assert (replica.storage / ".cvmfspublished").read_bytes() == new
    (publisher.storage / ".cvmfspublished").write_bytes(new)
    publisher.server("alterfs", "-m", "off", fqrn)
    assert "This is not a CernVM-FS server for replication" in refused("snapshot", fqrn)


def test_all_replicas_by_age_group_and_alias(
    publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path
) -> None:
    publisher.create()
    url, key, fqrn = server(publisher.storage.parent).url, publisher.public_key, publisher.fqrn
    prefix = tmp_path / "s1"
    machines = {
        alias: replicas.add(prefix, url, key, fqrn, "-g", group, alias=alias)
        for alias, group in (("day.example.org", "day"), ("night.example.org", "night"), ("off.example.org", "night"))
    }
    machine = machines["day.example.org"]
    machines["off.example.org"].configure({"CVMFS_REPLICA_ACTIVE": "no"})
    unrotated = machine.server("snapshot", "-a", check=False)
    assert (unrotated.returncode, "logrotate" in unrotated.stderr) == (1, True)
    log = prefix / "var/log/cvmfs/snapshots.log"

    machine.server("snapshot", "-a", "-n", "-i")
    assert not log.exists() or "Starting" not in log.read_text()
    machine.server("snapshot", "-a", "-n", "-g", "night")
    begun = [line.split()[1] for line in log.read_text().splitlines() if " at " in line and line.startswith("Starting")]
    assert [name for name in begun if name.endswith(".org")] == ["night.example.org"]
    machine.server("snapshot", "-a", "-n", "-s")
    assert "Finished day.example.org" in (prefix / "var/log/cvmfs/day.example.org.log").read_text()
    replicas.assert_sound(machine, fqrn, key)
    listed = machine.server("list").stdout.splitlines()
    assert f"night.example.org (stratum1 / local) -> {fqrn}" in listed
    document = json.loads((prefix / "srv/cvmfs/info/v1/repositories.json").read_text())
    assert {"name": fqrn, "alias": "day.example.org", "url": "/cvmfs/day.example.org"} in document["replicas"]
    misused = machine.server("snapshot", "-g", "night", "day.example.org", check=False)
    assert (misused.returncode, "go with -a only" in misused.stdout) == (3, True)
    machine.server("rmfs", "-f", "day.example.org")
    assert not machine.storage.exists()


def test_snapshots_on_a_schedule(publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path) -> None:
    publisher.create()
    replica = replicas.add(tmp_path / "s1", server(publisher.storage.parent).url, publisher.public_key, publisher.fqrn)

    def nearfs(*words: str, code: int = 0) -> str:
        done = processes.run(
            [sys.executable, "-m", "nearfs.cli.main", "replica", *words],
            check=False,
            limit=60,
            env=replica.environment,
            cwd=Path("/"),
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    one = json.loads(nearfs("status", "--json", code=1))["replicas"][0]
    assert (one["revision"], one["problems"][0].partition(":")[0]) == (None, "there was no snapshot yet")
    nearfs("schedule", "--every", "5", "--group", "night")
    units = replica.prefix / "etc/systemd/system"
    assert "OnUnitInactiveSec=5min" in (units / "cvmfs-snapshot.timer").read_text()
    nearfs("schedule", "--cron", "--every", "10")
    assert not list(units.iterdir()), "one schedule at a time"
    # What cron would run, as it is written: with the rotation of the log it needs no -n.
    line = (replica.prefix / "etc/cron.d/cvmfs-snapshot").read_text().splitlines()[-1]
    words = line.split(" ", 6)
    assert words[:6] == ["*/10", "*", "*", "*", "*", "root"]
    processes.run(["sh", "-c", words[6]], limit=60, env=replica.environment, cwd=Path("/"))
    one = json.loads(nearfs("status", "--json"))["replicas"][0]
    assert (one["name"], one["revision"], one["problems"], one["is_updating"]) == (publisher.fqrn, 1, [], False)
    assert publisher.fqrn in nearfs("status")
    nearfs("unschedule")
    assert not (replica.prefix / "etc/cron.d/cvmfs-snapshot").exists()
