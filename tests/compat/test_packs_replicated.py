"""Packs and bundles on a replica: snapshots, checks and collections know neither, and treat them right.

Judged by objects, counters and the requests that the replica saw, never by seconds.
"""

import contextlib
import os
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.compat.test_bundles import packs_of_trigger, specification
from tests.format.catalog import walk
from tests.format.manifest import read_manifest
from tests.format.store import ObjectStore, object_name
from tests.mount.test_cold_start import fill, settle
from tests.support import mounts, replicas
from tests.support.publishing import Publisher
from tests.support.serving import Server

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]

TRIGGER = "/bin/run"
BUNDLE = ["/lib/3", "/lib/1", "/lib/7"]
NOISE = random.Random(13)

Start = Callable[[Path], Server]
Objects = dict[str, set[str]]


@pytest.fixture
def replica(publisher: Publisher, server: Start, tmp_path: Path) -> Publisher:
    """A replica, after its first snapshot, of a repository with packs of three catalogs and of a bundle."""
    publisher.create("-z")
    # Automatic tags would keep every revision from being collected.
    publisher.configure({"NEARFS_PACKS": "true", "CVMFS_AUTO_TAG": "false"})
    with publisher.transaction("-a", "first") as tree:
        for name in ("changes", "goes", "stays"):
            fill(tree / name, [900] * 40)
            (tree / name / ".cvmfscatalog").touch()
        for name in ("bin", "lib"):
            (tree / name).mkdir()
        for path in (TRIGGER, *(f"/lib/{number}" for number in range(9))):
            (tree / path[1:]).write_bytes(NOISE.randbytes(500))
        (tree / "bin" / ".cvmfsbundle-run").write_text(specification(*BUNDLE))
        # Packs may cost a fifth of what there is.
        (tree / "large").write_bytes(NOISE.randbytes(2 << 20))
    url = server(publisher.storage.parent).url
    made = replicas.add(tmp_path / "s1", url, publisher.public_key, publisher.fqrn, "-z")
    made.server("snapshot", publisher.fqrn)
    return made


def named(storage: Path) -> Objects:
    """Returns what the newest revision names for packs and bundles, read without code of ours: kind -> objects."""
    found: Objects = {"catalogs": set(), "tables": set(), "packs": set(), "bundles": set()}
    for catalog in walk(ObjectStore(storage), read_manifest(storage).root_hash):
        if catalog.prefix.startswith(b"/.nearfs"):
            found["catalogs"].add(object_name(catalog.content_hash, "C"))
        for path, row in catalog.paths.items():
            directory, _, name = path.decode().rpartition("/")
            if row.content_hash is None or name == ".cvmfscatalog":
                continue
            if directory.startswith("/.nearfs"):
                found["tables" if directory == "/.nearfs" else "packs"].add(object_name(row.content_hash, ""))
            elif name.startswith(".cvmfsbundle-"):
                found["bundles"].add(object_name(row.content_hash, ""))
    return found


def present(storage: Path, objects: Objects) -> Objects:
    """Returns those of the objects that lie in a storage."""
    return {kind: {name for name in names if (storage / name).exists()} for kind, names in objects.items()}


def assert_whole(replica: Publisher, publisher: Publisher) -> None:
    """Fails unless packs and bundles are here as they are at the source, and every checker finds the replica sound."""
    objects = named(publisher.storage)
    for name in set().union(*objects.values()):
        assert (replica.storage / name).read_bytes() == (publisher.storage / name).read_bytes(), name
    assert named(replica.storage) == objects
    assert packs_of_trigger(replica, "", TRIGGER) == BUNDLE
    replicas.assert_sound(replica, publisher.fqrn, publisher.public_key)
    assert "no problems found" in replica.server("check", "-i", publisher.fqrn).stdout, "contents are what names say"


def read_all(point: Path) -> dict[str, bytes]:
    """Returns the content of every file; those of the bundle come first, as in somebody who starts the program."""
    files = [*(point / path[1:] for path in (TRIGGER, *BUNDLE)), *sorted(point.rglob("*"))]
    return {str(path.relative_to(point)): path.read_bytes() for path in files if path.is_file()}


@contextlib.contextmanager
def client(publisher: Publisher, running: Server, scratch: Path) -> Iterator[Path]:
    """Mounts from one server alone, with an empty cache. Neighbours are not guessed: they may be faster than packs."""
    settings = publisher.client_settings(running.url, scratch / "cache", NEARFS_PREFETCH_NEIGHBOURS="no")
    with mounts.mounted(publisher.fqrn, scratch / publisher.fqrn, settings) as point:
        yield point


