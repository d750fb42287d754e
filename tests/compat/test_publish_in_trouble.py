"""Publishing while something is in the way: a sentence, the reference's exit code, and nothing lost.

Each test breaks one thing, lets commands meet it, mends it, and publishes the very changes that were there before.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nearfs.compat.server.commands import COMMANDS
from tests.format import check, forge
from tests.format.manifest import read_manifest
from tests.format.store import object_name
from tests.support import mounts, processes
from tests.support.publishing import Publisher, command, publishing
from tests.support.serving import Server

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]
NO_SPACE = "No space left on device"


def refused(publisher: Publisher, code: int, said: str, *words: str) -> None:
    """Runs a command on the repository that must fail in words."""
    done = publisher.server(*words, publisher.fqrn, check=False)
    assert "Traceback" not in done.stderr, done
    assert (done.returncode, said in done.stderr) == (code, True), done


def sound(publisher: Publisher) -> None:
    """Fails unless what is served is whole."""
    assert check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []


def kept_open(publisher: Publisher) -> None:
    """Fails unless the transaction can be gone on with."""
    sound(publisher)
    assert "in transaction" in publisher.server("list").stdout
    (publisher.union / "writable").touch()


def at_once(publisher: Publisher, *commands: tuple[str, ...]) -> list[subprocess.CompletedProcess[str]]:
    """Runs commands on the repository at the same time; returns them in the same order."""
    running = [
        subprocess.Popen(
            [*command(*words, publisher.fqrn)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=processes.marked_environment(publisher.environment),
            cwd="/",
            text=True,
        )
        for words in commands
    ]
    said = [process.communicate(timeout=60) for process in running]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *streams)
        for process, streams in zip(running, said, strict=True)
    ]


def test_two_publishers_at_once(publisher: Publisher) -> None:
    publisher.create()
    opened = at_once(publisher, *[("transaction",)] * 3)
    assert sorted(done.returncode for done in opened) == [0, 17, 17], opened
    assert all("another transaction is already open" in done.stderr for done in opened if done.returncode), opened
    before = read_manifest(publisher.storage).number("S") or 0
    for number in range(40):
        (publisher.union / f"file-{number}").write_bytes(os.urandom(20_000))
    published = at_once(publisher, ("publish",), ("publish",), ("tag", "-a", "late"))
    lost = [done for done in published[:2] if done.returncode]
    assert len(lost) == 1, published
    assert "Another publish process is active" in lost[0].stderr or "is not in a transaction" in lost[0].stderr
    assert published[2].returncode in (0, 1), published[2]
    assert read_manifest(publisher.storage).number("S") == before + 1
    sound(publisher)
    assert len(list(publisher.union.glob("file-*"))) == 40
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "file-0").unlink()
    publish, abort = at_once(publisher, ("publish",), ("abort", "-f"))
    assert sorted((publish.returncode, abort.returncode)) in ([0, 1], [0, 22]), (publish, abort)
    assert (publisher.union / "file-0").exists() == (publish.returncode != 0), "one of them took effect, and wholly"
    publisher.server("check", publisher.fqrn)


def test_files_open_under_the_mount(publisher: Publisher) -> None:
    publisher.create()
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "kept").write_text("kept\n")
    with (publisher.union / "new_repository").open():
        refused(publisher, 1, "open read-only file descriptors", "publish")
        asked = processes.run(
            ["sh", "-c", 'echo y | "$@"', "sh", *command("abort", publisher.fqrn)],
            check=False,
            env=publisher.environment,
        )
        assert (asked.returncode, "open read-only file descriptors" in asked.stderr) == (1, True), asked
        kept_open(publisher)
    with (publisher.union / "kept").open("a") as writer:
        for words in (("publish",), ("publish", "-f"), ("abort", "-f")):
            refused(publisher, 1, "Open writable file descriptors", *words)
        writer.write("and more\n")
    inside = processes.run(
        command("publish", publisher.fqrn), check=False, env=publisher.environment, cwd=publisher.union
    )
    assert (inside.returncode, "Please release, e.g. by 'cd $HOME'" in inside.stderr) == (1, True), inside
    with (publisher.union / "new_repository").open() as reader:
        publisher.server("publish", "-f", publisher.fqrn)
        with contextlib.suppress(OSError):  # -f says that its revision may go; what it reads is of that one
            assert reader.read().startswith("New CernVM-FS")
    assert (publisher.union / "kept").read_text() == "kept\nand more\n"
    sound(publisher)


def test_a_publish_that_was_killed_before_its_clean_up_is_closed_by_any_command(publisher: Publisher) -> None:
    publisher.create()
    for number, (words, code) in enumerate(
        {("transaction",): 0, ("publish",): 1, ("abort", "-f"): 22, ("tag", "-a", "late"): 0, ("mount",): 0}.items()
    ):
        with publisher.transaction() as union:
            (union / f"file-{number}").touch()
        # What such a kill leaves: the note of what was about to be activated, and the flag of the transaction.
        root_hash = read_manifest(publisher.storage).root_hash.text
        (publisher.spool / "publishing").write_text(f"{root_hash}\n")
        (publisher.spool / "in_transaction.lock").touch()
        done = publisher.server(*words, publisher.fqrn, check=False)
        assert done.returncode == code, done
        assert not (publisher.spool / "publishing").exists()
        assert (publisher.spool / "in_transaction.lock").exists() == (words == ("transaction",))
        assert "unhealthy" not in publisher.server("list").stdout
        if words == ("transaction",):
            publisher.server("abort", "-f", publisher.fqrn)
        assert (publisher.union / f"file-{number}").exists()


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mounts an empty file system of that size."""
    place.mkdir(parents=True)
    processes.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place])
    try:
        yield place
    finally:
        for mount in mounts.beneath(place):
            mounts.unmount_lazily(mount.point)


