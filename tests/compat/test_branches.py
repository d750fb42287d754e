"""`cvmfs_server checkout`: revisions beside the newest one, the branches they are on, and what is refused meanwhile."""

import pytest

from tests.format.check import check_repository
from tests.support.publishing import Publisher

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


def refused(publisher: Publisher, *words: str, code: int = 1) -> str:
    done = publisher.server(*words, publisher.fqrn, check=False)
    assert done.returncode == code, done
    return done.stderr


def said(publisher: Publisher, *words: str) -> str:
    return publisher.server(*words, publisher.fqrn).stdout


def write(publisher: Publisher, content: str, *options: str) -> None:
    with publisher.transaction(*options) as tree:
        (tree / "file").write_text(content)


def content(publisher: Publisher) -> str:
    return (publisher.union / "file").read_text()


def manifest(publisher: Publisher) -> dict[str, str]:
    lines = (publisher.storage / ".cvmfspublished").read_bytes().partition(b"--\n")[0].decode().splitlines()
    return {line[0]: line[1:] for line in lines}


def assert_sound(publisher: Publisher) -> None:
    assert "no problems found" in said(publisher, "check")
    assert check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []


def test_a_branch_leaves_an_old_revision_and_the_newest_one_stays(publisher: Publisher) -> None:
    publisher.create("-g")
    write(publisher, "one", "-a", "v1")
    write(publisher, "two", "-a", "v2")
    trunk, first = manifest(publisher), publisher.tags()["v1"][0]

    assert "missing branch name" in refused(publisher, "checkout", "-b", "")
    assert "branch fix does not exist" in refused(publisher, "checkout", "-b", "fix")
    assert "tag v0 does not exist" in refused(publisher, "checkout", "-b", "fix", "-t", "v0")
    assert "invalid branch name 'a b'" in refused(publisher, "checkout", "-b", "a b", "-t", "v1")
    publisher.server("transaction", publisher.fqrn)
    assert "Cannot checkout while in a transaction" in refused(publisher, "checkout", "-t", "v1")
    publisher.server("abort", "-f", publisher.fqrn)

    assert f"Checked out tag v1 ({first}) on branch (default)" in said(publisher, "checkout", "-t", "v1")
    assert content(publisher) == "one"
    assert "put it on a branch" in refused(publisher, "transaction")
    assert f"Checked out tag v1 ({first}) onto new branch fix" in said(publisher, "checkout", "-b", "fix", "-t", "v1")
    listed = publisher.server("list").stdout
    assert "[checked out tag 'v1' on branch 'fix'])" in listed
    assert "unhealthy" not in listed
    assert "Can't rollback when checked out on a branch" in refused(publisher, "rollback", "-f", "-t", "v1")
    for words in (["-a", "other"], ["-f", "-r", "v1"]):
        assert "Cannot modify tags when checked out on another branch" in refused(publisher, "tag", *words)

    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "file").write_text("fixed")
    assert "Publishing a checked out revision requires a tag name" in refused(publisher, "publish")
    publisher.server("publish", "-a", "v1.1", "-m", "mended", publisher.fqrn)
    after, tags = manifest(publisher), publisher.tags()
    assert [after[key] for key in "CBSD"] == [trunk[key] for key in "CBSD"]
    assert after["H"] != trunk["H"]
    assert (tags["v1.1"][2], tags["v1.1"][4:]) == ("3", ["fix", "mended"])
    assert tags["trunk"][0] == trunk["C"]
    assert content(publisher) == "fixed"
    assert "[checked out tag 'v1.1' on branch 'fix'])" in publisher.server("list").stdout
    write(publisher, "fixed again", "-a", "v1.2")

    said(publisher, "checkout", "-b", "fix/deep", "-t", "v1.1")
    write(publisher, "deep", "-a", "deep1")
    assert "branch fix already exists" in refused(publisher, "checkout", "-b", "fix", "-t", "v2")
    assert said(publisher, "tag", "-b").splitlines() == ["(default) @0", "├ fix @3", "│ ├ fix/deep @4"]
    assert said(publisher, "tag", "-b", "-x").splitlines() == ["[0] @0", "[1]  fix @3", "[2]   fix/deep @4"]
    assert "Checked out tag v1.2" in said(publisher, "checkout", "-b", "fix")
    assert content(publisher) == "fixed again"
    said(publisher, "checkout", "-b", "fix/deep")
    assert content(publisher) == "deep"
    assert_sound(publisher)

    assert "Reset to trunk on default branch" in said(publisher, "checkout")
    assert content(publisher) == "two"
    assert "checked out" not in publisher.server("list").stdout
    said(publisher, "tag", "-f", "-r", "v1.1", "-r", "v1.2")
    assert said(publisher, "tag", "-b").splitlines() == ["(default) @0", "├ fix/deep @4"]
    publisher.server("tag", "-a", "same", "-h", publisher.tags()["deep1"][0], publisher.fqrn)
    assert publisher.tags()["same"][5:] == publisher.tags()["v2"][5:]
    assert publisher.tags()["same"][4] == "fix/deep"
    write(publisher, "three", "-a", "v3")
    assert publisher.tags()["v3"][2] == "4"
    said(publisher, "rollback", "-f", "-t", "v1")
    assert {"deep1", "same"} < set(publisher.tags())
    assert_sound(publisher)
