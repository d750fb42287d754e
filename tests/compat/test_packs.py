"""Packs of small files (`NEARFS_PACKS`), driven by `cvmfs_server`: files like any other, for everybody who looks."""

import os
from pathlib import Path

import pytest

from tests.format import check
from tests.support.publishing import Publisher

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]

_TRAILER = b"NFSpack\n"


def _clean(publisher: Publisher) -> None:
    publisher.server("check", "-c", publisher.fqrn)
    assert check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []


def _packs(publisher: Publisher) -> dict[Path, bytes]:
    """Returns the packs that the mounted revision has, by their paths in the repository."""
    tree = publisher.union
    found = (path for path in (tree / ".nearfs").glob("p*/*") if path.name != ".cvmfscatalog")
    return {path.relative_to(tree): path.read_bytes() for path in found}


def _modules(tree: Path, name: str) -> None:
    (tree / name).mkdir()
    (tree / name / ".cvmfscatalog").touch()
    for number in range(20):
        (tree / name / f"{number}.lua").write_text(f"help('{name} {number}')\n" * (number + 1))


def test_packs_follow_what_is_published_and_leave_when_switched_off(publisher: Publisher) -> None:
    publisher.create("-z")
    with publisher.transaction() as tree:
        _modules(tree, "a")
        _modules(tree, "b")
        # Packs may cost a fifth of what there is.
        (tree / "large").write_bytes(os.urandom(1 << 20))
    assert not (publisher.union / ".nearfs").exists(), "nobody asked for them"
    publisher.configure({"NEARFS_PACKS": "true"})
    with publisher.transaction() as tree:
        (tree / "new").touch()
    assert ".nearfs" not in os.listdir(publisher.union), "hidden"
    first = _packs(publisher)
    assert len(first) == 2
    assert all(content[-24:-16] == _TRAILER for content in first.values())
    _clean(publisher)
    with publisher.transaction() as tree:
        (tree / "b" / "7.lua").write_text("changed")
    second = _packs(publisher)
    assert len(second) == 2
    assert len(first.keys() & second.keys()) == 1, "a pack whose files stay what they are stays too"
    _clean(publisher)
    publisher.server("gc", "-f", "-r", "0", publisher.fqrn)
    assert _packs(publisher) == second, "garbage collection knows them as files"
    _clean(publisher)
    publisher.configure({"NEARFS_PACKS": "false"})
    with publisher.transaction() as tree:
        (tree / "b" / "8.lua").unlink()
    assert not (publisher.union / ".nearfs").exists()
    assert len(os.listdir(publisher.union / "b")) == 20
    _clean(publisher)


def test_whoever_writes_below_the_directory_of_packs_is_told_so(publisher: Publisher) -> None:
    publisher.create()
    publisher.configure({"NEARFS_PACKS": "true"})
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / ".nearfs").mkdir()
    refused = publisher.server("publish", publisher.fqrn, check=False)
    assert (refused.returncode, "/.nearfs" in refused.stderr) == (1, True), refused
    (publisher.union / ".nearfs").rmdir()
    publisher.server("publish", publisher.fqrn)
    _clean(publisher)
