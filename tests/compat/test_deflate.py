"""`NEARFS_DEFLATE`: fast objects are read by everybody, have names of their own, and nobody gets them unasked."""

import zlib

from tests.support.publishing import Publisher

TEXT = "".join(f"line {number * number} of a text that deflates\n" for number in range(4000))


def stored_sizes(publisher: Publisher) -> set[int]:
    """Returns the sizes of the objects that hold `TEXT`."""
    found = set()
    for path in (publisher.storage / "data").glob("??/*"):
        content = path.read_bytes()
        if content[:1] == b"\x78" and zlib.decompress(content) == TEXT.encode():
            found.add(len(content))
    return found


def test_fast_objects_are_read_by_everybody_and_nobody_gets_them_unasked(publisher: Publisher) -> None:
    publisher.create()
    with publisher.transaction() as union:
        (union / "stock").write_text(TEXT)
    assert stored_sizes(publisher) == {len(zlib.compress(TEXT.encode(), 6))}
    publisher.configure({"NEARFS_DEFLATE": "fast"})
    with publisher.transaction() as union:
        (union / "fast").write_text(TEXT)
    assert len(stored_sizes(publisher)) == 2
    assert (publisher.union / "fast").read_text() == (publisher.union / "stock").read_text() == TEXT
    publisher.server("check", "-i", publisher.fqrn)
    publisher.configure({"NEARFS_DEFLATE": "faster"})
    publisher.server("transaction", publisher.fqrn)
    refused = publisher.server("publish", publisher.fqrn, check=False)
    assert (refused.returncode, "NEARFS_DEFLATE=faster" in refused.stderr) == (1, True)
    assert "in transaction" in publisher.server("list").stdout
