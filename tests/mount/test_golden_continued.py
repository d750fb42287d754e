"""Repositories that others began take transactions of ours: with keys of our own, and catalogs of every revision.

The golden repositories were written by the reference implementation. Older catalogs are forged: the columns, tables
and counters that their revision did not know are taken away again.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nearfs import _native, hashes, keys, signing
from tests.format import check, forge
from tests.format.catalog_check import TABLES
from tests.format.database import NEWEST_COLUMN, Database
from tests.format.hashes import parse_hash
from tests.format.listing import list_tree
from tests.format.manifest import read_manifest
from tests.format.objects import referenced
from tests.format.store import ObjectStore
from tests.format.symlinks import expand_target
from tests.format.tree_check import TreeCheck
from tests.support import processes
from tests.support.golden import NAMES, TAGS, Golden
from tests.support.life import seeing
from tests.support.life.model import encoded
from tests.support.publishing import Publisher, publishing
from tests.support.serving import Server

pytestmark = pytest.mark.timeout(300)
MARKER = ".cvmfscatalog"
COLUMNS = [name for name, *_ in TABLES["catalog"]]
# Each step of an upgrade in the long form; one of each kind of gap otherwise.
REVISIONS = range(7) if os.environ.get("NEARFS_LONG_TESTS") == "1" else (0, 2, 6)


def adopt(publisher: Publisher, storage: Path) -> None:
    """Puts somebody's storage in the place of the publisher's own, and signs it with the publisher's keys.

    The whitelist is the publisher's own; the manifest gets the certificate that this whitelist lists.
    """
    ours = publisher.storage
    whitelist = (ours / ".cvmfswhitelist").read_bytes()
    certificate = publisher.public_key.with_suffix(".crt")
    shutil.rmtree(ours)
    shutil.copytree(storage, ours, symlinks=True)
    (ours / "data" / "txn").mkdir(exist_ok=True)
    (ours / ".cvmfswhitelist").write_bytes(whitelist)
    before = signing.parse_manifest((storage / ".cvmfspublished").read_bytes()).fields
    algorithm = hashes.algorithm_of(before.root_hash)
    assert algorithm is not None
    stored = _native.put_object(ours, certificate.read_bytes(), suffix="X", hash_algorithm=algorithm.value)
    log = _native.record_references(
        ours,
        fqrn=publisher.fqrn,
        hash_algorithm=algorithm.value,
        checksum=hashes.hash_text((ours / ".cvmfsreflog").read_bytes(), algorithm),
        references=[(stored, "X")],
        now_s=int(time.time()),
    )
    (ours / ".cvmfsreflog").write_bytes(log)
    reflog = hashes.hash_text(log, algorithm)
    body = signing.manifest_body(replace(before, certificate=stored, reflog=reflog))
    key = keys.load_private_key(publisher.public_key.with_suffix(".key"))
    (ours / ".cvmfspublished").write_bytes(signing.sign_manifest(body, algorithm, key))
    (publisher.spool / "reflog.chksum").write_text(reflog)


def sound(publisher: Publisher) -> None:
    """Fails unless the repository is whole for both checkers."""
    key = publisher.public_key.read_bytes()
    assert check.check_repository(publisher.storage, [key], publisher.fqrn) == []
    publisher.server("check", "-i", publisher.fqrn)


def column_orders(storage: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields the hash and the columns of table `catalog` of every catalog of the newest revision."""
    root_hash = read_manifest(storage).root_hash.text
    store = ObjectStore(storage)
    for text, suffix in sorted(referenced(storage, root_hash)):
        if suffix == "C":
            database = Database(store.load(parse_hash(text, "catalog"), "C", limit=1 << 28), text)
            names = [row[1] for row in database.rows("PRAGMA table_info(catalog)")]
            yield text, [name.decode() for name in names if isinstance(name, bytes)]
            database.close()