def test_full_and_read_only_disks(publisher: Publisher) -> None:
    with small_disk(publisher.prefix / "srv", "6m") as srv, small_disk(publisher.prefix / "var", "12m") as var:
        publisher.create()
        publisher.server("transaction", publisher.fqrn)
        (publisher.union / "kept").write_text("kept\n")
        large = publisher.union / "large"
        large.write_bytes(os.urandom(8 << 20))
        for _ in range(2):
            refused(publisher, 1, NO_SPACE, "publish")
            kept_open(publisher)
        with pytest.raises(OSError, match=NO_SPACE):
            (publisher.union / "more").write_bytes(bytes(20 << 20))
        filler = var / "filler"
        with pytest.raises(OSError, match=NO_SPACE):
            filler.write_bytes(bytes(20 << 20))
        (publisher.union / "more").unlink()
        large.unlink()
        filler.write_bytes(bytes(4096))
        processes.run(["mount", "-o", "remount,ro", srv])
        refused(publisher, 1, "Read-only file system", "publish")
        processes.run(["mount", "-o", "remount,rw", srv])
        kept_open(publisher)
        publisher.server("publish", publisher.fqrn)
        assert (publisher.union / "kept").read_text() == "kept\n"
        assert not large.exists()
        processes.run(["mount", "-o", "remount,ro", srv])
        refused(publisher, 1, "Read-only file system", "tag", "-a", "late")
        processes.run(["mount", "-o", "remount,rw", srv])
        publisher.server("check", "-i", publisher.fqrn)
        sound(publisher)


@pytest.fixture
def signed(tmp_path: Path) -> Iterator[tuple[Publisher, forge.Forge]]:
    """A publisher with a repository, and a hand that can sign with its keys."""
    with publishing(tmp_path / "publisher", forge.FQRN) as publisher:
        publisher.create()
        keys = publisher.public_key.parent
        master, signer = (
            load_pem_private_key((keys / f"{forge.FQRN}.{suffix}").read_bytes(), None)
            for suffix in ("masterkey", "key")
        )
        assert isinstance(master, rsa.RSAPrivateKey)
        assert isinstance(signer, rsa.RSAPrivateKey)
        certificate = x509.load_pem_x509_certificate((keys / f"{forge.FQRN}.crt").read_bytes())
        yield publisher, forge.Forge(publisher.storage, forge.Keys(master, signer, certificate))


