"""`cvmfs_server ingest`: the tree that GNU tar would unpack, published without unpacking."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.publishing import Publisher, command
from tests.support.trees import shown
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]

RSS_LIMIT_BYTES = 400 << 20


def _source(root: Path) -> Path:
    (root / "d" / "deep").mkdir(parents=True)
    (root / "d" / "text").write_text("text")
    os.link(root / "d" / "text", root / "also")
    os.chown(root / "d" / "text", 12, 34)
    (root / "d" / "deep" / ("n" * 240)).write_bytes(os.urandom(70_000))
    (root / ("p" * 180)).mkdir()
    (root / ("p" * 180) / ("q" * 180)).write_text("long")
    (root / "link").symlink_to("d/text")
    (root / "set").write_text("")
    (root / "set").chmod(0o4755)
    os.mkfifo(root / "fifo")
    with (root / "holes").open("wb") as out:
        for at in range(0, 40 << 20, 5 << 20):
            out.seek(at)
            out.write(b"data" * 50)
        out.truncate(45 << 20)
    (root / "nested").mkdir()
    (root / "nested" / ".cvmfscatalog").write_text("")
    (root / "nested" / "in").write_text("in")
    os.utime(root / "d", (1, 1_000_000_000))
    return root


def _tar(*words: str | Path) -> None:
    processes.run(["tar", *words])


def _feed(words: list[str], content: Path, publisher: Publisher) -> subprocess.CompletedProcess[str]:
    with content.open("rb") as archive:
        return subprocess.run(
            command(*words), stdin=archive, capture_output=True, text=True, timeout=100, check=False,
            env=processes.marked_environment(publisher.environment),
        )  # fmt: skip


def test_an_archive_shows_what_gnu_tar_unpacks(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    source = _source(tmp_path / "source")
    unpacked = tmp_path / "unpacked"
    for number, options in enumerate((("--format=gnu", "-S"), ("--format=posix", "-S"), ("--format=posix",))):
        archive = tmp_path / f"{number}.tar"
        _tar("-C", source, *options, "-cf", archive, ".")
        (source / "d" / "text").write_text(f"changed {number}")
        # Appended: the same names come again, and the later ones count.
        _tar("-C", source, options[0], "-rf", archive, "./d/text", "./d")
        target = unpacked / str(number)
        target.mkdir(parents=True)
        _tar("-C", target, "--numeric-owner", "-xpf", archive)
        if number == 0:
            publisher.server("ingest", "-k", "-t", archive, "-b", f"v/{number}", publisher.fqrn)
        else:
            processes.run(["gzip", archive])
            words = ["ingest", "--keep-ownership", "--tar_file", "-", "--base_dir", f"/v/{number}/", publisher.fqrn]
            done = _feed(words, Path(f"{archive}.gz"), publisher)
            assert done.returncode == 0, done
            assert "Using auto tag" in done.stdout
            assert "files/s" in done.stdout
        assert shown(publisher.union / "v" / str(number)) == shown(target)
    assert "nested/.cvmfscatalog" in shown(publisher.union / "v/0")
    publisher.server("check", "-i", publisher.fqrn)
    again = publisher.server("ingest", "-k", "-t", tmp_path / "0.tar", "-b", "v/0", publisher.fqrn)
    assert "0 added, 0 changed, 0 removed" in again.stdout
    publisher.server("ingest", "-d", "v/0/d", "--delete", "/v/1", publisher.fqrn)
    assert not (publisher.union / "v/1").exists()
    assert "d" not in os.listdir(publisher.union / "v/0")
    publisher.server(
        "ingest", "-u", "daemon", "-g", "sys", "-c", "-t", tmp_path / "0.tar", "-b", "v/2/x", publisher.fqrn
    )
    assert {(row[1], row[2]) for row in shown(publisher.union / "v/2/x").values()} >= {(1, 3)}
    assert (publisher.union / "v/2/x/.cvmfscatalog").exists()
    publisher.server("check", publisher.fqrn)


def test_refusals_have_their_sentences_and_change_nothing(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    good, cut, noise = tmp_path / "good.tar", tmp_path / "cut.tar", tmp_path / "noise.tar"
    (tmp_path / "file").write_bytes(os.urandom(9000))
    _tar("-C", tmp_path, "-cf", good, "file")
    cut.write_bytes(good.read_bytes()[:5000])
    noise.write_bytes(os.urandom(5000))
    fqrn, before = publisher.fqrn, publisher.tags()["trunk"]
    for words, said in (
        ((), "Please provide some parameters,"),
        (("-b", "x"), "Please provide the tarball to extract,"),
        (("-t", good), "Please set the base directory where to extract the tarball,"),
        (("-t", good, "-b", "x", "-k", "-u", "root"), "You cannot provide both:"),
        (("-t", good, "-b", "x", "-g", "root"), "If providing a group name, you also must provide a user"),
        (("-t", good, "-b", "x", "-u", "no-such"), "User set but no valid user name given"),
        (("-t", good, "-b", "x", "-u", "root", "-g", "no-such"), "Group set but no valid group name given"),
        (("-t", good, "-b", "../x"), "leads out of the repository"),
        (("-t", tmp_path / "absent.tar", "-b", "x"), "absent.tar"),
        (("-t", cut, "-b", "x"), "it was cut off"),
        (("-t", noise, "-b", "x"), "this is no tar archive"),
        (("-d", "/"), "the root directory cannot be deleted"),
    ):
        done = publisher.server("ingest", *words, fqrn, check=False)
        assert (done.returncode, said in done.stderr) == (1, True), (words, done)
    publisher.server("transaction", fqrn)
    done = publisher.server("ingest", "-t", good, "-b", "x", fqrn, check=False)
    assert (done.returncode, "Impossible to start a transaction" in done.stderr) == (1, True)
    publisher.server("abort", "-f", fqrn)
    assert publisher.tags()["trunk"] == before
    assert os.listdir(publisher.union) == ["new_repository"]


def test_a_killed_ingest_leaves_the_old_revision(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    before = publisher.tags()["trunk"]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for number in range(3000):
            member = tarfile.TarInfo(f"f{number}")
            member.size = 2000
            archive.addfile(member, io.BytesIO(os.urandom(2000)))
    whole = content.getvalue()
    stored = len(list(publisher.storage.glob("data/*/*")))
    words = command("ingest", "-t", "-", "-b", "sw", publisher.fqrn)
    environment = processes.marked_environment(publisher.environment)
    for how, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, None)):
        process = subprocess.Popen(words, stdin=subprocess.PIPE, env=environment, start_new_session=True)
        assert process.stdin is not None
        process.stdin.write(whole[: len(whole) // 2])
        process.stdin.flush()
        wait_until(lambda: len(list(publisher.storage.glob("data/*/*"))) > stored, 60, "objects are stored")
        # The writer holds the pipe open: whoever waits for it is ended all the same.
        process.send_signal(how)
        ended = process.wait(20)
        assert ended == code if code else ended != 0
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        assert publisher.tags()["trunk"] == before
        assert os.listdir(publisher.union) == ["new_repository"]
    (tmp_path / "whole.tar").write_bytes(whole)
    publisher.server("ingest", "-t", tmp_path / "whole.tar", "-b", "sw", publisher.fqrn)
    assert len(os.listdir(publisher.union / "sw")) == 3000
    publisher.server("check", publisher.fqrn)


def test_memory_is_bounded_by_neither_a_large_file_nor_many(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    with (tmp_path / "big").open("wb") as out:
        out.truncate(1 << 30)
    _tar("-C", tmp_path, "-S", "-cf", tmp_path / "a.tar", "big")
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        for number in range(20_000):
            archive.addfile(tarfile.TarInfo(f"many/{number % 100}/{number}"))
    words = command("ingest", "-t", tmp_path / "a.tar", "-b", "x", publisher.fqrn)
    process = subprocess.Popen(
        [sys.executable, "-c", _MEASURED, *map(str, words)],
        stdout=subprocess.PIPE, env=processes.marked_environment(publisher.environment),
    )  # fmt: skip
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    assert int(said.split()[-1]) * 1024 < RSS_LIMIT_BYTES
    assert (publisher.union / "x" / "big").stat().st_size == 1 << 30


# A fresh process: the kernel counts the largest of all children that were waited for.
_MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], check=False)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""
