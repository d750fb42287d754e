"""`cvmfs_server` when something is in the way: every failure is a sentence with the code that scripts know."""

import os
import signal
from pathlib import Path

import pytest

from tests.support import mounts, processes
from tests.support.publishing import Publisher, command
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]
NOT_UTF8 = os.fsdecode(b"\xff")


def clients(publisher: Publisher) -> list[int]:
    """Returns the processes that serve the mount below the union."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if words.startswith(b"cvmfs2\0") and os.fsencode(publisher.spool / "rdonly") in words:
            found.append(int(entry.name))
    return found


def kill_client(publisher: Publisher) -> None:
    # What the kernel knows of the mount's root would otherwise still be asked of the living.
    (publisher.union / "new_repository").stat()
    (serving,) = clients(publisher)
    os.kill(serving, signal.SIGKILL)
    processes.run(["sh", "-c", f"while kill -0 {serving} 2>/dev/null; do sleep 0.02; done"], limit=20)


def test_a_transaction_survives_the_death_of_its_client(publisher: Publisher) -> None:
    publisher.create()
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "kept").write_text("kept\n")
    kill_client(publisher)
    assert "unhealthy" in publisher.server("list").stdout
    publisher.server("publish", publisher.fqrn)
    assert (publisher.union / "kept").read_text() == "kept\n"
    assert "unhealthy" not in publisher.server("list").stdout


def test_a_dead_client_below_an_unmounted_union_is_mended(publisher: Publisher) -> None:
    publisher.create()
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "kept").write_text("kept\n")
    kill_client(publisher)
    mounts.unmount(publisher.union)
    publisher.server("mount", publisher.fqrn)
    assert (publisher.union / "kept").read_text() == "kept\n"
    publisher.server("abort", "-f", publisher.fqrn)


@pytest.mark.parametrize("words", [("publish", "-f"), ("abort", "-f")])
def test_a_reader_that_stays_does_not_keep_the_next_revision_away(publisher: Publisher, words: tuple[str, str]) -> None:
    publisher.create()
    publisher.server("transaction", publisher.fqrn)
    log = publisher.prefix / "reader.log"
    with processes.started(["sh", "-c", f"cd {publisher.union} && echo inside && exec sleep 100"], log):
        wait_until(lambda: "inside" in log.read_text(), 10, "the reader is in the union")
        publisher.server(*words, publisher.fqrn)
        assert (publisher.union / "new_repository").read_text().startswith("New CernVM-FS repository")
        assert "unhealthy" not in publisher.server("list").stdout


def refused(publisher: Publisher, code: int, said: str, *words: str) -> None:
    done = publisher.server(*words, check=False)
    assert "Traceback" not in done.stderr, done
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done


def test_odd_arguments_are_refused_in_words(publisher: Publisher) -> None:
    publisher.create()
    fqrn = publisher.fqrn
    refused(publisher, 3, "is not a number of seconds", "transaction", "-t", "²", fqrn)
    refused(publisher, 1, "Invalid revision number: ²", "publish", "-n", "²", fqrn)
    refused(publisher, 1, "Invalid revision number: 9223372036854775808", "publish", "-n", str(1 << 63), fqrn)
    refused(publisher, 1, "malformed content hash", "tag", "-a", "x", "-h", "zz", fqrn)
    refused(publisher, 1, "not UTF-8", "tag", "-a", "x", "-m", NOT_UTF8, fqrn)
    refused(publisher, 1, "invalid repository name", "transaction", "..")
    refused(publisher, 1, "The repository no-such-* does not exist.", "check", "no-such-*")
    publisher.server("transaction", fqrn)
    refused(publisher, 1, "not UTF-8", "publish", "-m", NOT_UTF8, fqrn)
    publisher.server("abort", "-f", fqrn)


def test_damaged_notes_do_not_stop_the_next_command(publisher: Publisher) -> None:
    publisher.create()
    for name in ("client.local", "reflog.chksum", "publishing"):
        (publisher.spool / name).write_bytes(b"\xff\xfe damaged")
        publisher.server("list")
        with publisher.transaction() as union:
            (union / name).write_text("x")
        publisher.server("check", publisher.fqrn)


def test_a_damaged_configuration_is_refused_and_named(publisher: Publisher) -> None:
    publisher.create()
    configuration = publisher.prefix / "etc" / "cvmfs" / "repositories.d" / publisher.fqrn / "server.conf"
    sound = configuration.read_text()
    configuration.write_text(sound + 'CVMFS_MIN_CHUNK_SIZE="unfinished\n')
    refused(publisher, 1, str(configuration), "transaction", publisher.fqrn)
    configuration.write_text(sound)


def test_a_missing_whitelist_is_not_called_expired(publisher: Publisher) -> None:
    publisher.create()
    whitelist = publisher.storage / ".cvmfswhitelist"
    whitelist.rename(whitelist.with_name("aside"))
    refused(publisher, 22, f"is missing: {whitelist}", "transaction", publisher.fqrn)


def test_one_broken_repository_does_not_keep_others_from_being_mounted(publisher: Publisher) -> None:
    publisher.create()
    other = Publisher(publisher.prefix, f"z-{publisher.fqrn}")
    other.create()
    (publisher.storage / ".cvmfspublished").rename(publisher.storage / "aside")
    for union in (publisher.union, other.union):
        mounts.unmount(union)
    refused(publisher, 1, ".cvmfspublished is missing", "mount", "-a")
    assert mounts.is_mounted(other.union)


def test_options_of_mkfs_do_not_become_shell_commands(publisher: Publisher) -> None:
    trap = publisher.prefix / "trap"
    publisher.create("-w", f"http://localhost/$(touch {trap})")
    publisher.server("list")
    said = publisher.server("info", publisher.fqrn).stdout
    assert f"CVMFS_SERVER_URL=http://localhost/$(touch {trap})" in said
    assert not trap.exists()


def test_a_full_disk_is_a_sentence_and_mounting_works_on_it(tmp_path: Path) -> None:
    if os.geteuid() != 0 or mounts.missing_for_mounts():
        pytest.skip("only root can publish in this version")
    disk = tmp_path / "disk"
    disk.mkdir()
    processes.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk])
    publisher = Publisher(disk, "full.example.org")
    filler = disk / "filler"
    try:
        publisher.create()
        fill(filler)
        mounts.unmount(publisher.union)
        mounts.unmount(publisher.spool / "rdonly")
        publisher.server("mount", publisher.fqrn)
        assert (publisher.union / "new_repository").exists()
        refused(publisher, 1, "No space left on device", "tag", "-a", "x", publisher.fqrn)
        refused(publisher, 1, "No space left on device", "mkfs", "-p", "-o", "root", "more.example.org")
        filler.unlink()
        with publisher.transaction() as union:
            (union / "after").write_text("x")
        publisher.server("check", "-i", publisher.fqrn)
    finally:
        for mount in mounts.beneath(disk):
            mounts.unmount_lazily(mount.point)


def fill(path: Path) -> None:
    """Writes a file until the disk is full."""
    with path.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            return


def test_anybody_who_can_read_the_storage_can_list_tags(publisher: Publisher) -> None:
    publisher.create()
    for directory in (publisher.prefix, *publisher.prefix.parents):
        if directory.stat().st_mode & 0o001 == 0:
            directory.chmod(0o711)
    script = f"""
import os
from nearfs.publish import tags
from nearfs.publish.repository import Repository
repository = Repository.load({publisher.fqrn!r})
tags.listed(repository)  # imports what the next caller may not be able to read
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(*(tag["name"] for tag in tags.listed(repository)))
"""
    done = processes.run([command()[0], "-c", script], env=publisher.environment)
    assert "trunk" in done.stdout.split()