def asked(running: Server, names: Iterable[str]) -> set[str]:
    """Returns those of the objects that a server was asked for."""
    return {name for name in names if any(str(line["path"]).endswith(name) for line in running.requests())}


def assert_read_by_packs(replica: Publisher, publisher: Publisher, running: Server, scratch: Path) -> None:
    """Fails unless a new client reads from the replica what was published, and most small files came in packs."""
    with client(publisher, running, scratch) as point:
        content = read_all(point)
        seen = settle(point)
        assert os.getxattr(point / TRIGGER[1:], "user.bundle_trigger") == b"1"
    assert content == read_all(publisher.union)
    small = [name for name in content if name.endswith(".lua")]
    assert seen["prefetch_packs_used"] + seen["prefetch_packs_late"] > len(small) // 2
    assert min(seen["prefetch_bundles_asked"], seen["prefetch_packs_fetched"]) > 0
    objects = named(replica.storage)
    assert all(asked(running, objects[kind]) for kind in ("packs", "tables", "bundles"))


def test_a_replica_passes_on_packs_and_bundles(
    publisher: Publisher, replica: Publisher, server: Start, tmp_path: Path
) -> None:
    counts = {kind: len(names) for kind, names in named(publisher.storage).items()}
    # Each of the four catalogs has a table, a catalog of its packs, and a pack; the bundle has one more.
    assert counts == {"catalogs": 5, "tables": 4, "packs": 5, "bundles": 1}
    assert_whole(replica, publisher)
    assert_read_by_packs(replica, publisher, server(replica.storage.parent), tmp_path / "client")


def test_a_replica_collects_packs_that_no_kept_revision_names(
    publisher: Publisher, replica: Publisher, server: Start, tmp_path: Path
) -> None:
    first = named(publisher.storage)
    with publisher.transaction() as tree:
        (tree / "changes" / "007.lua").write_text("changed")
        (tree / BUNDLE[0][1:]).write_text("changed, and with it the bundle's pack")
        for path in (tree / "goes").iterdir():
            path.unlink()
        (tree / "goes").rmdir()
    # `trunk-previous` is a name too: what is to have none has to be two revisions ago.
    with publisher.transaction() as tree:
        (tree / "changes" / "008.lua").write_text("changed")
    replica.server("snapshot", publisher.fqrn)
    last = named(publisher.storage)
    old = {kind: first[kind] - last[kind] for kind in ("catalogs", "tables", "packs")}
    assert (len(old["packs"]), len(first["packs"] & last["packs"])) == (4, 1), "one has the same files as before"
    assert_whole(replica, publisher)

    # A tag keeps a revision, and with it everything that its own catalogs name.
    replica.server("gc", "-f", "-r", "0", publisher.fqrn)
    assert present(replica.storage, first) == first
    assert_whole(replica, publisher)
    publisher.server("tag", "-r", "first", "-f", publisher.fqrn)
    replica.server("snapshot", publisher.fqrn)
    assert present(replica.storage, old) == old, "a snapshot deletes nothing"
    replica.server("gc", "-f", "-r", "0", publisher.fqrn)
    assert not any(present(replica.storage, old).values())
    assert_whole(replica, publisher)
    assert_read_by_packs(replica, publisher, server(replica.storage.parent), tmp_path / "client")


@pytest.mark.parametrize("kind", ["packs", "tables", "catalogs"])
def test_a_replica_with_damaged_packs_serves_every_file(
    publisher: Publisher, replica: Publisher, server: Start, tmp_path: Path, kind: str
) -> None:
    names = sorted(named(replica.storage)[kind])
    draw = random.Random(7)  # with which the first four are damaged in all four ways
    for name in names:
        replicas.damage(replica.storage / name, (replica.storage / name).read_bytes(), draw)
    told = replica.server("check", "-i", publisher.fqrn, check=False)
    assert told.returncode != 0, "the operator hears of it"
    running = server(replica.storage.parent)
    with client(publisher, running, tmp_path / "client") as point:
        content = read_all(point)
        seen = settle(point)
    assert content == read_all(publisher.union)
    assert (seen["io_errors"], seen["prefetch_packs_fetched"]) == (0, 0)
    assert asked(running, names), "none was asked for: this test would prove nothing"
