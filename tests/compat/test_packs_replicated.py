"""Packs and bundles on a replica: it knows neither, and is whole, is read and collects as if it did.

Judged by objects, counters and the requests that a replica saw, never by seconds.
"""

import contextlib
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.format.catalog import walk
from tests.format.manifest import read_manifest
from tests.format.store import ObjectStore, object_name
from tests.mount.test_cold_start import fill, settle
from tests.support import mounts, replicas
from tests.support.publishing import Publisher
from tests.support.serving import Server

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

GROUPS = ("changes", "goes", "stays")
FILES = 40
NOISE = random.Random(13)
PROGRAM = ["bin/run", *(f"lib/part-{number}" for number in (3, 1, 7))]

Start = Callable[[Path], Server]
Master = tuple[Publisher, Server]


@pytest.fixture
def master(publisher: Publisher, server: Start) -> Master:
    """A repository with packs of three catalogs and of a bundle, and its server."""
    publisher.create("-z")
    # Automatic tags would keep every revision from being collected.
    publisher.configure({"NEARFS_PACKS": "true", "CVMFS_AUTO_TAG": "false"})
    with publisher.transaction("-a", "first") as tree:
        for name in GROUPS:
            fill(tree / name, [900] * FILES)
            (tree / name / ".cvmfscatalog").touch()
        fill(tree / "lib", [500] * 9, ending="")
        for number in range(9):
            (tree / "lib" / f"{number:03}").rename(tree / "lib" / f"part-{number}")
        fill(tree / "bin", [300], ending="")
        (tree / "bin" / "000").rename(tree / "bin" / "run")
        form = {"name": "CVMFS_BUNDLE", "version": "1.0.0", "encoding": "UTF-8"}
        listed = [f"/{path}" for path in PROGRAM[1:]]
        (tree / "bin" / ".cvmfsbundle-run").write_text(json.dumps({**form, "dependencies": listed}))
        # Packs may cost a fifth of what there is.
        (tree / "large").write_bytes(NOISE.randbytes(2 << 20))
    return publisher, server(publisher.storage.parent)


def snapshot(master: Master, prefix: Path) -> Publisher:
    """Returns a new replica with everything that is published so far."""
    publisher, running = master
    replica = replicas.add(prefix, running.url, publisher.public_key, publisher.fqrn, "-z")
    replica.server("snapshot", publisher.fqrn)
    return replica


def named(storage: Path) -> dict[str, set[str]]:
    """Returns what the newest revision names for packs and bundles, read without code of ours: kind -> objects."""
    found: dict[str, set[str]] = {"catalogs": set(), "tables": set(), "packs": set(), "bundles": set()}
    for catalog in walk(ObjectStore(storage), read_manifest(storage).root_hash):
        if catalog.prefix.startswith(b"/.nearfs"):
            found["catalogs"].add(object_name(catalog.content_hash, "C"))
        for path, row in catalog.paths.items():
            first, _, name = path.removeprefix(b"/.nearfs/").decode().rpartition("/")
            if row.content_hash is None or name == ".cvmfscatalog":
                continue
            if path.startswith(b"/.nearfs/"):
                found["packs" if first else "tables"].add(object_name(row.content_hash, ""))
            elif name.startswith(".cvmfsbundle-"):
                found["bundles"].add(object_name(row.content_hash, ""))
    return found


def together(found: dict[str, set[str]]) -> set[str]:
    """Returns the objects of every kind."""
    return set().union(*found.values())


def present(storage: Path, names: set[str]) -> set[str]:
    """Returns those of the objects whose file a storage has."""
    return {name for name in names if (storage / name).exists()}


def tree_of(point: Path) -> dict[str, bytes]:
    """Returns the content of every file; the program's come first, as somebody who starts it would read them."""
    files = [*(point / name for name in PROGRAM), *sorted(path for path in point.rglob("*") if path.is_file())]
    return {str(path.relative_to(point)): path.read_bytes() for path in files}


def assert_whole(replica: Publisher, publisher: Publisher) -> None:
    """Fails unless everything about packs and bundles came as it is at the source, and every checker finds it sound."""
    names = named(publisher.storage)
    assert named(replica.storage) == names
    for name in together(names):
        assert (replica.storage / name).read_bytes() == (publisher.storage / name).read_bytes(), name
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
    assert "no problems found" in replica.server("check", "-i", publisher.fqrn).stdout, "contents are what names say"


@contextlib.contextmanager
def client(publisher: Publisher, url: str, scratch: Path) -> Iterator[Path]:
    """Mounts from one server alone, with an empty cache. What packs do not bring, no guess at neighbours brings."""
    settings = publisher.client_settings(url, scratch / "cache", NEARFS_PREFETCH_NEIGHBOURS="no")
    with mounts.mounted(publisher.fqrn, scratch / publisher.fqrn, settings) as point:
        yield point