def test_expired_whitelists_and_removed_keys(signed: tuple[Publisher, forge.Forge]) -> None:
    publisher, pen = signed
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "kept").write_text("kept\n")
    pen.write_whitelist(days=-1)
    refused(publisher, 1, f"Repository whitelist for {publisher.fqrn} is expired!", "publish")
    listed = publisher.server("list").stdout
    assert "in transaction - whitelist expired" in listed
    assert "Whitelist is expired" in publisher.server("info", publisher.fqrn).stdout
    pen.write_whitelist()
    for suffix in ("key", "crt"):
        key = publisher.public_key.with_suffix(f".{suffix}")
        aside = key.rename(key.with_name("aside"))
        refused(publisher, 1, str(key), "publish")
        kept_open(publisher)
        aside.rename(key)
    master = publisher.public_key.with_suffix(".masterkey")
    master.rename(master.with_name("aside"))
    publisher.server("publish", publisher.fqrn)  # which needs no master key
    assert (publisher.union / "kept").read_text() == "kept\n"
    pen.write_whitelist(days=-1)
    refused(publisher, 22, "is expired", "transaction")
    refused(publisher, 1, "is expired", "tag", "-a", "late")
    refused(publisher, 1, "is expired", "rollback", "-f")
    pen.write_whitelist()
    sound(publisher)


def test_a_manifest_of_somebody_else(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    ours = publisher.storage / ".cvmfspublished"
    own = ours.read_bytes()
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "kept").write_text("kept\n")
    for fqrn, said in (
        ("other.example.org", "belongs to repository 'other.example.org'"),
        (publisher.fqrn, f"{ours} is not trusted"),  # as a machine with other keys signed it
    ):
        with publishing(tmp_path / f"of-{fqrn}", fqrn) as other:
            other.create()
            ours.write_bytes((other.storage / ".cvmfspublished").read_bytes())
            shutil.copytree(other.storage / "data", publisher.storage / "data", dirs_exist_ok=True)
        refused(publisher, 5, said, "publish")
        assert "unhealthy" in publisher.server("list").stdout
        ours.write_bytes(own)
        kept_open(publisher)
    publisher.server("publish", publisher.fqrn)
    assert (publisher.union / "kept").read_text() == "kept\n"
    current = ours.read_bytes()
    ours.write_bytes(b"Cnonsense\n--\n")
    refused(publisher, 5, f"{ours}: manifest is corrupt", "transaction")
    ours.unlink()
    refused(publisher, 5, f"{ours} is missing", "transaction")
    ours.write_bytes(current)
    publisher.server("transaction", publisher.fqrn)
    publisher.server("abort", "-f", publisher.fqrn)


def test_a_damaged_or_missing_catalog(publisher: Publisher) -> None:
    publisher.create()
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "kept").write_text("kept\n")
    name = object_name(read_manifest(publisher.storage).root_hash, "C")
    path = publisher.storage / name
    whole = path.read_bytes()
    for damaged in (whole[:-20] + bytes(20), whole[:100], b"", None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        refused(publisher, 1, path.name[:38], "publish")
        refused(publisher, 1, path.name[:38], "check")
        assert "in transaction" in publisher.server("list").stdout
        path.unlink(missing_ok=True)
        path.write_bytes(whole)
        kept_open(publisher)
    publisher.server("publish", publisher.fqrn)
    assert (publisher.union / "kept").read_text() == "kept\n"
    publisher.server("check", "-i", publisher.fqrn)


@pytest.mark.skipif("gc" not in COMMANDS, reason="this version has no cvmfs_server gc")
def test_a_reader_during_garbage_collection(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher.create("-g", "-z")
    contents = {}
    for number in range(6):
        with publisher.transaction(*(["-a", "kept"] if number == 2 else [])) as union:
            shutil.rmtree(union / "files", ignore_errors=True)
            (union / "files").mkdir()
            for name in range(20):
                (union / "files" / str(name)).write_bytes(f"{number} {name}".encode() * 400)
        contents[number] = [f"{number} {name}".encode() * 400 for name in range(20)]
    url = server(publisher.storage.parent).url
    points = {
        number: mount(publisher.fqrn, publisher.client_settings(url, tmp_path / f"cache-{number}", **more))
        for number, more in ((2, {"CVMFS_REPOSITORY_TAG": "kept"}), (5, {}))
    }
    with processes.started(
        command("gc", "-f", "-r", "0", publisher.fqrn), tmp_path / "gc.log", env=publisher.environment
    ) as collecting:
        for name in range(20):  # nothing of it is in a cache yet
            for number, point in points.items():
                assert (point / "files" / str(name)).read_bytes() == contents[number][name]
        assert collecting.wait(60) == 0, (tmp_path / "gc.log").read_text()
    sound(publisher)
    for number, point in points.items():
        assert [(point / "files" / str(name)).read_bytes() for name in range(20)] == contents[number]
