"""What our mount shows of the golden repositories is what the reference client shows, through the kernel."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.golden import NAMES, TAGS, Golden
from tests.support.serving import Server


def golden_settings(golden: Golden, name: str, url: str, cache: Path, **more: str) -> dict[str, str]:
    """Returns the configuration with which the golden listings were made, for a client of `url`."""
    return {
        "CVMFS_SERVER_URL": f"{url}/cvmfs/{name}",
        "CVMFS_HTTP_PROXY": "DIRECT",
        "CVMFS_PUBLIC_KEY": str(golden.repositories[name].public_key),
        "CVMFS_CACHE_BASE": str(cache),
        "CVMFS_MAGIC_XATTRS_VISIBILITY": "never",
        **more,
    }


def listing(golden: Golden, tree: Path) -> list[object]:
    """Lists a mounted tree with the very script that made the golden listings."""
    lines = processes.run([sys.executable, golden.manifest, tree]).stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("name", NAMES)
def test_a_tag_shows_the_golden_tree(
    golden: Golden,
    name: str,
    tag: str,
    server: Callable[[Path], Server],
    mount: Callable[..., Path],
    tmp_path: Path,
) -> None:
    url = server(golden.repositories[name].root).url
    point = mount(name, golden_settings(golden, name, url, tmp_path / "cache", CVMFS_REPOSITORY_TAG=tag))
    expected = list(golden.repositories[name].listing(tag))
    shown = listing(golden, point)
    assert len(shown) == len(expected)
    for mine, theirs in zip(shown, expected, strict=True):
        assert mine == theirs


@pytest.mark.parametrize("name", NAMES)
def test_snapshots_are_reached_through_the_hidden_directory(
    golden: Golden, name: str, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    url = server(golden.repositories[name].root).url
    point = mount(name, golden_settings(golden, name, url, tmp_path / "cache"))
    assert ".cvmfs" not in {entry.name for entry in point.iterdir()}
    assert {"v1", "v2", "v3"} <= {entry.name for entry in (point / ".cvmfs" / "snapshots").iterdir()}
    snapshot = point / ".cvmfs" / "snapshots" / "v1"
    assert listing(golden, snapshot) == list(golden.repositories[name].listing("v1"))


def test_a_date_chooses_the_newest_revision_that_is_not_younger(
    golden: Golden, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    name = NAMES[0]
    url = server(golden.repositories[name].root).url
    point = mount(
        name, golden_settings(golden, name, url, tmp_path / "cache", CVMFS_REPOSITORY_DATE="2100-01-01T00:00:00Z")
    )
    assert (point / "hello.txt").is_file()
