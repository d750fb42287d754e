"""`cvmfs_server` as scripts use it: options, exit codes, messages and files."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support import mounts, processes
from tests.support.publishing import Publisher, command
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]


def test_usage_errors_have_the_references_codes() -> None:
    for words, code, said in (
        ((), 2, "CernVM-FS Server Tool 2.12.0"),
        (("nonsense",), 3, "NOTE: Unrecognized command: nonsense"),
        (("publish", "-q"), 3, "NOTE: Command publish: Unrecognized option: q"),
        (("tag", "-a", "x", "-r", "y", "f.example.org"), 3, "Ambiguous parameters"),
        (("info", "a.example.org", "b.example.org"), 3, "Too many arguments provided"),
        (("help",), 0, "Usage: cvmfs_server COMMAND"),
    ):
        done = processes.run(command(*words), check=False)
        assert (done.returncode, said in done.stdout) == (code, True), (words, done)
    later = processes.run(command("enter", "x.example.org"), check=False)
    assert later.returncode == 1
    assert "not available in this version" in later.stderr


def test_mkfs_leaves_the_files_of_the_specification(publisher: Publisher) -> None:
    done = publisher.server("mkfs", "-p", "-o", "root", publisher.fqrn)
    for step in (
        "Creating Configuration Files... done",
        "Creating CernVM-FS Master Key and Self-Signed Certificate... done",
        "Creating CernVM-FS Server Infrastructure... done",
        "Creating Backend Storage... done",
        "Signing 30 day whitelist with master key... done",
        "Creating Initial Repository... done",
        "Allowing Replication of this Repository... done",
        "Updating global JSON information... done",
    ):
        assert step in done.stdout
    etc = publisher.prefix / "etc" / "cvmfs"
    configuration = etc / "repositories.d" / publisher.fqrn
    server = dict(
        line.split("=", 1) for line in (configuration / "server.conf").read_text().splitlines() if line[0] != "#"
    )
    assert server["CVMFS_CREATOR_VERSION"] == "143"
    assert server["CVMFS_REPOSITORY_TYPE"] == "stratum0"
    assert server["CVMFS_AUTO_TAG"] == "true"
    assert "CVMFS_AUTO_UPDATE=no" in (configuration / "client.conf").read_text()
    modes = {suffix: (etc / "keys" / f"{publisher.fqrn}.{suffix}").stat().st_mode & 0o777 for suffix in ("pub", "crt")}
    assert modes == {"pub": 0o444, "crt": 0o444}
    for suffix in ("masterkey", "key"):
        assert (etc / "keys" / f"{publisher.fqrn}.{suffix}").stat().st_mode & 0o777 == 0o400
    storage = publisher.storage
    assert len([entry for entry in (storage / "data").iterdir() if len(entry.name) == 2]) == 256
    assert {".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog", ".cvmfs_master_replica"} <= set(os.listdir(storage))
    assert (publisher.union / "new_repository").read_text() == f"New CernVM-FS repository for {publisher.fqrn}\n"
    fstab = (publisher.prefix / "etc" / "fstab").read_text().splitlines()
    assert [line.split(" ")[0] for line in fstab] == [f"cvmfs2#{publisher.fqrn}", f"overlay_{publisher.fqrn}"]
    info = json.loads((publisher.prefix / "srv/cvmfs/info/v1/repositories.json").read_text())
    assert info["repositories"] == [{"name": publisher.fqrn, "url": f"/cvmfs/{publisher.fqrn}"}]
    again = publisher.server("mkfs", "-p", "-o", "root", publisher.fqrn, check=False)
    assert (again.returncode, f"The repository {publisher.fqrn} already exists" in again.stderr) == (1, True)


def test_apache_gets_its_pieces_where_it_is_installed(publisher: Publisher) -> None:
    refused = publisher.server("mkfs", "-o", "root", publisher.fqrn, check=False)
    assert (refused.returncode, "Apache must be installed" in refused.stderr) == (1, True)
    pieces = publisher.prefix / "etc" / "apache2" / "conf-available"
    pieces.mkdir(parents=True)
    publisher.server("mkfs", "-o", "root", publisher.fqrn)
    text = (pieces / f"cvmfs.{publisher.fqrn}.conf").read_text()
    for directive in (
        f'Alias "/cvmfs/{publisher.fqrn}" "{publisher.storage}"',
        'ExpiresByType application/x-cvmfs "access plus 61 seconds"',
        'ExpiresDefault "access plus 3 days"',
        "Header unset Last-Modified",
        "FileETag None",
    ):
        assert directive in text
    server_conf = publisher.prefix / "etc" / "cvmfs" / "repositories.d" / publisher.fqrn / "server.conf"
    assert f"CVMFS_STRATUM0=http://localhost/cvmfs/{publisher.fqrn}\n" in server_conf.read_text()
    publisher.server("rmfs", "-f", publisher.fqrn)
    assert list(pieces.iterdir()) == []


def test_a_transaction_is_opened_once_and_aborted(publisher: Publisher) -> None:
    publisher.create()
    assert publisher.server("list").stdout == f"{publisher.fqrn} (stratum0 / local)\n"
    with pytest.raises(OSError, match="Read-only"):
        (publisher.union / "x").touch()
    assert publisher.server("transaction", publisher.fqrn).stdout == ""
    assert publisher.server("list").stdout == f"{publisher.fqrn} (stratum0 / local - in transaction)\n"
    second = publisher.server("transaction", publisher.fqrn, check=False)
    assert (second.returncode, "another transaction is already open" in second.stderr) == (17, True)
    (publisher.union / "x").write_text("discarded")
    (publisher.union / "new_repository").unlink()
    asked = publisher.server("abort", publisher.fqrn, check=False)
    assert asked.returncode == 4, "no answer is no"
    assert (publisher.union / "x").exists()
    publisher.server("abort", "-f", publisher.fqrn)
    assert not (publisher.union / "x").exists()
    assert (publisher.union / "new_repository").exists()
    none = publisher.server("abort", "-f", publisher.fqrn, check=False)
    assert (none.returncode, "is not in a transaction" in none.stderr) == (22, True)
    none = publisher.server("publish", publisher.fqrn, check=False)
    assert (none.returncode, "is not in a transaction" in none.stderr) == (1, True)


def test_open_files_keep_a_transaction_open(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    publisher.server("transaction", publisher.fqrn)
    held = publisher.union / "held"
    script = "import sys, time; f = open(sys.argv[1], 'w'); print('open', flush=True); time.sleep(60)"
    with processes.started([sys.executable, "-c", script, held], tmp_path / "holder.log"):
        wait_until(held.exists, 10, "the file is open")
        refused = publisher.server("publish", publisher.fqrn, check=False)
        assert refused.returncode == 1
        assert f"Open writable file descriptors on {publisher.fqrn}" in refused.stderr
    publisher.server("publish", publisher.fqrn)
    assert held.exists()


def test_an_interrupt_keeps_the_transaction_open(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    publisher.server("transaction", publisher.fqrn)
    large = random.Random(7).randbytes(1 << 24) * 12
    (publisher.union / "large").write_bytes(b"".join(bytes([n]) + large[n << 24 : (n + 1) << 24] for n in range(12)))
    with processes.started(command("publish", publisher.fqrn), tmp_path / "log", env=publisher.environment) as running:
        wait_until(lambda: "Processing changes" in (tmp_path / "log").read_text(), 20, "the publish has begun")
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    assert "interrupted" in (tmp_path / "log").read_text()
    assert "in transaction" in publisher.server("list").stdout
    publisher.server("publish", publisher.fqrn)
    assert (publisher.union / "large").stat().st_size == 12 * ((1 << 24) + 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_at_any_time_leaves_a_healthy_repository(
    publisher: Publisher, tmp_path: Path, number: signal.Signals
) -> None:
    publisher.create()
    for delay_ms in range(150, 800, 130):
        publisher.server("transaction", publisher.fqrn, check=False)
        before = publisher.tags()["trunk"]
        (publisher.union / f"file-{delay_ms}").write_text(str(delay_ms))
        log = tmp_path / f"log-{delay_ms}"
        with processes.started(command("publish", publisher.fqrn), log, env=publisher.environment) as running:
            time.sleep(delay_ms / 1000)
            running.send_signal(number)
            running.wait(30)
        # By the revision, not by what it said: the signal may meet it between the last step and the last word.
        expected = "local)" if publisher.tags()["trunk"] != before else "in transaction"
        assert expected in publisher.server("list").stdout, (delay_ms, log.read_text())


def test_tags_are_added_moved_shown_and_removed(publisher: Publisher) -> None:
    publisher.create()
    first = publisher.tags()["trunk"][0]
    with publisher.transaction() as union:
        (union / "x").touch()
    publisher.server("tag", "-a", "release", "-m", "the good one", publisher.fqrn)
    shown = publisher.server("tag", "-i", "release", publisher.fqrn).stdout
    assert "Name:         release" in shown
    assert "the good one" in shown
    taken = publisher.server("tag", "-a", "release", publisher.fqrn, check=False)
    assert (taken.returncode, "already exists" in taken.stderr) == (1, True)
    moved = publisher.server("tag", "-a", "release", "-h", first, publisher.fqrn).stdout
    assert "moving tag 'release' from" in moved
    assert publisher.tags()["release"][0] == first
    unknown = publisher.server("tag", "-a", "other", "-h", "ab" * 20, publisher.fqrn, check=False)
    assert (unknown.returncode, "does not exist" in unknown.stderr) == (1, True)
    table = publisher.server("tag", publisher.fqrn).stdout
    assert table.splitlines()[0].split(" │ ")[0].strip() == "Name"
    assert "listing contains" in table
    publisher.server("tag", "-r", "release", "-f", publisher.fqrn)
    assert "release" not in publisher.tags()
    missing = publisher.server("tag", "-i", "release", publisher.fqrn, check=False)
    assert (missing.returncode, "tag 'release' does not exist" in missing.stderr) == (1, True)
    publisher.server("transaction", publisher.fqrn)
    open_ = publisher.server("tag", "-a", "late", publisher.fqrn, check=False)
    assert (open_.returncode, "while in a transaction" in open_.stderr) == (1, True)


def test_check_finds_what_is_missing(publisher: Publisher) -> None:
    publisher.create()
    with publisher.transaction() as union:
        (union / "precious").write_text("soon gone\n")
    assert publisher.server("check", publisher.fqrn).stdout.endswith("no problems found\n")
    digest = os.getxattr(publisher.spool / "rdonly" / "precious", "user.hash").decode()
    path = publisher.storage / "data" / digest[:2] / digest[2:]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    assert publisher.server("check", publisher.fqrn).returncode == 0, "presence only"
    scrubbed = publisher.server("check", "-i", publisher.fqrn, check=False)
    assert (scrubbed.returncode, digest in scrubbed.stderr) == (1, True)
    path.unlink()
    missing = publisher.server("check", publisher.fqrn, check=False)
    assert (missing.returncode, "/precious" in missing.stderr) == (1, True)
    assert publisher.server("check", "-c", publisher.fqrn).returncode == 0, "-c does not look for objects"


def test_info_says_what_clients_need(publisher: Publisher) -> None:
    publisher.create("-w", "http://stratum0.example.org/cvmfs/lab.example.org")
    described = json.loads(publisher.server("info", "-m").stdout)
    assert described["administrator"] == "Your Name"
    measured = publisher.server("info", "-s", "-k", "/elsewhere").stdout
    assert f"Root catalog: {publisher.tags()['trunk'][0]}, " in measured
    assert f"  CVMFS_PUBLIC_KEY=/elsewhere/{publisher.fqrn}.pub\n" in measured
    said = publisher.server("info").stdout.splitlines()
    assert said[0] == f"Repository name: {publisher.fqrn}"
    assert said[1:3] == ["Created by CernVM-FS 143", "Stratum1 replication allowed: yes"]
    assert said[3] in ("Whitelist is valid for another 30 days", "Whitelist is valid for another 29 days")
    assert "  CVMFS_SERVER_URL=http://stratum0.example.org/cvmfs/lab.example.org" in said


def test_rmfs_removes_everything(publisher: Publisher) -> None:
    publisher.create()
    kept = publisher.server("rmfs", publisher.fqrn, check=False)
    assert kept.returncode == 0
    assert publisher.storage.exists(), "no answer is no"
    done = publisher.server("rmfs", "-f", publisher.fqrn).stdout
    assert f"CernVM-FS repository {publisher.fqrn} wiped out!" in done
    assert not publisher.storage.exists()
    assert not publisher.spool.exists()
    assert mounts.beneath(publisher.prefix) == []
    assert publisher.server("list").stdout == ""
    gone = publisher.server("info", publisher.fqrn, check=False)
    assert (gone.returncode, gone.stderr) == (1, f"The repository {publisher.fqrn} does not exist.\n")


def test_mount_restores_what_a_reboot_took(publisher: Publisher) -> None:
    publisher.create()
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "kept").write_text("over the reboot")
    mounts.unmount(publisher.union)
    mounts.unmount(publisher.spool / "rdonly")
    assert "unhealthy" in publisher.server("list").stdout
    said = publisher.server("mount", "-a").stderr
    assert "is not mounted properly" in said
    assert (publisher.union / "kept").read_text() == "over the reboot"
    (publisher.union / "more").touch()
    publisher.server("publish", publisher.fqrn)
    assert (publisher.union / "more").exists()
    assert publisher.server("mount", "-a").stderr == ""
