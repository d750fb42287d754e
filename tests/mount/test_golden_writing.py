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


def without_publish_times(entries: list[Any], touched: set[str]) -> list[Any]:
    """Leaves out the times of directories that the publish itself changed, by making marker files in them."""
    return [{**entry, "mtime_ns": None} if str(entry["path"]) in touched else entry for entry in entries]


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
    # The dirtab's markers, made during the publish, and the root, whose row a publish does not touch.
    paths = {str(entry["path"]) for entry in expected}
    markers = {path for path in paths if path.startswith("soft/") and path.endswith("/.cvmfscatalog")}
    touched = {"", *markers, *(path.rpartition("/")[0] for path in markers)}
    point = mount(
        publisher.fqrn,
        publisher.client_settings(
            server(publisher.storage.parent).url, tmp_path / "cache", CVMFS_MAGIC_XATTRS_VISIBILITY="never"
        ),
    )
    shown = listing(golden, point)
    assert without_publish_times(shown, touched) == without_publish_times(expected, touched)
    assert [json.loads(line) for line in list_tree(publisher.storage, "v1")] == shown

    if twin is not None:
        theirs = golden.repositories[twin].storage
        their_root = _tagged_root(theirs, "v1")
        ours = catalog.content_hashes(publisher.storage, manifest.read_manifest(publisher.storage).root_hash.text)
        assert ours == catalog.content_hashes(theirs, their_root)


def _tagged_root(storage: Path, tag: str) -> str:
    return resolve(storage, tag).text