def assert_read_by_packs(replica: Publisher, publisher: Publisher, running: Server, scratch: Path) -> None:
    """Fails unless a new client of the replica reads what was published, and had most of it from packs."""
    begun = len(running.requests())
    with client(publisher, running.url, scratch) as point:
        content = tree_of(point)
        seen = settle(point)
        print({k: v for k, v in seen.items() if "pack" in k or "bundle" in k or k == "opens"}, "XX")
        assert os.getxattr(point / PROGRAM[0], "user.bundle_trigger") == b"1"
    assert content == tree_of(publisher.union)
    small = [name for name in content if name.endswith(".lua")]
    assert seen["prefetch_packs_fetched"] > 0
    assert seen["prefetch_packs_used"] + seen["prefetch_packs_late"] > len(small) // 2
    assert seen["prefetch_bundles_asked"] > 0
    asked = {str(line["path"]).partition(f"/{publisher.fqrn}/")[2] for line in running.requests()[begun:]}
    names = named(replica.storage)
    assert names["packs"] & asked
    assert names["tables"] & asked


def test_a_replica_passes_on_packs_and_bundles(master: Master, server: Start, tmp_path: Path) -> None:
    publisher, source = master
    names = named(publisher.storage)
    # One table for each catalog with packs, and a pack of the bundle's files beside the others.
    assert (len(names["tables"]), len(names["bundles"])) == (len(GROUPS) + 1, 1)
    assert len(names["packs"]) > len(GROUPS) + 1
    replica = snapshot(master, tmp_path / "s1")
    assert_whole(replica, publisher)
    asked = len(source.requests())
    assert_read_by_packs(replica, publisher, server(replica.storage.parent), tmp_path / "client")
    assert len(source.requests()) == asked, "the replica alone was enough"


def test_a_replica_collects_packs_that_no_kept_revision_names(master: Master, server: Start, tmp_path: Path) -> None:
    publisher, _ = master
    replica = snapshot(master, tmp_path / "s1")
    first = named(publisher.storage)
    with publisher.transaction() as tree:
        (tree / "changes" / "007.lua").write_text("changed")
        (tree / PROGRAM[1]).write_text("changed too, so that the bundle's pack is another one")
        for path in (tree / "goes").iterdir():
            path.unlink()
        (tree / "goes").rmdir()
    replica.server("snapshot", publisher.fqrn)
    second = named(publisher.storage)
    old = {kind: first[kind] - second[kind] for kind in first}
    assert first["packs"] & second["packs"], "packs of what did not change stay"
    assert all(old[kind] for kind in ("catalogs", "tables", "packs"))
    assert_whole(replica, publisher)

    # A name keeps a revision, and with it everything that its own catalogs name.
    replica.server("gc", "-f", "-r", "0", publisher.fqrn)
    assert present(replica.storage, together(first)) == together(first)
    assert_whole(replica, publisher)

    # `trunk-previous` is a name too: the revision has to be two ago.
    publisher.server("tag", "-r", "first", "-f", publisher.fqrn)
    with publisher.transaction() as tree:
        (tree / "changes" / "008.lua").write_text("changed")
    replica.server("snapshot", publisher.fqrn)
    done = replica.server("gc", "-f", "-r", "0", publisher.fqrn)
    assert "done garbage collecting" in done.stdout
    assert present(replica.storage, together(old)) == set()
    assert_whole(replica, publisher)
    assert_read_by_packs(replica, publisher, server(replica.storage.parent), tmp_path / "client")


@pytest.mark.parametrize("kind", ["packs", "tables", "catalogs"])
def test_a_damaged_replica_costs_requests_and_no_file(master: Master, server: Start, tmp_path: Path, kind: str) -> None:
    publisher, _ = master
    replica = snapshot(master, tmp_path / "s1")
    names = sorted(named(replica.storage)[kind])
    assert len(names) > 3
    for number, name in enumerate(names):
        path = replica.storage / name
        content = path.read_bytes()
        path.chmod(0o600)
        match number % 4:
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(content[: len(content) // 2])
            case 2:
                path.write_bytes(b"")
            case _:
                path.write_bytes(bytes(byte ^ 1 for byte in content))
    found = replica.server("check", "-i", publisher.fqrn, check=False)
    assert found.returncode != 0, "an operator hears of it"
    running = server(replica.storage.parent)
    with client(publisher, running.url, tmp_path / "client") as point:
        content = tree_of(point)
        seen = settle(point)
    assert content == tree_of(publisher.union)
    assert (seen["io_errors"], seen["prefetch_packs_fetched"]) == (0, 0)
    asked = {str(line["path"]).partition(f"/{publisher.fqrn}/")[2] for line in running.requests()}
    assert asked.intersection(names), "none was asked for: this test would prove nothing"