def newest_problems(storage: Path) -> list[str]:
    """Returns what is wrong with the newest revision alone: the reader knows none older than schema revision 7."""
    trees = TreeCheck(ObjectStore(storage), verify_objects=True)
    trees.check_root(read_manifest(storage).root_hash, bound=True)
    return trees.problems


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_repository_takes_transactions(
    golden: Golden, name: str, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    theirs = golden.repositories[name]
    listings = {tag: list(theirs.listing(tag)) for tag in TAGS}
    with publishing(tmp_path / "publisher", name) as publisher:
        publisher.create("-z", "-a", "shake128" if "shake" in name else "sha1")
        settings = dict(
            line.split("=", 1) for line in (theirs.folder / "server.conf").read_text().splitlines() if "=" in line
        )
        wanted = ("CHUNK_SIZE", "XATTRS", "MTIME_NS", "AUTO_TAG", "VIRTUAL_DIR", "COMPRESSION")
        publisher.configure({key: value for key, value in settings.items() if any(part in key for part in wanted)})
        adopt(publisher, theirs.storage)
        publisher.server("mount", publisher.fqrn)
        sound(publisher)
        before = seeing.mounted(publisher.union)
        with publisher.transaction("-a", "ours") as union:
            change(union)
            expected = seeing.mounted(union)
        assert expected != before
        sound(publisher)
        assert seeing.mounted(publisher.union) == expected
        for path in (path for path, entry in expected.items() if "target" in entry):
            # A publisher's own mount shows variables as they are written, so that a copy keeps them.
            target = os.readlink(os.fsencode(publisher.union) + b"/" + path)
            expected[path]["target"] = encoded(expand_target(target, {}))
        assert seeing.stored(publisher.storage, "ours") == expected
        for tag, listing in listings.items():
            assert [json.loads(line) for line in list_tree(publisher.storage, tag)] == listing
        assert {text: order for text, order in column_orders(publisher.storage) if order != COLUMNS} == {}
        url = server(publisher.storage.parent).url
        more = {"CVMFS_MAGIC_XATTRS_VISIBILITY": "never"}
        assert seeing.mounted(mount(name, publisher.client_settings(url, tmp_path / "cache", **more))) == expected


def change(union: Path) -> None:
    """Changes something in every catalog; makes one more, and merges one into its parent."""
    markers = sorted(union.rglob(MARKER))
    assert len(markers) > 3, "the golden tree has nested catalogs, and nested ones in nested ones"
    for marker in markers:
        (marker.parent / "ours").write_text(f"in {marker.parent.name}\n")
        os.chmod(marker.parent, 0o711)
    deepest = max(markers, key=lambda marker: len(marker.parts))
    deepest.unlink()
    (union / "ours-big").write_bytes(os.urandom(400_000))
    (union / "hello.txt").write_text("changed\n")
    split = union / "ours-split"
    shutil.copytree(deepest.parent, split / "inner", symlinks=True)
    (split / MARKER).touch()
    crowded = max((path for path in union.iterdir() if path.is_dir()), key=lambda path: len(os.listdir(path)))
    for path in sorted(crowded.iterdir())[:5]:
        processes.run(["rm", "-rf", path])
    (crowded / MARKER).touch()


def older(revision: int) -> dict[str, str]:
    """Returns what makes the catalogs of a forged repository those of an older schema revision."""
    catalog, parent = [f"UPDATE properties SET value = '{revision}' WHERE key = 'schema_revision';"], []
    gone: list[str] = []
    if revision < 7:
        catalog.append("ALTER TABLE catalog DROP COLUMN mtimens;")
    if revision < 5:
        parent.append("DELETE FROM catalog WHERE name IN ('fifo', 'device');")
        gone.append("special")
    if revision < 4:
        catalog.append("DROP TABLE bind_mountpoints;")
    if revision < 3:
        gone += ["external", "external_file_size"]
    if revision < 2:
        catalog.append("ALTER TABLE catalog DROP COLUMN xattr;")
        gone.append("xattr")
    if revision < 1:
        catalog.append("ALTER TABLE nested_catalogs DROP COLUMN size;")
    for counter in gone:
        catalog += [f"DELETE FROM statistics WHERE counter = '{part}_{counter}';" for part in ("self", "subtree")]
    return {"": "".join(parent + catalog), "/nested": "".join(catalog)}


@pytest.fixture(scope="module")
def pens() -> forge.Keys:
    """Keys for all forged repositories of this file."""
    return forge.Keys.generate()


@pytest.mark.parametrize("revision", REVISIONS)
def test_older_catalogs_are_upgraded_in_place(pens: forge.Keys, revision: int, tmp_path: Path) -> None:
    storage, folder = tmp_path / "forged", tmp_path / "keys"
    forge.Forge(storage, pens, damage=older(revision)).write()
    folder.mkdir()
    for suffix, content in key_files(pens).items():
        (folder / f"{forge.FQRN}.{suffix}").write_bytes(content)
    with publishing(tmp_path / "publisher", forge.FQRN) as publisher:
        publisher.create("-g", "-k", str(folder))
        publisher.configure({"CVMFS_INCLUDE_XATTRS": "true", "CVMFS_ENABLE_MTIME_NS": "true"})
        adopt(publisher, storage)
        publisher.server("mount", publisher.fqrn)
        before = seeing.mounted(publisher.union)
        with publisher.transaction() as union:
            for directory in (union, union / "nested"):
                (directory / "ours").write_text("ours\n")
                os.setxattr(directory / "ours", "user.kind", b"new")
            expected = seeing.mounted(union)
        assert newest_problems(publisher.storage) == []
        assert seeing.stored(publisher.storage, "trunk") == seeing.mounted(publisher.union) == expected
        assert expected.keys() - before.keys() == {b"ours", b"nested/ours"}
        last = [*(name for name in COLUMNS if name != NEWEST_COLUMN), NEWEST_COLUMN]
        assert [order for _, order in column_orders(publisher.storage)] == [last, last]
        publisher.server("tag", "-r", "first", "-f", publisher.fqrn)
        with publisher.transaction() as union:
            (union / "nested" / MARKER).unlink()
            expected = seeing.mounted(union)
        sound(publisher)
        assert [order for _, order in column_orders(publisher.storage)] == [last], "the nested catalog was merged"
        assert seeing.stored(publisher.storage, "trunk") == seeing.mounted(publisher.union) == expected


def key_files(pens: forge.Keys) -> dict[str, bytes]:
    """Returns the files of a keys directory by suffix."""
    private = {
        suffix: key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        for suffix, key in (("masterkey", pens.master), ("key", pens.signer))
    }
    return {**private, "pub": pens.public_pem, "crt": pens.certificate.public_bytes(Encoding.PEM)}
