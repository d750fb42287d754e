"""`cvmfs_server transaction -T FROM=TO`: a transaction that starts with a copied directory."""

import os

import pytest

from tests.format.check import check_repository
from tests.support import mounts
from tests.support.publishing import Publisher

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


def begin(publisher: Publisher, template: str, code: int = 0) -> str:
    done = publisher.server("transaction", "-T", template, publisher.fqrn, check=False)
    assert done.returncode == code, done
    return done.stdout + done.stderr


def objects(publisher: Publisher) -> set[str]:
    return {name for _, _, names in os.walk(publisher.storage / "data") for name in names if name[-1] != "C"}


def test_a_copy_is_there_at_once_and_published_with_the_changes(publisher: Publisher) -> None:
    publisher.create("-g")
    with publisher.transaction() as tree:
        (tree / "v1" / "deep").mkdir(parents=True)
        (tree / "v1" / "deep" / ".cvmfscatalog").touch()
        for name in ("one", "deep/two"):
            (tree / "v1" / name).write_text(name)
    assert "there is no such directory" in begin(publisher, "v0=v2", 22)
    assert "it exists already" in begin(publisher, "v1=v1", 22)
    assert "there is no such directory to copy to" in begin(publisher, "v1=missing/v2", 22)
    assert "needs both directories" in begin(publisher, "v1", 3)

    said = begin(publisher, "/v1=/v2")
    assert "CernVM-FS: cloning template /v1 --> /v2 ... [done]" in said
    tree = publisher.union
    assert (tree / "v2" / "deep" / "two").read_text() == "deep/two"
    publisher.server("abort", "-f", publisher.fqrn)
    assert not (tree / "v2").exists()

    before = objects(publisher)
    begin(publisher, "v1=v2")
    mounts.unmount(tree)  # what a reboot leaves: the next command mounts the copy again
    mounts.unmount(publisher.spool / "rdonly")
    publisher.server("mount", publisher.fqrn)
    (tree / "v2" / "one").write_text("changed")
    publisher.server("publish", publisher.fqrn)
    assert (tree / "v1" / "one").read_text() == "one"
    assert (tree / "v2" / "one").read_text() == "changed"
    assert (tree / "v2" / "deep" / "two").read_text() == "deep/two"
    new = {name for name in objects(publisher) - before if name[-1] != "H"}
    assert len(new) == 1  # the content that changed; copies name the objects that were there
    assert publisher.server("list-catalogs", publisher.fqrn).stdout.split() == ["/", "├─", "/v1/deep", "├─", "/v2/deep"]
    assert "no problems found" in publisher.server("check", publisher.fqrn).stdout
    assert check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []
    with publisher.transaction() as tree:
        (tree / "later").touch()
    assert "no problems found" in publisher.server("check", publisher.fqrn).stdout
