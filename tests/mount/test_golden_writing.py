"""The golden source tree, published and mounted by us, is the golden tree, and the independent reader accepts it."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.format import catalog, check, manifest
from tests.format.listing import list_tree, resolve
from tests.mount.test_golden_reading import listing
from tests.support import processes
from tests.support.golden import Golden
from tests.support.publishing import Publisher
from tests.support.serving import Server

SMALL_CHUNKS = {
    "CVMFS_MIN_CHUNK_SIZE": "32768",
    "CVMFS_AVG_CHUNK_SIZE": "65536",
    "CVMFS_MAX_CHUNK_SIZE": "131072",
}
BIG_FILE_BYTES = "12000000"
pytestmark = pytest.mark.timeout(240)


# The times that mktree.py fixes; all others are those of its run.
FIXED_TIMES = frozenset({"hello.txt", "time/before-1970", "time/after-2038"})


def without_run_times(entries: list[Any]) -> list[Any]:
    """Leaves out the times that differ between two runs of mktree.py."""
    return [entry if str(entry["path"]) in FIXED_TIMES else {**entry, "mtime_ns": None} for entry in entries]


def times(entries: list[Any]) -> dict[str, int]:
    """Returns path -> modification time in nanoseconds."""
    return {str(entry["path"]): entry["mtime_ns"] for entry in entries}


@pytest.mark.parametrize(
    ("algorithm", "chunks", "twin"),
    [
        ("sha1", {}, "golden.example.org"),
        ("sha1", SMALL_CHUNKS, None),
        ("shake128", SMALL_CHUNKS, "golden-shake.example.org"),
        ("shake128", {}, None),
    ],
    ids=["sha1", "sha1-small-chunks", "shake128-small-chunks", "shake128"],
)
def test_the_golden_tree_comes_back(
    golden: Golden,
    algorithm: str,
    chunks: Mapping[str, str],
    twin: str | None,
    publisher: Publisher,
    server: Callable[[Path], Server],
    mount: Callable[..., Path],
    tmp_path: Path,
) -> None:
    publisher.create("-a", algorithm)
    publisher.configure({"CVMFS_INCLUDE_XATTRS": "true", "CVMFS_ENABLE_MTIME_NS": "true", **chunks})
    source = tmp_path / "source"
    processes.run([sys.executable, golden.mktree, source, BIG_FILE_BYTES])
    with publisher.transaction("-a", "v1") as union:
        (union / "new_repository").unlink()
        processes.run(["cp", "-a", f"{source}/.", union])

    key = publisher.public_key.read_bytes()
    assert check.check_repository(publisher.storage, [key], publisher.fqrn, strict_reflog=True) == []

    expected = list(golden.repositories["golden.example.org"].listing("v1"))
    point = mount(
        publisher.fqrn,
        publisher.client_settings(
            server(publisher.storage.parent).url, tmp_path / "cache", CVMFS_MAGIC_XATTRS_VISIBILITY="never"
        ),
    )
    shown = listing(golden, point)
    assert without_run_times(shown) == without_run_times(expected)
    # Every time is the source's, but for the dirtab's markers, the directories they were made in, and the root,
    # whose row a publish does not touch.
    source_times, shown_times = times(listing(golden, source)), times(shown)
    made = shown_times.keys() - source_times.keys()
    touched = {"", *(path.rpartition("/")[0] for path in made)}
    assert {path for path, moment in source_times.items() if shown_times[path] != moment} <= touched
    assert {path.rpartition("/")[2] for path in made} == {".cvmfscatalog"}
    assert [json.loads(line) for line in list_tree(publisher.storage, "v1")] == shown

    if twin is not None:
        theirs = golden.repositories[twin].storage
        their_root = _tagged_root(theirs, "v1")
        ours = catalog.content_hashes(publisher.storage, manifest.read_manifest(publisher.storage).root_hash.text)
        assert ours == catalog.content_hashes(theirs, their_root)


def _tagged_root(storage: Path, tag: str) -> str:
    return resolve(storage, tag).text
