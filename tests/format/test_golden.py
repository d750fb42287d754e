"""Both golden repositories pass the check, show the trees of the reference client, and fail once damaged."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from .catalog import content_hashes
from .check import check_repository
from .chunks import cut_marks
from .conftest import PROJECT, Golden
from .forge import Keys
from .hashes import parse_hash
from .listing import list_tree, resolve
from .manifest import read_manifest
from .objects import referenced, unreferenced_objects
from .store import ObjectStore, object_name

CHUNK_SIZES = {
    "golden.example.org": (4 << 20, 8 << 20, 16 << 20),
    "golden-shake.example.org": (32 << 10, 64 << 10, 128 << 10),
}


@pytest.fixture
def copy(golden: Golden, tmp_path: Path) -> Golden:
    """A copy of the golden repository to damage: objects are hard links, so break the link before writing."""
    root = tmp_path / golden.fqrn
    shutil.copytree(golden.root, root, copy_function=os.link)
    return Golden(golden.fqrn, root, golden.folder, golden.public_pem)


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _object_of(golden: Golden, path: bytes) -> str:
    found = content_hashes(golden.root, read_manifest(golden.root).root_hash.text)[path]
    assert isinstance(found, str)
    return object_name(parse_hash(found, "test"), "")


def _problems(golden: Golden, now: datetime | None = None) -> list[str]:
    return check_repository(golden.root, [golden.public_pem], golden.fqrn, now=now)


def test_golden_repository_has_no_problems(golden: Golden) -> None:
    problems = check_repository(golden.root, [golden.public_pem], golden.fqrn, strict_reflog=True)
    assert problems == []
    assert unreferenced_objects(golden.root) == []


@pytest.mark.parametrize("tag", ["v1", "v2", "v3"])
def test_listing_equals_the_tree_of_the_reference_client(golden: Golden, tag: str) -> None:
    with lzma.open(golden.folder / f"tree-{tag}.jsonl.xz", "rt") as stream:
        expected = stream.read().splitlines()
    assert len(expected) > 3000
    assert list_tree(golden.root, tag) == expected


def test_virtual_directory_is_listed_on_demand(golden: Golden) -> None:
    root_hash = read_manifest(golden.root).root_hash.text
    extra = set(list_tree(golden.root, root_hash, hide_virtual=False)) - set(list_tree(golden.root, root_hash))
    assert sum('"path": ".cvmfs' in line for line in extra) == len(extra) == 6


def test_second_revision_brings_only_what_changed(golden: Golden) -> None:
    first, second = (referenced(golden.root, resolve(golden.root, tag).text) for tag in ("v1", "v2"))
    new = second - first
    assert 0 < len(new) < len(second) // 10
    assert "C" in {suffix for _, suffix in new}


def test_chunks_of_a_file_follow_the_cut_marks(golden: Golden) -> None:
    root_hash = resolve(golden.root, "v1").text
    hashes = content_hashes(golden.root, root_hash)[b"/big/random"]
    assert isinstance(hashes, tuple)
    store = ObjectStore(golden.root)
    parts = [store.load(parse_hash(text, "test"), "P", limit=16 << 20) for text in hashes[:12]]
    content = b"".join(parts)
    ends = [sum(map(len, parts[: count + 1])) for count in range(len(parts))]
    assert cut_marks(content, *CHUNK_SIZES[golden.fqrn]) == ends[:-1]


def test_flipped_byte_is_named(copy: Golden) -> None:
    name = _object_of(copy, b"/hello.txt")
    stored = bytearray((copy.root / name).read_bytes())
    stored[len(stored) // 2] ^= 1
    _replace(copy.root / name, bytes(stored))
    problems = _problems(copy)
    assert problems and all(f"object {name} is corrupt" in problem for problem in problems)
    assert any("/hello.txt" in problem for problem in problems)


def test_missing_object_is_named(copy: Golden) -> None:
    name = _object_of(copy, b"/hello.txt")
    (copy.root / name).unlink()
    problems = _problems(copy)
    assert problems and all(f"object {name} is missing" in problem for problem in problems)


def test_truncated_catalog_is_named(copy: Golden) -> None:
    name = object_name(read_manifest(copy.root).root_hash, "C")
    _replace(copy.root / name, (copy.root / name).read_bytes()[:-100])
    assert any(name in problem and "corrupt" in problem for problem in _problems(copy))


@pytest.mark.parametrize("letter", ["X", "H", "M"])
def test_missing_certificate_history_or_metainfo_is_named(copy: Golden, letter: str) -> None:
    content_hash = read_manifest(copy.root).hash(letter)
    assert content_hash is not None
    name = object_name(content_hash, letter)
    (copy.root / name).unlink()
    assert f"object {name} is missing" in _problems(copy)


def test_stray_object_is_listed(copy: Golden) -> None:
    stray = copy.root / "data" / "00" / ("0" * 38)
    stray.write_bytes(b"stray")
    (copy.root / "data" / "txn" / "leftover").write_bytes(b"")
    assert unreferenced_objects(copy.root) == ["data/00/" + "0" * 38, "data/txn/leftover"]


@pytest.mark.parametrize(("hour", "valid"), [(20, True), (21, False), (22, False)])
def test_whitelist_ends_with_the_hour_before_its_expiry(golden: Golden, hour: int, valid: bool) -> None:
    now = datetime(2036, 11, 19, hour, 0, 0, tzinfo=UTC)
    found = check_repository(golden.root, [golden.public_pem], golden.fqrn, verify_objects=False, now=now)
    assert [problem for problem in found if "expired" in problem] == found
    assert bool(found) is not valid


def test_wrong_key_is_refused(golden: Golden, keys: Keys) -> None:
    found = check_repository(golden.root, [keys.public_pem], golden.fqrn, verify_objects=False)
    assert found == ["whitelist signature is of none of the 1 master keys"]


def test_another_repository_is_refused(golden: Golden) -> None:
    found = check_repository(golden.root, [golden.public_pem], "other.example.org", verify_objects=False)
    for subject in ("manifest is of repository", "whitelist is of repository", "history", "reflog"):
        assert any(problem.startswith(subject) for problem in found), subject


@pytest.mark.parametrize("name", [".cvmfspublished", ".cvmfswhitelist"])
@pytest.mark.parametrize(("position", "problem"), [(5, "corrupt"), (-1, "signature")])
def test_altered_signed_text_is_refused(copy: Golden, name: str, position: int, problem: str) -> None:
    content = bytearray((copy.root / name).read_bytes())
    content[position] ^= 1
    _replace(copy.root / name, bytes(content))
    found = check_repository(copy.root, [copy.public_pem], copy.fqrn, verify_objects=False)
    subject = "manifest" if name == ".cvmfspublished" else "whitelist"
    assert any(text.startswith(subject) and problem in text for text in found), found


def test_command_prints_problems_and_exits(golden: Golden, keys: Keys, tmp_path: Path) -> None:
    key = tmp_path / "other.pub"
    key.write_bytes(keys.public_pem)
    command = [sys.executable, "-m", "tests.format", "check", str(golden.root), "--fqrn", golden.fqrn, "--no-objects"]
    good = golden.folder / f"{golden.fqrn}.pub"
    for path, code, printed in ((good, 0, ""), (key, 1, "whitelist signature is of none of the 1 master keys\n")):
        run = subprocess.run(
            [*command, "--key", str(path)], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
        )
        assert (run.returncode, run.stdout) == (code, printed)
