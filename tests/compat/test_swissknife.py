"""`cvmfs_swissknife` and `cvmfs_publish` as scripts call them, over what the reference implementation wrote."""

import datetime as dt
import hashlib
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfs import keys
from tests.format import check
from tests.support import processes
from tests.support.golden import NAMES, Golden
from tests.support.publishing import Publisher
from tests.support.serving import Server

pytestmark = pytest.mark.timeout(120)


def run(*words: str | Path, program: str = "swissknife", check: bool = True) -> subprocess.CompletedProcess[str]:
    return processes.run([sys.executable, "-m", f"nearfs.compat.cvmfs_{program}", *words], check=check)


def filtered(*words: str, given: bytes, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nearfs.compat.cvmfs_swissknife", *words]
    return subprocess.run(command, input=given, capture_output=True, check=check, timeout=60)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_repository_is_described_and_checked(golden: Golden, name: str) -> None:
    storage = golden.repositories[name].storage
    fields = {line[:1]: line[1:] for line in (storage / ".cvmfspublished").read_bytes().decode("latin-1").split("\n")}
    facts = run("info", "-r", storage, "-c", "-n", "-t", "-v", "-g").stdout.splitlines()
    assert facts == [fields["C"], name, fields["T"], fields["S"], fields["G"]]
    assert run("info", "-r", f"file://{storage}", "-h", "-c").stdout == f"{'Root Catalog Hash:':<33}{fields['C']}\n"
    assert run("info", "-r", storage, "-R").stdout.startswith(f"C{fields['C']}\n")
    json.loads(run("info", "-r", storage, "-M").stdout)
    assert run("check", "-r", storage, "-c").stdout.endswith("no problems found\n")
    listed = run("tag_list", "-w", storage, "-x").stdout.splitlines()
    assert {"trunk", "v1", "v2", "v3"} <= {line.split(" ")[0] for line in listed}
    inspected = run("check", "-r", storage, "-n", "v1").stdout
    assert inspected.endswith("no problems found\n")
    catalogs = run("lsrepo", "-r", storage, "-d", "-s", "-e").stdout.splitlines()
    hash_text, size, entries, path = catalogs[0].split(" ")
    assert (hash_text, size, path) == (fields["C"], fields["B"] + "B", "/")
    assert int(entries) > 1
    assert run("lsrepo", "-r", storage, "-t").stdout.splitlines()[1].startswith("├─ /")
    assert run("scrub", "-r", storage).stderr == ""
    upstream = f"local,{storage}/data/txn,{storage}"
    assert run("peek", "-d", ".cvmfspublished", "-r", upstream).stdout.endswith(".cvmfspublished available\n")
    assert run("peek", "-d", "nothing", "-r", upstream, check=False).returncode == 1


def test_damage_in_a_storage_is_found(golden: Golden, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "ab").mkdir(parents=True)
    (data / "txn").mkdir()
    content = b"content"
    text = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    (data / text[:2]).mkdir(exist_ok=True)
    (data / text[:2] / text[2:]).write_bytes(content)
    assert run("scrub", "-r", tmp_path).returncode == 0
    (data / "ab" / ("0" * 38)).write_bytes(content)
    (data / "ab" / ("1" * 38 + "Q")).write_bytes(content)
    (data / "ab" / "short").write_bytes(content)
    (data / "abc").mkdir()
    (data / "ab" / "link").symlink_to("short")
    done = run("scrub", "-r", tmp_path, check=False)
    assert done.returncode == 1
    for alert in (
        "mismatch of file name",
        "unknown object modifier",
        "malformed content hash",
        "subdir length",
        "symlink",
    ):
        assert alert in done.stderr
    assert len(run("scrub", "-r", tmp_path, "-m", check=False).stderr.splitlines()) == 5


def test_pull_fills_a_storage_that_no_command_made(
    golden: Golden, server: Callable[[Path], Server], tmp_path: Path
) -> None:
    source = golden.repositories["golden.example.org"]
    storage, spool = tmp_path / "storage", tmp_path / "spool"
    for directory in (*(storage / "data" / f"{first:02x}" for first in range(256)), storage / "data" / "txn", spool):
        directory.mkdir(parents=True)
    url = f"{server(source.root).url}/cvmfs/{source.fqrn}"
    words = ("pull", "-m", source.fqrn, "-u", url, "-r", f"local,{storage}/data/txn,{storage}", "-k", source.public_key)
    said = run(*words, "-x", tmp_path, "-R", spool / "reflog.chksum", "-n", "4", "-t", "5", "-a", "2", "-i").stdout
    assert f"CernVM-FS: replicating from {url}\n" in said
    assert check.check_repository(storage, [source.public_key.read_bytes()], source.fqrn) == []
    assert run("check", "-r", storage).returncode == 0
    assert len((spool / "reflog.chksum").read_text()) == 40
    assert "parameter -k missing" in run(*words[:-2], "-x", tmp_path, check=False).stderr


def test_streams_hashes_and_grafts(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    stored = filtered("zpipe", given=content).stdout
    assert zlib.decompress(stored) == content
    assert filtered("zpipe", "-d", given=stored).stdout == content
    assert filtered("zpipe", "-d", given=stored[:-9], check=False).returncode == 1
    sha1 = hashlib.sha1(b"text", usedforsecurity=False).hexdigest()
    assert run("hash", "-a", "sha1", "-i", "text", program="publish").stdout == f"{sha1}\n"
    assert run("hash", "-a", "shake128", "-f", "-i", "text").stdout.endswith("-SHAKE128\n")
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below" / "big").write_bytes(content)
    out = tmp_path / "out"
    said = run("graft", "-i", tree, "-o", out, "-c", "1", "-Z", "default", "-v").stdout
    assert said == f"Grafting {tree}/below/big to {out}/below/big\n"
    assert (out / "below" / "big").read_bytes() == b""
    lines = dict(line.split("=") for line in (out / "below" / ".cvmfsgraft-big").read_text().splitlines())
    assert (lines["size"], lines["compression"]) == (str(len(content)), "zlib")
    assert lines["chunk_offsets"] == "0,1048576,2097152"
    assert lines["checksum"] == hashlib.sha1(stored, usedforsecurity=False).hexdigest()
    assert len(lines["chunk_checksums"].split(",")) == 3


def test_what_is_not_available_says_what_to_use() -> None:
    for words, said in ((("gc",), "cvmfs_server gc"), (("sync",), "cvmfs_server publish"), (("nonsense",), "unknown")):
        done = run(*words, check=False)
        assert (done.returncode, said in done.stderr) == (1, True)
    assert "2.12.0" in run("version").stdout
    assert "2.12.0" in run("--version", program="publish").stdout
    assert "parameter -r missing" in run("info", check=False).stderr
    assert "does not exist" in run("abort", "-f", "none.example.org", program="publish", check=False).stderr


def test_a_letter_is_believed_as_long_as_the_whitelist_vouches_for_its_writer(
    golden: Golden, publisher: Publisher
) -> None:
    publisher.create()
    directory = publisher.prefix / "etc" / "cvmfs" / "keys"
    own = [f"{directory / publisher.fqrn}.{suffix}" for suffix in ("crt", "key", "pub")]
    signing = ("letter", "-s", "-f", publisher.fqrn, "-c", own[0], "-k", own[1])
    checking = ("letter", "-v", "-f", publisher.fqrn, "-k", own[2], "-r", publisher.storage, "-m")
    text = "new release: ~/x y"
    for algorithm in ("sha1", "rmd160", "shake128"):
        letter = run(*signing, "-a", algorithm, "-t", text).stdout
        assert run(*checking, "3600", "-t", letter).stdout == text
    piped = filtered(*map(str, checking), "0", given=letter.encode())
    assert piped.stdout == text.encode()

    middle = len(letter) // 2
    changed = letter[:middle] + ("A" if letter[middle] != "A" else "B") + letter[middle + 1 :]
    for bad in (changed, letter[:200], "no letter", ""):
        refused = filtered(*map(str, checking), "3600", given=bad.encode() + b"\n", check=False)
        assert (refused.returncode, refused.stdout) == (3, b""), bad
    for words, code in (
        (("letter", "-v", "-f", "other.example.org", *checking[4:], "0"), 2),
        ((*checking[:5], golden.repositories[NAMES[0]].public_key, *checking[6:], "0"), 2),
        ((*checking[:-2], publisher.prefix, "-m", "0"), 2),
        ((*signing[:5], "/nonexistent", "-k", own[1]), 2),
    ):
        assert run(*words, "-t", letter, check=False).returncode == code, words
    assert "line that is just '##'" in run(*signing, "-t", "a\n##\nb", check=False).stderr
    # Another certificate, which no whitelist lists, signs well enough but is not believed.
    stranger = keys.create_keys(publisher.fqrn, publisher.prefix / "stranger", now=dt.datetime.now(dt.UTC))
    forging = (*signing[:5], stranger.certificate, "-k", stranger.key)
    forged = run(*forging, "-t", text).stdout
    assert run(*checking, "0", "-t", forged, check=False).returncode == 5
