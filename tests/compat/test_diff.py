"""`cvmfs_server diff` and `list-catalogs`: what changed between revisions, and which catalogs there are."""

import os

import pytest

from tests.support.publishing import Publisher

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


def lines(publisher: Publisher, *words: str) -> list[str]:
    return publisher.server(*words, publisher.fqrn).stdout.splitlines()


def test_every_kind_of_change_is_told_and_equal_catalogs_are_passed_over(publisher: Publisher) -> None:
    publisher.create("-g")
    with publisher.transaction("-a", "v1") as tree:
        (tree / "same").mkdir()
        (tree / "same" / ".cvmfscatalog").touch()
        (tree / "same" / "file").write_text("same")
        (tree / "old").mkdir()
        (tree / "old" / "file").write_text("12345")
        (tree / "changed").write_text("before")
        (tree / "becomes").write_text("a file")
        (tree / "link").symlink_to("same")
        for name in ("changed", "old", "old/file"):
            os.utime(tree / name, (1000, 1000))
    publisher.server("transaction", publisher.fqrn)
    tree = publisher.union
    (tree / "old" / "file").unlink()
    (tree / "old").rmdir()
    (tree / "changed").write_text("and after")
    (tree / "changed").chmod(0o600)
    (tree / "becomes").unlink()
    (tree / "becomes").mkdir()
    (tree / "becomes" / ".cvmfscatalog").touch()
    (tree / "link").unlink()
    (tree / "link").symlink_to("elsewhere")

    told = lines(publisher, "diff", "-w", "-m")
    assert {"R F /becomes -6", "A D /becomes", "A N /becomes/.cvmfscatalog +0"} <= set(told)
    assert [line for line in told if line.startswith("M[") and line.endswith(" F /changed")] == ["M[SMTC] F /changed"]
    publisher.server("publish", "-a", "v2", publisher.fqrn)

    told = lines(publisher, "diff", "-m", "-h")
    assert told[0].startswith("# line descriptor: A - add, R - remove, M - modify, S - statistics; ")
    changes = [line for line in told[1:] if not line.startswith("S ")]
    assert [line for line in changes if not line.startswith("M[")] == [
        "R F /becomes -6",
        "A D /becomes",
        "A N /becomes/.cvmfscatalog +0",
        "R D /old",
        "R F /old/file -5",
    ]
    modified = {line.split(" ")[2]: line.split(" ")[0] for line in changes if line.startswith("M[")}
    assert modified["/changed"] == "M[SMTC]"
    assert set("SL") <= set(modified["/link"])
    assert set(modified) <= {"/changed", "/link", "/"}
    # The counters have the top of a nested catalog in both catalogs, as the reference's do: one more directory.
    assert [line for line in told if line.startswith("S ")] == ["S F -1", "S S 0", "S D 1", "S N 1"]

    told = lines(publisher, "diff", "-h", "-s", "v1", "-d", "v2")
    assert told[0].startswith(f"DELTA: {publisher.fqrn}/r2 (")
    assert {"/old remove directory", "/old/file remove file -5 bytes", "/becomes add directory"} <= set(told)
    assert "/changed modify file [size, mode, timestamp, content]" in told
    assert told[-1] == "d(# catalogs): 1"
    root = publisher.tags()["v1"][0]
    assert lines(publisher, "diff", "-s", f"@{root}", "-d", "v1", "-m") == ["S F 0", "S S 0", "S D 0", "S N 0"]
    missing = publisher.server("diff", "-s", "v0", publisher.fqrn, check=False)
    assert (missing.returncode, "tag 'v0' does not exist" in missing.stderr) == (2, True)
    closed = publisher.server("diff", "-w", publisher.fqrn, check=False)
    assert (closed.returncode, "is not in a transaction" in closed.stderr) == (22, True)

    assert lines(publisher, "list-catalogs") == ["/", "├─ /becomes", "├─ /same"]
    machine = [line.split(" ") for line in lines(publisher, "list-catalogs", "-x", "-h", "-s", "-e")]
    assert [fields[3] for fields in machine] == ["/", "/becomes", "/same"]
    assert machine[0][0] == publisher.tags()["trunk"][0]
    assert [fields[2] for fields in machine] == ["6", "2", "3"]
    assert all(fields[1].endswith("B") and int(fields[1][:-1]) > 1000 for fields in machine)
